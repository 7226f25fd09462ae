"""WhisperX' JSON: segments of words, of which those that its model could not spell carry no times."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from annotate.align.base import Alignment
from annotate.timing import TimedWord, settle
from schemas.errors import TalksetError

_SOURCE: Final = "whisperx-json"


def parse_whisperx(text: str, name: str) -> Alignment:
    """The words of a result of `whisperx.align`, written as JSON.

    Words without `start` and `end` (numbers, signs) are placed between their neighbours and marked interpolated where
    there is room, else listed as untimed. Segments without words share their time among the words of their text.

    Raises TalksetError(corrupt_data) for other JSON, naming the segment.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise TalksetError("corrupt_data", f"{name} is not JSON ({error})", "Supply WhisperX' .json output") from error
    timed, untimed = settle(words_of(value, name), _SOURCE)
    return Alignment(timed, (), untimed=untimed)


def words_of(value: Any, name: str) -> list[TimedWord]:
    """Words of a WhisperX result with times where it has them. Raises TalksetError(corrupt_data)."""
    if not isinstance(value, Mapping) or not isinstance(value.get("segments"), list):
        raise TalksetError("corrupt_data", f"{name} has no list `segments`", "Supply a result of whisperx.align")
    words: list[TimedWord] = []
    for number, segment in enumerate(value["segments"]):
        try:
            entries = segment.get("words") or [{"word": word} for word in str(segment["text"]).split()]
            words += [_word(entry) for entry in entries]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            message = f"{name}: segment {number} is not WhisperX' ({error})"
            raise TalksetError("corrupt_data", message, "Supply a result of whisperx.align") from error
    return words


def _word(entry: Mapping[str, Any]) -> TimedWord:
    label = entry["word"]
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"a word is {label!r}")
    score = entry.get("score")
    value = math.nan if score is None else float(score)
    if not (math.isnan(value) or 0 <= value <= 1.000_001):
        raise ValueError(f"the score of {label!r} is {value}")
    return TimedWord(label.strip(), _us(entry.get("start")), _us(entry.get("end")), min(value, 1.0))


def _us(seconds: Any) -> int | None:
    if seconds is None:
        return None
    value = float(seconds)
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"a time is {seconds!r}")
    return round(value * 1e6)
