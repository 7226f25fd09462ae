"""Decoded columns as flat numpy arrays, without Arrow's own way to numpy, which costs as much as the decoding.

Needs only numpy and pyarrow.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Array = NDArray[Any]

_PLAIN: Final[dict[Any, np.dtype[Any]]] = {pa.float32(): np.dtype(np.float32), pa.int64(): np.dtype(np.int64)}
"""Element types whose Arrow buffers are numpy's own layout."""
_LIST: Final = pa.list_(pa.float32()).id


@dataclass(frozen=True, slots=True)
class Cells:
    """A column of a row group as one flat array."""

    values: Array
    bounds: list[int]
    """Where each row starts in it, and the end."""
    absent: list[int]
    """Rows that are null."""

    def split(self) -> list[Array]:
        """One view for each row."""
        return [self.values[first:last] for first, last in itertools.pairwise(self.bounds)]


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece, copied only where it comes in several."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def is_listed(kind: pa.DataType) -> bool:
    """Whether a row of this type is a list of values rather than one value."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def cells(array: pa.Array) -> Cells:
    """The rows of a column of numbers or of lists; the values are a view of Arrow's buffer where they can be."""
    absent = [] if array.null_count == 0 else np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).tolist()
    kind = array.type
    if not is_listed(kind):
        if absent and not pa.types.is_floating(kind):
            array = array.fill_null(False if pa.types.is_boolean(kind) else 0)
        return Cells(array.to_numpy(zero_copy_only=False), list(range(len(array) + 1)), absent)
    leaves = array.values
    dtype = _PLAIN.get(leaves.type)
    if dtype is None or leaves.null_count or absent or kind.id != _LIST or not len(leaves):
        return Cells(leaves.to_numpy(zero_copy_only=False), array.offsets.to_pylist(), absent)
    offsets = np.frombuffer(array.buffers()[1], np.int32, len(array) + 1, array.offset * 4)
    values = np.frombuffer(leaves.buffers()[1], dtype, len(leaves), leaves.offset * dtype.itemsize)
    return Cells(values, offsets.tolist(), absent)
