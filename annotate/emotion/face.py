"""Emotion by face: action units against EMFACS prototypes, with weights that were calibrated on rendered heads.

EMFACS (Friesen & Ekman 1983; the prototypes of the FACS Investigator's Guide, 2002) says which units speak for a class
and which against it: `RULES`. How much of a unit a detector and a fit let through is no matter of theory; it was
measured on heads that speak, and the weights are the most probable ones under a prior around the rules. The tables in
`face_tables.json` tell what they were measured on; `benchmarks/labels.py --calibrate` makes them.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from annotate.emotion.action_units import NUM_UNITS, UNITS, action_units, over_window
from annotate.emotion.base import NUM, Float64, Opinion, Pictures
from annotate.performance import Performance
from schemas.errors import UsageError
from schemas.labels import EMOTIONS
from schemas.types import Float32

RULES: Final = {
    "neutral": {},
    "happiness": {"AU12": 2, "AU6": 1, "AU15": -1, "AU4": -1, "AU12 of one side": -1},
    "anger": {"AU4": 2, "AU7": 1, "AU23": 1, "AU24": 1, "AU1": -1, "AU2": -1, "AU12": -1},
    "sadness": {"AU1": 1, "AU15": 2, "AU17": 1, "AU12": -1, "AU2": -1, "AU5": -1},
    "contempt": {"AU14 of one side": 2, "AU12 of one side": 2, "AU10 of one side": 1, "AU24 of one side": 1},
    "surprise": {"AU1": 1, "AU2": 2, "AU5": 1, "AU26": 1, "AU4": -1, "AU20": -1},
    "fear": {"AU1": 1, "AU5": 2, "AU20": 2, "AU4": 1, "AU12": -1, "AU26": -1},
    "disgust": {"AU9": 2, "AU10": 2, "AU17": 1, "AU5": -1, "AU12": -1, "AU1": -1},
    "calm": {},
}  # fmt: skip
"""What speaks for a class and against it; the unit of these weights is found by calibration."""
TABLES: Final = Path(__file__).with_name("face_tables.json")
KINDS: Final = ("speaker", "clip", "exact")
"""Fitted weights against the speaker's own rest, fitted ones of a clip alone, and weights as an animator sets them."""
_LEAST_SEEN: Final = 0.3
"""Share of a window's frames with a face from which on it is judged."""


@dataclass(frozen=True)
class Table:
    """A calibrated classifier over the units in standard deviations."""

    scale: Float64
    """(U,) of one standard deviation."""
    weights: Float64
    """(U, 9)"""
    bias: Float64
    """(9,)"""
    strength: Float64
    """(2 U + 1, 9) of the intensity of each class: linear in the units, their sizes and one. Calibrated together, for
    their mean weighed by the probabilities; calm, which a face does not show, has that of neutral."""
    reliability: float

    def log_odds(self, units: Float64) -> Float64:
        """(W, 9) of units (W, U)."""
        return np.asarray(units / self.scale @ self.weights + self.bias)

    def intensity(self, units: Float64) -> Float64:
        """(W, 9) 0..1: how strong the units (W, U) are for each class."""
        return np.asarray(np.clip(with_sizes(units / self.scale) @ self.strength, 0, 1))


class FaceJudge:
    """See `annotate.emotion.base.EmotionClassifier`.

    Args: kind: one of `KINDS`. rest: (len(names),) the weights of the speaker's face at rest, for "speaker".
    """

    def __init__(self, kind: str = "clip", rest: Float32 | None = None) -> None:
        if kind not in KINDS:
            raise UsageError(f"unknown kind of face weights {kind!r}", f"Choose {', '.join(KINDS)}")
        self.name = f"face:action-units-1-{kind}"
        self._table = tables()[kind]
        self._rest = rest

    def judge(self, clip: Performance, windows: Float64, pictures: Pictures | None = None) -> Opinion | None:
        """See the protocol; None without ARKit weights, or where no face is seen."""
        del pictures
        if clip.weights is None or not np.isfinite(clip.weights).any():
            return None
        units = action_units(clip.names, clip.weights, self._rest)
        times = clip.pts_us / 1e6
        rows, seen = np.zeros((len(windows), NUM_UNITS)), np.zeros(len(windows))
        for index, (start, end) in enumerate(windows):
            inside = (times >= start) & (times < end)
            known = inside & np.isfinite(units).all(1)
            seen[index] = known.sum() / max(int(inside.sum()), 1)
            if seen[index] >= _LEAST_SEEN:
                rows[index] = over_window(units[known])
        return self.opinion(rows, np.where(seen >= _LEAST_SEEN, seen, 0.0))

    def opinion(self, units: Float64, seen: Float64) -> Opinion:
        """What is said of units (W, U) of windows with a share of frames `seen` (W,)."""
        log_odds = self._table.log_odds(units)
        known = seen > 0
        return Opinion(
            source=self.name,
            log_odds=np.where(known[:, None], log_odds, 0.0).reshape(-1, NUM),
            reliability=self._table.reliability * seen,
            intensity=np.where(known[:, None], self._table.intensity(units), np.nan),
            features={f"face_{unit.name}": units[:, column] for column, unit in enumerate(UNITS)},
        )


@functools.lru_cache(maxsize=1)
def tables() -> dict[str, Table]:
    """The calibrated tables by kind."""
    stored: dict[str, Any] = json.loads(TABLES.read_text())
    arrays = ("scale", "weights", "bias", "strength")
    return {
        kind: Table(
            **{name: np.array(stored[kind][name]) for name in arrays}, reliability=float(stored[kind]["reliability"])
        )
        for kind in KINDS
    }


def with_sizes(inputs: Float64) -> Float64:
    """(W, 2 U + 1) of units (W, U): with their sizes, and one."""
    return np.concatenate([inputs, np.abs(inputs), np.ones((len(inputs), 1))], axis=1)


def rule_matrix() -> Float64:
    """(U, 9) of `RULES`."""
    matrix = np.zeros((NUM_UNITS, NUM))
    for name, rules in RULES.items():
        for unit, weight in rules.items():
            matrix[[u.name for u in UNITS].index(unit), EMOTIONS.index(name)] = weight
    return matrix
