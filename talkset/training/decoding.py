"""Row groups of a data set decoded into flat arrays: one array for each signal, cleaned and normalised.

Needs only numpy and pyarrow. What decoding needs (`Source`) is small, so it travels to other processes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from talkset.cells import Array, Cells, cells, is_listed, one_array
from talkset.store import DatasetError, Store

if TYPE_CHECKING:
    from talkset.dataset import Dataset
    from talkset.training.normalise import Normaliser

CLOCK: Final = ("params", "pts_us")
"""Table and column of the frame times that windows go by."""
VALID: Final = "valid"
_VIEW_BYTES: Final = 200
"""What numpy needs for the array object of one signal of one clip."""


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
        leaf = kind.value_type if is_listed(kind) else kind
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
    prepared: Path | None = None
    """Folder of decoded parts (talkset.training.prepared), None to decode while reading."""

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


@dataclass
class RowGroup:
    """A decoded row group: for each signal the flat values of every row, views of one array."""

    values: Mapping[str, Sequence[Array]]
    frames: Sequence[int] | NDArray[np.int64]
    seen: Sequence[Array]
    """For each row (T,) bool: measured, and every float of this table's signals finite."""
    times_us: Sequence[Array] = ()
    unusable: dict[tuple[str, int], str] = field(default_factory=dict)
    """Why a signal of a row cannot be given."""
    nbytes: int = 0


def missing_row(source: Source, table: str, shard: int, row: int) -> DatasetError:
    """The error for a row that a part does not have."""
    name = f"{table}/{source.shard_names[shard]}"
    return DatasetError(f"{source.store.path}/{name} has no row {row}; run `talkset verify`")


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
    arrays: dict[str, Sequence[Array]] = {}
    group = RowGroup(arrays, frames, ())
    bounds = [0, *itertools.accumulate(frames)]
    seen = np.ones(bounds[-1], bool)
    if masked:
        seen = measured.values.astype(bool)
    for signal in signals:
        if signal.name != VALID:
            arrays[signal.name] = _added(group, source, signal, _rows(stored[signal.column]), bounds, seen)
    if timed:
        group.times_us = _rows(stored[CLOCK[1]]).split()
    group.seen = [seen[first:last] for first, last in itertools.pairwise(bounds)]
    views = sum(len(rows) for rows in arrays.values()) + len(group.seen) + len(group.times_us)
    group.nbytes += seen.nbytes + sum(times.nbytes for times in group.times_us) + views * _VIEW_BYTES
    return group


def _rows(column: pa.ChunkedArray) -> Cells:
    array = one_array(column)
    if is_listed(array.type) and array.values.null_count and not pa.types.is_floating(array.values.type):
        kind = array.values.type
        raise DatasetError(f"a list of {kind} has null entries, which make no tensor; run `talkset verify`")
    return cells(array)


def _added(group: RowGroup, source: Source, signal: Signal, rows: Cells, bounds: list[int], seen: Array) -> list[Array]:
    """The cleaned values of one signal for each row; marks frames in `seen` and rows of the group as unusable."""
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
    return views


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
