"""From words to subtitle cues: lines that can be read in the time they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from schemas.types import Interval

MAX_LETTERS: Final = 42
MAX_US: Final = 6_000_000
PAUSE_US: Final = 600_000
"""A pause this long begins another cue."""


def cues(words: Sequence[Interval]) -> Iterator[tuple[Interval, ...]]:
    """Words in order, divided at pauses, and where a line grows beyond 42 letters or 6 seconds."""
    line: list[Interval] = []
    for word in words:
        letters = sum(len(other.label) + 1 for other in line) + len(word.label)
        too_long = line and (letters > MAX_LETTERS or word.end_us - line[0].start_us > MAX_US)
        if line and (too_long or word.start_us - line[-1].end_us >= PAUSE_US):
            yield tuple(line)
            line = []
        line.append(word)
    if line:
        yield tuple(line)


def stamp(time_us: int, separator: str) -> str:
    """hh:mm:ss and milliseconds, rounded half up."""
    whole, milliseconds = divmod((time_us + 500) // 1000, 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02d}:{minute:02d}:{second:02d}{separator}{milliseconds:03d}"
