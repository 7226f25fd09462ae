"""SubRip subtitles (.srt) of the words of a clip; its times are whole milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exports.cues import cues, stamp
from exports.spoken import intervals, write_each
from schemas.types import Interval

SUFFIX: Final = ".srt"


def srt(words: Sequence[Interval]) -> str:
    """Numbered cues of words in order; empty without words."""
    blocks = []
    for number, line in enumerate(cues(words), 1):
        times = f"{stamp(line[0].start_us, ',')} --> {stamp(line[-1].end_us, ',')}"
        blocks.append(f"{number}\n{times}\n{' '.join(word.label for word in line)}\n")
    return "\n".join(blocks)


def export_srt(dataset: Path, folder: Path) -> list[Path]:
    """Write <clip_id>.srt for every accepted clip of a data set; see `exports.spoken.write_each`."""
    return write_each(dataset, folder, SUFFIX, lambda clip: srt(intervals(clip.words())))
