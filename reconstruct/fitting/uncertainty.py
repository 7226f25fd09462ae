"""How well the landmarks determine a fit: spread of the face from the curvature of the objective, and limits reached."""

from __future__ import annotations

import torch
from torch import Tensor

from reconstruct.fitting.derivatives import Geometry
from reconstruct.fitting.objective import add_priors
from reconstruct.fitting.problem import Problem, State
from reconstruct.fitting.solver import MotionEquations, person_equations


def uncertainty_mm(problem: Problem, geometry: Geometry, state: State) -> Tensor:
    """(T,) RMS standard deviation in millimetres of the face points in the rest pose, from shape and expression.

    The inverse of the Gauss-Newton Hessian is the covariance that the priors and the stated landmark errors leave
    (Laplace's approximation); a frame's neighbours in time, which would lower it, are not counted.
    """
    single = problem.single()
    equations = MotionEquations(single, Geometry(single, state.shape)).at(state)
    add_priors(problem, state.motion, equations.hessian, equations.gradient)
    moving = geometry.expressions.shape[2]
    of_motion = torch.linalg.inv(equations.hessian)[:, :moving, :moving]
    directions = geometry.expressions.reshape(-1, moving).double()
    variance = (of_motion * (directions.T @ directions)).sum((1, 2))
    identity = geometry.identity.reshape(len(directions), -1).double()
    of_shape = torch.linalg.inv(shape_information(problem, state))
    variance = variance + (of_shape * (identity.T @ identity)).sum()
    return 1000 * (variance / len(geometry.rest)).sqrt()


def shape_information(problem: Problem, state: State) -> Tensor:
    """(S, S) what the key frames and the prior tell of the shape when all else is free: a Schur complement."""
    keys = problem.key_frames()
    part = problem.part(keys)
    chosen = State(state.shape, state.log_focal, state.motion[torch.as_tensor(keys)])
    equations = person_equations(part, Geometry(part, state.shape), chosen)
    assert equations.border is not None and equations.corner is not None
    add_priors(part, chosen.motion, equations.hessian, equations.gradient)
    solved = torch.linalg.solve(equations.hessian, equations.border)
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
