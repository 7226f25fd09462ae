"""Solves frames that second differences couple, directly: a block Cholesky of bandwidth two.

`reconstruct.linear_solve.TimeSystem` iterates with the blocks of single frames as preconditioner. That suits heads,
whose frames tell nearly everything by themselves; what a picture tells of a body's depth is little, so the prior over
time carries much and the iteration takes hundreds of steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from reconstruct.linear_solve import Bending

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]


def solve_coupled(hessian: Float64, smooth: Bending, bend: Float64, held: Bool, right: Float64) -> Float64:
    """X (T, P) of (blockdiag(hessian) + S (x) diag(bend)) x = right, where S is D^T D of the second differences.

    Args: hessian (T, P, P) symmetric; bend (P,); held (T, P) unknowns that stay zero; right (T, P). Linear in T.
    Raises numpy.linalg.LinAlgError where the matrix is not positive definite.
    """
    frames, count = right.shape
    keep = (~held).astype(np.float64)
    zero, one, two = (band.numpy() for band in smooth.bands)
    blocks = hessian * keep[:, :, None] * keep[:, None, :]
    rank = np.arange(count)
    blocks[:, rank, rank] += held + keep * zero[:, None] * bend
    inverse = np.zeros((frames, count, count))
    """Of the lower factors on the diagonal."""
    first = np.zeros((frames, count, count))
    second = np.zeros((frames, count, count))
    for t in range(frames):
        block = blocks[t]
        if t >= 2:
            second[t] = (two[t - 2] * bend * keep[t] * keep[t - 2])[:, None] * inverse[t - 2].T
            block = block - second[t] @ second[t].T
        if t >= 1:
            coupling = np.diag(one[t - 1] * bend * keep[t] * keep[t - 1])
            if t >= 2:
                coupling = coupling - second[t] @ first[t - 1].T
            first[t] = coupling @ inverse[t - 1].T
            block = block - first[t] @ first[t].T
        lower = linalg.cholesky(block, lower=True, check_finite=False, overwrite_a=t > 0)
        inverse[t] = np.tril(linalg.lapack.dtrtri(lower, lower=1)[0])
    half = right * keep
    for t in range(frames):
        if t >= 1:
            half[t] -= first[t] @ half[t - 1]
        if t >= 2:
            half[t] -= second[t] @ half[t - 2]
        half[t] = inverse[t] @ half[t]
    for t in range(frames - 1, -1, -1):
        if t + 1 < frames:
            half[t] -= first[t + 1].T @ half[t + 1]
        if t + 2 < frames:
            half[t] -= second[t + 2].T @ half[t + 2]
        half[t] = inverse[t].T @ half[t]
    return half * keep
