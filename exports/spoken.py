"""The spoken clips of a data set, as exporters of words see them, and the formats that they can be written in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import TalksetError, UsageError
from schemas.files import is_safe_path, named_errors, write_atomic
from schemas.types import Interval, Transcription, UntimedWord

MEND: Final = "Run `talkset verify` on the data set"
TIERS: Final = ("words", "phones")


class SpokenClip(Protocol):
    """What is needed of a clip; `talkset.dataset.Clip` has it."""

    @property
    def clip_id(self) -> str:
        """The id of the clip, for messages."""

    @property
    def duration_us(self) -> int:
        """Length of the clip."""

    def words(self) -> Sequence[Mapping[str, Any]]:
        """Rows with start_us and end_us from the start of the clip, both None where they are not known, and label."""

    def phones(self) -> Sequence[Mapping[str, Any]]:
        """The same of the phones."""


@dataclass(frozen=True)
class StoredClip:
    """A clip of a whole data set."""

    clip_id: str
    duration_us: int
    tiers: Mapping[str, Sequence[Mapping[str, Any]]]

    def words(self) -> Sequence[Mapping[str, Any]]:
        """Rows with start_us, end_us, label, score and interpolated."""
        return self.tiers["words"]

    def phones(self) -> Sequence[Mapping[str, Any]]:
        """The same of the phones."""
        return self.tiers["phones"]


def stored_clips(root: Path) -> Iterator[StoredClip]:
    """The accepted clips of a data set in the order of its index; a clip without words has empty tiers.

    Raises UsageError for a folder that holds no data set, TalksetError(corrupt_data) for tables that cannot be read.
    """
    index = _table(root, "index", ["clip_id", "status", "start_us", "end_us"])
    # older data sets have no `position`: there, rows come in the order of their times
    columns = ["clip_id", "start_us", "end_us", "label", "score", "interpolated", "source"]
    spoken = {name: _by_clip(_table(root, name, columns)) for name in TIERS}
    for row in index.to_pylist():
        if row["status"] != "accepted":
            continue
        clip_id = row["clip_id"]
        if not is_safe_path(clip_id) or "/" in clip_id:
            raise TalksetError("corrupt_data", f"{root} has the clip {clip_id!r}, which is no file name", MEND)
        tiers = {name: spoken[name].get(clip_id, []) for name in TIERS}
        yield StoredClip(clip_id, row["end_us"] - row["start_us"], tiers)


def write_each(dataset: Path, folder: Path, suffix: str, text_of: Callable[[SpokenClip], str]) -> list[Path]:
    """Write <clip_id><suffix> into `folder` for every accepted clip; returns the paths. Each file is whole or absent.

    Raises what `stored_clips` and `text_of` raise, and TalksetError disk_full or not_writable; files written before
    stay.
    """
    clips = list(stored_clips(dataset))
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for clip in clips:
        path = folder / f"{clip.clip_id}{suffix}"
        write_atomic(path, text_of(clip).encode("utf-8"))
        written.append(path)
    return written


def intervals(rows: Sequence[Mapping[str, Any]]) -> list[Interval]:
    """Rows with times as intervals, in the order of their times; a score that is not there is NaN."""
    found = [
        Interval(
            row["start_us"],
            row["end_us"],
            row["label"],
            math.nan if row.get("score") is None else float(row["score"]),
            bool(row.get("interpolated", False)),
            str(row.get("source", "")),
        )
        for row in rows
        if row["start_us"] is not None
    ]
    return sorted(found, key=lambda interval: (interval.start_us, interval.end_us))


def transcription(clip: SpokenClip) -> Transcription:
    """Words with and without times, and phones."""
    timed, untimed = 0, []
    for row in clip.words():
        if row["start_us"] is None:
            untimed.append(UntimedWord(row["label"], timed, str(row.get("source", ""))))
        else:
            timed += 1
    return Transcription(tuple(intervals(clip.words())), tuple(intervals(clip.phones())), tuple(untimed))


def seconds(time_us: int) -> str:
    """Microseconds as exact decimal seconds."""
    sign, (whole, rest) = "-" * (time_us < 0), divmod(abs(time_us), 1_000_000)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".")


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
