"""Who speaks when in a shot: the likeliest course of speakers through its speech."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.segmentation.pieces import US, Int64
from schemas.config import SpeakerConfig
from schemas.types import Float32, Span

Float64 = NDArray[np.float64]

STEP_US: Final = 40_000
SWITCH: Final = 2.0
"""Log odds against a change of speakers from one step to the next: a turn of less than a second needs strong proof."""
NOBODY: Final = -1.0
"""Log odds that the voice belongs to nobody who is seen, where several faces are: what the wrong face often reaches."""


@dataclass(frozen=True)
class Turn:
    """A span of speech that one face says, or nobody who is seen."""

    span: Span
    number: int | None


@dataclass(frozen=True)
class Candidate:
    """A face of a shot that may be the speaker."""

    reach: Span
    """While it is seen."""
    pts_us: Int64
    odds: Float32
    """Log odds at those times, as `annotate.active_speaker` gives them; without any the face cannot be judged: 0."""

    def at(self, times: Int64) -> Float64:
        """(T,) log odds, minus infinity where the face is not seen."""
        value = np.interp(times, self.pts_us, self.odds) if len(self.pts_us) else np.zeros(len(times))
        seen = (times >= self.reach.start_us) & (times < self.reach.end_us)
        return np.where(seen, np.nan_to_num(value), -np.inf)


def turns_of(
    speech: Sequence[Span], shot: Span, candidates: Mapping[int, Candidate], config: SpeakerConfig
) -> list[Turn]:
    """Turns of the speech inside a shot, in order, on the source clock.

    The course of speakers with the greatest summed log odds (in a second one full window), less what each change costs
    (Viterbi). A voice-over is a speaker too, whose odds are `speaker.min_evidence` beside one face.
    """
    inside = [Span(max(s.start_us, shot.start_us), min(s.end_us, shot.end_us)) for s in speech]
    inside = [span for span in inside if span.end_us > span.start_us]
    if not inside:
        return []
    times = np.concatenate([np.arange(s.start_us, s.end_us, STEP_US) + (STEP_US // 2) for s in inside])
    numbers = list(candidates)
    rows = np.array([candidates[number].at(times) for number in numbers]).reshape(len(numbers), len(times))
    seen = np.isfinite(rows).sum(axis=0)
    nobody = np.where(seen > 1, NOBODY, config.min_evidence)
    path = _best_course(np.vstack([nobody[np.newaxis], rows]) * STEP_US / US)
    turns: list[Turn] = []
    position = 0
    for span in inside:
        count = len(np.arange(span.start_us, span.end_us, STEP_US))
        part = path[position : position + count]
        position += count
        edges = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), count]
        for a, b in itertools.pairwise(edges):
            who = None if part[a] == 0 else numbers[part[a] - 1]
            end = span.end_us if b == count else span.start_us + b * STEP_US
            turns.append(Turn(Span(span.start_us + a * STEP_US, end), who))
    return turns


def mean_odds(candidate: Candidate, speech: Sequence[Span], span: Span) -> tuple[float, float] | None:
    """Mean and least log odds of a face over the speech of a span; None without speech or sight of it."""
    parts = [np.arange(max(s.start_us, span.start_us), min(s.end_us, span.end_us), STEP_US) for s in speech]
    times = np.concatenate([part for part in parts if len(part)] or [np.zeros(0, np.int64)])
    values = candidate.at(times + STEP_US // 2)
    values = values[np.isfinite(values)]
    return (float(values.mean()), float(values.min())) if len(values) else None


def _best_course(gain: Float64) -> NDArray[np.int64]:
    """(T,) states of the best path through (states, T) gains."""
    states, count = gain.shape
    best = gain[:, 0].copy()
    back = np.zeros((states, count), np.int64)
    for t in range(1, count):
        leader = int(np.argmax(best))
        stay = best >= best[leader] - SWITCH
        back[:, t] = np.where(stay, np.arange(states), leader)
        best = np.where(stay, best, best[leader] - SWITCH) + gain[:, t]
    path = np.zeros(count, np.int64)
    path[-1] = int(np.argmax(best))
    for t in range(count - 1, 0, -1):
        path[t - 1] = back[path[t], t]
    return path
