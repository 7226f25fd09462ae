"""Gaze aversions: the eyes leave where they rest for a while.

Fitted directions have an error that stays the same through a clip, and cameras stand beside the person who is spoken
to, so directions are compared with where this clip's eyes rest: the densest place of their directions.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.motion_events.made import made
from annotate.signals import HZ, even, runs, smooth
from schemas.types import Event, Float32, Int64

Float64 = NDArray[np.float64]

SOURCE: Final = "gaze-rest@1"
AWAY_DEG: Final = 8.0
"""Beyond this from the rest the eyes look elsewhere: a face at 1 m is 9 degrees wide, either way, and a fit of small
eyes turns them too little."""
BACK_DEG: Final = 5.0
"""A look away lasts until the eyes are as near to the rest again."""
SHORTEST_S: Final = 0.15
JOIN_S: Final = 0.2
"""Shorter returns are a blink or a flaw of the fit."""
NOISE_S: Final = 0.02
DENSE_DEG: Final = 4.0
"""Width of the kernel that finds the densest place."""


def gaze_offsets(pts_us: Int64, gaze: Float32 | Float64) -> tuple[Float64, Float64]:
    """Times (N,) in seconds, and the angle (N,) in degrees between the eyes and where they rest; NaN where unknown.

    Args: gaze (T, 2) yaw and pitch, radians.
    """
    grid, angles = even(pts_us, np.degrees(np.asarray(gaze, dtype=np.float64)))
    if not len(grid) or not np.isfinite(angles).any():
        return grid, np.full(len(grid), np.nan)
    steady = smooth(angles, NOISE_S)
    known = steady[np.isfinite(steady).all(1)]
    sample = known[:: max(1, len(known) // 400)]
    apart = ((sample[:, None] - sample[None]) ** 2).sum(2)
    rest = sample[np.exp(-0.5 * apart / DENSE_DEG**2).sum(1).argmax()]
    return grid, np.asarray(np.linalg.norm(steady - rest, axis=1))


def find_gaze_aversions(pts_us: Int64, gaze: Float32 | Float64) -> list[Event]:
    """Spans in which the eyes look elsewhere. Score: how far, half at `AWAY_DEG`."""
    grid, offset = gaze_offsets(pts_us, gaze)
    known = np.nan_to_num(offset, nan=0.0)
    far_enough = known > AWAY_DEG
    spans: list[tuple[int, int]] = []
    for start, stop in runs(known > BACK_DEG):
        if not far_enough[start:stop].any():
            continue
        if spans and (start - spans[-1][1]) / HZ <= JOIN_S:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((start, stop))
    found = []
    for start, stop in spans:
        if (stop - start) / HZ < SHORTEST_S:
            continue
        far = float(np.nanpercentile(offset[start:stop], 75))
        score = 1 / (1 + np.exp(-(far - AWAY_DEG) / 3.0))
        found.append(made("gaze", "away", grid[start], grid[stop - 1], score, SOURCE))
    return found
