"""Decoded columns as numpy arrays, for every layout that Arrow may hand over."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from talkset.cells import cells, is_listed, one_array

LISTS = [[1.0, 2.0, 3.0], [], [4.0], None, [5.0, 6.0]]


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.int64()), pa.list_(pa.int8())]
)
@pytest.mark.parametrize("skipped", [0, 2])
@pytest.mark.parametrize("absent", [False, True])
def test_lists(kind: pa.DataType, skipped: int, absent: bool) -> None:
    rows = [row for row in LISTS if absent or row is not None]
    array = pa.array([None if row is None else [int(value) for value in row] for row in rows], kind)
    found = cells(array[skipped:])
    expected = rows[skipped:]
    assert is_listed(kind)
    assert [view.tolist() for view in found.split()] == [row or [] for row in expected]
    assert found.absent == [place for place, row in enumerate(expected) if row is None]
    assert found.values.dtype == kind.value_type.to_pandas_dtype()


def test_floats_share_arrows_memory() -> None:
    array = pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32()))
    assert cells(array).values.ctypes.data == array.values.buffers()[1].address


def test_packed_bits_and_single_values() -> None:
    assert cells(pa.array([[True, False], [True]], pa.list_(pa.bool_()))).split()[0].tolist() == [True, False]
    numbers = cells(pa.array([1, None, 3], pa.int32()))
    assert [view.tolist() for view in numbers.split()] == [[1], [0], [3]]
    assert numbers.absent == [1]
    assert np.isnan(cells(pa.array([None, 2.0], pa.float32())).values[0])


def test_a_column_in_pieces() -> None:
    pieces = pa.chunked_array([[[1.0]], [[2.0, 3.0]]], pa.list_(pa.float32()))
    assert [view.tolist() for view in cells(one_array(pieces)).split()] == [[1.0], [2.0, 3.0]]
    whole = pa.chunked_array([[[1.0], [2.0, 3.0]]], pa.list_(pa.float32()))
    assert one_array(whole).buffers()[1].address == whole.chunk(0).buffers()[1].address
