"""From words to subtitle cues: lines that can be read in the time they stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.types import Interval, Transcription, UntimedWord

MAX_LETTERS: Final = 42
MAX_US: Final = 6_000_000
PAUSE_US: Final = 600_000
"""A pause this long begins another cue."""


@dataclass(frozen=True)
class Cue:
    """One line: words in order, at least one of them with times."""

    words: tuple[Interval | UntimedWord, ...]
    start_us: int
    end_us: int

    @property
    def text(self) -> str:
        """The line."""
        return " ".join(word.label for word in self.words)


def cues(text: Transcription) -> Iterator[Cue]:
    """Words in order, divided at pauses, and where a line grows beyond 42 letters or 6 seconds.

    Words without times stand with the word before them, those at the beginning with the one after; they do not count
    as letters. Without any times there is no line.
    """
    after: dict[int, list[UntimedWord]] = {}
    for missing in text.untimed:
        after.setdefault(missing.after, []).append(missing)
    place = 0
    for line in _lines(text.words):
        words: list[Interval | UntimedWord] = [*after.get(0, ())] if place == 0 else []
        for word in line:
            place += 1
            words += [word, *after.get(place, ())]
        yield Cue(tuple(words), line[0].start_us, line[-1].end_us)


def _lines(words: Sequence[Interval]) -> Iterator[tuple[Interval, ...]]:
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
