"""A column of a user's own beside the contract's: features, scores, labels, one value or tensor for a clip.

It lives in files of its own (a sidecar): `columns/<name>.parquet` with one row for each row of the index where the
values are numbers, text or true/false, so that filters can use them; `columns/<name>/part-*.parquet` beside the params
where they are arrays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.dataset_files import COLUMNS_FOLDER
from schemas.errors import UsageError
from schemas.ranges import out_of_range
from schemas.records import to_arrow
from schemas.tables import INDEX, PARAMS, TABLES, Column, Table, list_of
from talkset.versions.copy import copy_version
from talkset.versions.version import Version, next_version

SCALARS: Final = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "text": pa.string()}
ELEMENTS: Final = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")

Lookup = Callable[[str], Any]
"""Clip id -> value, array or None."""


def add_column(
    root: Path,
    out: Path,
    name: str,
    values: Mapping[str, Any] | Lookup | Path,
    *,
    shape: Sequence[str | int] | None = None,
    kind: str | None = None,
    unit: str | None = None,
    meaning: str = "",
    low: float | None = None,
    high: float | None = None,
    version: str | None = None,
) -> Path:
    """A version with one more column; returns its folder. A MINOR change of the data.

    `values` gives the value of a clip by its id: a mapping, a function, or a file (Parquet, or CSV for scalars) with
    the columns clip_id and `name`; None or an absent clip stays empty. Without `shape` a value is a scalar of `kind`
    float, int, bool or text, and belongs to the index. With `shape`, such as ("T", 768) or (256,), it is an array of
    `kind` float32, int64 or bool whose axis "T" is the clip's number of frames.
    Raises UsageError for a name that is taken or not plain, values of another shape or out of range, or clips that the
    data set does not have; TalksetError for damage or a full disk.
    """
    source = Version.read(root)
    taken = {column.name for table in TABLES.values() for column in table.columns}
    taken |= {str(item["name"]) for item in source.sidecars}
    if _NAME.fullmatch(name) is None or name in taken:
        what = "is taken" if name in taken else "is not of small letters, digits and '_'"
        raise UsageError(f"the column name {name!r} {what}", "Choose another name")
    column = _column(name, shape, kind, unit, meaning, low, high)
    lookup, given = _lookup(values, column)
    keys = (INDEX.columns[0],) if shape is None else (PARAMS.columns[0], PARAMS.columns[1])
    table = Table(f"{COLUMNS_FOLDER}/{name}", (*keys, column))

    def rows(clips: pa.Table) -> pa.Table:
        ids = clips["clip_id"].to_pylist()
        frames = clips["num_frames"].to_pylist() if shape is not None else [0] * len(ids)
        cells = [_cell(column, clip_id, lookup(clip_id), count) for clip_id, count in zip(ids, frames, strict=True)]
        arrays = [clips[key.name] for key in keys]
        return pa.Table.from_arrays([*arrays, _array(column, cells)], schema=table.schema)

    parameters = {"column": name, "shape": None if shape is None else list(shape), "unit": unit, "meaning": meaning}
    described = {"name": name, "shape": parameters["shape"], "unit": unit, "meaning": meaning}
    entry = {"name": name, "table": "index" if shape is None else "params", "columns": [described]}
    new = version or next_version(str(source.facts["version"]), "MINOR")
    unknown = _unknown(source, given, shape is not None)
    if unknown:
        where = "accepted clips" if shape is not None else "clips"
        message = f"values are given for {len(unknown)} ids that are no {where} of {root}, such as {unknown[0]!r}"
        raise UsageError(message, "Correct the ids or leave them out")
    return copy_version(
        source,
        out,
        "add-column",
        parameters,
        new,
        facts={"sidecars": [*source.sidecars, entry]},
        added=table,
        values=rows,
    )


def _column(
    name: str,
    shape: Sequence[str | int] | None,
    kind: str | None,
    unit: str | None,
    meaning: str,
    low: float | None,
    high: float | None,
) -> Column:
    kinds = SCALARS if shape is None else ELEMENTS
    chosen = kind or next(iter(kinds))
    if chosen not in kinds:
        raise UsageError(f"{name}: unknown kind {chosen!r}", f"Known: {', '.join(kinds)}")
    if shape is None:
        return Column(name, kinds[chosen], meaning, unit=unit, low=low, high=high)
    good = all(axis == "T" or (isinstance(axis, int) and axis > 0) for axis in shape) and "T" not in shape[1:]
    if not shape or not good:
        message = f"{name}: the shape {list(shape)} is not a list of sizes, of which the first may be 'T'"
        raise UsageError(message, "Write for example T,768 or 256")
    return Column(name, list_of(kinds[chosen]), meaning, tuple(shape), unit, low=low, high=high)


def _cell(column: Column, clip_id: str, value: Any, frames: int) -> Any:
    """One checked value: None, a scalar, or a flat array."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    name = f"clip {clip_id}: {column.name}"
    if column.shape is None:
        wanted = {"double": (int, float), "int64": (int,), "bool": (bool,), "string": (str,)}[str(column.type)]
        plain = value.item() if isinstance(value, np.generic) else value
        if not isinstance(plain, wanted) or (isinstance(plain, bool) and bool not in wanted):
            raise UsageError(f"{name} is {value!r}, expected {column.type}", "Correct the value or name another kind")
        if isinstance(plain, float) and not np.isfinite(plain):
            raise UsageError(f"{name} is {plain}", "Leave out what is not known, or give a finite value")
        wrong = None if isinstance(plain, (str, bool)) else out_of_range(column, np.array([plain]))
        if wrong:
            raise UsageError(f"{name} is {wrong}", "Correct the value or the range")
        return plain
    array = np.asarray(value)
    expected = tuple(frames if axis == "T" else int(axis) for axis in column.shape)
    if array.ndim == 1 and array.size == int(np.prod(expected)):
        array = array.reshape(expected)  # Parquet stores flat lists
    leaf = np.dtype(column.type.value_type.to_pandas_dtype())
    if array.shape != expected or array.dtype.kind not in {"f": "fiu", "i": "iu", "b": "b"}[leaf.kind]:
        message = f"{name} has shape {array.shape} of {array.dtype}, expected {expected} of {leaf}"
        raise UsageError(message, "Correct the value or the shape")
    present = array[np.isfinite(array)] if leaf.kind == "f" else array
    if wrong := out_of_range(column, present):
        raise UsageError(f"{name} holds {wrong}", "Correct the value or the range")
    flat: NDArray[Any] = np.ascontiguousarray(array, leaf).reshape(-1)
    return flat


def _array(column: Column, cells: list[Any]) -> pa.Array:
    if column.shape is None:
        return pa.array(cells, column.type)
    empty = np.zeros(0, column.type.value_type.to_pandas_dtype())
    dense = [{column.name: empty if cell is None else cell} for cell in cells]
    array = to_arrow(Table("", (column,)), dense)[column.name].combine_chunks()
    absent = pa.array([cell is None for cell in cells])
    return pa.ListArray.from_arrays(array.offsets, array.values, type=column.type, mask=absent)


def _lookup(values: Mapping[str, Any] | Lookup | Path, column: Column) -> tuple[Lookup, set[str]]:
    """Value by clip id, and the ids that are given (none are known of a function)."""
    if isinstance(values, Path):
        table = _FileValues(values, column.name)
        return table, set(table.places)
    if isinstance(values, Mapping):
        return values.get, set(values)
    return values, set()


def _unknown(source: Version, given: set[str], accepted: bool) -> list[str]:
    """Those of the given ids that the data set does not have."""
    left = set(given)
    for group in source.row_groups(f"{INDEX.name}.parquet", ["clip_id", "status"]):
        for clip_id, status in zip(group["clip_id"].to_pylist(), group["status"].to_pylist(), strict=True):
            if not accepted or status == "accepted":
                left.discard(clip_id)
    return sorted(left)


class _FileValues:
    """Values from a file, a few row groups in memory at a time."""

    def __init__(self, path: Path, name: str) -> None:
        remedy = f"Give a Parquet or CSV file with the columns clip_id and {name}"
        self._name = name
        self._file: pq.ParquetFile | None = None
        self._cache: dict[int, pa.ChunkedArray] = {}
        try:
            if path.suffix.lower() == ".csv":
                import pandas

                frame = pandas.read_csv(path, dtype={"clip_id": str}, usecols=["clip_id", name])
                table = pa.Table.from_pandas(frame, preserve_index=False)
                ids = table["clip_id"].to_pylist()
                self._cache[0] = table[name]
                groups = [len(ids)]
            else:
                self._file = pq.ParquetFile(path)
                if name not in self._file.schema_arrow.names:
                    raise KeyError(name)
                ids = self._file.read(columns=["clip_id"])["clip_id"].to_pylist()
                metadata = self._file.metadata
                groups = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        except FileNotFoundError as error:
            raise UsageError(f"{path} does not exist", remedy) from error
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise UsageError(f"{path} cannot be used ({error})", remedy) from error
        self.places: dict[str, tuple[int, int]] = {}
        number = 0
        for group, count in enumerate(groups):
            for row in range(count):
                clip_id = str(ids[number])
                if clip_id in self.places:
                    raise UsageError(f"{path} has the clip {clip_id!r} twice", "Keep one row for each clip")
                self.places[clip_id] = (group, row)
                number += 1

    def __call__(self, clip_id: str) -> Any:
        if clip_id not in self.places:
            return None
        group, row = self.places[clip_id]
        if group not in self._cache and self._file is not None:
            if len(self._cache) >= 4:
                self._cache.pop(next(iter(self._cache)))
            self._cache[group] = self._file.read_row_group(group, columns=[self._name])[self._name]
        cell = self._cache[group][row]
        if not cell.is_valid:
            return None
        if not pa.types.is_nested(cell.type):
            return cell.as_py()
        values = cell.values
        while pa.types.is_nested(values.type):  # a list of lists, as other tools write a matrix
            values = values.flatten()
        return values.to_numpy(zero_copy_only=False)
