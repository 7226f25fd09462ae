"""Words whose times may be unknown, and how they are placed between those whose times are known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.types import Interval, UntimedWord

LEAST_GAP_US: Final = 20_000
"""Room that each word needs to be placed between its neighbours."""


@dataclass(frozen=True)
class TimedWord:
    """A word as an engine or a file gives it, on the clock of the sound."""

    label: str
    start_us: int | None
    """None where the engine gave no time: WhisperX does so for words that its model cannot spell."""
    end_us: int | None
    score: float = math.nan
    """0..1, the engine's own confidence; NaN where it gives none."""
    interpolated: bool = False
    """True where somebody before us placed the times, as with words inside a subtitle."""

    @property
    def timed(self) -> bool:
        """Whether it has a start and a later end."""
        return self.start_us is not None and self.end_us is not None and self.end_us > self.start_us


def settle(words: Sequence[TimedWord], source: str) -> tuple[tuple[Interval, ...], tuple[UntimedWord, ...]]:
    """Intervals of all words that have times or room for them, and the words that have neither, each in order.

    A run of words without times is placed evenly between its neighbours where each gets 20 ms, marked interpolated,
    with a score of NaN. A word that begins before the one in front of it ends begins there instead; one that then has
    no length counts as without time.
    """
    known: list[Interval | None] = []
    reached = 0
    for word in words:
        if not word.timed or word.start_us is None or word.end_us is None or word.end_us <= max(reached, word.start_us):
            known.append(None)
            continue
        start_us, reached = max(reached, word.start_us), word.end_us
        known.append(Interval(start_us, reached, word.label, word.score, word.interpolated, source))
    timed: list[Interval] = []
    untimed: list[UntimedWord] = []
    for missing, group in itertools.groupby(range(len(words)), key=lambda place: known[place] is None):
        places = list(group)
        if not missing:
            timed += [interval for place in places if (interval := known[place]) is not None]
            continue
        labels = [words[place].label for place in places]
        following = known[places[-1] + 1] if places[-1] + 1 < len(words) else None
        if not timed or following is None or following.start_us - timed[-1].end_us < LEAST_GAP_US * len(labels):
            untimed += [UntimedWord(label, len(timed), source) for label in labels]
            continue
        edges = np.linspace(timed[-1].end_us, following.start_us, len(labels) + 1).round().astype(int).tolist()
        spans = itertools.pairwise(edges)
        timed += [Interval(a, b, name, math.nan, True, source) for name, (a, b) in zip(labels, spans, strict=True)]
    return tuple(timed), tuple(untimed)
