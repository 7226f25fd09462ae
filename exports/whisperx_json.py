"""WhisperX' JSON of the words of a clip: `segments` with `words`, and the same words as `word_segments`.

Words whose times were placed, not measured, and words without times carry no `start` and `end`, as WhisperX writes
words that it could not time.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final

from exports.cues import cues
from exports.spoken import transcription, write_each
from schemas.types import Interval, Transcription, UntimedWord

SUFFIX: Final = ".json"


def whisperx_json(text: Transcription, language: str = "en") -> str:
    """A result as `whisperx.align` returns it, times in seconds."""
    segments = []
    for line in cues(text):
        segments.append(
            {
                "start": line.start_us / 1e6,
                "end": line.end_us / 1e6,
                "text": line.text,
                "words": [_word(word) for word in line.words],
            }
        )
    value = {"segments": segments, "word_segments": [_word(word) for word in text.spoken], "language": language}
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"


def _word(word: Interval | UntimedWord) -> dict[str, Any]:
    if isinstance(word, UntimedWord) or word.interpolated:
        return {"word": word.label}
    times = {"word": word.label, "start": word.start_us / 1e6, "end": word.end_us / 1e6}
    return times if math.isnan(word.score) else {**times, "score": round(word.score, 4)}


def export_whisperx_json(dataset: Path, folder: Path) -> list[Path]:
    """Write <clip_id>.json for every accepted clip of a data set; see `exports.spoken.write_each`."""
    return write_each(dataset, folder, SUFFIX, lambda clip: whisperx_json(transcription(clip)))
