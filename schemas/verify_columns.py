"""Columns that users added (sidecars, under columns/) against their own description and against the data set."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.ranges import out_of_range
from schemas.tables import INDEX, PARAMS, SAFE_NAME, Column, Table
from schemas.verify_parquet import READ_ERRORS, footer_problem, read_batches
from schemas.verify_tables import Context, check_parts
from schemas.verify_values import Int64, Rows, check_lengths, check_scalars, integers, shown

FOLDER: Final = "columns"
_KINDS: Final = {"index": INDEX, "params": PARAMS}
_KEYS: Final = {"index": INDEX.columns[:1], "params": PARAMS.columns[:2]}
_FACTS: Final = "dataset.json"


@dataclass(frozen=True)
class _Added:
    """An entry of `sidecars` in dataset.json."""

    name: str
    kind: str
    """index or params"""


def check_columns(context: Context, facts: Mapping[str, Any], files: Iterable[str], version: str) -> None:
    """Check the added columns that dataset.json declares, and that there are no others.

    `files` are the relative paths of the data set. Kind "index" is one file with a row for each row of the index,
    "params" has the parts and rows of params. A value may be null; of arrays every finite value must be in its range.
    """
    added = _declared(context, facts)
    inside = sorted(name for name in files if name.startswith(f"{FOLDER}/"))
    parts: dict[str, set[str]] = {item.name: set() for item in added if item.kind == "params"}
    whole = {f"{FOLDER}/{item.name}.parquet": item for item in added if item.kind == "index"}
    for name in inside:
        folder, _, file = name.removeprefix(f"{FOLDER}/").rpartition("/")
        if folder in parts and file.startswith("part-") and file.endswith(".parquet"):
            parts[folder].add(file)
        elif name not in whole:
            context.report.add(name, "not declared", f"belongs to no added column; {_FACTS} declares none for it")
    for item in added:
        table = f"{FOLDER}/{item.name}"
        if item.kind == "index":
            _check_index_column(context, table, item, version)
            continue
        described = sorted(name for name in parts[item.name] if f"{table}/{name}" not in context.damaged)
        column = _describe(context, f"{table}/{described[0]}", item) if described else None
        if column is not None or not described:
            columns = (*_KEYS["params"], *([column] if column is not None else []))
            check_parts(context, Table(table, columns, version), parts[item.name], False, _check_arrays)


def _declared(context: Context, facts: Mapping[str, Any]) -> list[_Added]:
    """The entries of `sidecars` that can be followed; the others are reported."""
    entries = facts.get("sidecars", [])
    if not isinstance(entries, list):
        message = f"sidecars is {shown(entries)}, expected a list"
        context.report.add(_FACTS, "sidecars", message)
        return []
    found: dict[str, _Added] = {}
    for number, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        kind = entry.get("table") if isinstance(entry, dict) else None
        where = f"sidecars[{number}]"
        if not isinstance(name, str) or SAFE_NAME.fullmatch(name) is None:
            context.report.add(_FACTS, "sidecars", f"{where}: name {shown(name)} is not a plain file name")
        elif not isinstance(kind, str) or kind not in _KINDS:
            context.report.add(
                _FACTS, "sidecars", f"{where}: table {shown(kind)} of {name} is neither index nor params"
            )
        elif entry.get("column", name) != name:
            context.report.add(_FACTS, "sidecars", f"{where}: column {shown(entry['column'])} must be {name}")
        elif name in found or name in _KINDS[kind].schema.names:
            context.report.add(
                _FACTS, "sidecars", f"{where}: there is another column {name}, expected a name of its own"
            )
        else:
            found[name] = _Added(name, kind)
    return list(found.values())


def _describe(context: Context, name: str, item: _Added) -> Column | None:
    """The column as its file describes it, or None after a report."""
    path = context.root / name
    try:
        wrong = footer_problem(path)
        if wrong is None:
            schema = pq.read_schema(path)
            expected = [*(column.name for column in _KEYS[item.kind]), item.name]
            if schema.names == expected:
                column = Column.from_field(schema.field(item.name))
                wrong = _impossible(column)
                if wrong is None:
                    return column
            else:
                wrong = f"has the columns {shown(', '.join(schema.names))}, expected {', '.join(expected)}"
    except (*READ_ERRORS, TypeError, RecursionError) as error:
        wrong = f"cannot be read: {error}"
    context.report.unreadable(name, wrong)
    return None


def _impossible(column: Column) -> str | None:
    """Why the description of an added column makes no sense."""
    kind, name = column.type, shown(column.name)
    if (column.shape is not None) != pa.types.is_list(kind):
        return f"{name} is {kind} with the shape {column.shape}, expected a shape for a list and only there"
    leaf = kind.value_type if pa.types.is_list(kind) else kind
    number = pa.types.is_floating(leaf) or pa.types.is_integer(leaf)
    if not (number or pa.types.is_boolean(leaf) or (pa.types.is_string(leaf) and column.shape is None)):
        return f"{name} is {kind}, expected numbers, true/false, or text in a scalar column"
    for place, axis in enumerate(column.shape or ()):
        size = isinstance(axis, int) and not isinstance(axis, bool) and 0 < axis < 1 << 31
        if not size and (axis != "T" or place):
            return f"{name} has the shape {column.shape}, expected sizes, of which the first may be T"
    for bound in (column.low, column.high):
        if bound is not None and (not number or not isinstance(bound, (int, float))):
            return f"{name} has the range {column.low}..{column.high}, expected numbers for a column of numbers"
    if column.rotation is not None and (not column.shape or column.shape[-1] not in range(3, 1 << 31, 3)):
        return f"{name} has the shape {column.shape}, expected groups of three for a rotation"
    return None


def _check_index_column(context: Context, table: str, item: _Added, version: str) -> None:
    """One row for each row of the index, in the same order."""
    name = f"{table}.parquet"
    if name in context.damaged:
        return
    if not (context.root / name).is_file():
        context.report.unreadable(name, f"is missing, {_FACTS} declares the column {item.name}")
        return
    column = _describe(context, name, item)
    if column is None:
        return
    clips, count = context.clips, 0
    for first, batch in read_batches(context.source(name, Table(table, (*_KEYS["index"], column), version), False)):
        rows = Rows(context.report, name, first, dict(zip(batch.schema.names, batch.columns, strict=True)))
        frames = np.full(len(rows), 1, np.int64)
        count += len(rows)
        if clips is not None:
            expected = clips.every_id.slice(first, len(rows))
            frames = clips.every_num_frames[first : first + len(rows)]
            found = rows.values["clip_id"].cast(pa.large_string()).slice(0, len(expected))
            other = np.flatnonzero(pc.not_equal(found, expected).to_numpy())
            describe = functools.partial(lambda ids, row: f"the index has clip {shown(ids[row])} there", expected)
            rows.report_rows("another clip than in the index", other, describe)
        _check_values(context, rows, column, frames)
    if clips is not None and name not in context.report.unread and count != len(clips.every_id):
        message = f"has {count} rows, the index has {len(clips.every_id)}"
        context.report.add(name, "another number of rows", message)


def _check_arrays(context: Context, rows: Rows, table: Table, _: Int64 | None) -> int:
    if len(table.columns) > len(_KEYS["params"]):
        _check_values(context, rows, table.columns[-1], integers(rows.values["num_frames"]))
    return 0


def _check_values(context: Context, rows: Rows, column: Column, frames: Int64) -> None:
    """Lengths and ranges of the values that are there; NaN inside an array is an absent number."""
    if column.shape is None:
        check_scalars(rows, [column])
        return
    lists = check_lengths(rows, column, frames, context.widths, np.full(len(rows), -1, np.int32), optional=True)
    if not lists.fits.any() or (column.low is None and column.high is None):
        return

    def wrong(keep: np.ndarray[Any, np.dtype[np.bool_]]) -> str | None:
        values = lists.flat(keep)
        if column.rotation is not None:
            values = values.reshape(-1, 3)
            return out_of_range(column, values[np.isfinite(values).all(axis=1)])
        return out_of_range(column, values[np.isfinite(values)])

    if wrong(lists.fits):
        texts = {int(row): wrong(np.arange(len(rows)) == row) for row in np.flatnonzero(lists.fits)}
        outside = np.array([row for row, text in texts.items() if text], np.int64)
        rows.report_rows(f"{column.name} is out of range", outside, lambda row: f"{column.name} holds {texts[row]}")
