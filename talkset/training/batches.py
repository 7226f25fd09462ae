"""Batches of signals as numpy arrays: row groups decoded once, kept as flat arrays, joined without a loop over frames.

Needs only numpy and pyarrow. What a reader needs (`Source`) and what it is asked for (`Request`) are small, so both
travel to other processes.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from talkset.store import Array, DatasetError, Store

if TYPE_CHECKING:
    from talkset.dataset import Dataset
    from talkset.training.normalise import Normaliser

CLOCK: Final = ("params", "pts_us")
"""Table and column of the frame times that windows go by."""
VALID: Final = "valid"
_PLAIN: Final[dict[Any, np.dtype[Any]]] = {pa.float32(): np.dtype(np.float32), pa.int64(): np.dtype(np.int64)}
"""Element types whose Arrow buffers are numpy's own layout."""
_LIST: Final = pa.list_(pa.float32()).id
_VIEW_BYTES: Final = 200
"""What numpy needs for the array object of one signal of one clip."""

Key = tuple[str, int, int]
"""Table, number of the part, row group."""


@dataclass(frozen=True)
class Signal:
    """One column of a batch."""

    name: str
    """As it was asked for, such as "landmarks.face_xy"."""
    table: str
    column: str
    shape: tuple[str | int, ...]
    """Logical shape, such as ("T", 3)."""
    floating: bool

    @property
    def per_frame(self) -> bool:
        """Whether the first axis is time."""
        return self.shape[:1] == ("T",)

    @classmethod
    def of(cls, dataset: Dataset, name: str) -> Signal:
        """A signal of a data set. Raises DatasetError for one that is no number, KeyError for an unknown one."""
        table, column = dataset.locate(name)
        kind = dataset.field(name).type
        leaf = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
        floating = bool(pa.types.is_floating(leaf))
        if not (floating or pa.types.is_integer(leaf) or pa.types.is_boolean(leaf)):
            raise DatasetError(f"column {name!r} is {kind}, which cannot be a tensor; leave it out")
        return cls(name, table, column, tuple(dataset.shape(name)), floating)


@dataclass(frozen=True)
class Source:
    """What a reader needs to make any batch: the files, the parts and the signals."""

    store: Store
    shard_names: Sequence[str]
    signals: tuple[Signal, ...]
    window_us: int | None = None
    normaliser: Normaliser | None = None
    pad: bool = True

    @functools.cached_property
    def tables(self) -> tuple[str, ...]:
        """The tables to read, in order of first use."""
        clock = (CLOCK[0],) if self.window_us is not None and self.timed else ()
        return tuple(dict.fromkeys((*(signal.table for signal in self.signals), *clock)))

    @functools.cached_property
    def seen_tables(self) -> tuple[str, ...]:
        """The tables that decide which frames count as seen: those whose signals with a time axis are asked for."""
        timed = [signal for signal in self.signals if signal.per_frame]
        deciding = [signal for signal in timed if signal.column != VALID or signal.name == VALID] or timed
        return tuple(dict.fromkeys(signal.table for signal in deciding))

    @functools.cached_property
    def timed(self) -> bool:
        """Whether any signal has a time axis."""
        return any(signal.per_frame for signal in self.signals)


@dataclass(frozen=True)
class Request:
    """The items of one batch, as lists of equal length: where each is, and until when its row group is of use."""

    run: int
    """Counts iterations; a reader forgets its row groups between them, except those of its cache."""
    number: int
    """Number of the batch in the epoch."""
    clip_ids: list[str]
    shards: list[int]
    rows: list[int]
    frames: list[int]
    starts_us: list[int]
    last_use: list[int]
    """Number of the last batch that this row group is needed for."""


@dataclass
class RowGroup:
    """A decoded row group: for each signal the flat values of every row, views of one array."""

    values: dict[str, list[Array]]
    frames: list[int]
    seen: list[Array]
    """For each row (T,) bool: measured, and every float of this table's signals finite."""
    times_us: list[Array] = field(default_factory=list)
    unusable: dict[tuple[str, int], str] = field(default_factory=dict)
    """Why a signal of a row cannot be given."""
    nbytes: int = 0


Places = dict[str, list[tuple[RowGroup, int]]]
"""For each table the row group and the row in it of each item."""


class Cache:
    """Decoded row groups kept for good until they fill `limit` bytes; shared by the threads of a process.

    Row groups are visited in random order, once an epoch: then keeping the first that come serves more reads than
    dropping the oldest, which would always drop what comes next.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._groups: dict[Key, RowGroup] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._groups)

    def get(self, key: Key) -> RowGroup | None:
        """The row group, None where it is not kept."""
        return self._groups.get(key)

    def offer(self, key: Key, group: RowGroup) -> bool:
        """Keep a row group if there is room for it; whether it is kept."""
        with self._lock:
            if key in self._groups:
                return True
            if self.nbytes + group.nbytes > self.limit:
                return False
            self._groups[key] = group
            self.nbytes += group.nbytes
            return True


class Reader:
    """Makes batches, in rising order within a run; for one thread."""

    def __init__(self, source: Source, cache: Cache) -> None:
        self.source = source
        self.cache = cache
        self._store = source.store.twin()
        self._ends: dict[str, list[int]] = {}
        self._columns: dict[str, frozenset[str]] = {}
        self._held: dict[Key, RowGroup] = {}
        self._until: dict[Key, int] = {}
        self._run: int | None = None
        self._timed_tables = {signal.table for signal in source.signals if signal.per_frame}

    @property
    def held(self) -> int:
        """Number of row groups held besides those of the cache."""
        return len(self._held)

    def read(self, request: Request) -> dict[str, Any]:
        """A batch of B items; see talkset.training.loader.Loader for its keys. Raises DatasetError."""
        if request.run != self._run:
            self._run = request.run
            self._held.clear()
            self._until.clear()
        places = {table: self._places(table, request) for table in self.source.tables}
        batch: dict[str, Any] = {}
        if self.source.timed:
            batch = self._timed(request, places)
        for signal in self.source.signals:
            if not signal.per_frame:
                batch[signal.name] = self._per_clip(signal, places[signal.table])
        batch["clip_id"] = request.clip_ids
        batch["start_s"] = np.array(request.starts_us, np.float64) / 1e6
        for key in [key for key, last in self._until.items() if last <= request.number]:
            del self._held[key], self._until[key]
        return batch

    def _places(self, table: str, request: Request) -> list[tuple[RowGroup, int]]:
        """Row group and row in it of each item."""
        places = []
        for shard, row, frames, last in zip(
            request.shards, request.rows, request.frames, request.last_use, strict=True
        ):
            name = f"{table}/{self.source.shard_names[shard]}"
            ends = self._ends.get(name)
            if ends is None:
                ends = self._ends[name] = self._store.group_ends(name).tolist()
            number = bisect_right(ends, row)
            if number >= len(ends):
                raise DatasetError(f"{self._store.path}/{name} has no row {row}; run `talkset verify`")
            group = self._group((table, shard, number), name, last)
            inside = row - (ends[number - 1] if number else 0)
            if group.frames[inside] != frames and table in self._timed_tables:
                raise DatasetError(
                    f"{self._store.path}/{name} row {row} has {group.frames[inside]} frames, the index says {frames}; "
                    "run `talkset verify`"
                )
            places.append((group, inside))
        for (group, inside), clip_id in zip(places, request.clip_ids, strict=True):
            if group.unusable:
                self._refuse(group, inside, clip_id)
        return places

    @staticmethod
    def _refuse(group: RowGroup, row: int, clip_id: str) -> None:
        for (name, other), reason in group.unusable.items():
            if other == row:
                raise DatasetError(f"clip {clip_id} {reason}; leave {name} or this clip out")

    def _group(self, key: Key, name: str, last: int) -> RowGroup:
        group = self.cache.get(key)
        if group is not None:
            return group
        group = self._held.get(key)
        if group is None:
            if name not in self._columns:
                self._columns[name] = frozenset(self._store.schema(name).names)
            group = decode(self._store, self.source, key[0], name, key[2], self._columns[name])
            if self.cache.offer(key, group):
                return group
            self._held[key] = group
        self._until[key] = max(last, self._until.get(key, -1))
        return group

    def _spans(self, request: Request, places: Places) -> list[tuple[int, int]]:
        """First frame and end of each item."""
        if self.source.window_us is None:
            return [(0, frames) for frames in request.frames]
        spans = []
        for (group, row), start in zip(places[CLOCK[0]], request.starts_us, strict=True):
            first, last = group.times_us[row].searchsorted((start, start + self.source.window_us)).tolist()
            spans.append((first, last))
        return spans

    def _timed(self, request: Request, places: Places) -> dict[str, Any]:
        """The signals with a time axis, and the masks over it."""
        source = self.source
        spans = self._spans(request, places)
        lengths = np.array([last - first for first, last in spans], np.int64)
        batch: dict[str, Any] = {}
        for signal in source.signals:
            if signal.per_frame and signal.name != VALID:
                rows = [group.values[signal.name][row] for group, row in places[signal.table]]
                sizes = _same(signal, [row.size // frames for row, frames in zip(rows, request.frames, strict=True)])
                batch[signal.name] = self._joined(rows, spans, lengths, _axes(signal, sizes))
        seen = [[group.seen[row] for group, row in places[table]] for table in source.seen_tables]
        rows = seen[0] if len(seen) == 1 else [np.logical_and.reduce(parts) for parts in zip(*seen, strict=True)]
        batch[VALID] = self._joined(rows, spans, lengths, ())
        if source.pad:
            batch["mask"] = np.arange(lengths.max()) < lengths[:, None]
        batch["length"] = lengths
        return batch

    def _joined(
        self, rows: list[Array], spans: list[tuple[int, int]], lengths: Array, axes: tuple[int, ...]
    ) -> Array | list[Array]:
        """(B, T, *axes) padded with zeros, or without padding a list of B arrays (T, *axes); always copies."""
        width = math.prod(axes)
        if self.source.window_us is not None:
            rows = [row[first * width : last * width] for row, (first, last) in zip(rows, spans, strict=True)]
        if not self.source.pad:
            return [row.reshape(-1, *axes).copy() for row in rows]
        longest = int(lengths.max())
        if int(lengths.min()) == longest:
            return np.concatenate(rows).reshape(len(rows), longest, *axes)
        padded = np.zeros((len(rows), longest * width), rows[0].dtype)
        for line, row in zip(padded, rows, strict=True):
            line[: row.size] = row
        return padded.reshape(len(rows), longest, *axes)

    def _per_clip(self, signal: Signal, places: list[tuple[RowGroup, int]]) -> Array:
        """(B, *axes) of a signal without a time axis."""
        rows = [group.values[signal.name][row] for group, row in places]
        axes = _axes(signal, _same(signal, [row.size for row in rows]))
        return np.concatenate(rows).reshape(len(rows), *axes)


def _same(signal: Signal, sizes: list[int]) -> int:
    """The size that all items have."""
    if min(sizes) != max(sizes):
        raise DatasetError(
            f"{signal.name} has {min(sizes)} numbers in one clip and {max(sizes)} in another, they make no batch; "
            "select clips of one head model with where=\"head_model == '...'\""
        )
    return sizes[0]


def _axes(signal: Signal, size: int) -> tuple[int, ...]:
    """The axes of a signal but time, with the letter among them resolved by the number of values."""
    named = signal.shape[1:] if signal.per_frame else signal.shape
    known = math.prod(axis for axis in named if isinstance(axis, int) and axis >= 0)
    unknown = sum(not isinstance(axis, int) or axis < 0 for axis in named)
    rest = size // known if known else 0
    if unknown > 1 or rest * known != size or (unknown == 0 and rest != 1):
        raise DatasetError(f"{signal.name} has {size} values, which do not make the shape {list(signal.shape)}")
    return tuple(axis if isinstance(axis, int) and axis >= 0 else rest for axis in named)


def decode(
    store: Store, source: Source, table: str, name: str, number: int, present: frozenset[str] | None = None
) -> RowGroup:
    """Read one row group of a part for a source; `present` are the columns of the part, where they are known.

    Floats are normalised here, once; what is not finite becomes 0 and its frame counts as not seen.
    """
    signals = [signal for signal in source.signals if signal.table == table]
    present = present or frozenset(store.schema(name).names)
    columns = list(dict.fromkeys(signal.column for signal in signals if signal.name != VALID))
    timed = source.window_us is not None and source.timed and table == CLOCK[0]
    masked = table in source.seen_tables and VALID in present
    for column, wanted in ((CLOCK[1], timed), (VALID, masked)):
        if wanted and column not in columns:
            columns.append(column)
    if not masked and "num_frames" in present:
        columns.append("num_frames")
    stored = store.read_group(name, number, columns)
    if masked:  # one value a frame: its lengths are the numbers of frames, and save reading those
        measured = _rows(stored[VALID])
        frames = [last - first for first, last in itertools.pairwise(measured.bounds)]
    elif "num_frames" in present:
        frames = stored["num_frames"].to_pylist()
    elif any(signal.per_frame for signal in signals):
        raise DatasetError(f"{store.path}/{name} has signals with a time axis but no num_frames; run `talkset verify`")
    else:
        frames = [0] * stored.num_rows
    group = RowGroup({}, frames, [])
    bounds = [0, *itertools.accumulate(frames)]
    seen = np.ones(bounds[-1], bool)
    if masked:
        seen = measured.values.astype(bool)
    for signal in signals:
        if signal.name != VALID:
            _add(group, source, signal, _rows(stored[signal.column]), bounds, seen)
    if timed:
        group.times_us = _rows(stored[CLOCK[1]]).split()
    group.seen = [seen[first:last] for first, last in itertools.pairwise(bounds)]
    arrays = sum(len(views) for views in group.values.values()) + len(group.seen) + len(group.times_us)
    group.nbytes += seen.nbytes + sum(times.nbytes for times in group.times_us) + arrays * _VIEW_BYTES
    return group


@dataclass(frozen=True)
class _Rows:
    """A column of a row group as one flat array."""

    values: Array
    bounds: list[int]
    """Where each row starts in it, and the end."""
    absent: list[int]
    """Rows that are null."""

    def split(self) -> list[Array]:
        """One view for each row."""
        return [self.values[first:last] for first, last in itertools.pairwise(self.bounds)]


def _rows(column: pa.ChunkedArray) -> _Rows:
    array = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
    absent = [] if array.null_count == 0 else np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist()
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        if absent and not pa.types.is_floating(array.type):
            array = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
        return _Rows(array.to_numpy(zero_copy_only=False), list(range(len(array) + 1)), absent)
    leaves = array.values
    if leaves.null_count and not pa.types.is_floating(leaves.type):
        raise DatasetError(f"a list of {leaves.type} has null entries, which make no tensor; run `talkset verify`")
    dtype = _PLAIN.get(leaves.type)
    if dtype is None or leaves.null_count or absent or array.type.id != _LIST or not len(leaves):
        return _Rows(leaves.to_numpy(zero_copy_only=False), array.offsets.to_pylist(), absent)
    # the buffers themselves: a third of the time of Arrow's own way to numpy, which costs as much as the decoding
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
    values = np.frombuffer(leaves.buffers()[1], dtype, len(leaves), leaves.offset * dtype.itemsize)
    return _Rows(values, offsets.tolist(), absent)


def _add(group: RowGroup, source: Source, signal: Signal, rows: _Rows, bounds: list[int], seen: Array) -> None:
    """Put one signal into a decoded row group, cleaned; marks frames in `seen` and rows as unusable."""
    name = signal.name
    units = bounds if signal.per_frame else list(range(len(rows.bounds)))  # frames, or rows: what a value belongs to
    width = len(rows.values) // max(units[-1], 1)
    if rows.bounds == [unit * width for unit in units]:
        blocks = [(0, len(units) - 1)]
    else:
        blocks = [(row, row + 1) for row in range(len(units) - 1)]
    for row in rows.absent:
        group.unusable[name, row] = f"has no {name}"
    views: list[Array] = []
    for first, last in blocks:
        values = rows.values[rows.bounds[first] : rows.bounds[last]]
        count = units[last] - units[first]
        if values.size % max(count, 1):
            group.unusable[name, first] = f"has {values.size} values of {name} for {count} frames"
        else:
            try:
                values, bad = _clean(source, signal, values.reshape(count, values.size // max(count, 1)))
            except DatasetError as error:
                if len(blocks) == 1:
                    raise
                group.unusable[name, first] = f"cannot be normalised ({error})"  # of another head model
            else:
                if bad is not None and signal.per_frame:
                    seen[units[first] : units[last]] &= ~bad
                elif bad is not None:
                    for row in np.flatnonzero(bad).tolist():
                        group.unusable.setdefault((name, first + row), f"has a {name} that is not finite")
            group.nbytes += values.nbytes
            values = values.reshape(-1)
        start = rows.bounds[first]
        views += [values[rows.bounds[row] - start : rows.bounds[row + 1] - start] for row in range(first, last)]
    group.values[name] = views


def _clean(source: Source, signal: Signal, values: Array) -> tuple[Array, Array | None]:
    """Values (n, width) normalised and without NaN, and which of the n had any; None for none."""
    if not signal.floating:
        return values, None
    if source.normaliser is not None and signal.name in source.normaliser.shift:
        values = source.normaliser.normalise(signal.name, values)
    if math.isfinite(values.sum()):  # a NaN or an infinity would show in it; a quarter of the cost of looking at each
        return values, None
    finite = np.isfinite(values)
    if finite.all():
        return values, None
    return np.where(finite, values, values.dtype.type(0)), ~finite.all(axis=1)
