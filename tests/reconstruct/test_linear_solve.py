"""The structured solvers against a dense one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.linear_solve import solve_arrow, solve_time

Float64 = NDArray[np.float64]


def blocks(random: np.random.Generator, frames: int, size: int) -> Float64:
    root = random.normal(size=(frames, size, size))
    return root @ root.transpose(0, 2, 1) + np.eye(size)


def dense_solution(matrix: Float64, right: Float64, held: NDArray[np.bool_]) -> Float64:
    result = np.zeros(len(right))
    free = ~held
    result[free] = np.linalg.solve(matrix[np.ix_(free, free)], right[free])
    return result


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 10])
def test_time_coupling(frames: int) -> None:
    random, size = np.random.default_rng(frames), 5
    hessian, gradient = blocks(random, frames, size), random.normal(size=(frames, size))
    held, bend = random.random((frames, size)) < 0.2, random.random(size)
    second = np.zeros((max(frames - 2, 0), frames))
    for row in range(len(second)):
        second[row, row : row + 3] = 1, -2, 1
    smooth = second.T @ second
    dense = np.kron(smooth, np.diag(bend))
    for t in range(frames):
        dense[t * size : (t + 1) * size, t * size : (t + 1) * size] += hessian[t]
    expected = dense_solution(dense, gradient.ravel(), held.ravel())
    found = solve_time(hessian, gradient, smooth, bend, held)
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-10)


def test_arrow() -> None:
    random, frames, size, shared = np.random.default_rng(0), 4, 5, 3
    hessian, gradient = blocks(random, frames, size), random.normal(size=(frames, size))
    border, held = 0.3 * random.normal(size=(frames, size, shared)), random.random((frames, size)) < 0.2
    corner, corner_gradient = 20 * np.eye(shared), random.normal(size=shared)
    dense = np.zeros((frames * size + shared,) * 2)
    for t in range(frames):
        part = slice(t * size, (t + 1) * size)
        dense[part, part] = hessian[t]
        dense[part, -shared:] = border[t]
        dense[-shared:, part] = border[t].T
    dense[-shared:, -shared:] = corner
    mask = np.concatenate([held.ravel(), np.zeros(shared, bool)])
    expected = dense_solution(dense, np.concatenate([gradient.ravel(), corner_gradient]), mask)
    motion, common = solve_arrow(hessian, gradient, border, corner, corner_gradient, held)
    np.testing.assert_allclose(np.concatenate([motion.ravel(), common]), expected, atol=1e-10)
