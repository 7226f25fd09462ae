"""Strokes of the hands and the room that they take."""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.performance import Hands
from annotate.signals import HZ, even, runs, smooth
from schemas.types import Int64

Float64 = NDArray[np.float64]

NOISE_S: Final = 0.06
FAST_M_S: Final = 0.35
"""Speed of a wrist that a stroke reaches."""
SLOW: Final = 0.35
"""A stroke begins and ends where the speed is that part of its largest."""
FAR_M: Final = 0.05
"""Least way of a stroke."""


def strokes(pts_us: Int64, hands: Hands) -> list[tuple[float, float, float]]:
    """(start s, end s, way in m) of every stroke: a wrist that moves fast from one place to another.

    Strokes of both hands at one time are one.
    """
    found: list[tuple[float, float, float]] = []
    for side in range(2):
        grid, place = even(pts_us, hands.wrists_m[:, side].astype(np.float64))
        for start, stop in runs(np.isfinite(place).all(1) if len(grid) else np.zeros(0, np.bool_)):
            steady = smooth(place[start:stop], NOISE_S)
            if len(steady) < 3:
                continue
            speed = np.linalg.norm(np.gradient(steady, 1 / HZ, axis=0), axis=1)
            found += [(grid[start + a], grid[start + b], way) for a, b, way in _of_speed(speed, steady)]
    joined: list[tuple[float, float, float]] = []
    for start_s, end_s, way in sorted(found):
        if joined and start_s < joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end_s, joined[-1][1]), max(way, joined[-1][2]))
        else:
            joined.append((start_s, end_s, way))
    return joined


def _of_speed(speed: Float64, place: Float64) -> list[tuple[int, int, float]]:
    found = []
    for start, stop in runs(speed > SLOW * FAST_M_S):
        piece = speed[start:stop]
        cuts = [0, *_valleys(piece), len(piece) - 1]
        for begin, end in itertools.pairwise(cuts):
            way = float(np.linalg.norm(place[start + end] - place[start + begin]))
            if piece[begin : end + 1].max() >= FAST_M_S and way >= FAR_M:
                found.append((start + begin, start + end, way))
    return found


def _valleys(speed: Float64) -> list[int]:
    """Indices where the speed falls below `SLOW` of both neighbouring peaks: one stroke ends, the next begins."""
    inner = np.flatnonzero((speed[1:-1] <= speed[:-2]) & (speed[1:-1] < speed[2:])) + 1
    return [int(at) for at in inner if speed[at] < SLOW * min(speed[:at].max(), speed[at:].max())]


def gesture_space_m(hands: Hands) -> float:
    """RMS distance of the wrists from their mean places, metres; NaN where none is seen."""
    total, count = 0.0, 0
    for side in range(2):
        place = hands.wrists_m[hands.seen[:, side], side].astype(np.float64)
        if len(place):
            total += float(((place - place.mean(0)) ** 2).sum())
            count += len(place)
    return float(np.sqrt(total / count)) if count else float("nan")
