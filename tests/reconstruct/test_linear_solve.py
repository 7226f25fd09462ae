"""The structured solvers against dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import sparse

from reconstruct.linear_solve import LONGEST_STEP, Bending, TimeSystem, solve_arrow

Float64 = NDArray[np.float64]


def blocks(random: np.random.Generator, frames: int, size: int) -> Float64:
    root = random.normal(size=(frames, size, size))
    return root @ root.transpose(0, 2, 1) + np.eye(size)


def dense_solution(matrix: Float64, right: Float64, held: NDArray[np.bool_]) -> Float64:
    result = np.zeros(len(right))
    free = ~held
    result[free] = np.linalg.solve(matrix[np.ix_(free, free)], right[free])
    return result


def clock(random: np.random.Generator, frames: int, uneven: bool) -> Float64:
    """(T,) seconds: 25 frames a second, or steps of 20 to 60 ms with a hole of half a second in the middle."""
    steps = random.uniform(0.02, 0.06, frames) if uneven else np.full(frames, 0.04)
    if uneven and frames > 5:
        steps[frames // 2] = 0.5
    return np.cumsum(steps)


def second_differences(times_s: Float64) -> Float64:
    """(R, T) rows of the second divided difference times two, in median steps; none across a hole."""
    unit = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
    place = times_s / unit
    rows = []
    for middle in range(1, len(times_s) - 1):
        x = place[middle - 1 : middle + 2]
        if np.diff(x).max() >= LONGEST_STEP:
            continue
        row = np.zeros(len(times_s))
        # twice the leading coefficient of the parabola through three values
        row[middle - 1 : middle + 2] = 2 * np.linalg.inv(np.vander(x - x[1], 3))[0]
        rows.append(row)
    return np.array(rows).reshape(len(rows), len(times_s))


def dense_bending(bending: Bending) -> Float64:
    zero, one, two = (band.numpy() for band in bending.bands)
    count = len(zero)
    if count < 3:
        return np.diag(zero)
    return np.asarray(sparse.diags([zero, one, one, two, two], [0, 1, -1, 2, -2]).toarray())


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("frames", [0, 1, 2, 3, 4, 7, 40])
def test_bending_is_the_square_of_second_differences(frames: int, uneven: bool) -> None:
    random = np.random.default_rng(frames)
    times_s = clock(random, frames, uneven)
    bending = Bending.of(times_s)
    rows = second_differences(times_s)
    np.testing.assert_allclose(dense_bending(bending), rows.T @ rows, atol=1e-9)
    values = torch.as_tensor(random.normal(size=(frames, 3)))
    np.testing.assert_allclose(bending.apply(values).numpy(), rows.T @ rows @ values.numpy(), atol=1e-8)


def test_bending_of_a_steady_clock_is_that_of_plain_differences() -> None:
    rows = np.diff(np.eye(9), n=2, axis=0)
    np.testing.assert_allclose(dense_bending(Bending.of(np.arange(9) / 30)), rows.T @ rows, atol=1e-9)


def test_bending_leaves_straight_lines_alone_at_any_frame_rate() -> None:
    times_s = clock(np.random.default_rng(3), 50, uneven=True)
    line = torch.as_tensor(np.stack([2 + 3 * times_s, -times_s], axis=1))
    assert float(Bending.of(times_s).apply(line).abs().max()) < 1e-9
    parabola = torch.as_tensor(times_s[:, None] ** 2)
    assert float(Bending.of(times_s).apply(parabola).abs().max()) > 1e-4


def test_a_hole_parts_the_clip() -> None:
    times_s = np.arange(12) / 25
    times_s[6:] += 0.2
    coupling = dense_bending(Bending.of(times_s))
    assert np.abs(coupling[:6, :6]).max() > 1
    assert not coupling[:6, 6:].any()


@pytest.mark.parametrize("uneven", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7, 10, 30])
def test_time_coupling(frames: int, uneven: bool) -> None:
    random, size = np.random.default_rng(frames), 5
    hessian, gradient = blocks(random, frames, size), random.normal(size=(frames, size))
    held, bend = random.random((frames, size)) < 0.2, 10 * random.random(size)
    bend[0] = 0
    times_s = clock(random, frames, uneven)
    rows = second_differences(times_s)
    dense = np.kron(rows.T @ rows, np.diag(bend))
    for t in range(frames):
        dense[t * size : (t + 1) * size, t * size : (t + 1) * size] += hessian[t]
    expected = dense_solution(dense, gradient.ravel(), held.ravel())
    mask, before = torch.as_tensor(held), torch.as_tensor(hessian).clone()
    system = TimeSystem(torch.as_tensor(hessian), Bending.of(times_s), torch.as_tensor(bend), mask)
    found = system.solve(torch.as_tensor(gradient))
    np.testing.assert_allclose(found.numpy().ravel(), expected, atol=1e-6 * np.abs(expected).max())
    assert not found[mask].any()
    guess = found + torch.as_tensor(random.normal(size=(frames, size)))
    near = system.solve(torch.as_tensor(gradient), guess)
    np.testing.assert_allclose(near.numpy().ravel(), expected, atol=1e-6 * np.abs(expected).max())
    assert not near[mask].any()
    values = random.normal(size=(frames, size)) * ~held
    product = (dense @ values.ravel()).reshape(frames, size) * ~held
    np.testing.assert_allclose(system.apply(torch.as_tensor(values)).numpy(), product, atol=1e-9 * np.abs(dense).max())
    assert torch.equal(torch.as_tensor(hessian), before)


def test_time_coupling_much_stronger_than_the_data() -> None:
    """Conjugate gradients are not short here, yet must not stop early: the neck's share is found like this."""
    frames = 300
    times_s, random = np.arange(frames) / 25, np.random.default_rng(0)
    values = np.cumsum(random.normal(size=(frames, 2)), axis=0)
    rows = second_differences(times_s)
    expected = np.linalg.solve(np.eye(frames) + 4e5 * rows.T @ rows, values)
    identity, held = torch.eye(2).double().expand(frames, -1, -1), torch.zeros(frames, 2, dtype=torch.bool)
    system = TimeSystem(identity, Bending.of(times_s), torch.full((2,), 4e5).double(), held)
    found = system.solve(torch.as_tensor(values)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def test_nothing_to_solve_gives_zero() -> None:
    identity, held = torch.eye(3).double().expand(4, -1, -1), torch.zeros(4, 3, dtype=torch.bool)
    smooth, bend = Bending.of(np.arange(4.0)), torch.ones(3).double()
    assert not TimeSystem(identity, smooth, bend, held).solve(torch.zeros(4, 3).double()).any()
    assert not TimeSystem(identity, smooth, bend, ~held).solve(torch.ones(4, 3).double()).any()


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
    before = hessian.copy(), border.copy()
    motion, common = solve_arrow(hessian, gradient, border, corner, corner_gradient, held)
    np.testing.assert_allclose(np.concatenate([motion.ravel(), common]), expected, atol=1e-10)
    assert not motion[held].any()
    np.testing.assert_array_equal(hessian, before[0])
    np.testing.assert_array_equal(border, before[1])
