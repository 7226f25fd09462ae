"""Phones of a data set as visemes: rows in a long table, and tracks at the frames of each clip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from annotate.visemes import ARKIT_NAMES, OCULUS15, arkit_track, viseme_rows, viseme_track
from exports.spoken import intervals, stored_clips
from schemas.errors import TalksetError
from schemas.files import named_errors, partial_path

ROWS: Final = "visemes.parquet"
TRACKS: Final = "viseme_tracks.parquet"
_ROW: Final = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("start_us", pa.int64(), nullable=False, metadata={"unit": "us"}),
        pa.field("end_us", pa.int64(), nullable=False, metadata={"unit": "us"}),
        pa.field("label", pa.string(), nullable=False, metadata={"map": OCULUS15.name, "source": OCULUS15.source}),
        pa.field("score", pa.float32()),
        pa.field("interpolated", pa.bool_(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)


def write_word_tracks(dataset: Path, folder: Path) -> list[Path]:
    """Write `visemes.parquet` and `viseme_tracks.parquet` into `folder`; returns the paths.

    The tracks have one row a clip: clip_id, `visemes` (T x 15, weights of oculus15 in its order, a frame sums to 1) and
    `arkit_speech` (T x len(ARKIT_NAMES), 0..1), flat lists at the clip's PTS, as `talkset add-column` takes them. A
    clip without phones is at rest throughout.

    Raises what `exports.spoken.stored_clips` raises, and TalksetError corrupt_data, disk_full or not_writable.
    """
    times = _frame_times(dataset)
    rows: list[dict[str, Any]] = []
    tracks: dict[str, list[Any]] = {"clip_id": [], "visemes": [], "arkit_speech": []}
    for clip in stored_clips(dataset):
        phones = intervals(clip.phones())
        rows += [{"clip_id": clip.clip_id, **vars(row)} for row in viseme_rows(phones)]
        pts_us = times.get(clip.clip_id)
        if pts_us is None:
            message = f"the clip {clip.clip_id} has no row in params"
            raise TalksetError("corrupt_data", message, "Run `talkset verify` on the data set")
        tracks["clip_id"].append(clip.clip_id)
        tracks["visemes"].append(viseme_track(phones, pts_us).reshape(-1))
        tracks["arkit_speech"].append(arkit_track(phones, pts_us).reshape(-1))
    floats = pa.list_(pa.float32())
    schema = pa.schema(
        [
            pa.field("clip_id", pa.string(), nullable=False),
            pa.field("visemes", floats, metadata=_described(OCULUS15.visemes)),
            pa.field("arkit_speech", floats, metadata=_described(ARKIT_NAMES)),
        ]
    )
    with named_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    _write(folder / ROWS, pa.Table.from_pylist(_without_nan(rows), schema=_ROW))
    _write(folder / TRACKS, pa.Table.from_pydict(tracks, schema=schema))
    return [folder / ROWS, folder / TRACKS]


def _frame_times(dataset: Path) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """PTS of the frames of each clip, microseconds from its start."""
    found = {}
    for part in sorted((dataset / "params").glob("part-*.parquet")):
        try:
            table = pq.read_table(part, columns=["clip_id", "pts_us"])
        except (OSError, pa.ArrowException) as error:
            message = f"{part} cannot be read ({error})"
            raise TalksetError("corrupt_data", message, "Run `talkset verify` on the data set") from error
        for row in table.to_pylist():
            found[row["clip_id"]] = np.array(row["pts_us"], np.int64)
    return found


def _described(names: Sequence[str]) -> dict[str, str]:
    return {"shape": f"T,{len(names)}", "names": ",".join(names), "unit": "1"}


def _without_nan(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "score": None if row["score"] != row["score"] else row["score"]} for row in rows]


def _write(path: Path, table: pa.Table) -> None:
    """Complete or absent."""
    temporary = partial_path(path)
    with named_errors(path):
        try:
            pq.write_table(table, temporary, compression="zstd")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
