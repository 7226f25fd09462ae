"""WebVTT subtitles (.vtt) of the words of a clip, with the time of each word inside its cue (W3C WebVTT, 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exports.cues import cues, stamp
from exports.spoken import intervals, write_each
from schemas.types import Interval

SUFFIX: Final = ".vtt"
_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def vtt(words: Sequence[Interval]) -> str:
    """Cues of words in order; every word but the first of a cue follows a time stamp."""
    blocks = ["WEBVTT\n"]
    for line in cues(words):
        start, end = stamp(line[0].start_us, "."), stamp(line[-1].end_us, ".")
        parts = [line[0].label.translate(_ESCAPES)]
        # a stamp must lie inside its cue, after the one before
        parts += [f"<{stamp(word.start_us, '.')}>{word.label.translate(_ESCAPES)}" for word in line[1:]]
        blocks.append(f"{start} --> {end}\n{' '.join(parts)}\n")
    return "\n".join(blocks)


def export_vtt(dataset: Path, folder: Path) -> list[Path]:
    """Write <clip_id>.vtt for every accepted clip of a data set; see `exports.spoken.write_each`."""
    return write_each(dataset, folder, SUFFIX, lambda clip: vtt(intervals(clip.words())))
