"""Which words the voice stresses: louder, higher and longer than their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotate.pitch import HOP_S
from annotate.style.voice import Voice
from schemas.types import Interval

Float64 = NDArray[np.float64]

LOUD: Final = 0.45
HIGH: Final = 0.35
LONG: Final = 0.2
"""Weights of the three cues; loudness and duration are the more reliable ones (Kochanski et al. 2005)."""
LEAST_WORDS: Final = 3


def emphasis(words: Sequence[Interval], voice: Voice) -> Float64 | None:
    """(W,) 0 to 1, how far the voice stresses each word against the others of the clip; None for too few words."""
    if len(words) < LEAST_WORDS:
        return None
    hops = [slice(int(word.start_us / 1e6 / HOP_S), max(int(word.end_us / 1e6 / HOP_S), 1)) for word in words]
    loud = np.array([_top(voice.level_db[hop], 80) for hop in hops])
    pitch = 12 * np.log2(np.where(np.isfinite(voice.pitch_hz), voice.pitch_hz, np.nan).astype(np.float64))
    high = np.array([_top(pitch[hop][np.isfinite(pitch[hop])], 90) for hop in hops])
    letters = np.array([max(len(word.label), 1) for word in words])
    long = np.log(np.array([max(word.end_us - word.start_us, 1000) for word in words]) / letters)
    total = LOUD * _scores(loud) + HIGH * _scores(high) + LONG * _scores(long)
    return np.asarray(1 / (1 + np.exp(-1.5 * total)))


def _top(values: NDArray[np.floating[Any]], part: float) -> float:
    return float(np.percentile(values, part)) if len(values) else float("nan")


def _scores(values: Float64) -> Float64:
    """Departures from the trend over the clip in deviations; 0 where unknown. Voices fall to the end of a sentence."""
    known = np.isfinite(values)
    if known.sum() < LEAST_WORDS:
        return np.zeros(len(values))
    place = np.arange(len(values), dtype=np.float64)
    trend = np.polyval(np.polyfit(place[known], values[known], 1), place)
    rest = values - trend
    return np.where(known, rest / max(float(rest[known].std()), 1e-3), 0.0)
