"""The objective of the clip fit: robust landmark error, priors of a frame, smoothness in time, priors of the person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from reconstruct.fitting.derivatives import Geometry
from reconstruct.fitting.problem import Problem, State

BLOCK = 64
"""Frames worked on at a time: their derivatives stay in the processor's cache, and memory does not grow with time."""


@dataclass(frozen=True)
class Priors:
    """Weights of the quadratic terms."""

    pull: Tensor
    """(P,) towards zero."""
    bend: Tensor
    """(P,) of the second differences over time."""
    left: Tensor
    """(N,) unknowns that mostly equal those of `right`: the eyes' directions, and some expressions."""
    right: Tensor
    coupling: Tensor
    """(N,) of their differences."""


def priors_of(problem: Problem) -> Priors:
    """The weights that the configuration gives."""
    config, columns = problem.config, problem.columns
    pull = torch.zeros(columns.total, dtype=torch.float64)
    pull[columns.expression] = config.expression_weight
    pull[columns.jaw] = torch.tensor([0.2, 20.0, 20.0], dtype=torch.float64) * config.expression_weight
    pull[columns.left_eye] = pull[columns.right_eye] = 0.2 * config.expression_weight
    bend = torch.zeros(columns.total, dtype=torch.float64)
    bend[columns.expression] = 1.0
    bend[columns.jaw] = 4.0
    bend[columns.left_eye] = bend[columns.right_eye] = 1.0
    bend[columns.rotation] = 200.0
    bend[columns.translation] = 5000.0
    left, right, coupling = _couples(problem)
    return Priors(pull, problem.time_prior * config.temporal_weight * bend, left, right, coupling)


def _couples(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Left and right unknowns (N,) that mostly equal each other, and the weights of their differences."""
    config, columns = problem.config, problem.columns
    eyes = torch.arange(columns.total)
    pairs = torch.as_tensor(problem.mirrored)
    left = torch.cat([eyes[columns.left_eye], pairs[:, 0]])
    right = torch.cat([eyes[columns.right_eye], pairs[:, 1]])
    gaze = torch.full((len(left) - len(pairs),), config.vergence_weight, dtype=torch.float64)
    return left, right, torch.cat([gaze, config.mirror_weight * torch.as_tensor(problem.firmly)])


def robust_loss(problem: Problem, residual: Tensor, frames: slice) -> Tensor:
    """Sum over frames of the Geman-McClure losses of landmarks (T, L, 2) and of the gaps between facing ones."""
    scale = problem.config.robust_scale**2
    squared = (residual * residual).sum(-1)
    total = (problem.precision[frames] * scale * squared / (scale + squared)).sum()
    squared = (gaps(problem, residual) ** 2).sum(-1)
    return total + (problem.gap_precision[frames] * scale * squared / (scale + squared)).sum()


def robust_weight(problem: Problem, residual: Tensor, frames: slice) -> Tensor:
    """(T, L) weights of iteratively reweighted least squares for residuals (T, L, 2)."""
    scale = problem.config.robust_scale**2
    return problem.precision[frames] * (scale / (scale + (residual * residual).sum(-1))) ** 2


def gap_weight(problem: Problem, residual: Tensor, frames: slice) -> Tensor:
    """(T, G) the same of the gaps."""
    scale = problem.config.robust_scale**2
    return problem.gap_precision[frames] * (scale / (scale + (gaps(problem, residual) ** 2).sum(-1))) ** 2


def gaps(problem: Problem, rows: Tensor) -> Tensor:
    """(T, G, ...) differences of rows (T, L, ...) of landmarks that face each other."""
    first, second = (torch.as_tensor(side) for side in problem.pairs.T)
    return rows[:, first] - rows[:, second]


def residuals(geometry: Geometry, state: State) -> Tensor:
    """(T, L, 2) projected minus observed of all frames, in units of the interocular distance."""
    parts = [geometry.at(state, frames, derive=False).residual for frames in blocks(len(state.motion))]
    return torch.cat(parts)


def cost(problem: Problem, geometry: Geometry, state: State, in_time: bool) -> float:
    """The objective of a state of all frames of a problem, with the robust function itself."""
    priors, motion = priors_of(problem), state.motion
    total = 0.0
    for frames in blocks(len(motion)):
        total += float(robust_loss(problem, geometry.at(state, frames, derive=False).residual, frames))
    total += float((priors.pull * motion**2).sum()) + coupling_cost(priors, motion)
    total += problem.shared_prior * shared_cost(problem, state)
    if in_time:
        total += float((priors.bend * motion * problem.bending.apply(motion)).sum())
    return total


def shared_cost(problem: Problem, state: State) -> float:
    """Prior of shape and focal length, of one frame."""
    config = problem.config
    off = float(state.log_focal) - float(np.log(problem.focal_guess))
    return config.shape_weight * float((state.shape**2).sum()) + config.focal_weight * off**2


def coupling_cost(priors: Priors, motion: Tensor) -> float:
    """Of what is unlike on the left and the right, for motion (T, P)."""
    return float((priors.coupling * (motion[:, priors.left] - motion[:, priors.right]) ** 2).sum())


def add_priors(problem: Problem, motion: Tensor, hessian: Tensor, gradient: Tensor) -> None:
    """Add the priors of each frame to normal equations (T, P, P) and (T, P), in place."""
    priors = priors_of(problem)
    hessian.diagonal(dim1=1, dim2=2).add_(priors.pull)
    gradient += priors.pull * motion
    left, right, weight = priors.left, priors.right, priors.coupling
    difference = weight * (motion[:, left] - motion[:, right])
    gradient[:, left] += difference
    gradient[:, right] -= difference
    for first, second, sign in ((left, left, 1), (right, right, 1), (left, right, -1), (right, left, -1)):
        hessian[:, first, second] += sign * weight


def blocks(count: int) -> list[slice]:
    """Consecutive slices of at most BLOCK frames."""
    return [slice(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK)]
