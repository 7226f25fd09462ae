"""The objective against finite differences of itself, and the normal equations against an explicit Jacobian."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from known_heads import known_problem, random_state
from torch import Tensor

from reconstruct.embedding import Embedding
from reconstruct.fitting.derivatives import Geometry
from reconstruct.fitting.objective import (
    BLOCK,
    add_priors,
    blocks,
    cost,
    gap_weight,
    gaps,
    priors_of,
    residuals,
    robust_loss,
    robust_weight,
    shared_cost,
)
from reconstruct.fitting.problem import Known, Problem, State
from reconstruct.fitting.solver import MotionEquations, person_equations
from reconstruct.models.head_model import HeadModel


def trusted(problem: Problem, seed: int = 0) -> Problem:
    """The problem with another trust in each landmark of each frame."""
    random = np.random.default_rng(seed)
    return dataclasses.replace(
        problem, trust=problem.trust * torch.as_tensor(random.uniform(0.2, 2, problem.trust.shape))
    )


def moved(state: State, along: State, step: float) -> State:
    return State(
        state.shape + step * along.shape,
        state.log_focal + step * along.log_focal,
        state.motion + step * along.motion,
    )


def slope(problem: Problem, state: State, along: State, in_time: bool, step: float = 1e-5) -> float:
    """Derivative of the objective along a direction, by central differences of fourth order."""
    total = 0.0
    for steps, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
        there = moved(state, along, steps * step)
        total += weight * cost(problem, Geometry(problem, there.shape), there, in_time)
    return total / (12 * step)


def near_truth(problem: Problem, truth: State, seed: int) -> State:
    """A state whose residuals are about as large as the robust function's scale."""
    return moved(truth, direction(problem, 100 + seed, shared=True), 0.005)


def direction(problem: Problem, seed: int, shared: bool) -> State:
    random = np.random.default_rng(seed)
    motion = torch.as_tensor(random.normal(size=(len(problem.observed), problem.columns.total)))
    shape = torch.as_tensor(random.normal(size=problem.points.num_shape)) * shared
    return State(shape, torch.tensor(float(random.normal()) * shared, dtype=torch.float64), motion)


def jacobian(problem: Problem, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Residuals (T, N), explicit derivatives by motion (T, N, P) and shared (T, N, S + 1), and weights (T, N).

    N coordinates of the landmarks, then of the differences of those that face each other.
    """
    geometry = Geometry(problem, state.shape)
    everything, count = slice(0, len(state.motion)), len(state.motion)
    line = geometry.at(state, everything, shared=True)
    assert line.by_shared is not None
    by_expression = torch.einsum("tlua,lae->tlue", line.by_rest, geometry.expressions)
    by_motion = torch.cat([by_expression, line.by_rigid], dim=-1)

    def with_gaps(rows: Tensor) -> Tensor:
        first, second = torch.as_tensor(problem.pairs[:, 0]), torch.as_tensor(problem.pairs[:, 1])
        return torch.cat([rows, rows[:, first] - rows[:, second]], dim=1)

    residual = with_gaps(line.residual)
    stated = problem.gap_precision
    scale = problem.config.robust_scale**2
    robust = (scale / (scale + residual.square().sum(-1))) ** 2
    weight = (torch.cat([problem.precision, stated], dim=1) * robust).repeat_interleave(2, dim=1)
    rows = residual.reshape(count, -1)
    shared = with_gaps(line.by_shared).reshape(*rows.shape, -1)
    return rows, with_gaps(by_motion).reshape(*rows.shape, -1), shared, weight


@pytest.fixture(scope="module")
def posed(open_head: HeadModel, embedding: Embedding) -> tuple[Problem, State]:
    problem, truth = known_problem(open_head, embedding, frames=5)
    return trusted(problem), truth


@pytest.fixture(scope="module")
def problem(posed: tuple[Problem, State]) -> Problem:
    return posed[0]


def blinded(problem: Problem) -> Problem:
    """The problem with landmarks that tell next to nothing."""
    return dataclasses.replace(problem, trust=torch.full_like(problem.trust, 1e-30), gap_lasting=1e30)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_of_the_person(posed: tuple[Problem, State], seed: int) -> None:
    """The robust weights make the gradient that of the robust objective itself, at any point."""
    problem, truth = posed
    state = near_truth(problem, truth, seed)
    equations = person_equations(problem, Geometry(problem, state.shape), state)
    assert equations.corner_gradient is not None
    for number in range(3):
        along = direction(problem, number, shared=True)
        shared = torch.cat([along.shape, along.log_focal[None]])
        expected = 2 * float((equations.gradient * along.motion).sum() + equations.corner_gradient @ shared)
        assert slope(problem, state, along, in_time=False) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", [0, 1])
def test_gradient_of_the_motion_in_time(posed: tuple[Problem, State], seed: int) -> None:
    problem, truth = posed
    state = near_truth(problem, truth, seed)
    equations = MotionEquations(problem, Geometry(problem, state.shape)).with_priors(state)
    gradient = equations.gradient + priors_of(problem).bend * problem.bending.apply(state.motion)
    for number in range(3):
        along = direction(problem, number, shared=False)
        expected = 2 * float((gradient * along.motion).sum())
        assert slope(problem, state, along, in_time=True) == pytest.approx(expected, rel=1e-6)


def test_every_prior_counts(problem: Problem) -> None:
    """Each term of the objective, alone, is its weight times the square of what it pulls on."""
    blind = blinded(problem)
    state, columns, priors = random_state(blind, 3), blind.columns, priors_of(blind)
    still = State(
        torch.zeros_like(state.shape), torch.tensor(np.log(blind.focal_guess)), torch.zeros_like(state.motion)
    )

    def value(changed: State, in_time: bool = False) -> float:
        return cost(blind, Geometry(blind, changed.shape), changed, in_time)

    assert value(still) == pytest.approx(0, abs=1e-20)
    expression = still.motion.clone()
    lone = int(np.setdiff1d(np.arange(columns.expressions), blind.mirrored)[0])  # which no other is coupled to
    expression[2, lone] = 0.5
    pulled = blind.config.expression_weight * 0.25
    assert value(dataclasses.replace(still, motion=expression)) == pytest.approx(pulled)
    bent = pulled + float(priors.bend[lone]) * 0.25 * 6  # 1, -2, 1 squared
    assert value(dataclasses.replace(still, motion=expression), in_time=True) == pytest.approx(bent)
    gaze = still.motion.clone()
    gaze[:, columns.left_eye] = gaze[:, columns.right_eye] = 0.2
    together = value(dataclasses.replace(still, motion=gaze))
    gaze[:, columns.right_eye] = -0.2
    apart = value(dataclasses.replace(still, motion=gaze))
    assert apart - together == pytest.approx(blind.config.vergence_weight * 0.4**2 * 2 * len(gaze))
    left, right = blind.mirrored[0].tolist()  # blinks, of weight one
    pair = still.motion.clone()
    pair[:, [left, right]] = 0.2
    together = value(dataclasses.replace(still, motion=pair))
    pair[:, right] = -0.2
    assert value(dataclasses.replace(still, motion=pair)) - together == pytest.approx(
        blind.config.mirror_weight * 0.4**2 * len(pair)
    )
    shaped = dataclasses.replace(still, shape=state.shape)
    own = blind.config.shape_weight * float((state.shape**2).sum())
    assert shared_cost(blind, shaped) == pytest.approx(own)
    assert value(shaped) == pytest.approx(blind.shared_prior * own)
    longer = dataclasses.replace(still, log_focal=still.log_focal + 0.3)
    assert value(longer) == pytest.approx(blind.shared_prior * blind.config.focal_weight * 0.09)
    placed = still.motion.clone()
    placed[:, columns.rotation], placed[:, columns.translation] = 0.4, 0.8
    assert value(dataclasses.replace(still, motion=placed), in_time=True) == pytest.approx(0, abs=1e-9)


def test_priors_are_one_quadratic(problem: Problem) -> None:
    """Its Hessian is symmetric and constant, and takes any motion to its gradient."""
    state = random_state(problem, 4)
    shape = (len(state.motion), problem.columns.total)
    hessian, gradient = torch.zeros(*shape, shape[1]).double(), torch.zeros(shape).double()
    add_priors(problem, state.motion, hessian, gradient)
    torch.testing.assert_close(hessian, hessian.transpose(1, 2))
    torch.testing.assert_close((hessian @ state.motion[..., None])[..., 0], gradient)
    again = hessian.clone()
    add_priors(problem, torch.zeros_like(state.motion), again, torch.zeros_like(gradient))
    torch.testing.assert_close(again, 2 * hessian)


def test_blocks_of_the_motion_equal_an_explicit_jacobian(problem: Problem) -> None:
    state = random_state(problem, 5)
    residual, by_motion, _, weight = jacobian(problem, state)
    found = MotionEquations(problem, Geometry(problem, state.shape)).at(state)
    weighted = by_motion * weight[..., None]
    hessian = by_motion.transpose(1, 2) @ weighted
    gradient = (weighted.transpose(1, 2) @ residual[..., None])[..., 0]
    torch.testing.assert_close(found.hessian, hessian, rtol=0, atol=1e-11 * float(hessian.abs().max()))
    torch.testing.assert_close(found.gradient, gradient, rtol=0, atol=1e-11 * float(gradient.abs().max()))
    assert found.border is None


def test_blocks_in_float32_are_near(problem: Problem) -> None:
    state = random_state(problem, 5)
    exact = MotionEquations(problem, Geometry(problem, state.shape)).at(state)
    single = problem.single()
    rounded = MotionEquations(single, Geometry(single, state.shape)).at(state)
    assert rounded.hessian.dtype == torch.float64
    size = exact.hessian.diagonal(dim1=1, dim2=2).sqrt()
    size = size.clamp(min=1e-3 * float(size.max()))  # an expression may move no landmark
    relative = (rounded.hessian - exact.hessian) / (size[:, :, None] * size[:, None, :])
    assert float(relative.abs().max()) < 1e-4


def test_blocks_of_the_person_equal_an_explicit_jacobian(problem: Problem) -> None:
    state = random_state(problem, 6)
    residual, by_motion, by_shared, weight = jacobian(problem, state)
    found = person_equations(problem, Geometry(problem, state.shape), state)
    weighted = by_motion * weight[..., None]
    weighted_shared = by_shared * weight[..., None]
    prior = torch.full((by_shared.shape[-1],), problem.shared_prior * problem.config.shape_weight).double()
    prior[-1] = problem.shared_prior * problem.config.focal_weight
    offset = torch.cat([state.shape, (state.log_focal - np.log(problem.focal_guess))[None]])
    assert found.border is not None
    assert found.corner is not None
    assert found.corner_gradient is not None
    hessian = by_motion.transpose(1, 2) @ weighted
    gradient = (weighted.transpose(1, 2) @ residual[..., None])[..., 0]
    add_priors(problem, state.motion, hessian, gradient)
    expected = (
        (found.hessian, hessian),
        (found.gradient, gradient),
        (found.border, by_motion.transpose(1, 2) @ weighted_shared),
        (found.corner, (by_shared.transpose(1, 2) @ weighted_shared).sum(0) + torch.diag(prior)),
        (found.corner_gradient, torch.einsum("tnq,tn->q", weighted_shared, residual) + prior * offset),
    )
    for have, want in expected:
        torch.testing.assert_close(have, want, rtol=0, atol=1e-9 * float(want.abs().max()))


def test_what_is_known_is_not_pulled(open_head: HeadModel, embedding: Embedding) -> None:
    shape = np.full(open_head.num_shape, 0.3, np.float32)
    problem, _ = known_problem(open_head, embedding, frames=2, known=Known(shape, 1100.0))
    blind = blinded(problem)
    state = random_state(blind, 7)
    state = dataclasses.replace(state, log_focal=torch.tensor(np.log(1100.0)))
    equations = person_equations(blind, Geometry(blind, state.shape), state)
    assert equations.corner is not None
    assert equations.corner_gradient is not None
    assert float(equations.corner_gradient.abs().max()) < 1e-20
    assert float(equations.corner.diagonal().min()) > 1e9


def test_robust_weights_are_the_slope_of_the_robust_loss(problem: Problem) -> None:
    random = np.random.default_rng(0)
    residual = torch.as_tensor(random.normal(0, 0.05, (*problem.precision.shape, 2))).requires_grad_()
    everything = slice(0, len(residual))
    robust_loss(problem, residual, everything).backward()  # type: ignore[no-untyped-call]
    assert residual.grad is not None
    still = residual.detach()
    expected = 2 * robust_weight(problem, still, everything)[..., None] * still
    pushed = 2 * gap_weight(problem, still, everything)[..., None] * gaps(problem, still)
    for place, (first, second) in enumerate(problem.pairs.tolist()):
        expected[:, first] += pushed[:, place]
        expected[:, second] -= pushed[:, place]
    torch.testing.assert_close(residual.grad, expected)


def test_robust_loss_is_a_square_that_levels_off(problem: Problem) -> None:
    scale, frames = problem.config.robust_scale, slice(1, 3)
    precision = problem.precision[frames]
    near = torch.full((*precision.shape, 2), 1e-3 * scale).double()  # all alike: no gap is wrong
    assert float(robust_loss(problem, near, frames)) == pytest.approx(
        float(precision.sum()) * 2e-6 * scale**2, rel=1e-5
    )
    far = torch.full_like(near, 1e3 * scale)
    assert float(robust_loss(problem, far, frames)) == pytest.approx(float(precision.sum()) * scale**2, rel=1e-5)


def test_a_gap_counts_beside_its_landmarks(problem: Problem) -> None:
    quiet = dataclasses.replace(problem, trust=torch.full_like(problem.trust, 1e-30))
    first, second = quiet.pairs[0]
    residual = torch.zeros(*quiet.precision.shape, 2).double()
    residual[:, first, 1] = residual[:, second, 1] = 0.02
    frames, scale = slice(0, len(residual)), quiet.config.robust_scale**2
    assert float(robust_loss(quiet, residual, frames)) == pytest.approx(0, abs=1e-20)
    residual[2, second, 1] = -0.02
    expected = float(quiet.gap_precision[2, 0]) * scale * 0.04**2 / (scale + 0.04**2)
    assert float(robust_loss(quiet, residual, frames)) == pytest.approx(expected)


@pytest.mark.parametrize("count", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_blocks_cover_every_frame_once(count: int) -> None:
    found = [frame for part in blocks(count) for frame in range(count)[part]]
    assert found == list(range(count))
    assert max(part.stop - part.start for part in blocks(count)) <= BLOCK


def test_a_long_clip_is_worked_on_in_blocks(open_head: HeadModel, embedding: Embedding) -> None:
    problem, _ = known_problem(open_head, embedding, frames=BLOCK + 3)
    state = random_state(problem, 8)
    geometry = Geometry(problem, state.shape)
    whole = geometry.at(state, slice(0, BLOCK + 3), derive=False).residual
    torch.testing.assert_close(residuals(geometry, state), whole, rtol=0, atol=1e-12)
    equations = MotionEquations(problem, geometry)
    last = dataclasses.replace(state, motion=state.motion[-2:])
    part = problem.part(np.array([BLOCK + 1, BLOCK + 2]))
    alone = MotionEquations(part, Geometry(part, last.shape)).at(last)
    torch.testing.assert_close(equations.at(state).hessian[-2:], alone.hessian, rtol=1e-9, atol=1e-9)
