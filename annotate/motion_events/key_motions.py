"""Key motions after KMTalk (Xu et al. 2024): the frames that carry a motion, from which the others follow.

Two kinds: the frame in the middle of each phone's transition (the boundary between two phones), and the extrema of the
regions that move: lips close or open, brows rise, a smile is widest. Each is one frame; its span is that frame.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.motion_events.made import made
from annotate.performance import Performance
from annotate.signals import even, runs, smooth, swings
from schemas.types import Event

Float64 = NDArray[np.float64]

SOURCE: Final = "key-motions@1"
NOISE_S: Final = 0.015
LEAST_OPENING: Final = 0.012
"""Least rise or fall of the opening of the lips that makes an extremum, over the distance of the eye corners: 1 mm."""
LEAST_WEIGHT: Final = 0.10
"""The same of weights."""
OF_RANGE: Final = 0.12
"""Least rise or fall as a part of what the clip's signal covers (5th to 95th percentile)."""

REGIONS: Final = {
    "brows": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "round": ("mouthFunnel", "mouthPucker"),
}
"""Weights whose mean has extrema of its own; the lips' opening is the first region."""
LIPS: Final = {
    "jawOpen": 1.0, "mouthClose": -1.0, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2,
    "mouthUpperUpLeft": 0.1, "mouthUpperUpRight": 0.1, "mouthRollLower": -0.2, "mouthPressLeft": -0.1,
    "mouthPressRight": -0.1,
}  # fmt: skip
"""Opening of the lips from weights, where it was not measured."""


def find_key_motions(clip: Performance) -> list[Event]:
    """Key motions of a clip: at phone boundaries `phone:` and the phone that begins, at extrema `REGION:low` or `high`.

    Score of an extremum: how much of the clip's range it covers; of a boundary the phone's own confidence.
    """
    found = []
    lips, least = opening(clip)
    found += _extrema(clip, "lips", lips, least)
    for name, weights in REGIONS.items():
        if clip.has(*weights):
            found += _extrema(clip, name, clip.weight(*weights), LEAST_WEIGHT)
    seconds = clip.pts_us / 1e6
    for phone in clip.phones:
        if not len(seconds):
            break
        at = float(seconds[np.abs(seconds - phone.start_us / 1e6).argmin()])
        score = 1.0 if np.isnan(phone.score) else phone.score
        found.append(made("key_motion", f"phone:{phone.label}", at, at, score, SOURCE))
    return found


def opening(clip: Performance) -> tuple[Float64, float]:
    """(T,) opening of the lips, measured or from weights, and the least change that counts; NaN where not known."""
    if clip.lip_opening is not None and np.isfinite(clip.lip_opening).any():
        return np.asarray(clip.lip_opening, dtype=np.float64), LEAST_OPENING
    total = np.zeros(len(clip.pts_us))
    for name, factor in LIPS.items():
        total = total + factor * clip.weight(name)
    return total, LEAST_WEIGHT / 2


def _extrema(clip: Performance, region: str, values: Float64, least: float) -> list[Event]:
    grid, curve = even(clip.pts_us, values)
    known = np.isfinite(curve)
    if not known.any():
        return []
    low, high = np.percentile(curve[known], [5, 95])
    least = max(least, OF_RANGE * float(high - low))
    found = []
    for start, stop in runs(known):
        piece = smooth(curve[start:stop], NOISE_S)
        moves = swings(piece, least)
        turns = [(begin, begin, end) for begin, end in moves[:1]] + [(end, begin, end) for begin, end in moves]
        for turn, begin, end in turns:
            way = "high" if piece[turn] >= max(piece[begin], piece[end]) else "low"
            at = float(clip.pts_us[np.abs(clip.pts_us / 1e6 - grid[start + turn]).argmin()]) / 1e6
            size = abs(float(piece[end] - piece[begin])) / max(float(high - low), least)
            found.append(made("key_motion", f"{region}:{way}", at, at, size, SOURCE))
    return found
