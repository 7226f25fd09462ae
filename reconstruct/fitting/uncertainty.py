"""How well the landmarks determine a fit: spread of the face from the objective's curvature, and limits reached."""

from __future__ import annotations

import torch
from torch import Tensor

from reconstruct.fitting.derivatives import Geometry
from reconstruct.fitting.problem import Problem, State
from reconstruct.fitting.solver import Equations, person_equations


def uncertainty_mm(problem: Problem, geometry: Geometry, state: State, equations: Equations) -> Tensor:
    """(T,) RMS standard deviation in millimetres of the face points in the rest pose, from shape and expression.

    The inverse of the Gauss-Newton Hessian is the covariance that the priors and the stated landmark errors leave
    (Laplace's approximation); a frame's neighbours in time, which would lower it, are not counted. `equations` are
    those of the motion at the state, with priors.
    """
    moving = geometry.expressions.shape[2]
    of_motion = torch.linalg.inv(_firm(equations.hessian))[:, :moving, :moving]
    directions = _without_similarity(geometry.rest, geometry.expressions)
    variance = (of_motion * (directions.T @ directions)).sum((1, 2))
    identity = _without_similarity(geometry.rest, geometry.identity)
    of_shape = torch.linalg.inv(shape_information(problem, state))
    variance = variance + (of_shape * (identity.T @ identity)).sum()
    return torch.as_tensor(1000 * (variance / len(geometry.rest)).sqrt())


def _firm(hessian: Tensor) -> Tensor:
    """The blocks (T, P, P) with what a step adds: nothing tells where a head is whose landmarks are all wrong."""
    return hessian + 1e-9 * torch.eye(hessian.shape[1], dtype=torch.float64)


def _without_similarity(rest: Tensor, directions: Tensor) -> Tensor:
    """(3 L, k) directions (L, 3, k) without what moves, turns or scales all points: the head's place tells no shape."""
    points = rest.double() - rest.double().mean(0)
    axes = torch.eye(3, dtype=torch.float64)
    turns = [torch.linalg.cross(axis.expand_as(points), points) for axis in axes]
    moves = [axis.expand_as(points) for axis in axes]
    basis = torch.linalg.qr(torch.stack([*moves, *turns, points], dim=-1).reshape(-1, 7)).Q
    flat = directions.reshape(len(basis), -1).double()
    return torch.as_tensor(flat - basis @ (basis.T @ flat))


def shape_information(problem: Problem, state: State) -> Tensor:
    """(S, S) what the key frames and the prior tell of the shape when all else is free: a Schur complement."""
    keys = problem.key_frames()
    part = problem.part(keys)
    part = part.single() if problem.rounds else part
    chosen = State(state.shape, state.log_focal, state.motion[torch.as_tensor(keys)])
    equations = person_equations(part, Geometry(part, state.shape), chosen)
    assert equations.border is not None
    assert equations.corner is not None
    solved = torch.linalg.solve(_firm(equations.hessian), equations.border)
    both = equations.corner - torch.einsum("tpq,tpr->qr", equations.border, solved)
    focal = both[:-1, -1:]
    return both[:-1, :-1] - focal @ focal.T / both[-1, -1]


def at_limit(problem: Problem, state: State) -> Tensor:
    """(T,) number of unknowns at a limit of the model: expressions at their highest, jaw and eyes at either end."""
    columns, motion = problem.columns, state.motion
    high = motion >= problem.upper - 1e-6
    low = (motion <= problem.lower + 1e-6) & (problem.lower < 0)  # the zero of a one-sided expression is its rest
    fixed = problem.lower == problem.upper
    return ((high | low) & ~fixed)[:, : columns.rotation.start].sum(1).double()
