"""Solves the two structured linear systems of the clip fit: block-arrow (shared unknowns) and block-banded (time)."""

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


def solve_banded(hessian: Float64, gradient: Float64, smooth: Float64, bend: Float64, held: Bool) -> Float64:
    """Solve (blockdiag(D) + S (x) diag(b)) x = g by banded Cholesky, linear in the number of frames.

    Args: hessian D (T, P, P), gradient g (T, P), smooth S (T, T) with half-bandwidth 2, bend b (P,), held (T, P).
    Returns x (T, P).
    """
    blocks, right = _hold(hessian, gradient, held)
    frames, size = gradient.shape
    keep = (~held).astype(np.float64)
    width = min(2, frames - 1) * size + size
    band = np.zeros((width, frames * size))  # lower form: band[i - j, j] = A[i, j]
    row, column = np.tril_indices(size)
    start = np.arange(frames) * size
    band[(row - column)[:, None], column[:, None] + start] = blocks[:, row, column].T
    index = np.arange(size)
    band[0, index[:, None] + start] += (bend * np.diagonal(smooth)[:, None] * keep).T
    for step in (1, 2):
        if frames > step:
            between = np.diagonal(smooth, -step)[:, None] * bend * keep[step:] * keep[:-step]
            band[step * size, index[:, None] + start[:-step]] = between.T
    solution = linalg.solveh_banded(band, right.reshape(-1), lower=True, overwrite_ab=True, check_finite=False)
    return np.asarray(solution).reshape(frames, size)
