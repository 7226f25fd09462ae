"""Praat TextGrids of a data set: words and phones of a clip as two interval tiers.

Format: the long text form of "ooTextFile TextGrid" (Praat manual, "TextGrid file formats"): every tier covers the whole
clip, so what lies between two labels is an interval without text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exports.spoken import MEND, SpokenClip, intervals, seconds, stored_clips
from schemas.errors import TalksetError
from schemas.files import named_errors, write_atomic
from schemas.types import Interval

SUFFIX: Final = ".TextGrid"
UNFIT: Final = "A tier of a TextGrid cannot hold it; correct its times, or leave it out"


def textgrid(words: Sequence[Interval], phones: Sequence[Interval], duration_us: int) -> str:
    """The text of a TextGrid with the tiers "words" and "phones", times in seconds from the start of the clip.

    Times are exact: microseconds are written as decimals. Intervals may come in any order. Raises TalksetError
    (corrupt_data) for intervals that overlap, are empty or are not inside [0, duration_us], naming them.
    """
    if duration_us <= 0:
        raise TalksetError("corrupt_data", f"a clip cannot last {duration_us} us", MEND)
    end = seconds(duration_us)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0 ",
        f"xmax = {end} ",
        "tiers? <exists> ",
        "size = 2 ",
        "item []: ",
    ]
    for number, (name, tier) in enumerate((("words", words), ("phones", phones)), 1):
        filled = _filled(name, tier, duration_us)
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier" ',
            f"        name = {_quoted(name)} ",
            "        xmin = 0 ",
            f"        xmax = {end} ",
            f"        intervals: size = {len(filled)} ",
        ]
        for place, (start_us, end_us, label) in enumerate(filled, 1):
            lines += [
                f"        intervals [{place}]:",
                f"            xmin = {seconds(start_us)} ",
                f"            xmax = {seconds(end_us)} ",
                f"            text = {_quoted(label)} ",
            ]
    return "\n".join(lines) + "\n"


def write_textgrid(clip: SpokenClip, path: Path) -> None:
    """Write the words and phones of a clip as a UTF-8 TextGrid, whole or not at all.

    Raises what `textgrid` raises, naming the clip, and TalksetError disk_full or not_writable.
    """
    try:
        text = textgrid(intervals(clip.words()), intervals(clip.phones()), clip.duration_us)
    except TalksetError as error:
        raise TalksetError(error.reason, f"clip {clip.clip_id}: {error.message}", error.remedy) from error
    write_atomic(path, text.encode("utf-8"))


def export_textgrids(dataset_path: Path, folder: Path) -> list[Path]:
    """Write <clip_id>.TextGrid into `folder` for every accepted clip of a data set; returns the paths.

    A clip without words gives empty tiers. Raises UsageError for a folder that holds no data set, TalksetError
    (corrupt_data) for tables that cannot be read and what `write_textgrid` raises; files written before stay.
    """
    clips = list(stored_clips(dataset_path))
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for clip in clips:
        path = folder / f"{clip.clip_id}{SUFFIX}"
        write_textgrid(clip, path)
        written.append(path)
    return written


def _filled(tier: str, labelled: Sequence[Interval], duration_us: int) -> list[tuple[int, int, str]]:
    """(start_us, end_us, label) without holes from 0 to the end."""
    filled: list[tuple[int, int, str]] = []
    reached, before = 0, "the start of the clip"
    for interval in sorted(labelled, key=lambda i: (i.start_us, i.end_us)):
        start_us, end_us = interval.start_us, interval.end_us
        told = f"{interval.label!r} ({seconds(start_us)}..{seconds(end_us)} s)"
        if end_us <= start_us:
            raise TalksetError("corrupt_data", f"{told} in {tier} has no length", UNFIT)
        if start_us < reached or start_us < 0:
            raise TalksetError("corrupt_data", f"{told} in {tier} overlaps {before}", UNFIT)
        if end_us > duration_us:
            message = f"{told} in {tier} ends after the clip, which lasts {seconds(duration_us)} s"
            raise TalksetError("corrupt_data", message, UNFIT)
        if start_us > reached:
            filled.append((reached, start_us, ""))
        filled.append((start_us, end_us, interval.label))
        reached, before = end_us, told
    if reached < duration_us:
        filled.append((reached, duration_us, ""))
    return filled


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
