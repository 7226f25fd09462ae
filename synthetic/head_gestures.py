"""Nods and shakes that a talker makes on purpose, added to the head's rotation: truth for those who look for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.types import Interval

Float64 = NDArray[np.float64]

EASE: Final = 0.25
"""Part of a gesture in which it grows, and in which it fades."""
NOD_DEG: Final = (3.5, 6.0)
SHAKE_DEG: Final = (4.5, 9.0)
"""Amplitude of the middle cycles, either way."""
NOD_HZ: Final = (1.5, 3.0)
SHAKE_HZ: Final = (1.3, 2.8)
CYCLES: Final = (2.0, 3.0)
PAUSE_S: Final = (1.0, 2.0)
"""Between one gesture and the next."""


@dataclass(frozen=True)
class HeadGesture:
    """A nod (pitch, down first) or a shake (yaw)."""

    kind: str
    """nod or shake."""
    start_s: float
    hz: float
    cycles: float
    amplitude_rad: float
    """Of the middle cycles; negative begins the other way."""

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.start_s + self.cycles / self.hz


def gesture_tracks(gestures: Sequence[HeadGesture], grid: Float64) -> tuple[Float64, Float64]:
    """(N,) yaw and (N,) pitch in radians at the times of `grid` (s), to add to the head's own."""
    tracks = {"shake": np.zeros(len(grid)), "nod": np.zeros(len(grid))}
    for each in gestures:
        part = (grid - each.start_s) / (each.end_s - each.start_s)
        inside = (part >= 0) & (part <= 1)
        grown = np.clip(np.minimum(part, 1 - part) / EASE, 0, 1)
        ease = 0.5 - 0.5 * np.cos(np.pi * grown)
        tracks[each.kind] += np.where(
            inside, each.amplitude_rad * ease * np.sin(2 * np.pi * each.hz * (grid - each.start_s)), 0
        )
    return tracks["shake"], tracks["nod"]


def random_gestures(duration_s: float, seed: int) -> tuple[HeadGesture, ...]:
    """Nods and shakes in random order with pauses between them, as many as there is time for."""
    rng = np.random.default_rng([seed, 61])
    found: list[HeadGesture] = []
    time = float(rng.uniform(0.3, 1.0))
    while True:
        kind = ("nod", "shake")[rng.integers(2)]
        hz, degrees = (NOD_HZ, NOD_DEG) if kind == "nod" else (SHAKE_HZ, SHAKE_DEG)
        sign = 1.0 if kind == "nod" or rng.uniform() < 0.5 else -1.0
        amplitude = sign * np.radians(rng.uniform(*degrees))
        made = HeadGesture(kind, time, float(rng.uniform(*hz)), float(rng.uniform(*CYCLES)), float(amplitude))
        if made.end_s > duration_s - 0.2:
            return tuple(found)
        found.append(made)
        time = made.end_s + float(rng.uniform(*PAUSE_S))


def gesture_intervals(gestures: Sequence[HeadGesture]) -> tuple[Interval, ...]:
    """The gestures as labelled intervals of the clip clock."""
    return tuple(
        Interval(round(1e6 * each.start_s), round(1e6 * each.end_s), each.kind, 1.0, False, "truth")
        for each in gestures
    )
