"""Detectors, pictures and clips that the landmark tests share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made_up_network import with_dot, write_network
from numpy.typing import NDArray
from talking_clips import people as talking_people

from reconstruct.landmarks import LandmarkDetector, make_detector
from reconstruct.landmarks.topology import NOSE_TIP
from schemas.config import LandmarkConfig
from schemas.types import FaceTrack, LandmarkTrack

Pictures = list[NDArray[np.uint8]]
REPOSITORY = Path(__file__).resolve().parents[1]
TASK = "face_landmarker_v2_with_blendshapes.task"
STEP = 40_000
START = 7_000_000
COUNT = 12


def config_of(backend: str, folder: Path, confidence: str = "flip", every: int = 3) -> LandmarkConfig:
    """A configuration with which the backend runs here; skips where its model is missing."""
    root = Path(os.environ.get("TALKSET_EVAL_DATA", REPOSITORY.parent / "shared" / "eval"))
    task = root / "models" / TASK
    if backend == "mediapipe-tasks" and not task.is_file():
        pytest.skip(f"no FaceLandmarker model at {task}; set TALKSET_EVAL_DATA to run this test")
    weights = write_network(folder / "dot.pt") if backend == "face-alignment" else None
    return LandmarkConfig(
        backend=backend,
        task_path=str(task),
        weights_path=str(weights),
        confidence=confidence,
        confidence_every=every,
    )


@pytest.fixture(scope="session")
def faces() -> list[Pictures]:
    """A few pictures of each of two people."""
    return [pictures[:COUNT] for pictures in talking_people()]


@pytest.fixture(scope="session")
def dotted(faces: list[Pictures]) -> list[Pictures]:
    """The same with a red dot on the nose, which the made-up network follows."""
    made = []
    with make_detector(LandmarkConfig(confidence="none")) as detector:
        for pictures in faces:
            points = [detector.detect_image(rgb) for rgb in pictures]
            noses = [point[NOSE_TIP] for point in points if point is not None]
            assert len(noses) == len(pictures)
            dots = zip(pictures, noses, strict=True)
            made.append([with_dot(rgb, (float(x), float(y)), radius=10.0) for rgb, (x, y) in dots])
    return made


def box_of(detector: LandmarkDetector, rgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """x, y, width, height of what the face's points cover."""
    points = detector.detect_image(rgb)
    assert points is not None
    low, high = points.min(axis=0), points.max(axis=0)
    return np.array([*low, *(high - low)], np.float64)


def run(detector: LandmarkDetector, pictures: Pictures, boxes: NDArray[np.float64]) -> LandmarkTrack:
    """The clip of those pictures, 25 a second; boxes (4,) or (n, 4) spread over it."""
    rows = np.atleast_2d(boxes).astype(np.float32)
    times = START + np.round(np.linspace(0, (len(pictures) - 1) * STEP, len(rows))).astype(np.int64)
    height, width = pictures[0].shape[:2]
    clock = ((START + i * STEP, rgb) for i, rgb in enumerate(pictures))
    return detector.detect(clock, FaceTrack(times, rows), width, height)
