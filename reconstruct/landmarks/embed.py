"""The landmark embedding of a head model for a named detector, computed once and cached."""

from __future__ import annotations

from reconstruct.embedding import Embedding, cached_embedding, compute_embedding
from reconstruct.landmarks.topology import LEFT_IRIS, LIPS_INNER, RIGHT_IRIS
from reconstruct.models.head_model import HeadModel
from schemas.config import LandmarkConfig
from schemas.errors import UsageError


def embedding_for(model: HeadModel, detector_name: str) -> Embedding:
    """Where a detector's landmarks lie on the model; the first call of a pair takes about 15 s, later ones are cached.

    Raises UsageError for a detector that is not installed, TalksetError("missing_model") when it cannot see the
    rendered model.
    """
    from reconstruct.landmarks.mediapipe import MediapipeDetector

    def compute() -> Embedding:
        with MediapipeDetector(LandmarkConfig()) as detector:
            if detector.name != detector_name:
                raise UsageError(
                    f"landmarks come from {detector_name!r}, installed is {detector.name!r}",
                    "Install that version, or detect the landmarks again",
                )
            return compute_embedding(
                model,
                detector.name,
                detector.detect_image,
                (*LEFT_IRIS.tolist(), *RIGHT_IRIS.tolist()),
                LIPS_INNER.tolist(),
            )

    return cached_embedding(model, detector_name, compute)
