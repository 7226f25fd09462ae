"""Streaming moments against numpy over everything at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.statistics import Moments


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 2**32 - 1), st.floats(-1e4, 1e4))
def test_batches_equal_the_whole(sizes: list[int], seed: int, offset: float) -> None:
    values = (np.random.default_rng(seed).normal(size=(sum(sizes), 3)) + offset).astype(np.float32)
    moments = Moments(3)
    for batch in np.split(values, np.cumsum(sizes)[:-1]):
        moments.add(batch)
    summary = moments.summary()
    assert summary["count"] == len(values)
    if len(values):
        whole = values.astype(np.float64)
        for key, expected in (
            ("mean", whole.mean(0)),
            ("std", whole.std(0)),
            ("min", whole.min(0)),
            ("max", whole.max(0)),
        ):
            np.testing.assert_allclose(summary[key], expected, rtol=1e-9, atol=1e-7)


def test_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match="width 3"):
        Moments(3).add(np.zeros((2, 4)))
