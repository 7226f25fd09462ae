"""Blinks and lip closures in the gaps of a head track: F1 of a fit against the truth, and lips at p, b, m.

One definition serves truth and fit, each by its own range: a slit is closed while its gap is near the lower end of the
clip's range. Nearly closed frames of the truth, between the strict and the loose share, count neither way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.models.head_model import HeadModel
from schemas.types import HeadTrack, Int64, Interval
from synthetic.apertures import find_apertures, gap_m
from synthetic.evaluate import track_vertices
from synthetic.phonetics import VOWELS
from synthetic.visemes import BILABIALS

Float64 = NDArray[np.float64]
Span = tuple[int, int]
"""Half-open interval of frames."""

OPEN_PERCENTILE: Final = 90.0
CLOSED_FRAMES: Final = 2
"""The lower end of the range is the mean of so many smallest gaps: one stray frame does not move it much."""
EVER_CLOSED: Final = 0.5
"""A slit whose lower end is above that share of its open gap never closes."""
ALIGNMENT_FRAMES: Final = 2
"""Frames by which the time of an aligned phone may be off."""
SLACK_FRAMES: Final = 1
"""Events match when they come within so many frames of one another."""


@dataclass(frozen=True)
class Slit:
    """When a slit counts as closed: shares of the way from the closed to the open gap, and a gap that always does."""

    strict: float
    loose: float
    floor_m: float


LIDS: Final = Slit(strict=0.25, loose=0.5, floor_m=0.0)
LIPS: Final = Slit(strict=0.10, loose=0.30, floor_m=0.0005)


@dataclass(frozen=True)
class Matches:
    """Events of the truth that were found, those that were missed, and found ones that the truth does not have."""

    hits: int
    misses: int
    false: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(self.hits + other.hits, self.misses + other.misses, self.false + other.false)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN where there was nothing to find and nothing was found."""
        total = 2 * self.hits + self.misses + self.false
        return 2 * self.hits / total if total else float("nan")


def gaps_m(model: HeadModel, track: HeadTrack) -> tuple[Float64, Float64]:
    """(T,) gap of the lips and (T,) mean gap of the eyelids in metres, canonical pose; NaN where not valid.

    Raises UsageError for a model without lips or eyelids.
    """
    slits = find_apertures(model)
    ids = slits.ids()
    rows = np.flatnonzero(track.valid)
    vertices = track_vertices(model, track, rows, ids, False)
    lips, left, right = (
        gap_m(vertices, (np.searchsorted(ids, above), np.searchsorted(ids, below)))
        for above, below in (slits.lips, slits.left_eye, slits.right_eye)
    )
    gaps = np.full((2, len(track.valid)), np.nan)
    gaps[:, rows] = lips, (left + right) / 2
    return gaps[0], gaps[1]


def opening(gap: Float64) -> Float64:
    """(T,) 0 at the closed and 1 at the open end of the range of a gap (T,); all 1 where it never closes."""
    known = np.sort(gap[np.isfinite(gap)])
    if not len(known):
        return np.ones(len(gap))
    closed, wide = float(known[:CLOSED_FRAMES].mean()), float(np.percentile(known, OPEN_PERCENTILE))
    if wide <= 0 or closed > EVER_CLOSED * wide:
        return np.ones(len(gap))
    return np.asarray((gap - closed) / (wide - closed))


def closures(gap: Float64, slit: Slit, loose: bool = False) -> list[Span]:
    """Spans of frames in which a gap (T,) in metres is closed; a frame that is not valid (NaN) is open."""
    share = slit.loose if loose else slit.strict
    with np.errstate(invalid="ignore"):
        shut = (opening(gap) < share) | (gap < slit.floor_m)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], shut, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def match(truth: Float64, fit: Float64, slit: Slit) -> Matches:
    """Closures of the gap of a fit (T,) against those of the true gap (T,), frame by frame the same times."""
    wanted, found = closures(truth, slit), closures(fit, slit)
    allowed = closures(truth, slit, loose=True)
    hits = sum(_meets(event, found) for event in wanted)
    return Matches(hits, len(wanted) - hits, sum(not _meets(event, allowed) for event in found))


def bilabial_ratios(lips_m: Float64, times_us: Int64, phones: Sequence[Interval]) -> list[float]:
    """Smallest lip gap about each p, b, m over the median gap of the clip's vowels; empty without either.

    Args: lips_m (T,) gap in metres, NaN where not valid; times_us (T,) on the clock of the phones.
    """
    step = int(np.median(np.diff(times_us)))

    def at(phone: Interval, slack: int) -> Float64:
        inside = (times_us >= phone.start_us - slack * step) & (times_us < phone.end_us + slack * step)
        values = lips_m[inside]
        return np.asarray(values[np.isfinite(values)])

    vowels = [at(phone, 0) for phone in phones if phone.label in VOWELS]
    wide = np.concatenate([values for values in vowels if len(values)] or [np.empty(0)])
    closed = [values for phone in phones if phone.label in BILABIALS and len(values := at(phone, ALIGNMENT_FRAMES))]
    if not len(wide):
        return []
    return [float(values.min() / max(np.median(wide), 1e-6)) for values in closed]


def _meets(event: Span, others: Sequence[Span]) -> bool:
    return any(event[0] < stop + SLACK_FRAMES and start < event[1] + SLACK_FRAMES for start, stop in others)
