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

from reconstruct.fitting.derivatives import FACING_MATRIX, RIGID, Derivatives, Geometry, by_shared, per_landmark
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
from reconstruct.linear_solve import LONGEST_STEP, Bending, TimeSystem, solve_arrow
from reconstruct.models.skinning import axis_angle_to_matrix
from schemas.errors import TalksetError

_TorchLinAlgError: type[Exception] = torch.linalg.LinAlgError  # type: ignore[attr-defined]
KNOWN_WEIGHT = 1e12
"""Of the pull that keeps what is known."""
BOUND_PASSES = 2
"""Times unknowns that a step would carry over a bound are put on it and the rest solved again."""
STEP_TOLERANCE = 1e-2
"""Of the residual of a step's equations; the next step mends the rest. (With 1e-4 it takes twice as long for
less than 0.001 mm.)"""
FORESEEN = 0.2
"""Part of the tolerance that a step of the motion must promise to gain: one that does not is left out, and the
equations at hand are those of the solution."""
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
        coarse, _ = _descend(rough, coarse, False, ROUGH)
        informed = problem.informed(rough, residuals(Geometry(rough, coarse.shape), coarse))
        learned = informed.typical / max(problem.typical, 1e-30)
        problem = informed
        if learned > ENOUGH:
            break
    fine = _trusted(_rounded(problem, problem.part(keys)))
    small = place(fine, State(coarse.shape, coarse.log_focal, _between(coarse.motion, few, fine)))
    small.motion[torch.as_tensor(few)] = coarse.motion
    if known is None or known.shape is None or known.focal_px is None:
        small, _ = _descend(fine, small, False)
    # other frames start between the keys' expressions, each at its own place
    whole = place(problem, State(small.shape, small.log_focal, _between(small.motion, keys, problem)))
    whole.motion[torch.as_tensor(keys)] = small.motion
    return problem, whole


def _rounded(problem: Problem, part: Problem) -> Problem:
    """A part in float32 where that loses nothing."""
    return part.single() if problem.rounds else part


def solve_motion(problem: Problem, state: State) -> tuple[State, Equations]:
    """The motion of all frames for the person of the state, and its normal equations there with priors but for time."""
    single = _trusted(problem).single()
    # most of the way is one step on a part of the landmarks, frame by frame: an eighth of the time of one on all
    state, _ = _descend(_thinned(single), state, True, tolerance=1.0)
    state, equations = _descend(single, state, True)
    return state, equations or motion_equations(problem, state)


def motion_equations(problem: Problem, state: State) -> Equations:
    """The normal equations of the motion at a state, with priors but for time."""
    single = _trusted(problem).single()
    return MotionEquations(single, Geometry(single, state.shape)).with_priors(state)


def _trusted(problem: Problem) -> Problem:
    """The problem without the landmarks that no frame trusts: a tenth of them is held out."""
    used = np.flatnonzero((problem.trust > 0).any(0).numpy())
    part = problem.part(np.arange(len(problem.observed)), used)
    # fewer landmarks have the precision of all there; those that are left out here had none
    return dataclasses.replace(part, trust=problem.trust[:, torch.as_tensor(used)], bending=problem.bending)


def _thinned(problem: Problem) -> Problem:
    """Some of the landmarks with the precision of all, and frames that time does not couple."""
    frames, landmarks = problem.observed.shape[:2]
    chosen = np.arange(0, landmarks, COARSE if landmarks > FEW_LANDMARKS else 1)
    apart = Bending.of(np.arange(frames) * 2 * LONGEST_STEP, 1.0)
    return dataclasses.replace(problem.part(np.arange(frames), chosen), bending=apart)


def start_state(problem: Problem, known: Known | None = None) -> State:
    """The known head, or the mean one, with the expressions to begin from, placed in the key frames."""
    shape = torch.zeros(problem.points.num_shape, dtype=torch.float64)
    if known is not None and known.shape is not None:
        shape = torch.as_tensor(known.shape).double()
    focal = torch.tensor(float(np.log(problem.focal_guess)), dtype=torch.float64)
    motion = problem.start.clone()
    keys = problem.key_frames()
    chosen = torch.as_tensor(keys)
    motion[chosen] = place(problem.part(keys), State(shape, focal, motion[chosen])).motion
    return State(shape, focal, motion)


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
    back = FACING_MATRIX.numpy().T
    pictures = np.ascontiguousarray(problem.observed.double().numpy()[:, used])
    placed = np.empty((len(pictures), 6))
    for index, picture in enumerate(pictures):
        found, rotation, offset = cv2.solvePnP(rest, picture, camera, None, flags=cv2.SOLVEPNP_SQPNP)
        if not found:
            raise TalksetError("fit_failed", f"the head could not be placed in valid frame {index}")
        turn = cv2.Rodrigues(rotation)[0]
        placed[index, :3] = cv2.Rodrigues(turn @ back)[0][:, 0]
        placed[index, 3:] = offset[:, 0] + turn @ root - root
    motion[:, columns.rotation] = torch.as_tensor(placed[:, :3])
    motion[:, columns.translation] = torch.as_tensor(placed[:, 3:])
    return State(state.shape, state.log_focal, motion)


def _between(motion: Tensor, keys: NDArray[np.int64], problem: Problem) -> Tensor:
    """(T, P) rows of all frames: what the key frames (K, P) differ by from where they began, linear between them."""
    frames, start = np.arange(len(problem.start)), problem.start
    change = (motion - start[torch.as_tensor(keys)]).numpy()
    between = np.stack([np.interp(frames, keys, column) for column in change.T], axis=1)
    return (start + torch.as_tensor(between)).clamp(problem.lower, problem.upper)


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
        count = directions.shape[2]
        self._products = _expression_products(directions)
        self._directions = _flat(directions)
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
        count, moving = len(line.residual), self._directions.shape[1]
        sums = _Sums.of(line.residual, line.by_rest, line.by_rigid, robust_weight(self.problem, line.residual, frames))
        block = sums.metric.reshape(count, -1) @ self._products
        hessian[:, :moving, :moving] = block.index_select(1, self._index).reshape(count, moving, moving)
        cross = (sums.across.reshape(count * RIGID, -1) @ self._directions).reshape(count, RIGID, moving)
        hessian[:, moving:, :moving] = cross
        hessian[:, :moving, moving:] = cross.transpose(1, 2)
        hessian[:, moving:, moving:] = sums.few
        gradient[:, :moving] = sums.push @ self._directions
        gradient[:, moving:] = sums.few_push
        rows, distance = _gap_rows(self.problem, self.geometry, line, frames)
        across_gaps = rows.transpose(1, 2)
        hessian += across_gaps @ rows
        gradient += (across_gaps @ distance[..., None])[..., 0]


@dataclass(frozen=True)
class _Sums:
    """Weighted products of derivatives by the landmarks' places at rest, 3 L of them, and by k unknowns of a frame."""

    metric: Tensor
    """(T, 6, L) of place with place, at each landmark, of pairs of axes."""
    across: Tensor
    """(T, k, 3 L) of unknowns with places."""
    few: Tensor
    """(T, k, k) of unknowns with unknowns."""
    push: Tensor
    """(T, 3 L) of places with the residual."""
    few_push: Tensor
    """(T, k) of unknowns with the residual."""

    @classmethod
    def of(cls, residual: Tensor, by_rest: Tensor, by_few: Tensor, weight: Tensor) -> _Sums:
        """For residuals (T, L, 2), derivatives (T, L, 2, 3) and (T, L, 2, k), and weights (T, L)."""
        count, landmarks, _, few = by_few.shape
        # landmarks last, as the derivatives lie in memory
        residual, rest = residual.transpose(1, 2), by_rest.movedim(1, -1)
        rows = by_few.permute(0, 3, 2, 1).contiguous()  # (T, k, 2, L)
        weighted = weight[:, None, None] * rest
        metric = torch.stack(
            [torch.addcmul(weighted[:, 0, a] * rest[:, 0, b], weighted[:, 1, a], rest[:, 1, b]) for a, b in _PAIRS],
            dim=1,
        )
        # two products added in place: a sum over an axis of two first writes both down
        across = rows[:, :, None, 0] * weighted[:, None, 0]
        across.addcmul_(rows[:, :, None, 1], weighted[:, None, 1])
        push = torch.addcmul(weighted[:, 0] * residual[:, None, 0], weighted[:, 1], residual[:, None, 1])
        heavy = (weight[:, None, None] * rows).reshape(count, few, 2 * landmarks)
        both = rows.reshape(count, few, 2 * landmarks).transpose(1, 2)
        return cls(
            metric=metric,
            across=across.reshape(count, few, 3 * landmarks),
            few=heavy @ both,
            push=push.reshape(count, 3 * landmarks),
            few_push=(heavy @ residual.reshape(count, 2 * landmarks, 1))[..., 0],
        )


def _flat(directions: Tensor) -> Tensor:
    """(3 L, k) of directions (L, 3, k)."""
    return directions.transpose(0, 1).reshape(-1, directions.shape[2])


def _gap_rows(problem: Problem, geometry: Geometry, line: Derivatives, frames: slice) -> tuple[Tensor, Tensor]:
    """Weighted derivatives (T, 2 G, P) and residuals (T, 2 G) of the gaps between facing landmarks.

    By motion, and with those of the person in `line` also by shape and log focal length, (T, 2 G, P + S + 1).
    """
    count = len(line.residual)
    root = gap_weight(problem, line.residual, frames).sqrt()[..., None]
    sides = []
    for side in problem.pairs.T:
        chosen = torch.as_tensor(side)
        rest = line.by_rest[:, chosen]
        parts = [per_landmark(rest, geometry.expressions[chosen]), line.by_rigid[:, chosen]]
        if line.by_followed is not None:
            parts.append(by_shared(geometry, chosen, rest, line.by_followed[:, chosen]))
        sides.append(torch.cat(parts, dim=-1))
    each = 2 * len(problem.pairs)
    distances = (root * gaps(problem, line.residual)).reshape(count, each)
    return (root[..., None] * (sides[0] - sides[1])).reshape(count, each, sides[0].shape[-1]), distances


_LAST_PRODUCTS: list[tuple[Tensor, Tensor]] = []
"""Directions and products of the last clip, of some and of all landmarks: the next one's are mostly the same."""


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
    _LAST_PRODUCTS[:] = [(directions, products), *_LAST_PRODUCTS[:1]]
    return products


_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def person_equations(problem: Problem, geometry: Geometry, state: State) -> Equations:
    """The blocks of key frames with the border of shape and focal length, and all priors but that over time.

    The derivatives by shape are never written down either: those of a landmark are B I + F J, with B by its place at
    rest, I its shape directions, F by the places of the joints, and J theirs, which all landmarks have in common. The
    products of B and F are summed first, for the corner over all frames, and then multiplied by I and J. (Half the
    time of the products of all rows.)
    """
    count = len(state.motion)
    frames = slice(0, count)
    line = geometry.at(state, frames, shared=True)
    assert line.by_followed is not None
    weight = robust_weight(problem, line.residual, frames)
    sums = _Sums.of(line.residual, line.by_rest, torch.cat([line.by_rigid, line.by_followed], dim=-1), weight)
    expressions, followed = _flat(geometry.expressions), geometry.followed
    identity = torch.nn.functional.pad(_flat(geometry.identity), (0, 1))  # no place is moved by the focal length
    own = torch.cat([expressions, identity], dim=1)
    moving, rigid, joints = expressions.shape[1], slice(0, RIGID), slice(RIGID, None)

    by_expression = (_stretched(sums.metric, expressions) @ own).reshape(count, moving, -1)
    by_few = (sums.across.reshape(-1, len(own)) @ own).reshape(count, -1, own.shape[1])
    by_joints = by_few[:, joints, moving:].sum(0)
    hessian = _symmetric(by_expression[:, :, :moving], by_few[:, rigid, :moving], sums.few[:, rigid, rigid])
    border = torch.cat(
        [
            by_expression[:, :, moving:] + by_few[:, joints, :moving].transpose(1, 2) @ followed,
            by_few[:, rigid, moving:] + sums.few[:, rigid, joints] @ followed,
        ],
        dim=1,
    )
    mixed = followed.T @ by_joints
    corner = _stretched(sums.metric.sum(0, keepdim=True), identity) @ identity
    corner += mixed + mixed.T + followed.T @ sums.few[:, joints, joints].sum(0) @ followed
    gradient = torch.cat([sums.push @ expressions, sums.few_push[:, rigid]], dim=1)
    shared_gradient = identity.T @ sums.push.sum(0) + followed.T @ sums.few_push[:, joints].sum(0)

    rows, distance = _gap_rows(problem, geometry, line, frames)
    total = problem.columns.total
    gap_motion, gap_shared = rows[:, :, :total], rows[:, :, total:]
    across_gaps = gap_motion.transpose(1, 2)
    hessian, border = hessian + across_gaps @ gap_motion, border + across_gaps @ gap_shared
    gradient += (across_gaps @ distance[..., None])[..., 0]
    flat = gap_shared.flatten(0, 1)
    corner, shared_gradient = (corner + flat.T @ flat).double(), shared_gradient + flat.T @ distance.flatten()

    prior = person_prior(problem)
    offset = torch.cat([state.shape, (state.log_focal - np.log(problem.focal_guess))[None]])
    if problem.known_shape:
        offset[:-1] = 0.0
    corner.diagonal().add_(prior)
    hessian, gradient = hessian.double(), gradient.double()
    add_priors(problem, state.motion, hessian, gradient)
    return Equations(hessian, gradient, border.double(), corner, shared_gradient.double() + prior * offset)


def person_prior(problem: Problem) -> Tensor:
    """(S + 1,) weights of the prior of shape and log focal length."""
    config = problem.config
    prior = torch.full((problem.points.num_shape + 1,), problem.shared_prior * config.shape_weight, dtype=torch.float64)
    prior[-1] = problem.shared_prior * config.focal_weight
    if problem.known_shape:
        prior[:-1] = KNOWN_WEIGHT
    if problem.known_focal:
        prior[-1] = KNOWN_WEIGHT
    return prior


def _stretched(metric: Tensor, directions: Tensor) -> Tensor:
    """(T k, 3 L) products of directions (3 L, k) with symmetric matrices (T, 6, L) at each landmark."""
    count, _, landmarks = metric.shape
    along = directions.T.contiguous().reshape(-1, 3, landmarks)
    result = metric.new_empty(count, len(along), 3, landmarks)
    for axis, (x, y, z) in enumerate(((0, 3, 4), (3, 1, 5), (4, 5, 2))):  # where `_PAIRS` has the axis
        part = result[:, :, axis]
        torch.mul(metric[:, None, x], along[:, 0], out=part)
        part.addcmul_(metric[:, None, y], along[:, 1]).addcmul_(metric[:, None, z], along[:, 2])
    return result.reshape(count * len(along), 3 * landmarks)


def _symmetric(first: Tensor, across: Tensor, last: Tensor) -> Tensor:
    """(T, k + n, k + n) of blocks (T, k, k), (T, n, k) and (T, n, n)."""
    return torch.cat([torch.cat([first, across], dim=1), torch.cat([across.transpose(1, 2), last], dim=1)], dim=2)


@torch.inference_mode()
def _descend(
    problem: Problem, state: State, in_time: bool, tolerance: float | None = None
) -> tuple[State, Equations | None]:
    """Damped Gauss-Newton: `in_time` the motion of all frames, else key frames and the person.

    Also returns the equations of the motion at the state, or one step before it where that step gained next to nothing:
    there the curvature, which they are kept for, is the same.
    """
    config = problem.config
    tolerance = config.tolerance if tolerance is None else tolerance
    geometry = Geometry(problem, state.shape)
    blocks_of = MotionEquations(problem, geometry) if in_time else None
    damping, value = config.damping, cost(problem, geometry, state, in_time)
    if not math.isfinite(value):
        raise TalksetError("fit_failed", "the fit starts from an objective that is not finite", "Report the clip")
    for _ in range(config.iterations):
        equations = blocks_of.with_priors(state) if blocks_of else person_equations(problem, geometry, state)
        next_damping = damping / 10
        for _ in range(MAX_TRIES):
            try:
                trial = _step(problem, state, equations, damping, in_time)
            except (_TorchLinAlgError, np.linalg.LinAlgError):  # too little tells some unknowns: damp more
                damping *= 1000
                continue
            if in_time and _foreseen(problem, state, equations, trial) < FORESEEN * tolerance * value:
                return state, equations
            trial_geometry = geometry
            if not in_time:
                trial_geometry = Geometry(problem, trial.shape)
                trial = _straightened(geometry, state, trial_geometry, trial)
            trial_value = cost(problem, trial_geometry, trial, in_time)
            if trial_value <= value:
                break
            next_damping = damping = 10 * damping  # less was too little here: it will be again
        else:
            break
        gain = (value - trial_value) / max(value, 1e-12)
        state, geometry, value, damping = trial, trial_geometry, trial_value, max(next_damping, 1e-9)
        if gain < tolerance:
            return state, equations if in_time else None
    return state, None


def _foreseen(problem: Problem, state: State, equations: Equations, trial: State) -> float:
    """What a step of the motion should lower the objective by."""
    gradient = equations.gradient + priors_of(problem).bend * problem.bending.apply(state.motion)
    return float((gradient * (state.motion - trial.motion)).sum())


def _straightened(before: Geometry, state: State, after: Geometry, trial: State) -> State:
    """The trial with each head moved so that its place and log size in the picture change by what the step foresaw.

    They depend on focal length, size and distance by products and quotients, so a long step along what little tells a
    small head that is near from a large one that is far left the valley in which the objective is low. (Half the
    steps on recordings that took most, and a minimum nearer to the truth: focal length 5 instead of 14 % off at 1 px.)
    """
    (start, size), (end, grown_size) = _middle(before, state), _middle(after, trial)
    change, depth = end - start, start[:, 2:]
    zoom, growth = trial.log_focal - state.log_focal, grown_size / size - 1
    slope = start[:, :2] / depth
    slope = (slope * (1 + zoom) + (change[:, :2] - slope * change[:, 2:]) / depth) * torch.exp(-zoom)
    deeper = depth * torch.exp(change[:, 2:] / depth - growth) * (1 + growth)
    motion, places = trial.motion.clone(), before.problem.columns.translation
    motion[:, places] += torch.cat([slope * deeper, deeper], dim=1) - end
    return dataclasses.replace(trial, motion=motion)


def _middle(geometry: Geometry, state: State) -> tuple[Tensor, Tensor]:
    """(T, 3) the middle of the landmarks at rest in camera space, and their size."""
    columns, rest, root = geometry.problem.columns, geometry.rest.double(), geometry.joints[0].double()
    world = axis_angle_to_matrix(state.motion[:, columns.rotation]) @ FACING_MATRIX
    middle = rest.mean(0)
    return world @ (middle - root) + root + state.motion[:, columns.translation], (rest - middle).norm()


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
