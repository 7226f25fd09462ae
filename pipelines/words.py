"""From the words of a whole source to those of its clips."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import TalksetError
from schemas.types import Float32, Interval, Span, Transcription, UntimedWord

if TYPE_CHECKING:
    from annotate.align.base import Aligner

NOT_FATAL = ("bad_transcript", "no_audio", "decode_error")
"""Reasons for which a source has no words but keeps its clips."""
NEAR_US: Final = 2_000_000
"""More than sound is ever shifted by, and a word long."""


def spoken_words(
    read: Callable[[int, int], Float32],
    span: tuple[int, int],
    transcript: str | None,
    language: str | None,
    aligner: Aligner,
    scratch: Path,
) -> dict[str, Any]:
    """Words, phones, speech and report of a span of the source clock, as JSON values.

    `read` gives the samples at 16 kHz of a part of the span. With a transcript it is aligned, else words are
    recognised. Where that is not possible for one of the reasons `NOT_FATAL`, there are no words but the reason.
    """
    from annotate.sound import spooled
    from annotate.word_checks import check_words

    try:
        sound = spooled(read, *span, scratch / "sound.raw")
        found = aligner.align(sound, transcript, language) if transcript else aligner.recognize(sound, language)
    except TalksetError as error:
        if error.reason not in NOT_FATAL:
            raise
        return {"words": [], "phones": [], "untimed": [], "reason": error.reason, "message": error.message}
    report = check_words(sound, found)
    speech = [[s.start_us + span[0], s.end_us + span[0]] for s in report.speech]
    values = {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in vars(report).items()
        if name != "speech"
    }
    return {**to_json(found, span[0]), "speech": speech, "report": values, "reason": None, "message": None}


def word_scores(words: Mapping[str, Any]) -> dict[str, Any]:
    """The index columns of a source's words; none of them where there are no words."""
    report = words.get("report")
    if not report:
        return {}
    return {
        "transcript_mismatch": report["mismatch"],
        "words_per_minute": report["words_per_minute"],
        "words_offset_ms": report["offset_ms"],
        "words_outside_speech": report["outside_speech"],
        "speech_without_words": report["uncovered_speech"],
        "word_flags": " ".join(report["flags"]) or None,
    }


def word_warnings(words: Mapping[str, Any]) -> list[str]:
    """What the report of a source's words warns of, for the index."""
    from annotate.word_checks import FLAGS

    report = words.get("report") or {"flags": []}
    return [f"{flag}: {FLAGS[flag]}" for flag in report["flags"]]


def speech_ratio(words: Mapping[str, Any], span: Span) -> float | None:
    """Share of a clip in which somebody speaks; None where that was not measured."""
    if "speech" not in words:
        return None
    speaking = sum(max(0, min(end, span.end_us) - max(start, span.start_us)) for start, end in words["speech"])
    return float(min(1.0, speaking / (span.end_us - span.start_us)))


def cut_words(words: Mapping[str, Any], span: Span) -> tuple[Transcription, list[str]]:
    """Words and phones that lie inside a span, on the clip clock, and the words that its borders cut.

    `words` is the result of the words stage, on the source clock. A word that a border cuts belongs to no clip, and
    neither do its phones. A word without a time is in the span when the words with times on both sides of it are (at
    the ends of the source, on its one side); where only one of them is, the border counts as cutting it.
    """
    untimed = tuple(UntimedWord(**value) for value in words["untimed"])
    spoken = Transcription(tuple(_intervals(words["words"])), tuple(_intervals(words["phones"])), untimed)
    return cut_spoken(spoken, span)


def cut_spoken(spoken: Transcription, span: Span) -> tuple[Transcription, list[str]]:
    """The same of words and phones on the source clock."""
    inside = [word for word in spoken.words if span.start_us <= word.start_us and word.end_us <= span.end_us]
    touching = [word for word in spoken.words if word.start_us < span.end_us and word.end_us > span.start_us]
    kept = set(inside)
    cut = [word for word in touching if word not in kept]
    phones = [
        phone
        for phone in spoken.phones
        if span.start_us <= phone.start_us
        and phone.end_us <= span.end_us
        and not any(word.start_us <= phone.start_us and phone.end_us <= word.end_us for word in cut)
    ]
    untimed, lost = _untimed_inside(spoken.untimed, spoken.words, kept)
    moved = Transcription(_moved(inside, -span.start_us), _moved(phones, -span.start_us), untimed)
    return moved, [*(word.label for word in cut), *(word.label for word in lost)]


def _untimed_inside(
    untimed: Sequence[UntimedWord], spoken: Sequence[Interval], kept: set[Interval]
) -> tuple[tuple[UntimedWord, ...], list[UntimedWord]]:
    """Those of a source's words without times that are in a clip that keeps some of its others, and those that may be.

    `after` of the first counts words of the clip.
    """
    first = next((place for place, word in enumerate(spoken) if word in kept), 0)
    inside, lost = [], []
    for word in untimed:
        sides = [other in kept for other in spoken[max(0, word.after - 1) : word.after + 1]]
        if sides and all(sides):
            inside.append(dataclasses.replace(word, after=word.after - first))
        elif any(sides):
            lost.append(word)
    return tuple(inside), lost


def spoken_near(words: Mapping[str, Any], span: Span) -> Transcription | None:
    """Words and phones on the source clock within `NEAR_US` of a span; None where the source has none.

    What a clip's own stages are given: its words once its sound is shifted to its lips are among them. Words without
    times are left out.
    """
    if not words or words["reason"] is not None:
        return None
    low, high = span.start_us - NEAR_US, span.end_us + NEAR_US
    spoken, phones = (
        tuple(Interval(**value) for value in words[kind] if value["end_us"] > low and value["start_us"] < high)
        for kind in ("words", "phones")
    )
    return Transcription(spoken, phones)


def to_json(words: Transcription, start_us: int) -> dict[str, Any]:
    """Words and phones as JSON values, moved from a clock that starts at `start_us` to the source clock."""
    return {
        "words": [vars(word) for word in _moved(words.words, start_us)],
        "phones": [vars(phone) for phone in _moved(words.phones, start_us)],
        "untimed": [vars(word) for word in words.untimed],
    }


def _intervals(values: Sequence[Mapping[str, Any]]) -> list[Interval]:
    return [Interval(**value) for value in values]


def _moved(intervals: Sequence[Interval], by_us: int) -> tuple[Interval, ...]:
    return tuple(dataclasses.replace(i, start_us=i.start_us + by_us, end_us=i.end_us + by_us) for i in intervals)
