"""Projected Gauss-Newton in two stages: person and motion on key frames, then the motion of all frames in time."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.fitting.derivatives import FACING, RIGID, Derivatives, Geometry, per_landmark
from reconstruct.fitting.objective import (
    add_priors,
    blocks,
    cost,
    gap_weight,
    gaps,
    priors_of,
    residuals,
    robust_weight,
)
from reconstruct.fitting.problem import Known, Problem, State
from reconstruct.linear_solve import Bending, TimeSystem, solve_arrow
from reconstruct.models.skinning import axis_angle_to_matrix
from schemas.errors import TalksetError

_TorchLinAlgError: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
KNOWN_WEIGHT = 1e12
"""Of the pull that keeps what is known."""
BOUND_PASSES = 2
"""Times unknowns that a step would carry over a bound are put on it and the rest solved again."""
STEP_TOLERANCE = 1e-4
"""Of the residual of a step's equations; the next step mends the rest."""
MAX_TRIES = 4
"""Times a step is shortened before the stage counts as converged."""
COARSE = 4
"""Every so many landmarks find the person roughly, before all of them do."""
ROUGH = 0.03
"""Gain of a step, as a fraction of the objective, at which the rough person is good enough."""
FEW_LANDMARKS = 150
ROUNDS = 4
"""Times the rough person is found anew with landmarks that turned out better than stated."""
ENOUGH = 0.6
"""Ratio of their variances above which they are as stated."""
MIN_POINTS = 6
PLACING_POINTS = 60
"""Landmarks that place the head of a frame at rest before the first step."""


def solve_person(problem: Problem, state: State, known: Known | None = None) -> tuple[Problem, State]:
    """Shape and focal length, with the motion of the key frames; the other frames are placed around them.

    The person is found roughly from half of the key frames and a part of the landmarks, then from all. What is known
    already is kept. Also returns the problem with what the residuals tell of the landmarks' errors.
    """
    keys = problem.key_frames()
    few = np.arange(0, len(keys), 2)
    used = np.flatnonzero((problem.trust > 0).any(0).numpy())
    landmarks = used[::COARSE] if len(used) > FEW_LANDMARKS else used
    coarse = State(state.shape, state.log_focal, state.motion[torch.as_tensor(keys[few])])
    for _ in range(ROUNDS):
        rough = _rounded(problem, problem.part(keys[few], landmarks))
        coarse = _descend(rough, coarse, None, ROUGH)
        informed = problem.informed(rough, residuals(Geometry(rough, coarse.shape), coarse))
        learned = informed.typical / max(problem.typical, 1e-30)
        problem = informed
        if learned > ENOUGH:
            break
    fine = _rounded(problem, problem.part(keys))
    small = place(fine, State(coarse.shape, coarse.log_focal, _between(coarse.motion, few, len(keys))))
    small.motion[torch.as_tensor(few)] = coarse.motion
    if known is None or known.shape is None or known.focal_px is None:
        small = _descend(fine, small, None)
    # other frames start between the keys' expressions, each at its own place
    whole = place(problem, State(small.shape, small.log_focal, _between(small.motion, keys, len(state.motion))))
    whole.motion[torch.as_tensor(keys)] = small.motion
    return problem, whole


def _rounded(problem: Problem, part: Problem) -> Problem:
    """A part in float32 where that loses nothing."""
    return part.single() if problem.rounds else part


def solve_motion(problem: Problem, state: State) -> tuple[State, Equations]:
    """The motion of all frames for the person of the state, and its normal equations there with priors but for time."""
    single = problem.single()
    blocks_of = MotionEquations(single, Geometry(single, state.shape))
    found = _descend(single, state, blocks_of)
    return found, blocks_of.with_priors(found)


def motion_equations(problem: Problem, state: State) -> Equations:
    """The normal equations of the motion at a state, with priors but for time."""
    single = problem.single()
    return MotionEquations(single, Geometry(single, state.shape)).with_priors(state)


def start_state(problem: Problem, known: Known | None = None) -> State:
    """The known head, or the mean one, without expression, placed in every frame."""
    shape = torch.zeros(problem.points.num_shape, dtype=torch.float64)
    if known is not None and known.shape is not None:
        shape = torch.as_tensor(known.shape).double()
    focal = torch.tensor(float(np.log(problem.focal_guess)), dtype=torch.float64)
    motion = torch.zeros(len(problem.observed), problem.columns.total, dtype=torch.float64)
    return place(problem, State(shape, focal, motion))


def place(problem: Problem, state: State) -> State:
    """The state with rotation and translation of each frame from perspective-n-point on the shape at rest.

    Raises TalksetError fit_failed for landmarks that no head can give.
    """
    motion, columns = state.motion.clone(), problem.columns
    geometry = Geometry(problem, state.shape)
    trusted = np.flatnonzero((problem.trust > 0).all(0).numpy())
    if len(trusted) < MIN_POINTS:  # some are never seen for sure
        trusted = np.flatnonzero((problem.trust > 0).any(0).numpy())
    used = trusted[np.linspace(0, len(trusted) - 1, min(PLACING_POINTS, len(trusted))).astype(int)]
    rest, root = geometry.rest.double().numpy()[used], geometry.joints[0].double().numpy()
    focal, centre = float(state.log_focal.exp()), problem.principal_point.double().numpy()
    camera = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    back = axis_angle_to_matrix(FACING).numpy().T
    pictures = np.ascontiguousarray(problem.observed.double().numpy()[:, used])
    for index, picture in enumerate(pictures):
        found, rotation, offset = cv2.solvePnP(rest, picture, camera, None, flags=cv2.SOLVEPNP_SQPNP)
        if not found:
            raise TalksetError("fit_failed", f"the head could not be placed in valid frame {index}")
        turn = cv2.Rodrigues(rotation)[0]
        motion[index, columns.rotation] = torch.as_tensor(cv2.Rodrigues(turn @ back)[0][:, 0])
        motion[index, columns.translation] = torch.as_tensor(offset[:, 0] + turn @ root - root)
    return State(state.shape, state.log_focal, motion)


def _between(motion: Tensor, keys: NDArray[np.int64], count: int) -> Tensor:
    """(count, P) rows of the key frames (K, P), linear between them."""
    frames = np.arange(count)
    return torch.as_tensor(np.stack([np.interp(frames, keys, column) for column in motion.numpy().T], axis=1))


@dataclass(frozen=True)
class Equations:
    """Normal equations of one step: a block for each frame, and with the person unknown its border and corner."""

    hessian: Tensor
    """(T, P, P)"""
    gradient: Tensor
    """(T, P)"""
    border: Tensor | None = None
    """(T, P, S + 1)"""
    corner: Tensor | None = None
    corner_gradient: Tensor | None = None


class MotionEquations:
    """Builds the blocks of frames whose person is known, without ever writing the expressions' derivatives down.

    A landmark's share of the expression block is D^T M D, with D (3, E) its expression directions and M (3, 3) what a
    displacement of it costs: linear in M, so the blocks of all frames are one matrix product with the products of D.
    """

    def __init__(self, problem: Problem, geometry: Geometry) -> None:
        """Takes a problem in float32."""
        self.problem, self.geometry = problem, geometry
        directions = geometry.expressions
        landmarks, _, count = directions.shape
        self._products = _expression_products(directions)
        self._flat = directions.transpose(0, 1).reshape(3 * landmarks, count)
        rows, columns = torch.triu_indices(count, count)
        index = torch.zeros(count, count, dtype=torch.long)
        index[rows, columns] = index[columns, rows] = torch.arange(len(rows))
        self._index = index.reshape(-1)

    def at(self, state: State) -> Equations:
        """The blocks of all frames, without priors."""
        columns, count = self.problem.columns, len(state.motion)
        hessian = torch.empty(count, columns.total, columns.total, dtype=torch.float64)
        gradient = torch.empty(count, columns.total, dtype=torch.float64)
        for frames in blocks(count):
            self._fill(self.geometry.at(state, frames), frames, hessian[frames], gradient[frames])
        return Equations(hessian, gradient)

    def with_priors(self, state: State) -> Equations:
        """The blocks of all frames with the priors of a frame."""
        equations = self.at(state)
        add_priors(self.problem, state.motion, equations.hessian, equations.gradient)
        return equations

    def _fill(self, line: Derivatives, frames: slice, hessian: Tensor, gradient: Tensor) -> None:
        count, landmarks = line.residual.shape[:2]
        moving = self._flat.shape[1]
        # landmarks last, as the derivatives lie in memory
        residual, by_rest, by_rigid = (values.movedim(1, -1) for values in (line.residual, line.by_rest, line.by_rigid))
        weight = robust_weight(self.problem, line.residual, frames)
        weighted = weight[:, None, None] * by_rest
        cost_of = [(weighted[:, :, a] * by_rest[:, :, b]).sum(1) for a, b in _PAIRS]
        block = torch.cat(cost_of, dim=1) @ self._products
        hessian[:, :moving, :moving] = block.index_select(1, self._index).reshape(count, moving, moving)
        across = (by_rigid[:, :, :, None] * weighted[:, :, None]).sum(1).reshape(count * RIGID, 3 * landmarks)
        cross = (across @ self._flat).reshape(count, RIGID, moving)
        hessian[:, moving:, :moving] = cross
        hessian[:, :moving, moving:] = cross.transpose(1, 2)
        rigid = by_rigid.transpose(1, 2).reshape(count, RIGID, 2 * landmarks)
        weighted_rigid = (rigid.reshape(count, RIGID, 2, landmarks) * weight[:, None, None]).reshape(rigid.shape)
        hessian[:, moving:, moving:] = weighted_rigid @ rigid.transpose(1, 2)
        pushed = (weighted * residual[:, :, None]).sum(1).reshape(count, 3 * landmarks)
        gradient[:, :moving] = pushed @ self._flat
        gradient[:, moving:] = (weighted_rigid @ residual.reshape(count, 2 * landmarks, 1))[..., 0]
        rows, distance = _gap_rows(self.problem, self.geometry, line, frames)
        across_gaps = rows.transpose(1, 2)
        hessian += across_gaps @ rows
        gradient += (across_gaps @ distance[..., None])[..., 0]


def _gap_rows(problem: Problem, geometry: Geometry, line: Derivatives, frames: slice) -> tuple[Tensor, Tensor]:
    """Weighted derivatives by motion (T, 2 G, P) and residuals (T, 2 G) of the gaps between facing landmarks."""
    count = len(line.residual)
    root = gap_weight(problem, line.residual, frames).sqrt()[..., None]
    sides = []
    for side in problem.pairs.T:
        chosen = torch.as_tensor(side)
        by_expression = per_landmark(line.by_rest[:, chosen], geometry.expressions[chosen])
        sides.append(torch.cat([by_expression, line.by_rigid[:, chosen]], dim=-1))
    rows = root[..., None] * (sides[0] - sides[1])
    each = 2 * len(problem.pairs)
    distances = (root * gaps(problem, line.residual)).reshape(count, each)
    return rows.reshape(count, each, problem.columns.total), distances


_LAST_PRODUCTS: list[tuple[Tensor, Tensor]] = []
"""Directions and products of the last clip: those of the next one are mostly the same."""


def _expression_products(directions: Tensor) -> Tensor:
    """(6 L, E (E + 1) / 2) products of expression directions (L, 3, E) at each landmark, of pairs of axes."""
    for known, products in _LAST_PRODUCTS:
        if known.shape == directions.shape and torch.equal(known, directions):
            return products
    count = directions.shape[2]
    rows, columns = torch.triu_indices(count, count)
    parts = []
    for a, b in _PAIRS:
        product = directions[:, a, rows] * directions[:, b, columns]
        if a != b:
            product = product + directions[:, b, rows] * directions[:, a, columns]
        parts.append(product)
    products = torch.cat(parts)
    _LAST_PRODUCTS[:] = [(directions, products)]
    return products


_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def person_equations(problem: Problem, geometry: Geometry, state: State) -> Equations:
    """The blocks of key frames with the border of shape and focal length, and all priors but that over time."""
    config, count = problem.config, len(state.motion)
    frames = slice(0, count)
    line = geometry.at(state, frames, shared=True)
    assert line.by_shared is not None
    by_expression = torch.einsum("tlua,lae->tlue", line.by_rest, geometry.expressions)
    root = robust_weight(problem, line.residual, frames).sqrt()[..., None, None]
    motion = (root * torch.cat([by_expression, line.by_rigid], dim=-1)).reshape(count, -1, problem.columns.total)
    residual = (root[..., 0] * line.residual).reshape(count, -1, 1)
    shared = (root * line.by_shared).reshape(count, -1, line.by_shared.shape[-1])
    gap_motion, gap_residual = _gap_rows(problem, geometry, line, frames)
    gap_shared = gap_weight(problem, line.residual, frames).sqrt()[..., None, None] * gaps(problem, line.by_shared)
    motion = torch.cat([motion, gap_motion], dim=1)
    residual = torch.cat([residual, gap_residual[..., None]], dim=1)
    shared = torch.cat([shared, gap_shared.reshape(count, 2 * len(problem.pairs), shared.shape[-1])], dim=1)
    flat = shared.reshape(-1, shared.shape[-1])
    corner = (flat.T @ flat).double()
    prior = torch.full((len(corner),), problem.shared_prior * config.shape_weight, dtype=torch.float64)
    prior[-1] = problem.shared_prior * config.focal_weight
    offset = torch.cat([state.shape, (state.log_focal - np.log(problem.focal_guess))[None]])
    if problem.known_shape:
        prior[:-1], offset[:-1] = KNOWN_WEIGHT, 0.0
    if problem.known_focal:
        prior[-1] = KNOWN_WEIGHT
    corner.diagonal().add_(prior)
    across = motion.transpose(1, 2)
    gradient = (flat.T @ residual.reshape(-1)).double() + prior * offset
    hessian, pushed = (across @ motion).double(), (across @ residual)[..., 0].double()
    add_priors(problem, state.motion, hessian, pushed)
    return Equations(hessian, pushed, (across @ shared).double(), corner, gradient)


def _descend(problem: Problem, state: State, known: MotionEquations | None, tolerance: float | None = None) -> State:
    """Damped Gauss-Newton: with `known` the motion of all frames in time, without it key frames and the person."""
    config, in_time = problem.config, known is not None
    tolerance = config.tolerance if tolerance is None else tolerance
    geometry = known.geometry if known is not None else Geometry(problem, state.shape)
    damping, value = config.damping, cost(problem, geometry, state, in_time)
    if not math.isfinite(value):
        raise TalksetError("fit_failed", "the fit starts from an objective that is not finite", "Report the clip")
    for _ in range(config.iterations):
        equations = known.with_priors(state) if known else person_equations(problem, geometry, state)
        for _ in range(MAX_TRIES):
            try:
                trial = _step(problem, state, equations, damping, in_time)
            except (_TorchLinAlgError, np.linalg.LinAlgError):  # too little tells some unknowns: damp more
                damping *= 1000
                continue
            trial_geometry = geometry if known is not None else Geometry(problem, trial.shape)
            trial_value = cost(problem, trial_geometry, trial, in_time)
            if trial_value <= value:
                break
            damping *= 10
        else:
            break
        gain = (value - trial_value) / max(value, 1e-12)
        state, geometry, value, damping = trial, trial_geometry, trial_value, max(damping / 10, 1e-9)
        if gain < tolerance:
            break
    return state


def _step(problem: Problem, state: State, equations: Equations, damping: float, in_time: bool) -> State:
    """One damped step, with unknowns at their bounds held when the step would leave them."""
    motion, bend = state.motion, priors_of(problem).bend
    hessian, gradient = equations.hessian.clone(), equations.gradient
    smooth = problem.bending if in_time else None
    if smooth is not None:
        gradient = gradient + bend * smooth.apply(motion)
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    diagonal.add_(damping * diagonal + 1e-9)
    held = ((motion <= problem.lower) & (gradient > 0)) | ((motion >= problem.upper) & (gradient < 0))
    system = dataclasses.replace(equations, hessian=hessian, gradient=gradient)
    if equations.corner is not None:
        corner = equations.corner.clone()
        corner.diagonal().add_(damping * corner.diagonal())
        system = dataclasses.replace(system, corner=corner)
    fixed = torch.zeros_like(motion)
    change: Tensor | None = None
    for _ in range(BOUND_PASSES):
        change, shared_change = _solve(system, smooth, bend, fixed, held, change)
        target = motion - change
        beyond = ((target < problem.lower) | (target > problem.upper)) & ~held
        if not bool(beyond.any()):
            break
        held = held | beyond
        fixed = torch.where(beyond, motion - torch.clamp(target, problem.lower, problem.upper), fixed)
    moved = torch.clamp(target, problem.lower, problem.upper)
    if shared_change is None:
        return State(state.shape, state.log_focal, moved)
    return State(state.shape - shared_change[:-1], state.log_focal - shared_change[-1], moved)


def _solve(
    system: Equations, smooth: Bending | None, bend: Tensor, fixed: Tensor, held: Tensor, near: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Change of motion and of the shared unknowns, where held unknowns change by `fixed`; `near` is a guess."""
    right = system.gradient - (system.hessian @ fixed[..., None])[..., 0]
    if smooth is not None:
        change = TimeSystem(system.hessian, smooth, bend, held).solve(
            right - bend * smooth.apply(fixed), near, STEP_TOLERANCE
        )
        return change + fixed, None
    assert system.border is not None
    assert system.corner is not None
    assert system.corner_gradient is not None
    shared_right = system.corner_gradient - torch.einsum("tpq,tp->q", system.border, fixed)
    moved, shared = solve_arrow(
        system.hessian.numpy(),
        right.numpy(),
        system.border.numpy(),
        system.corner.numpy(),
        shared_right.numpy(),
        held.numpy(),
    )
    return torch.as_tensor(moved) + fixed, torch.as_tensor(shared)
