"""How far a point is to be trusted: by how much it moves when the same face is shown another way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.landmarks.topology import Topology
from schemas.errors import UsageError

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SCALE: Final = 0.02
"""Disagreement, in interocular distances, at which the confidence is one half.

Measured with the mirrored view on rendered heads of known truth (eight heads, ten poses; plain, blurred, dark, 77 px
small, partly covered, partly outside the picture): the RMS error of a point grows from 0.031 in the lowest tenth of the
disagreements (0.003) through 0.041 (0.017) to 0.071 in the highest (0.05 and more); rank correlation 0.35, of whole
frames 0.65; covered points disagree by 0.030 instead of 0.018, points outside the picture by 0.032 instead of 0.017.
Weighted at this scale the RMS error falls by 12 %, while 85 % of the points still count. A shifted, wider crop
correlates less (0.27), for the mesh frames the face for itself."""


@dataclass(frozen=True)
class SecondView:
    """Another way to show the same face."""

    mirrored: bool
    wider: float
    """Side of its crop over that of the first."""
    shift: tuple[float, float]
    """Of its centre, in sides of the first crop."""

    def square(self, centre: Float64, side: float) -> tuple[Float64, float]:
        """Upper left corner (2,) and side of its crop."""
        wide = side * self.wider
        return centre + side * np.asarray(self.shift) - wide / 2, wide


SECOND_VIEWS: Final = {
    "none": None,
    "flip": SecondView(mirrored=True, wider=1.0, shift=(0.0, 0.0)),
    "crops": SecondView(mirrored=False, wider=1.25, shift=(0.06, -0.04)),
}


def second_view(name: str) -> SecondView | None:
    """The view that `landmarks.confidence` names, None for `none`; raises UsageError for an unknown one."""
    if name not in SECOND_VIEWS:
        raise UsageError(f"unknown landmarks.confidence {name!r}", f"Choose one of {', '.join(SECOND_VIEWS)}")
    return SECOND_VIEWS[name]


def confidence_of(disagreement: Float32) -> Float32:
    """1 / (1 + (d / SCALE)^2) of disagreements d in interocular distances: 1 where both looks agree, 1/2 at SCALE.

    That is the weight which a Cauchy likelihood of that scale gives to a residual of size d.
    """
    return np.asarray(1 / (1 + (disagreement / SCALE) ** 2), np.float32)


class Sampled:
    """The confidence of a clip, measured every few frames and interpolated between them.

    `look` gives the points (L, 2) in source pixels, seen another way, or None where it sees no face: then nothing of
    the first look is confirmed and the confidence is 0. The first frame after a hole is always measured.
    """

    def __init__(self, look: Callable[[UInt8, Float64, float], Float32 | None], topology: Topology, every: int) -> None:
        self._look = look
        self._topology = topology
        self._every = every
        self._wait = 0
        self._times: list[int] = []
        self._rows: list[Float32] = []

    def see(self, pts_us: int, points: Float32 | None, rgb: UInt8, centre: Float64, side: float) -> None:
        """Compare with the points (L, 2) of the first look at one frame, when its turn has come; None: not valid."""
        if points is None:
            self._wait = 0
            return
        if self._wait == 0:
            again = self._look(rgb, centre, side)
            self._times.append(pts_us)
            self._rows.append(self._compare(points, again))
            self._wait = self._every
        self._wait -= 1

    def _compare(self, points: Float32, again: Float32 | None) -> Float32:
        if again is None:
            return np.zeros(len(points), np.float32)
        distance = np.linalg.norm(points - again, axis=1)
        return confidence_of(np.asarray(distance / max(float(self._topology.interocular(points)), 1.0), np.float32))

    def confidence(self, clock: NDArray[np.int64]) -> Float32:
        """(T, L) at the times `clock` (T,) in microseconds; constant before the first and after the last measured."""
        if not self._rows:
            return np.full((len(clock), self._topology.num_points), np.nan, np.float32)
        rows = np.stack(self._rows)
        position = np.interp(clock, self._times, np.arange(len(rows)))
        before = np.floor(position).astype(np.int64)
        after = np.minimum(before + 1, len(rows) - 1)
        part = (position - before)[:, None]
        return np.asarray((1 - part) * rows[before] + part * rows[after], np.float32)
