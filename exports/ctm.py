"""NIST CTM of a data set's words or phones: one file, a line for each, `clip channel start duration word confidence`.

Times are seconds from the start of the clip, written exactly; a confidence that is not known is `NA`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from exports.spoken import SpokenClip, intervals, seconds, stored_clips
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, write_atomic

SUFFIX: Final = ".ctm"


def ctm(clips: Iterable[SpokenClip], tier: str = "words") -> str:
    """The lines of all clips, sorted by clip and time; `tier` is words or phones.

    Raises UsageError for another tier, TalksetError(corrupt_data) for a label that holds white space or nothing.
    """
    if tier not in ("words", "phones"):
        raise UsageError(f"a CTM file cannot hold {tier!r}", "Choose words or phones")
    lines: list[str] = []
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        for interval in intervals(clip.words() if tier == "words" else clip.phones()):
            if len(interval.label.split()) != 1 or interval.label.split()[0] != interval.label:
                message = f"clip {clip.clip_id}: the label {interval.label!r} is not one word"
                raise TalksetError("corrupt_data", message, "CTM separates fields by spaces; export a TextGrid")
            score = "NA" if math.isnan(interval.score) else f"{interval.score:.4f}"
            length = seconds(interval.end_us - interval.start_us)
            lines.append(f"{clip.clip_id} 1 {seconds(interval.start_us)} {length} {interval.label} {score}")
    return "".join(f"{line}\n" for line in lines)


def export_ctm(dataset: Path, folder: Path) -> list[Path]:
    """Write words.ctm and phones.ctm of the accepted clips of a data set into `folder`; returns the paths.

    Raises what `exports.spoken.stored_clips` and `ctm` raise, and TalksetError disk_full or not_writable.
    """
    clips = list(stored_clips(dataset))
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for tier in ("words", "phones"):
        path = folder / f"{tier}{SUFFIX}"
        write_atomic(path, ctm(clips, tier).encode("utf-8"))
        written.append(path)
    return written
