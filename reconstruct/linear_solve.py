"""Solves the two structured systems of the clip fit: block-arrow (shared unknowns) and block-tridiagonal (time)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


def _hold(hessian: Float64, gradient: Float64, held: Bool) -> tuple[Float64, Float64]:
    """Blocks (T, P, P) and gradient (T, P) with held unknowns replaced by the equation x = 0."""
    keep = ~held
    blocks = hessian * keep[:, :, None] * keep[:, None, :]
    index = np.arange(held.shape[1])
    blocks[:, index, index] += held
    return blocks, gradient * keep


def solve_arrow(
    hessian: Float64, gradient: Float64, border: Float64, corner: Float64, corner_gradient: Float64, held: Bool
) -> tuple[Float64, Float64]:
    """Solve [[D, B], [B^T, C]] [x, y] = [g, h] by the Schur complement over the shared unknowns.

    Args: hessian D (T, P, P) block diagonal, gradient g (T, P), border B (T, P, Q), corner C (Q, Q), corner_gradient h
    (Q,), held (T, P) unknowns that stay. Returns x (T, P), y (Q,).
    """
    blocks, right = _hold(hessian, gradient, held)
    border = border * ~held[:, :, None]
    solved = np.linalg.solve(blocks, np.concatenate([border, right[:, :, None]], axis=2))
    inverse_border, inverse_right = solved[:, :, :-1], solved[:, :, -1]
    schur = corner - np.tensordot(border, inverse_border, axes=([0, 1], [0, 1]))
    rest = corner_gradient - np.tensordot(border, inverse_right, axes=([0, 1], [0, 1]))
    shared = linalg.solve(schur, rest, assume_a="pos")
    return inverse_right - inverse_border @ shared, np.asarray(shared)


def solve_time(hessian: Float64, gradient: Float64, smooth: Float64, bend: Float64, held: Bool) -> Float64:
    """Solve (blockdiag(D) + S (x) diag(b)) x = g, linear in the number of frames.

    Two frames make one block, so that second differences couple only neighbouring blocks; the block-tridiagonal system
    is factored by Cholesky from first to last. (A scalar band matrix of the same width took seven times as long.)

    Args: hessian D (T, P, P), gradient g (T, P), smooth S (T, T) with half-bandwidth 2, bend b (P,), held (T, P).
    Returns x (T, P).
    """
    blocks, right = _hold(hessian, gradient, held)
    frames, size = gradient.shape
    keep = (~held).astype(np.float64)
    if frames % 2:  # a last frame of its own that is solved to zero
        blocks = np.concatenate([blocks, np.eye(size)[None]])
        right, keep = np.pad(right, ((0, 1), (0, 0))), np.pad(keep, ((0, 1), (0, 0)))
        smooth = np.pad(smooth, (0, 1))
    pairs, index = len(blocks) // 2, np.arange(size)

    def coupling(row: NDArray[np.int64], column: NDArray[np.int64]) -> Float64:
        return np.asarray(smooth[row, column][:, None] * bend * keep[row] * keep[column])

    even = 2 * np.arange(pairs)
    diagonal = np.zeros((pairs, 2 * size, 2 * size))
    for half in (0, 1):
        part = slice(half * size, (half + 1) * size)
        diagonal[:, part, part] = blocks[half::2]
        diagonal[:, index + half * size, index + half * size] += coupling(even + half, even + half)
    within = coupling(even + 1, even)
    diagonal[:, index + size, index] = within
    diagonal[:, index, index + size] = within
    below = np.zeros((max(pairs - 1, 0), 2 * size, 2 * size))  # block (k + 1, k)
    later, earlier = even[1:], even[:-1]
    for row_half in (0, 1):
        for column_half in (0, 1):
            if 2 + row_half - column_half <= 2:
                rows, columns = index + row_half * size, index + column_half * size
                below[:, rows, columns] = coupling(later + row_half, earlier + column_half)
    return _solve_block_tridiagonal(diagonal, below, right.reshape(pairs, 2 * size)).reshape(-1, size)[:frames]


def _solve_block_tridiagonal(diagonal: Float64, below: Float64, right: Float64) -> Float64:
    """Solution (K, n) for symmetric positive definite blocks: diagonal (K, n, n), below (K - 1, n, n), right (K, n)."""
    count = len(diagonal)
    factors: list[Float64] = []
    links: list[Float64] = []
    forward = np.zeros_like(right)
    for k in range(count):
        block, value = diagonal[k], right[k]
        if k:
            link = linalg.solve_triangular(factors[-1], below[k - 1].T, lower=True, check_finite=False)
            links.append(link)  # the transposed sub-diagonal factor
            block = block - link.T @ link
            value = value - link.T @ forward[k - 1]
        factors.append(linalg.cholesky(block, lower=True, check_finite=False))
        forward[k] = linalg.solve_triangular(factors[-1], value, lower=True, check_finite=False)
    solution = np.zeros_like(right)
    for k in reversed(range(count)):
        value = forward[k] - links[k] @ solution[k + 1] if k < count - 1 else forward[k]
        solution[k] = linalg.solve_triangular(factors[k], value, lower=True, trans="T", check_finite=False)
    return solution
