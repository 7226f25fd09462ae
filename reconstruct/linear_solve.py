"""Solves the two structured systems of the clip fit: block-arrow (shared unknowns) and blocks coupled over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
LONGEST_STEP = 2.5
"""Between two frames that second differences reach over, in usual steps."""
TOLERANCE = 1e-8
"""Of the preconditioned residual, relative to that of the right side; its square is compared."""


def solve_arrow(
    hessian: Float64, gradient: Float64, border: Float64, corner: Float64, corner_gradient: Float64, held: Bool
) -> tuple[Float64, Float64]:
    """Solve [[D, B], [B^T, C]] [x, y] = [g, h] by the Schur complement over the shared unknowns.

    Args: hessian D (T, P, P) block diagonal, gradient g (T, P), border B (T, P, Q), corner C (Q, Q), corner_gradient h
    (Q,), held (T, P) unknowns that stay. Returns x (T, P), y (Q,).
    """
    keep = torch.as_tensor(~held, dtype=torch.float64)
    blocks = torch.as_tensor(hessian) * keep[:, :, None] * keep[:, None, :]
    blocks.diagonal(dim1=1, dim2=2).add_(1 - keep)
    right = torch.cat([torch.as_tensor(border), torch.as_tensor(gradient)[:, :, None]], dim=2) * keep[:, :, None]
    # with D = L L^T the complement is C - (L^-1 B)^T (L^-1 B): one triangular solve, one product of a flat matrix
    root = torch.linalg.cholesky(blocks)
    halves = torch.linalg.solve_triangular(root, right, upper=False)
    flat = halves.flatten(0, 1)
    product = (flat[:, :-1].T @ flat).numpy()
    shared = linalg.solve(corner - product[:, :-1], corner_gradient - product[:, -1], assume_a="pos")
    rest = halves[:, :, -1:] - halves[:, :, :-1] @ torch.as_tensor(shared)[:, None]
    motion = torch.linalg.solve_triangular(root.transpose(1, 2), rest, upper=True)[..., 0]
    return motion.numpy(), np.asarray(shared)


@dataclass(frozen=True)
class Bending:
    """D^T D of the second differences D over time: a symmetric matrix (T, T) of five bands."""

    bands: tuple[Tensor, Tensor, Tensor]
    """The diagonal (T,), and the bands one (T - 1,) and two (T - 2,) above it."""

    @classmethod
    def of(cls, times_s: Float64, step_s: float | None = None) -> Bending:
        """For frames at these times (T,), in units of the usual step (default: the
        median one); differences across a hole are left out.

        Variable frame rates are respected: the second divided difference at the frames' own times.
        """
        count = len(times_s)
        zero, one, two = (torch.zeros(max(count - gap, 0), dtype=torch.float64) for gap in range(3))
        if count < 3:
            return cls((zero, one, two))
        steps = np.diff(times_s)
        step_s = float(np.median(steps)) if step_s is None else step_s
        before, after = torch.as_tensor(steps[:-1] / step_s), torch.as_tensor(steps[1:] / step_s)
        whole = (before < LONGEST_STEP) & (after < LONGEST_STEP)
        a = whole * 2 / (before * (before + after))
        b = whole * -2 / (before * after)
        c = whole * 2 / (after * (before + after))
        zero[:-2] += a * a
        zero[1:-1] += b * b
        zero[2:] += c * c
        one[:-1] += a * b
        one[1:] += b * c
        return cls((zero, one, a * c))

    def apply(self, x: Tensor) -> Tensor:
        """The product with columns x (T, P)."""
        zero, one, two = (band[:, None] for band in self.bands)
        product = zero * x
        if len(x) > 2:
            product[:-1] += one * x[1:]
            product[1:] += one * x[:-1]
            product[:-2] += two * x[2:]
            product[2:] += two * x[:-2]
        return product


class TimeSystem:
    """(blockdiag(D) + S (x) diag(b)) x = g by conjugate gradients, preconditioned by the blocks of single frames.

    The coupling over time is weak beside the data of a frame, so a handful of iterations suffice, each linear in the
    number of frames. (A block-tridiagonal Cholesky took six times as long.)
    """

    def __init__(self, hessian: Tensor, smooth: Bending, bend: Tensor, held: Tensor) -> None:
        """D (T, P, P), b (P,), held (T, P) unknowns whose change is zero; all float64."""
        self._smooth, self._bend = smooth, bend
        self._keep = (~held).to(hessian.dtype)
        self._hessian = hessian
        blocks = hessian * self._keep[:, :, None] * self._keep[:, None, :]
        diagonal = blocks.diagonal(dim1=1, dim2=2)
        diagonal.add_(held.to(hessian.dtype))
        diagonal.add_(self._keep * smooth.bands[0][:, None] * bend)
        self._factor = torch.linalg.cholesky(blocks)

    def apply(self, x: Tensor) -> Tensor:
        """The product with the matrix, (T, P); the rows of held unknowns are zero."""
        return (torch.bmm(self._hessian, x[..., None])[..., 0] + self._bend * self._smooth.apply(x)) * self._keep

    def solve(self, right: Tensor, near: Tensor | None = None, tolerance: float = TOLERANCE) -> Tensor:
        """X (T, P) for a right side (T, P), starting from a guess `near` (T, P), to a relative residual."""
        x = torch.zeros_like(right) if near is None else near * self._keep
        rest = right * self._keep - (0 if near is None else self.apply(x))
        better = torch.cholesky_solve(rest[..., None], self._factor)[..., 0]
        direction = better
        size = first = float((rest * better).sum())
        if near is not None:
            whole = right * self._keep
            first = float((whole * torch.cholesky_solve(whole[..., None], self._factor)[..., 0]).sum())
        for _ in range(10 * rest.numel()):
            if size <= tolerance**2 * max(first, 1e-300):
                break
            turned = self.apply(direction)
            step = size / float((direction * turned).sum())
            x = x + step * direction
            rest = rest - step * turned
            better = torch.cholesky_solve(rest[..., None], self._factor)[..., 0]
            size, last = float((rest * better).sum()), size
            direction = better + (size / last) * direction
        return x
