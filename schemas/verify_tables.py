"""Sharded and long tables of a data set against their contract and against the index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.tables import PARAMS, Table
from schemas.verify_index import Clips, Codes
from schemas.verify_parquet import Source, read_batches
from schemas.verify_report import Report
from schemas.verify_values import (
    Int64,
    Lists,
    Rows,
    Widths,
    check_lengths,
    check_list_values,
    check_scalars,
    check_times,
    integers,
    shown,
)

RATIO_TOLERANCE = 1e-6
_SPOKEN = ("words", "phones")
"""Long tables whose rows follow each other in time."""
_NAN_WHERE_EMPTY = "image"
"""Signals measured in the picture are NaN where nothing was seen; parameters may be bridged there."""
_ROWS_AT_ONCE = 1 << 18
"""Rows of a long table that are looked up in the index together."""


@dataclass
class Context:
    """A data set under verification."""

    root: Path
    report: Report
    damaged: set[str]
    """Listed files that are missing or have another hash: their content means nothing."""
    clips: Clips | None = None
    models: Codes = field(default_factory=Codes)
    detectors: Codes = field(default_factory=Codes)
    widths: Widths = field(default_factory=Widths)

    def source(self, name: str, table: Table, tolerant: bool = True) -> Source:
        """A file of the data set."""
        return Source(self.root, name, table, self.report, tolerant)


@dataclass
class Totals:
    """What was counted over the parts of a table."""

    clips: int = 0
    frames: int = 0
    valid_frames: int = 0
    complete: bool = True
    """Whether every part could be read to its end."""


def check_parts(
    context: Context,
    table: Table,
    parts: set[str],
    tolerant: bool = True,
    check: Callable[[Context, Rows, Table, Int64 | None], int] | None = None,
) -> Totals:
    """Check every part of a sharded table: its rows are the index's, and their values what the columns promise.

    `parts` are the file names that are there. `check` looks at a batch of rows at known positions of the index and
    returns the number of valid frames; by default it is that of params and landmarks.
    """
    report, clips, totals = context.report, context.clips, Totals()
    named = set(clips.shards.names) if clips is not None else set()
    for shard in sorted(named - parts):
        name = f"{table.name}/{shard}"
        totals.complete = False
        if clips is not None and name not in context.damaged:  # a listed file that is missing has been reported
            count = len(clips.rows_of(shard))
            report.add(name, "a part is missing", f"is missing, the index has {count} rows in it")
    for shard in sorted(parts):
        name = f"{table.name}/{shard}"
        if name in context.damaged:
            totals.complete = False
            continue
        places = None if clips is None else clips.rows_of(shard)
        count = 0
        for first, batch in read_batches(context.source(name, table, tolerant)):
            rows = Rows(report, name, first, dict(zip(batch.schema.names, batch.columns, strict=True)))
            positions = None if clips is None or places is None else _match(rows, clips, places)
            frames = integers(rows.values["num_frames"])
            totals.clips += len(rows)
            totals.frames += int(frames.sum())
            totals.valid_frames += (check or _check_clips)(context, rows, table, positions)
            count += len(rows)
        if name in report.unread:
            totals.complete = False
        elif places is not None and count != len(places):
            report.add(name, "another number of rows", f"has {count} rows, the index has {len(places)} in it")
    return totals


def _match(rows: Rows, clips: Clips, places: Int64) -> Int64:
    """Position in the index of every row of a part, -1 where it has none; what the two say of a clip must agree."""
    numbers = np.arange(rows.first, rows.first + len(rows))
    at = np.searchsorted(clips.row[places], numbers)
    inside = at < len(places)
    inside[inside] = clips.row[places[at[inside]]] == numbers[inside]
    positions = np.full(len(rows), -1, np.int64)
    positions[inside] = places[at[inside]]
    rows.report_rows("a row is not in the index", ~inside, "is not in the index")
    chosen = np.flatnonzero(inside)
    found, expected = rows.values["clip_id"].take(pa.array(chosen)), clips.ids.take(pa.array(positions[chosen]))
    other = ~pc.equal(found.cast(pa.large_string()), expected).to_numpy(zero_copy_only=False)
    rows.report_rows(
        "another clip than in the index",
        chosen[other],
        lambda row: f"this is another clip, the index says {shown(clips.ids[int(positions[row])])}",
    )
    frames = integers(rows.values["num_frames"])[chosen]
    differs = chosen[frames != clips.num_frames[positions[chosen]]]
    rows.report_rows(
        "another num_frames than in the index",
        differs,
        lambda row: f"has {rows.values['num_frames'][row]} frames, the index says {clips.num_frames[positions[row]]}",
    )
    return positions


def _check_clips(context: Context, rows: Rows, table: Table, positions: Int64 | None) -> int:
    """Check rows of params or landmarks; returns the number of valid frames."""
    clips = context.clips
    frames = integers(rows.values["num_frames"])
    check_scalars(rows, table.columns)
    for column in table.columns:
        array = rows.values[column.name]
        if column.shape is None and column.nullable and not column.optional and array.null_count:
            absent = array.is_null().to_numpy(zero_copy_only=False)
            rows.report_rows(f"{column.name} is null", absent, f"{column.name} is null, a value is required")
    models = np.full(len(rows), -1, np.int32)
    if "head_model" in rows.values:
        models = context.models.encode(rows.values["head_model"])
        if clips is not None and positions is not None:
            _check_models(context, rows, clips, positions, models)
    elif "detector" in rows.values:  # the number of landmarks is the detector's
        models = context.detectors.encode(rows.values["detector"])
    lists: dict[str, Lists] = {}
    for column in table.columns:
        if column.shape is not None:
            lists[column.name] = check_lengths(rows, column, frames, context.widths, models, column.optional)
    known = None
    if clips is not None and positions is not None and len(clips.ids):
        known = np.where(positions >= 0, clips.duration_us[positions], -1)
    check_times(rows, lists["pts_us"], frames, known)
    valid = lists["valid"]
    for column in table.columns:
        if column.shape is not None and column.name not in ("pts_us", "valid"):
            empty_is_nan = column.floating and column.per_frame and column.space == _NAN_WHERE_EMPTY
            check_list_values(rows, column, lists[column.name], frames, valid, empty_is_nan)
    return _check_valid(rows, table, clips, positions, frames, valid)


def _check_models(context: Context, rows: Rows, clips: Clips, positions: Int64, models: NDArray[np.int32]) -> None:
    """The index must name the head model that params has."""
    said = clips.head_model
    if said is None:
        return
    inside = np.flatnonzero(positions >= 0)
    wrong = inside[said[positions[inside]] != models[inside]]

    def describe(row: int) -> str:
        name, other = (shown(context.models.name(int(code))) for code in (models[row], said[positions[row]]))
        return f"head_model is {name}, the index says {other}"

    rows.report_rows("another head_model than in the index", wrong, describe)


def _check_valid(
    rows: Rows, table: Table, clips: Clips | None, positions: Int64 | None, frames: Int64, valid: Lists
) -> int:
    """Compare the mask of params with the index's valid_ratio; returns the number of valid frames."""
    if not valid.fits.any():
        return 0
    chosen = np.flatnonzero(valid.fits)
    ends = np.cumsum(frames[chosen])
    seen = np.add.reduceat(valid.flat(valid.fits).astype(np.int64), ends - frames[chosen])
    if table.name == PARAMS.name:
        ratio = np.full(len(rows), np.nan)
        ratio[chosen] = seen / frames[chosen]
        if clips is not None and positions is not None and len(clips.ids):
            said = np.where(positions >= 0, clips.valid_ratio[positions], np.nan)
            rows.report_rows(
                "valid_ratio differs from the index",
                np.abs(ratio - said) > RATIO_TOLERANCE,
                lambda row: f"{ratio[row]:.6g} of the frames are valid, the index has valid_ratio {said[row]:.6g}",
            )
    return int(seen.sum())


def check_long(context: Context, table: Table) -> int | None:
    """Check a table with many rows for a clip; returns its number of rows, None where it could not be read."""
    name = f"{table.name}.parquet"
    if name in context.damaged:
        return None
    clips = context.clips
    size = len(clips.ids) if clips is not None else 0
    latest, numbered = (np.full(size, np.iinfo(np.int64).min, np.int64) for _ in range(2))
    count, start = 0, 0
    for first, values in _large_batches(context.source(name, table)):
        rows = Rows(context.report, name, first, values)
        count += len(rows)
        check_scalars(rows, [column for column in table.columns if column.name not in ("start_us", "end_us")])
        positions = np.full(len(rows), -1, np.int64)
        if clips is not None:
            positions = clips.find(values["clip_id"], start)
            start = max(0, int(positions[-1]))
            rows.report_rows(
                "not an accepted clip",
                positions < 0,
                "is not an accepted clip of the index",
            )
        _check_spans(rows, clips, positions)
        if clips is not None and "position" in rows.values:
            misplaced = _check_position(rows, positions, numbered)
            positions = np.where(misplaced, -1, positions)
        if clips is not None and table.name in _SPOKEN:
            _check_order(rows, positions, latest)
    return None if name in context.report.unread else count


def _check_spans(rows: Rows, clips: Clips | None, positions: Int64) -> None:
    start, end = integers(rows.values["start_us"]), integers(rows.values["end_us"])
    absent, half = _without_times(rows)
    rows.report_rows("half a time", half, "has only one of start_us and end_us")
    if absent.any():  # only words may lack times, and then nothing was measured or placed
        scored = rows.values["score"].is_valid().to_numpy(zero_copy_only=False)
        placed = rows.values["interpolated"].to_numpy(zero_copy_only=False).astype(bool)
        rows.report_rows("no times", absent & (scored | placed), "has no times, but a score or is interpolated")
    wrong = ((start < 0) | (end < start)) & ~absent & ~half
    if clips is not None and len(clips.ids):
        wrong |= (positions >= 0) & (end > clips.duration_us[positions])

    def describe(row: int) -> str:
        limit = "" if clips is None or positions[row] < 0 else f" 0..{clips.duration_us[positions[row]]} us"
        return f"{start[row]}..{end[row]} us is outside the clip{limit}"

    rows.report_rows("outside the clip", wrong, describe)


def _check_order(rows: Rows, positions: Int64, latest: Int64) -> None:
    """Within a clip rows with times must come by start.

    `latest` has the last start of each clip and is brought up to date.
    """
    absent, half = _without_times(rows)
    start = integers(rows.values["start_us"])
    wrong, before = _falling(np.where(absent | half, -1, positions), start, latest)
    rows.report_rows(
        "not in order of start",
        wrong,
        lambda row: f"starts at {start[row]} us, before the row above of this clip ({before[row]} us)",
    )


def _check_position(rows: Rows, positions: Int64, latest: Int64) -> NDArray[np.bool_]:
    """Within a clip words must come by position, no two at one; returns the rows of clips where they do not.

    `latest` has the last position of each clip and is brought up to date.
    """
    array = rows.values["position"]
    rows.report_rows(
        "position is null", array.is_null().to_numpy(zero_copy_only=False), "position is null, a value is required"
    )
    said = integers(array, -1)
    chosen = np.where(said >= 0, positions, -1)
    wrong, before = _falling(chosen, said, latest, step=1)
    rows.report_rows(
        "not in order of position",
        wrong,
        lambda row: f"has position {said[row]}, not after the row above of this clip ({before[row]})",
    )
    return (positions >= 0) & np.isin(positions, positions[wrong])


def _falling(positions: Int64, values: Int64, latest: Int64, step: int = 0) -> tuple[Int64, Int64]:
    """Rows whose value is not at least `step` more than that of the row before of their clip, and that value for all.

    `latest` has the last value of each clip and is brought up to date; rows at no clip (-1) are passed over.
    """
    known = np.flatnonzero(positions >= 0)
    order = known[np.argsort(positions[known], kind="stable")]
    clip, value = positions[order], values[order]
    follows = np.zeros(len(order), bool)
    follows[1:] = clip[1:] == clip[:-1]
    before = np.full(len(positions), np.iinfo(np.int64).min, np.int64)
    before[order] = np.where(follows, np.roll(value, 1), latest[clip])
    last = np.append(~follows[1:], True) if len(order) else follows
    latest[clip[last]] = value[last]
    late = np.zeros(len(positions), bool)
    late[order] = before[order] > value - step
    return np.flatnonzero(late), before


def _without_times(rows: Rows) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows that lack both times, and rows that lack one."""
    start, end = (rows.values[name].is_null().to_numpy(zero_copy_only=False) for name in ("start_us", "end_us"))
    return start & end, start ^ end


def _large_batches(source: Source) -> Iterator[tuple[int, dict[str, pa.Array]]]:
    """Batches of about `_ROWS_AT_ONCE` rows, whatever the row groups, because each costs a search in the index."""
    names = [column.name for column in source.table.columns]
    waiting: list[pa.RecordBatch] = []
    begin, count = 0, 0

    def joined() -> dict[str, pa.Array]:
        return {name: pa.concat_arrays([batch.column(n) for batch in waiting]) for n, name in enumerate(names)}

    for first, batch in read_batches(source):
        if count >= _ROWS_AT_ONCE:
            yield begin, joined()
            waiting, begin, count = [], first, 0
        waiting.append(batch)
        count += batch.num_rows
    if waiting:
        yield begin, joined()
