"""WebVTT subtitles (.vtt) of the words of a clip, with the time of each word inside its cue (W3C WebVTT, 3.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from exports.cues import cues, stamp
from exports.spoken import transcription, write_each
from schemas.types import Interval, Transcription

SUFFIX: Final = ".vtt"
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def vtt(text: Transcription) -> str:
    """Cues of words in order; every word with times but the first of a cue follows a time stamp."""
    blocks = ["WEBVTT\n"]
    for line in cues(text):
        start, end = stamp(line.start_us, "."), stamp(line.end_us, ".")
        parts = []
        for word in line.words:
            # a stamp must lie inside its cue, after the one before
            later = isinstance(word, Interval) and word.start_us > line.start_us
            label = word.label.translate(_ESCAPES)
            parts.append(f"<{stamp(word.start_us, '.')}>{label}" if isinstance(word, Interval) and later else label)
        blocks.append(f"{start} --> {end}\n{' '.join(parts)}\n")
    return "\n".join(blocks)


def export_vtt(dataset: Path, folder: Path) -> list[Path]:
    """Write <clip_id>.vtt for every accepted clip of a data set; see `exports.spoken.write_each`."""
    return write_each(dataset, folder, SUFFIX, lambda clip: vtt(transcription(clip)))
