"""2D face landmarks: one protocol, one file per backend, chosen by name."""

from __future__ import annotations

from reconstruct.landmarks.base import LandmarkDetector
from schemas.config import LandmarkConfig
from schemas.errors import TalksetError, UsageError

__all__ = ["BACKENDS", "LandmarkDetector", "backend_states", "make_detector"]

BACKENDS = ("mediapipe", "mediapipe-tasks", "face-alignment")


def make_detector(config: LandmarkConfig) -> LandmarkDetector:
    """The detector that the configuration names; its networks are loaded with the first picture.

    Raises UsageError for an unknown name or setting, or where the model file that the backend needs is not there.
    """
    if config.backend == "mediapipe":
        from reconstruct.landmarks.mediapipe import MediapipeDetector

        return MediapipeDetector(config)
    if config.backend == "mediapipe-tasks":
        from reconstruct.landmarks.mediapipe_tasks import MediapipeTasksDetector

        return MediapipeTasksDetector(config)
    if config.backend == "face-alignment":
        from reconstruct.landmarks.face_alignment import FaceAlignmentDetector

        return FaceAlignmentDetector(config)
    raise UsageError(f"unknown landmarks.backend {config.backend!r}", f"Choose one of {', '.join(BACKENDS)}")


def backend_states() -> dict[str, str]:
    """Backend -> the detector's name where it is ready with the default configuration, else what it lacks."""
    states = {}
    for backend in BACKENDS:
        try:
            with make_detector(LandmarkConfig(backend=backend)) as detector:
                states[backend] = detector.name
        except (TalksetError, ImportError) as error:
            states[backend] = f"not ready: {error}"
    return states
