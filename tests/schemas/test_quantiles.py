"""The quantile sketch against exact quantiles of everything at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from schemas.quantiles import LARGEST, RELATIVE_ERROR, SMALLEST, QuantileSketch

FRACTIONS = (0.0, 0.01, 0.05, 0.5, 0.95, 0.99, 1.0)
VALUES = st.lists(st.floats(-(2.0**19), 2.0**19, width=32), min_size=1, max_size=60)


def _sketch(values: NDArray[np.float32]) -> QuantileSketch:
    sketch = QuantileSketch(values.shape[1])
    sketch.add(values)
    return sketch


def _assert_same(first: QuantileSketch, second: QuantileSketch) -> None:
    assert first.count == second.count
    np.testing.assert_array_equal(first.minimum, second.minimum)
    np.testing.assert_array_equal(first.maximum, second.maximum)
    if first.count:
        np.testing.assert_array_equal(first.quantiles(FRACTIONS), second.quantiles(FRACTIONS))
        edges = np.linspace(-600_000, 600_000, 23)
        np.testing.assert_array_equal(first.histogram(edges), second.histogram(edges))


@settings(max_examples=150, deadline=None)
@given(VALUES, st.floats(0, 1))
def test_error_is_bounded(values: list[float], fraction: float) -> None:
    whole = np.array(values, np.float32)[:, None]
    exact = np.quantile(whole.astype(np.float64), fraction, axis=0, method="inverted_cdf")
    estimate = _sketch(whole).quantile(fraction)
    assert np.abs(estimate - exact) <= max(RELATIVE_ERROR * abs(exact[0]), SMALLEST)
    assert whole.min() <= estimate <= whole.max()


@pytest.mark.parametrize("scale", [1e-5, 0.1, 1.0, 300.0])
def test_error_of_many_values(scale: float) -> None:
    values = (np.random.default_rng(5).normal(size=(4000, 3)) * scale + [0, 2 * scale, -9 * scale]).astype(np.float32)
    exact = np.quantile(values.astype(np.float64), FRACTIONS, axis=0, method="inverted_cdf")
    error = np.abs(_sketch(values).quantiles(FRACTIONS) - exact)
    assert (error <= np.maximum(RELATIVE_ERROR * np.abs(exact), SMALLEST)).all()
    assert error.max() > 0, "the bound would not be tested by exact values"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_order_batches_and_merging_do_not_matter(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(sum(sizes), 2)) * 10.0 ** rng.integers(-7, 8, (sum(sizes), 2))).astype(np.float32)
    whole = _sketch(values)
    batched, merged = QuantileSketch(2), QuantileSketch(2)
    for batch in np.split(rng.permutation(values), np.cumsum(sizes)[:-1]):
        batched.add(batch)
        merged.merge(_sketch(batch))
    _assert_same(batched, whole)
    _assert_same(merged, whole)


def test_extremes_stay_exact() -> None:
    values = np.array([-3e30, -0.0, 1e-30, 5.0, 2e25], np.float32)[:, None]
    sketch = _sketch(values)
    assert sketch.quantile(0)[0] == values.min()
    assert sketch.quantile(1)[0] == values.max()
    assert sketch.quantile(0.5)[0] == 0
    assert abs(values[0, 0]) > LARGEST


def test_a_constant_stays_exact() -> None:
    sketch = _sketch(np.full((7, 1), 1.2345, np.float32))
    assert (sketch.quantiles(FRACTIONS) == np.float32(1.2345)).all()
    assert sketch.histogram([1.0, 1.1, 1.3, 1.4]).tolist() == [[0, 7, 0]]


@settings(max_examples=50, deadline=None)
@given(VALUES, st.integers(2, 30))
def test_a_histogram_loses_nothing_and_is_off_by_a_bucket_at_most(values: list[float], bins: int) -> None:
    whole = np.array(values, np.float32)[:, None]
    edges = np.linspace(-600_000, 600_000, bins)
    counts = _sketch(whole).histogram(edges)[0]
    assert counts.sum() == pytest.approx(len(values))
    below = np.concatenate([[0], np.cumsum(counts)])
    for edge, count in zip(edges, below, strict=True):
        slack = 2 * RELATIVE_ERROR * abs(edge) + 2 * SMALLEST
        assert (whole < edge - slack).sum() - 1e-6 <= count <= (whole <= edge + slack).sum() + 1e-6


def test_a_histogram_counts_inside_its_edges_only() -> None:
    sketch = _sketch(np.array([[0.5], [1.5], [2.5], [3.0]], np.float32))
    np.testing.assert_allclose(sketch.histogram([1.0, 2.0, 3.0]), [[1, 2]])
    assert QuantileSketch(2).histogram([0, 1]).tolist() == [[0], [0]]
    for edges in ([1.0], [1.0, 1.0], [2.0, 1.0]):
        with pytest.raises(ValueError, match="rising numbers"):
            sketch.histogram(edges)


def test_memory_is_bounded() -> None:
    rng = np.random.default_rng(0)
    sketch = QuantileSketch(956)
    sketch.add(rng.uniform(100, 400, (50, 956)))
    assert sketch.nbytes < 3e6
    for _ in range(3):
        sketch.add(rng.normal(size=(50, 956)) * 10.0 ** rng.integers(-30, 30, (50, 956)))
    assert sketch.nbytes < 40e6


def test_what_does_not_fit_is_refused_and_changes_nothing() -> None:
    sketch = _sketch(np.ones((2, 3), np.float32))
    for wrong, message in (
        (np.zeros((2, 4)), "width 3"),
        (np.zeros(3), "width 3"),
        (np.array([[0, np.nan, 0]]), "1 values are not finite"),
        (np.array([[0, np.inf, 0]]), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            sketch.add(wrong)
    with pytest.raises(ValueError, match="width 2"):
        sketch.merge(QuantileSketch(2))
    sketch.add(np.zeros((0, 3)))
    _assert_same(sketch, _sketch(np.ones((2, 3), np.float32)))
    with pytest.raises(ValueError, match="without values"):
        QuantileSketch(1).quantile(0.5)
    with pytest.raises(ValueError, match=r"0\.\.1, got 1\.5"):
        sketch.quantile(1.5)
