"""The landmark embedding of a head model for a named detector, computed once and cached."""

from __future__ import annotations

import logging

import numpy as np

from reconstruct.calibration import compute_embedding
from reconstruct.embedding import Embedding, cached_embedding
from reconstruct.landmarks import make_detector
from reconstruct.models.head_model import HeadModel
from reconstruct.models.official import complete
from reconstruct.models.registry import official_embedding
from reconstruct.response import with_response
from schemas.config import LandmarkConfig
from schemas.errors import UsageError

LOGGER = logging.getLogger(__name__)


def embedding_for(model: HeadModel, detector_name: str, config: LandmarkConfig | None = None) -> Embedding:
    """Where a detector's landmarks lie on the model: as its publisher says where that was added, else as measured.

    The first measurement of a pair takes about 20 s, later calls read the cache; points that an official embedding
    leaves out are measured too. config makes the detector of that name when it is needed, the default one's otherwise.
    Raises UsageError for a detector that is not installed, TalksetError("missing_model") when it cannot see the
    rendered model.
    """

    def compute() -> Embedding:
        with make_detector(config or LandmarkConfig()) as detector:
            if detector.name != detector_name:
                raise UsageError(
                    f"landmarks come from {detector_name!r}, installed is {detector.name!r}",
                    "Install that version, or detect the landmarks again",
                )
            points = detector.topology
            made = compute_embedding(
                model, detector.name, detector.detect_image, points.eyeball_points, points.open_mouth_points
            )
            made = with_response(model, made, detector.detect_image, points.eyeball_points)
        LOGGER.info(
            "the landmarks of %s lie on %s to within %.1f mm (median over the landmarks)",
            detector_name,
            model.name,
            consistency_mm(made),
        )
        return made

    official = official_embedding(model, detector_name)
    if official is not None and bool(official.embedded.all()):
        return official
    measured = cached_embedding(model, detector_name, compute)
    return measured if official is None else complete(official, measured)


def consistency_mm(embedding: Embedding) -> float:
    """How firmly the landmarks sit on the model: the median over landmarks of `spread_m`, in millimetres."""
    return 1000 * float(np.median(embedding.spread_m))
