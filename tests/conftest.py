"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from landmark_clips import dotted, faces

from reconstruct.embedding import Embedding
from reconstruct.landmarks.embed import embedding_for
from reconstruct.landmarks.mediapipe import MediapipeDetector
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from schemas.config import LandmarkConfig

__all__ = ["dotted", "faces"]

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def eval_data() -> Path:
    """Folder of real recordings with labels, kept beside the checkout; tests skip where it is missing."""
    path = Path(os.environ.get("TALKSET_EVAL_DATA", REPOSITORY.parent / "shared" / "eval"))
    if not path.is_dir():
        pytest.skip(f"no evaluation data at {path}; set TALKSET_EVAL_DATA to run this test")
    return path


@pytest.fixture(scope="session")
def open_head() -> HeadModel:
    """The open head, built once into the user's cache."""
    return load_model()


@pytest.fixture(scope="session")
def embedding(open_head: HeadModel) -> Embedding:
    """Where MediaPipe's landmarks lie on the open head, computed once into the user's cache."""
    with MediapipeDetector(LandmarkConfig()) as detector:
        return embedding_for(open_head, detector.name)
