"""2D face landmarks: one protocol, one file per backend, chosen by name."""

from __future__ import annotations

from reconstruct.landmarks.base import LandmarkDetector
from schemas.config import LandmarkConfig
from schemas.errors import UsageError

__all__ = ["LandmarkDetector", "make_detector"]

BACKENDS = ("mediapipe",)


def make_detector(config: LandmarkConfig) -> LandmarkDetector:
    """The detector that the configuration names; raises UsageError for an unknown one."""
    if config.backend == "mediapipe":
        from reconstruct.landmarks.mediapipe import MediapipeDetector

        return MediapipeDetector(config)
    raise UsageError(f"unknown landmarks.backend {config.backend!r}", f"Choose one of {', '.join(BACKENDS)}")
