"""Reading a finished data set: numpy arrays by clip, windows in seconds, filters over the index.

Needs only numpy and pyarrow (torch for `Dataset.torch`, pandas for `Dataset.to_pandas`). A shard describes itself: the
shape of a flat column stands in its Arrow field metadata, so columns that this version does not know open as well.
"""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from talkset.where import parse_where, unknown_column

if TYPE_CHECKING:
    from talkset.torch_dataset import WindowDataset

SUPPORTED_MAJOR: Final = 1
"""MAJOR of the schema version that this reader understands."""
SHARDED: Final = ("params", "landmarks")
OPEN_FILES: Final = 8
CACHE_BYTES: Final = 64 << 20
"""Decoded columns kept: enough for the row groups at hand, little against a data loader worker's own memory."""
_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")

Array = NDArray[Any]


class DatasetError(ValueError):
    """A data set that cannot be read as asked: names the thing, the value and what to do."""


def open_dataset(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    where: str | pc.Expression | None = None,
    split: str | None = None,
) -> Dataset:
    """Open a data set folder (a path, or a URI that `pyarrow.fs` knows, such as s3:// or gs://).

    `columns` limits the signals of a clip (default: all of params; those of landmarks are read when asked for).
    `where` is a condition over the index, such as "nme_mean < 0.02 and speaker == 's1'" (see talkset.where) or a
    pyarrow expression; only accepted clips are read unless it mentions `status`. `split` selects train, val or test.
    Raises DatasetError (a ValueError) for a missing or incompatible data set, an unknown column or a bad filter.
    """
    store = _Store(path)
    return Dataset(store, store.select(where, split), columns)


class _Store:
    """The files of one data set: a few open ParquetFile handles and the most recently decoded columns.

    Handles are neither pickled nor shared over a fork, so it can travel to data loader workers.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not _URI.match(self.path):
            self.path = os.path.abspath(self.path)
        self._reset()
        try:
            self.facts: dict[str, Any] = json.loads(self.read_bytes("dataset.json"))
        except FileNotFoundError as error:
            message = f"{self.path} is no finished data set: it has no dataset.json; check the path or run it again"
            raise DatasetError(message) from error
        except ValueError as error:
            raise DatasetError(f"{self.path}/dataset.json is damaged ({error}); run `talkset verify`") from error
        version = str(self.facts.get("schema_version"))
        major = version.partition(".")[0]
        if major != str(SUPPORTED_MAJOR):
            newer = major.isdigit() and int(major) > SUPPORTED_MAJOR
            remedy = "upgrade talkset" if newer else "read it with the talkset version that wrote it (dataset.json)"
            raise DatasetError(
                f"{self.path} has schema version {version}, this talkset reads {SUPPORTED_MAJOR}.x; {remedy}"
            )

    def _reset(self) -> None:
        if _URI.match(self.path):
            filesystem, base = pafs.FileSystem.from_uri(self.path)
        else:
            filesystem, base = pafs.LocalFileSystem(), self.path
        self._filesystem = pafs.SubTreeFileSystem(base, filesystem)
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._decoded: OrderedDict[tuple[str, int, str], pa.Array] = OrderedDict()
        self._group_ends: dict[str, Array] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "facts": self.facts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def read_bytes(self, name: str) -> bytes:
        with self._filesystem.open_input_stream(name) as stream:
            data: bytes = stream.read()
        return data

    def file(self, name: str) -> pq.ParquetFile:
        """An open handle, kept among the `OPEN_FILES` most recently used."""
        if self._process != os.getpid():
            self._reset()
        if name in self._files:
            self._files.move_to_end(name)
            return self._files[name]
        try:
            handle = pq.ParquetFile(self._filesystem.open_input_file(name), page_checksum_verification=True)
        except FileNotFoundError as error:
            raise DatasetError(f"{self.path}/{name} is missing; run `talkset verify`") from error
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{self.path}/{name} cannot be read ({error}); run `talkset verify`") from error
        self._files[name] = handle
        if len(self._files) > OPEN_FILES:
            _, oldest = self._files.popitem(last=False)
            oldest.close(force=True)
        return handle

    def rows_of_group(self, name: str) -> Array:
        """Cumulative row count after each row group of a file."""
        if name not in self._group_ends:
            metadata = self.file(name).metadata
            counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            self._group_ends[name] = np.cumsum(counts, dtype=np.int64)
        return self._group_ends[name]

    def column(self, name: str, group: int, column: str, wanted: Sequence[str]) -> pa.Array:
        """One decoded column of a row group; `wanted` are the columns worth decoding in the same read."""
        key = (name, group, column)
        handle = self.file(name)
        if key not in self._decoded:
            names = list(dict.fromkeys((column, *wanted)))
            try:
                table = handle.read_row_group(group, columns=names, use_threads=False)
            except (OSError, pa.ArrowException) as error:
                message = f"{self.path}/{name} row group {group} cannot be read ({error}); run `talkset verify`"
                raise DatasetError(message) from error
            for other in names:
                self._decoded[name, group, other] = table[other].combine_chunks()
                self._decoded.move_to_end((name, group, other))
            held = sum(array.nbytes for array in self._decoded.values())
            while held > CACHE_BYTES and len(self._decoded) > len(names):
                held -= self._decoded.popitem(last=False)[1].nbytes
        else:
            self._decoded.move_to_end(key)
        return self._decoded[key]

    def cell(self, table: str, place: tuple[str, int], column: str, wanted: Sequence[str]) -> tuple[Any, pa.Field]:
        """One cell of a sharded table: its Arrow scalar and field."""
        shard, row = place
        name = f"{table}/{shard}"
        ends = self.rows_of_group(name)
        group = int(np.searchsorted(ends, row, side="right"))
        if group >= len(ends):
            raise DatasetError(f"{self.path}/{name} has no row {row}; run `talkset verify`")
        array = self.column(name, group, column, wanted)
        return array[row - (int(ends[group - 1]) if group else 0)], self.file(name).schema_arrow.field(column)

    def select(self, where: str | pc.Expression | None, split: str | None) -> pa.Table:
        """The rows of the index that pass."""
        handle = self.file("index.parquet")
        schema = handle.schema_arrow
        condition: Any = None
        mentions_status = False
        if isinstance(where, str):
            condition, used = parse_where(where, schema)
            mentions_status = "status" in used
        elif where is not None:
            condition = where
            names = schema.names
            missing = _missing_field(where, schema)
            if missing is not None:
                raise DatasetError(f"where: {unknown_column(missing, names)}")
            without = pa.schema([field for field in schema if field.name != "status"])
            mentions_status = _missing_field(where, without) is not None
        if not mentions_status:
            accepted = pc.field("status") == "accepted"
            condition = accepted if condition is None else condition & accepted
        if split is not None:
            condition = condition & (pc.field("split") == split)
        try:
            table = handle.read().filter(condition)
        except pa.ArrowException as error:
            raise DatasetError(f"where {str(where)!r} cannot be applied to the index: {error}") from error
        _check_names(table, self.path)
        return table

    def rows_of_clip(self, table: str, clip_id: str) -> list[dict[str, Any]]:
        """The rows of a clip in a long table, in file order; row groups that cannot hold it are not read."""
        name = f"{table}.parquet"
        handle = self.file(name)
        names = handle.schema_arrow.names
        position = names.index("clip_id")
        rows: list[dict[str, Any]] = []
        for group in range(handle.metadata.num_row_groups):
            statistics = handle.metadata.row_group(group).column(position).statistics
            bounded = statistics is not None and statistics.has_min_max
            if bounded and not statistics.min <= clip_id <= statistics.max:
                continue
            ids = self.column(name, group, "clip_id", names)
            columns = {other: self.column(name, group, other, names) for other in names}
            hits = pa.Table.from_arrays(list(columns.values()), names=list(columns)).filter(pc.equal(ids, clip_id))
            rows += hits.to_pylist()
        return rows


def _missing_field(expression: pc.Expression, schema: pa.Schema) -> str | None:
    """The name of a column that the expression needs and `schema` lacks."""
    try:
        schema.empty_table().filter(expression)
    except pa.ArrowInvalid as error:
        match = re.search(r"No match for FieldRef\.Name\((.*?)\) in", str(error))
        return match[1] if match else None
    except pa.ArrowException:
        return None  # another fault of the expression; applying it to the index reports it
    return None


def _check_names(index: pa.Table, path: str) -> None:
    """Refuse names that would leave the data set's folder."""
    for column in ("shard", "clip_id"):
        names = index[column].drop_null()
        unsafe = names.filter(pc.invert(pc.match_substring_regex(names, rf"\A{_SAFE_NAME.pattern}\z")))
        if len(unsafe):
            message = f"{path}/index.parquet has the unsafe {column} {unsafe[0].as_py()!r}"
            raise DatasetError(f"{message}; it is not a plain file name, do not trust this data set")


class Dataset:
    """The selected clips of a data set: `len`, iteration, `ds[i]` and `ds["clip_id"]` give `Clip`s."""

    def __init__(self, store: _Store, index: pa.Table, columns: Sequence[str] | None) -> None:
        self._store = store
        self.index = index
        """The selected rows of the index as an Arrow table."""
        self._schemas: dict[str, pa.Schema] = {}
        self._positions: dict[str, int] | None = None
        self.selected = None if columns is None else tuple(columns)
        """The columns asked for, None for all of params."""
        if self.selected is not None and self._schema("params") is not None:
            for name in self.selected:
                self.locate(name)

    def __repr__(self) -> str:
        facts = self._store.facts
        return f"<talkset data set {facts.get('name')} {facts.get('version')}: {len(self)} clips of {self._store.path}>"

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def __iter__(self) -> Iterator[Clip]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, key: int | str) -> Clip:
        """A clip by position or id. Raises IndexError or KeyError."""
        if isinstance(key, str):
            if self._positions is None:
                self._positions = {clip_id: place for place, clip_id in enumerate(self.index["clip_id"].to_pylist())}
            if key not in self._positions:
                raise KeyError(f"clip {key!r} is not among the {len(self)} selected clips of {self._store.path}")
            position = self._positions[key]
        else:
            position = range(len(self))[key]
        row = {name: self.index[name][position].as_py() for name in self.index.column_names}
        return Clip(self, row)

    @property
    def facts(self) -> dict[str, Any]:
        """The content of dataset.json: name, version, models, licences, counts."""
        return dict(self._store.facts)

    @property
    def columns(self) -> tuple[str, ...]:
        """The signals of a clip: those asked for, else all of params."""
        if self.selected is not None:
            return self.selected
        schema = self._schema("params")
        return tuple(name for name in schema.names if name not in _KEYS) if schema is not None else ()

    @property
    def stats(self) -> dict[str, Any]:
        """The content of stats.json: `totals`, and by head model count, mean, std, min, max of every signal."""
        stats: dict[str, Any] = json.loads(self._store.read_bytes("stats.json"))
        return stats

    def to_pandas(self) -> Any:
        """The selected rows of the index as a pandas DataFrame."""
        return self.index.to_pandas()

    def window(self, clip: int | str | Clip, start_s: float, seconds: float) -> dict[str, Any]:
        """`seconds` of a clip from `start_s` on; see `Clip.window`."""
        chosen = clip if isinstance(clip, Clip) else self[clip]
        return chosen.window(start_s, start_s + seconds)

    def torch(self, columns: Sequence[str], window_s: float | None = None) -> WindowDataset:
        """A map-style torch data set of dictionaries of tensors, whole clips or consecutive windows of `window_s`.

        Windows do not overlap; a rest that is shorter than a window is left out. The number of frames may differ
        between clips and, at odd frame rates, by one between windows: pass `collate_fn=dataset.collate` to a
        DataLoader to pad them. Raises DatasetError when torch is missing or a column is not numeric.
        """
        try:
            from talkset.torch_dataset import WindowDataset
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            raise DatasetError("Dataset.torch needs PyTorch: pip install torch") from error
        return WindowDataset(Dataset(self._store, self.index, columns), window_s)

    def _schema(self, table: str) -> pa.Schema | None:
        """Schema of a sharded table, from the first selected part; None when no selected clip has parameters."""
        if table not in self._schemas:
            shards = self.index["shard"].drop_null()
            if len(shards) == 0:
                return None
            self._schemas[table] = self._store.file(f"{table}/{shards[0].as_py()}").schema_arrow
        return self._schemas[table]

    def locate(self, name: str) -> tuple[str, str]:
        """Table and column behind a name; `landmarks.valid` names a table where both have the column.

        Raises KeyError with a suggestion.
        """
        prefix, dot, rest = name.partition(".")
        tables = (prefix,) if dot and prefix in SHARDED else SHARDED
        column = rest if dot and prefix in SHARDED else name
        known: list[str] = []
        for table in tables:
            schema = self._schema(table)
            if schema is not None:
                if column in schema.names and column not in _KEYS:
                    return table, column
                known += [other for other in schema.names if other not in known and other not in _KEYS]
        raise KeyError(unknown_column(column, known))

    def field_type(self, table: str, column: str) -> pa.DataType:
        """Arrow type of a located column."""
        schema = self._schema(table)
        if schema is None:
            raise KeyError(f"no selected clip has a table {table!r}")
        return schema.field(column).type

    def in_table(self, table: str, names: Sequence[str]) -> list[str]:
        """Those of the named signals that are columns of `table`: worth decoding in one read."""
        places = [self.locate(name) for name in names]
        return [column for place, column in places if place == table]


_KEYS: Final = ("clip_id", "num_frames")


class Clip(Mapping[str, Any]):
    """One clip: a mapping from signal name to array, with the index values as `.index` and as attributes."""

    def __init__(self, dataset: Dataset, index: dict[str, Any]) -> None:
        self._dataset = dataset
        self.index = index
        """Every value of the clip's index row."""

    def __repr__(self) -> str:
        return f"<clip {self.clip_id}: {self.num_frames} frames>"

    def __getattr__(self, name: str) -> Any:
        """A value of the index row."""
        if not name.startswith("_") and name != "index" and name in self.index:
            return self.index[name]
        raise AttributeError(f"a clip has no {name!r}; signals are clip[{name!r}], index values are in clip.index")

    @property
    def clip_id(self) -> str:
        """The id of the clip."""
        return str(self.index["clip_id"])

    @property
    def num_frames(self) -> int:
        """Number of frames T; 0 for a clip that failed before it had any."""
        return int(self.index["num_frames"] or 0)

    @property
    def duration_us(self) -> int:
        """Length of the clip in microseconds. Raises DatasetError for a row without a span."""
        start, end = self.index["start_us"], self.index["end_us"]
        if start is None or end is None:
            raise DatasetError(f"clip {self.clip_id} ({self.index['status']}) has no span")
        return int(end - start)

    @property
    def media_path(self) -> Path | None:
        """The clip's own video, None where the data set has none for it (or is not on this machine)."""
        path = Path(self._dataset._store.path, "media", f"{self.clip_id}.mp4")
        return path if path.is_file() else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._dataset.columns if self.index["shard"] is not None else ())

    def __len__(self) -> int:
        return len(tuple(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in tuple(iter(self))

    def __getitem__(self, name: str) -> Any:
        """A signal: arrays in their logical shape, such as (T, 52) float32 for `expression`; None where absent.

        Raises KeyError for an unknown signal, one not among the columns asked for, or a clip without parameters.
        """
        selected = self._dataset.selected
        if selected is not None and name not in selected:
            raise KeyError(f"{name!r} is not among the columns the data set was opened with: {', '.join(selected)}")
        return self._read(name, selected or ())[0]

    def _read(self, name: str, wanted: Sequence[str]) -> tuple[Any, bool]:
        """A signal and whether its first axis is time; `wanted` are the signals that will be asked for as well."""
        shard, row = self.index["shard"], self.index["row"]
        if shard is None:
            raise KeyError(f"clip {self.clip_id} ({self.index['status']}) has no parameters, so no {name!r}")
        table, column = self._dataset.locate(name)
        cell, field = self._dataset._store.cell(table, (shard, row), column, self._dataset.in_table(table, wanted))
        if not pa.types.is_list(field.type):
            return cell.as_py(), False
        shape = json.loads((field.metadata or {}).get(b"shape", b"[-1]"))
        per_frame = bool(shape) and shape[0] == "T"
        if not cell.is_valid:
            return None, per_frame
        sizes = [self.num_frames if axis == "T" else axis if isinstance(axis, int) else -1 for axis in shape]
        flat = np.array(cell.values.to_numpy(zero_copy_only=False))
        try:
            return flat.reshape(sizes), per_frame
        except ValueError as error:
            message = f"clip {self.clip_id}: {name} has {flat.size} values, not {shape} with T = {self.num_frames}"
            raise DatasetError(f"{message}; run `talkset verify`") from error

    def window(self, start_s: float, end_s: float) -> dict[str, Any]:
        """The signals of the frames with start_s <= PTS < end_s; signals without a time axis come whole.

        Seconds count from the start of the clip. Raises ValueError for a window that crosses the clip's border.
        """
        start, end = round(start_s * 1e6), round(end_s * 1e6)
        if not 0 <= start < end <= self.duration_us:
            raise ValueError(
                f"window {start_s}..{end_s} s is not inside clip {self.clip_id}, which is 0..{self.duration_us / 1e6} s"
            )
        wanted = (*self, "pts_us")
        first, last = np.searchsorted(self._read("pts_us", wanted)[0], (start, end), side="left")
        window: dict[str, Any] = {}
        for name in self:
            value, per_frame = self._read(name, wanted)
            window[name] = value[first:last] if per_frame and value is not None else value
        return window

    def words(self) -> list[dict[str, Any]]:
        """The words in order: start_us, end_us (clip clock), label, score, interpolated, source."""
        return self._dataset._store.rows_of_clip("words", self.clip_id)

    def phones(self) -> list[dict[str, Any]]:
        """The phones in order, with the same keys as words."""
        return self._dataset._store.rows_of_clip("phones", self.clip_id)

    def events(self) -> list[dict[str, Any]]:
        """Emotions, gestures, blinks and the like, with the keys of words and `kind`."""
        return self._dataset._store.rows_of_clip("events", self.clip_id)
