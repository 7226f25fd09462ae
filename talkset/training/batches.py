"""Batches of signals as numpy arrays: decoded row groups joined without a loop over frames.

Needs only numpy and pyarrow. What a reader is asked for (`Request`) is small, so it travels to other processes.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np

from talkset.cells import Array
from talkset.store import DatasetError
from talkset.training.decoding import CLOCK, VALID, RowGroup, Signal, Source, decode, missing_row
from talkset.training.prepared import Prepared

Key = tuple[str, int, int]
"""Table, number of the part, row group."""


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
        self._prepared = Prepared(source, source.prepared) if source.prepared is not None else None
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
            group, inside = self._find(table, shard, row, last)
            if group.frames[inside] != frames and table in self._timed_tables:
                name = f"{table}/{self.source.shard_names[shard]}"
                raise DatasetError(
                    f"{self._store.path}/{name} row {row} has {group.frames[inside]} frames, the index says {frames}; "
                    "run `talkset verify`"
                )
            places.append((group, inside))
        for (group, inside), clip_id in zip(places, request.clip_ids, strict=True):
            if group.unusable:
                self._refuse(group, inside, clip_id)
        return places

    def _find(self, table: str, shard: int, row: int, last: int) -> tuple[RowGroup, int]:
        """The row group that holds a row of a part, and its row in there."""
        if self._prepared is not None:
            return self._prepared.find(table, shard, row)
        name = f"{table}/{self.source.shard_names[shard]}"
        ends = self._ends.get(name)
        if ends is None:
            ends = self._ends[name] = self._store.group_ends(name).tolist()
        number = bisect_right(ends, row)
        if number >= len(ends):
            raise missing_row(self.source, table, shard, row)
        return self._group((table, shard, number), name, last), row - (ends[number - 1] if number else 0)

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
