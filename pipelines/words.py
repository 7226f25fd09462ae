"""From the words of a whole source to those of its clips."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from schemas.types import Interval, Span, Transcription


def cut_words(words: Mapping[str, Any], span: Span) -> tuple[Transcription, list[str]]:
    """Words and phones that lie inside a span, on the clip clock, and the words that its borders cut.

    `words` is the result of the words stage, on the source clock. A word that a border cuts belongs to no clip, and
    neither do its phones.
    """
    spoken = _intervals(words["words"])
    inside = [word for word in spoken if span.start_us <= word.start_us and word.end_us <= span.end_us]
    touching = [word for word in spoken if word.start_us < span.end_us and word.end_us > span.start_us]
    kept = set(inside)
    cut = [word for word in touching if word not in kept]
    phones = [
        phone
        for phone in _intervals(words["phones"])
        if span.start_us <= phone.start_us
        and phone.end_us <= span.end_us
        and not any(word.start_us <= phone.start_us and phone.end_us <= word.end_us for word in cut)
    ]
    moved = Transcription(_moved(inside, -span.start_us), _moved(phones, -span.start_us))
    return moved, [word.label for word in cut]


def to_json(words: Transcription, start_us: int) -> dict[str, Any]:
    """Words and phones as JSON values, moved from a clock that starts at `start_us` to the source clock."""
    return {
        "words": [vars(word) for word in _moved(words.words, start_us)],
        "phones": [vars(phone) for phone in _moved(words.phones, start_us)],
    }


def _intervals(values: Sequence[Mapping[str, Any]]) -> list[Interval]:
    return [Interval(**value) for value in values]


def _moved(intervals: Sequence[Interval], by_us: int) -> tuple[Interval, ...]:
    return tuple(dataclasses.replace(i, start_us=i.start_us + by_us, end_us=i.end_us + by_us) for i in intervals)
