"""Praat TextGrids of a data set: words and phones of a clip as two interval tiers.

Format: the long text form of "ooTextFile TextGrid" (Praat manual, "TextGrid file formats"): every tier covers the whole
clip, so what lies between two labels is an interval without text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import TalksetError, UsageError
from schemas.files import is_safe_path, named_errors, write_atomic
from schemas.types import Interval

SUFFIX: Final = ".TextGrid"
MEND: Final = "Run `talkset verify` on the data set"
UNFIT: Final = "A tier of a TextGrid cannot hold it; correct its times, or leave it out"


class SpokenClip(Protocol):
    """What is needed of a clip; `talkset.dataset.Clip` has it."""

    @property
    def clip_id(self) -> str:
        """The id of the clip, for messages."""

    @property
    def duration_us(self) -> int:
        """Length of the clip."""

    def words(self) -> Sequence[Mapping[str, Any]]:
        """Rows with start_us and end_us from the start of the clip, and label."""

    def phones(self) -> Sequence[Mapping[str, Any]]:
        """The same of the phones."""


@dataclass(frozen=True)
class _Rows:
    """A clip of a whole data set."""

    clip_id: str
    duration_us: int
    tiers: Mapping[str, Sequence[Mapping[str, Any]]]

    def words(self) -> Sequence[Mapping[str, Any]]:
        return self.tiers["words"]

    def phones(self) -> Sequence[Mapping[str, Any]]:
        return self.tiers["phones"]


def textgrid(words: Sequence[Interval], phones: Sequence[Interval], duration_us: int) -> str:
    """The text of a TextGrid with the tiers "words" and "phones", times in seconds from the start of the clip.

    Times are exact: microseconds are written as decimals. Intervals may come in any order. Raises TalksetError
    (corrupt_data) for intervals that overlap, are empty or are not inside [0, duration_us], naming them.
    """
    if duration_us <= 0:
        raise TalksetError("corrupt_data", f"a clip cannot last {duration_us} us", MEND)
    end = _seconds(duration_us)
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
    for number, (name, intervals) in enumerate((("words", words), ("phones", phones)), 1):
        filled = _filled(name, intervals, duration_us)
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
                f"            xmin = {_seconds(start_us)} ",
                f"            xmax = {_seconds(end_us)} ",
                f"            text = {_quoted(label)} ",
            ]
    return "\n".join(lines) + "\n"


def write_textgrid(clip: SpokenClip, path: Path) -> None:
    """Write the words and phones of a clip as a UTF-8 TextGrid, whole or not at all.

    Raises what `textgrid` raises, naming the clip, and TalksetError disk_full or not_writable.
    """
    try:
        text = textgrid(_intervals(clip.words()), _intervals(clip.phones()), clip.duration_us)
    except TalksetError as error:
        raise TalksetError(error.reason, f"clip {clip.clip_id}: {error.message}", error.remedy) from error
    write_atomic(path, text.encode("utf-8"))


def export_textgrids(dataset_path: Path, folder: Path) -> list[Path]:
    """Write <clip_id>.TextGrid into `folder` for every accepted clip of a data set; returns the paths.

    A clip without words gives empty tiers. Raises UsageError for a folder that holds no data set, TalksetError
    (corrupt_data) for tables that cannot be read and what `write_textgrid` raises; files written before stay.
    """
    clips = list(_clips(dataset_path))
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for clip in clips:
        path = folder / f"{clip.clip_id}{SUFFIX}"
        write_textgrid(clip, path)
        written.append(path)
    return written


def _clips(root: Path) -> Iterator[_Rows]:
    index = _table(root, "index", ["clip_id", "status", "start_us", "end_us"])
    spoken = {name: _by_clip(_table(root, name, ["clip_id", "start_us", "end_us", "label"])) for name in _TIERS}
    for row in index.to_pylist():
        if row["status"] != "accepted":
            continue
        clip_id = row["clip_id"]
        if not is_safe_path(clip_id) or "/" in clip_id:
            raise TalksetError("corrupt_data", f"{root} has the clip {clip_id!r}, which is no file name", MEND)
        tiers = {name: spoken[name].get(clip_id, []) for name in _TIERS}
        yield _Rows(clip_id, row["end_us"] - row["start_us"], tiers)


_TIERS: Final = ("words", "phones")


def _table(root: Path, name: str, columns: list[str]) -> pa.Table:
    path = root / f"{name}.parquet"
    try:
        return pq.read_table(path, columns=columns)
    except FileNotFoundError as error:
        message = f"{root} holds no data set (no {path.name})"
        raise UsageError(message, "Give the folder that `talkset run` wrote") from error
    except (OSError, pa.ArrowException) as error:
        raise TalksetError("corrupt_data", f"{path} cannot be read ({error})", MEND) from error


def _by_clip(table: pa.Table) -> dict[str, list[Mapping[str, Any]]]:
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in table.to_pylist():
        rows.setdefault(row["clip_id"], []).append(row)
    return rows


def _intervals(rows: Sequence[Mapping[str, Any]]) -> list[Interval]:
    return [Interval(row["start_us"], row["end_us"], row["label"], float("nan"), False, "") for row in rows]


def _filled(tier: str, intervals: Sequence[Interval], duration_us: int) -> list[tuple[int, int, str]]:
    """(start_us, end_us, label) without holes from 0 to the end."""
    filled: list[tuple[int, int, str]] = []
    reached, before = 0, "the start of the clip"
    for interval in sorted(intervals, key=lambda i: (i.start_us, i.end_us)):
        start_us, end_us = interval.start_us, interval.end_us
        told = f"{interval.label!r} ({_seconds(start_us)}..{_seconds(end_us)} s)"
        if end_us <= start_us:
            raise TalksetError("corrupt_data", f"{told} in {tier} has no length", UNFIT)
        if start_us < reached or start_us < 0:
            raise TalksetError("corrupt_data", f"{told} in {tier} overlaps {before}", UNFIT)
        if end_us > duration_us:
            message = f"{told} in {tier} ends after the clip, which lasts {_seconds(duration_us)} s"
            raise TalksetError("corrupt_data", message, UNFIT)
        if start_us > reached:
            filled.append((reached, start_us, ""))
        filled.append((start_us, end_us, interval.label))
        reached, before = end_us, told
    if reached < duration_us:
        filled.append((reached, duration_us, ""))
    return filled


def _seconds(time_us: int) -> str:
    """Microseconds as exact decimal seconds."""
    sign, (whole, rest) = "-" * (time_us < 0), divmod(abs(time_us), 1_000_000)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
