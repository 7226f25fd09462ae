"""Spans in which one emotion is the likeliest."""

from __future__ import annotations

from typing import Final

import numpy as np

from annotate.emotion.base import HOP_S, Float64
from schemas.labels import EMOTIONS
from schemas.types import Event

SHORTEST_S: Final = 0.6
"""Expressions of feelings last half a second to four (Ekman 2003); what is shorter belongs to what was before."""


def spans_of(probabilities: Float64, middle_s: Float64, duration_us: int, source: str) -> tuple[Event, ...]:
    """Events of kind `emotion` that tile a clip, from windows (W, 9) about the times (W,); score: mean probability.

    Two spans meet in the middle between their windows.
    """
    if not len(probabilities):
        return ()
    labels = probabilities.argmax(1).tolist()
    runs: list[list[int]] = []  # label, first window, one after the last
    for index, label in enumerate(labels):
        if runs and runs[-1][0] == label:
            runs[-1][2] = index + 1
        else:
            runs.append([label, index, index + 1])
    least = round(SHORTEST_S / HOP_S)
    kept: list[list[int]] = []
    for run in runs:
        short = run[2] - run[1] < min(least, len(labels))
        if kept and (short or kept[-1][0] == run[0]):
            kept[-1][2] = run[2]
        elif not kept and short and len(runs) > 1:
            kept.append([_longest(runs), run[1], run[2]])
        else:
            kept.append(run)
    events = []
    for number, (label, first, stop) in enumerate(kept):
        start = 0 if number == 0 else round(5e5 * (middle_s[first - 1] + middle_s[first]))
        end = duration_us if number == len(kept) - 1 else round(5e5 * (middle_s[stop - 1] + middle_s[stop]))
        score = float(np.mean(probabilities[first:stop, label]))
        events.append(Event(start, max(start, min(end, duration_us)), EMOTIONS[label], score, False, source, "emotion"))
    return tuple(events)


def _longest(runs: list[list[int]]) -> int:
    """Label of the longest run."""
    return max(runs, key=lambda run: run[2] - run[1])[0]
