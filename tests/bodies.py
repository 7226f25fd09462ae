"""Clips with made-up bodies."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from dataset_builder import random_clip
from numpy.typing import NDArray

from schemas.records import ClipRecord
from schemas.types import BodyLandmarks, BodyTrack


def clip_with_body(number: int, frames: int, model: str = "open-body", num_betas: int = 150) -> ClipRecord:
    """An accepted clip whose body bends at random; the left hand was not found in frame 2."""
    record = random_clip(number, frames)
    assert record.head is not None
    random = np.random.default_rng([number, 3])

    def small(*shape: int) -> NDArray[Any]:
        return random.normal(0, 0.2, shape).astype(np.float32)

    hand = small(frames, 21, 3)
    hand[2] = np.nan
    body = BodyTrack(
        model, "ab" * 32, small(num_betas), small(frames, 63), small(frames, 45), small(frames, 45),
        small(frames, 3), small(frames, 3), np.ones(frames, bool), np.ones((frames, 55), bool), small(frames),
        500.0, np.array([10, 10], np.float32),
    )  # fmt: skip
    found = BodyLandmarks(
        np.arange(frames) * 40_000, small(frames, 33, 3), small(frames, 33, 4), hand, small(frames, 21, 3),
        small(frames, 21, 3), small(frames, 21, 3), np.ones(frames, bool), 640, 480, "mediapipe-pose",
    )  # fmt: skip
    return dataclasses.replace(record, body=body, body_landmarks=found)
