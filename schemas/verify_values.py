"""Values of a batch of rows against the promises of their columns: lengths, ranges, what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.ranges import out_of_range
from schemas.tables import Column
from schemas.verify_report import Report

Bool = NDArray[np.bool_]
Int64 = NDArray[np.int64]
_MAX_SHOWN = 80
"""Characters of a stored text that a message repeats."""


@dataclass(frozen=True)
class Rows:
    """A batch of rows of one file, and how to speak of them."""

    report: Report
    file: str
    first: int
    """Number of the first row of the batch."""
    values: Mapping[str, pa.Array]

    def __len__(self) -> int:
        return len(self.values["clip_id"])

    def report_rows(self, kind: str, wrong: Bool | Int64, describe: str | Callable[[int], str]) -> None:
        """Report rows by mask or number inside the batch; `describe` is what is wrong, or says it of such a number."""
        rows = np.flatnonzero(wrong) if wrong.dtype == bool else wrong

        def message(row: int) -> str:
            return f"{self.label(row)}: {describe if isinstance(describe, str) else describe(row)}"

        self.report.rows(self.file, kind, rows, message)

    def label(self, row: int) -> str:
        """A row as messages name it."""
        return f"row {self.first + row} (clip {shown(self.values['clip_id'][row])})"


def shown(value: Any) -> str:
    """A stored value as a message repeats it: short, and without control characters."""
    text = str(value.as_py() if isinstance(value, pa.Scalar) else value)
    text = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
    return text if text.isprintable() else repr(text)


def integers(column: pa.Array, absent: int = 0) -> Int64:
    """An integer column as int64, with a number for absent values."""
    return np.asarray(column.fill_null(absent).to_numpy(zero_copy_only=False), np.int64)


def check_scalars(rows: Rows, columns: Sequence[Column]) -> None:
    """Numbers of scalar columns must lie in their range, and be null rather than NaN where they are absent."""
    for column in columns:
        kind = rows.values[column.name].type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            _check_numbers(rows, column)


def _check_numbers(rows: Rows, column: Column) -> None:
    array, name = rows.values[column.name], column.name
    present = np.flatnonzero(array.is_valid().to_numpy(zero_copy_only=False))
    values = array.drop_null().to_numpy(zero_copy_only=False)
    if column.floating and not np.isfinite(values).all():
        finite = np.isfinite(values)
        rows.report_rows(
            f"{name} is not finite",
            present[~finite],
            lambda row: f"{name} is {array[row]}, an absent value must be null",
        )
        present, values = present[finite], values[finite]
    if out_of_range(column, values):
        texts = {int(row): out_of_range(column, values[n : n + 1]) for n, row in enumerate(present)}
        wrong = np.array([row for row, text in texts.items() if text], np.int64)
        rows.report_rows(f"{name} is out of range", wrong, lambda row: f"{name} is {texts[row]}")


class Widths:
    """The sizes of model-sized axes: one for each head model and axis, the most common one where it is first seen."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], int] = {}

    def expected(self, axis: str, models: NDArray[np.int32], sizes: Int64) -> Int64:
        """The size that each row should have; `sizes` are those found, -1 where a row does not tell."""
        expected = np.full(len(models), -1, np.int64)
        for model in np.unique(models).tolist():
            here = models == model
            if (model, axis) not in self._known:
                told = sizes[here & (sizes >= 0)]
                if len(told) == 0:
                    continue
                found, counts = np.unique(told, return_counts=True)
                self._known[model, axis] = int(found[np.argmax(counts)])
            expected[here] = self._known[model, axis]
        return expected


@dataclass(frozen=True)
class Lists:
    """A list column of a batch: the rows whose list is there and as long as it should be, and their values."""

    array: pa.Array
    fits: Bool
    """(rows,)"""

    def flat(self, keep: Bool) -> NDArray[Any]:
        """The values of the rows in `keep`, which must all fit, one after the other."""
        chosen = self.array if keep.all() else self.array.filter(pa.array(keep))
        values: NDArray[Any] = chosen.flatten().to_numpy(zero_copy_only=False)
        return values


def check_lengths(
    rows: Rows, column: Column, frames: Int64, widths: Widths, models: NDArray[np.int32], optional: bool = False
) -> Lists:
    """Check list lengths against `num_frames` times the axes of the shape; `optional` columns may be null."""
    array = rows.values[column.name]
    present = array.is_valid().to_numpy(zero_copy_only=False)
    if not optional:
        rows.report_rows(f"{column.name} is null", ~present, f"{column.name} is null, a value is required")
    lengths = integers(pc.list_value_length(array), -1)
    expected, axes = np.ones(len(rows), np.int64), []
    for axis in column.shape or ():
        if isinstance(axis, int):
            expected *= axis
        elif axis == "T":
            expected *= frames
        else:
            axes.append(axis)
    if axes:
        unit = np.maximum(expected, 1)
        tells = present & (frames > 0) & (lengths % unit == 0)
        expected = unit * widths.expected(" x ".join(axes), models, np.where(tells, lengths // unit, -1))
    fits = present & (frames > 0) & (lengths == expected)
    rows.report_rows(
        f"{column.name} has another length",
        present & (frames > 0) & ~fits,
        lambda row: f"{column.name} has {lengths[row]} values, expected {_shape(column)} = {expected[row]}",
    )
    if array.flatten().null_count:
        holes = np.array([item.is_valid and item.values.null_count > 0 for item in array])
        rows.report_rows(f"{column.name} has gaps", holes, f"{column.name} holds null, expected numbers")
        fits &= ~holes
    return Lists(array, fits)


def _shape(column: Column) -> str:
    return " x ".join(str(axis) for axis in column.shape or ())


@dataclass(frozen=True)
class _Entries:
    """The values of a list column with a line for each frame, or for each row where it has no frames."""

    column: Column
    table: NDArray[Any]
    ends: Int64
    """Where the entries of each row in `chosen` end."""
    chosen: Int64
    """Numbers of the rows inside the batch."""

    def report(self, rows: Rows, kind: str, entries: Int64, text: str) -> None:
        """Report the rows that some entries belong to, each once with its first entry."""
        owners, firsts = np.unique(np.searchsorted(self.ends, entries, side="right"), return_index=True)
        first = {int(self.chosen[owner]): int(entries[at]) for owner, at in zip(owners, firsts, strict=True)}

        def describe(row: int) -> str:
            if not self.column.per_frame:
                return text
            owner = int(np.searchsorted(self.chosen, row))
            return f"{text} (frame {first[row] - (int(self.ends[owner - 1]) if owner else 0)})"

        rows.report_rows(kind, self.chosen[owners], describe)


def check_list_values(
    rows: Rows, column: Column, lists: Lists, frames: Int64, valid: Lists | None, empty_is_nan: bool
) -> None:
    """Measured values must be finite and in range; with `empty_is_nan` those of other frames must be NaN.

    `valid` is the mask of the rows' frames; without it nothing is known of a per-frame column, and it is skipped.
    """
    keep = lists.fits if valid is None or not column.per_frame else lists.fits & valid.fits
    if not keep.any() or (column.per_frame and valid is None):
        return
    # rows of another head model or detector may have another number of values
    widths = integers(pc.list_value_length(lists.array)) // np.maximum(frames if column.per_frame else 1, 1)
    for width in np.unique(widths[keep]):
        _check_entries(rows, column, lists, frames, valid, empty_is_nan, keep & (widths == width))


def _check_entries(
    rows: Rows, column: Column, lists: Lists, frames: Int64, valid: Lists | None, empty_is_nan: bool, keep: Bool
) -> None:
    """The same for the rows `keep`, which all have the same number of values a frame."""
    chosen = np.flatnonzero(keep)
    ends = np.cumsum(frames[keep]) if column.per_frame else np.arange(1, len(chosen) + 1)
    flat = lists.flat(keep)
    entries = _Entries(column, flat.reshape(ends[-1], len(flat) // ends[-1]), ends, chosen)
    mask = valid.flat(keep) if valid is not None and column.per_frame else np.ones(ends[-1], bool)
    measured = mask
    if column.floating:
        finite = np.isfinite(entries.table)
        if not finite.all():
            whole = finite.all(axis=1)
            wrong = np.flatnonzero(mask & ~whole)
            entries.report(
                rows, f"{column.name} is not finite", wrong, f"{column.name} is not finite where it is valid"
            )
            measured = mask & whole
        if empty_is_nan and not mask.all():
            number = ~np.isnan(entries.table[~mask]).all(axis=1)
            text = f"{column.name} holds numbers where it is not valid, expected NaN"
            entries.report(rows, f"{column.name} is not NaN where not valid", np.flatnonzero(~mask)[number], text)
    values = entries.table if measured.all() else entries.table[measured]
    if values.size and out_of_range(column, values):
        _report_ranges(rows, entries, np.flatnonzero(measured))


def _report_ranges(rows: Rows, entries: _Entries, measured: Int64) -> None:
    """Name the rows with a value out of range; `measured` are the entries that count."""
    owners = np.searchsorted(entries.ends, measured, side="right")
    texts = {}
    for owner in np.unique(owners):
        text = out_of_range(entries.column, entries.table[measured[owners == owner]])
        if text:
            texts[int(entries.chosen[owner])] = text
    name = entries.column.name
    wrong = np.array(list(texts), np.int64)
    rows.report_rows(f"{name} is out of range", wrong, lambda row: f"{name} holds {texts[row]}")


def check_times(rows: Rows, lists: Lists, frames: Int64, duration_us: Int64 | None) -> None:
    """pts_us must rise from 0 or later to before the end of the clip; a duration of -1 is not known."""
    if not lists.fits.any():
        return
    flat = lists.flat(lists.fits)
    chosen = np.flatnonzero(lists.fits)
    ends = np.cumsum(frames[chosen])
    starts = ends - frames[chosen]
    falls = np.diff(flat) <= 0
    falls[ends[:-1] - 1] = False
    wrong = np.zeros(len(chosen), bool)
    wrong[np.searchsorted(ends, np.flatnonzero(falls), side="right")] = True
    wrong |= flat[starts] < 0
    limit = np.full(len(chosen), -1) if duration_us is None else duration_us[chosen]
    wrong |= (limit >= 0) & (flat[ends - 1] >= limit)

    def describe(row: int) -> str:
        end = "" if duration_us is None else f" {duration_us[row]} us"
        owner = int(np.searchsorted(chosen, row))
        span = f"{flat[starts[owner]]}..{flat[ends[owner] - 1]} us"
        return f"pts_us does not rise from 0 or later to before the end of the clip{end}; it holds {span}"

    rows.report_rows("pts_us does not rise inside the clip", chosen[wrong], describe)
