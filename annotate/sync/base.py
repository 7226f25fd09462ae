"""What every estimator of the audio-video offset is given, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.types import Float32, Int64

RATE = 16_000


@dataclass(frozen=True)
class Face:
    """What is seen of the person who is said to speak: T frames on the clip clock."""

    pts_us: Int64
    """(T,)"""
    lips: Float32
    """(T, 2) opening and width of the lips, any unit that does not change within the clip; NaN where not seen."""
    box_xywh: Float32
    """(T, 4) left, top, width, height of the face in pixels; NaN where not seen."""
    frames: Callable[[], Iterable[tuple[int, NDArray[np.uint8]]]]
    """The pictures, (pts_us, rgb), for estimators that look at them."""


@dataclass(frozen=True)
class SyncEstimate:
    """How much later than the lips the sound is, and how sure that is."""

    offset_ms: float
    """Positive where the sound is late: the sound at PTS + offset belongs to the picture at PTS. NaN where nothing was
    found to compare."""
    confidence: float
    """0..1; what it means is the estimator's own, so that thresholds belong to a backend."""


NOTHING = SyncEstimate(float("nan"), 0.0)
"""Said of a clip without lips or without sound."""


class SyncEstimator(Protocol):
    """Finds the offset of a clip."""

    @property
    def name(self) -> str:
        """Backend and version, or the hash of its weights: part of the key of a result."""

    @property
    def margin_ms(self) -> int:
        """Sound that it wants before the first frame and after the last."""

    def estimate(self, face: Face, samples_16k: Float32, start_us: int) -> SyncEstimate:
        """The offset of (N,) samples, full scale 1.0, whose first one is at `start_us` of the clip clock."""
