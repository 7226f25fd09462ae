"""The direct solver of coupled frames against a dense one."""

from __future__ import annotations

import numpy as np
import pytest

from reconstruct.body.time_solve import solve_coupled
from reconstruct.linear_solve import Bending


@pytest.mark.parametrize("frames", [1, 2, 3, 9])
def test_it_solves_the_dense_system(frames: int) -> None:
    random, count = np.random.default_rng(frames), 4
    root = random.normal(size=(frames, count, count))
    hessian = root @ np.swapaxes(root, 1, 2) + 0.1 * np.eye(count)
    bend, right = random.uniform(1, 50, count), random.normal(size=(frames, count))
    held = random.uniform(size=(frames, count)) < 0.2
    times = np.cumsum(random.uniform(0.03, 0.05, frames))
    smooth = Bending.of(times, 0.04)
    dense = np.zeros((frames, count, frames, count))
    zero, one, two = (band.numpy() for band in smooth.bands)
    for t in range(frames):
        dense[t, :, t] = hessian[t] + zero[t] * np.diag(bend)
        for gap, band in ((1, one), (2, two)):
            if t + gap < frames:
                dense[t, :, t + gap] = dense[t + gap, :, t] = band[t] * np.diag(bend)
    flat = dense.reshape(frames * count, -1)
    free = ~held.ravel()
    expected = np.zeros(frames * count)
    expected[free] = np.linalg.solve(flat[np.ix_(free, free)], right.ravel()[free])
    found = solve_coupled(hessian, smooth, bend, held, right.copy())
    assert found.ravel() == pytest.approx(expected, rel=1e-8, abs=1e-10)
    assert not found[held].any()
