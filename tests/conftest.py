"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def eval_data() -> Path:
    """Folder of real recordings with labels, kept beside the checkout; tests skip where it is missing."""
    path = Path(os.environ.get("TALKSET_EVAL_DATA", REPOSITORY.parent / "shared" / "eval"))
    if not path.is_dir():
        pytest.skip(f"no evaluation data at {path}; set TALKSET_EVAL_DATA to run this test")
    return path
