"""SubRip subtitles (.srt) of the words of a clip; its times are whole milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from exports.cues import cues, stamp
from exports.spoken import transcription, write_each
from schemas.types import Transcription

SUFFIX: Final = ".srt"


def srt(text: Transcription) -> str:
    """Numbered cues of words in order; empty without words."""
    blocks = []
    for number, line in enumerate(cues(text), 1):
        times = f"{stamp(line.start_us, ',')} --> {stamp(line.end_us, ',')}"
        blocks.append(f"{number}\n{times}\n{line.text}\n")
    return "\n".join(blocks)


def export_srt(dataset: Path, folder: Path) -> list[Path]:
    """Write <clip_id>.srt for every accepted clip of a data set; see `exports.spoken.write_each`."""
    return write_each(dataset, folder, SUFFIX, lambda clip: srt(transcription(clip)))
