"""Projection of the landmarks against the whole mesh, and its derivatives against automatic differentiation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from known_heads import known_problem, random_state
from torch import Tensor

from reconstruct.camera import project
from reconstruct.embedding import Embedding
from reconstruct.fitting.derivatives import FACING, Geometry, per_landmark, rotation_slopes
from reconstruct.fitting.problem import Problem, State
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, axis_angle_to_matrix, prepare, skin

TWO = slice(0, 2)


@pytest.fixture(scope="module")
def embedding(embedding: Embedding) -> Embedding:
    """Of a detector that sees the surface points, which the clips here are made of."""
    return embedding.on_surface()


def sharp(model: HeadModel, embedding: Embedding) -> tuple[HeadModel, Embedding]:
    """Both with weights that sum to one in float64: what float32 leaves over is not what is tested here."""
    weights, corners = model.weights.astype(np.float64), embedding.barycentric.astype(np.float64)
    return (
        dataclasses.replace(model, weights=weights / weights.sum(1, keepdims=True)),
        dataclasses.replace(embedding, barycentric=corners / corners.sum(1, keepdims=True)),
    )


def few(problem: Problem, landmarks: slice = slice(0, None, 19)) -> Problem:
    """Two frames and some landmarks of a problem."""
    return problem.part(np.arange(2), np.arange(len(problem.points.template))[landmarks])


def states(problem: Problem) -> dict[str, State]:
    """At rest, in any pose, and turned far; the jaw and an eye of the second frame of the last are at rest."""
    posed, turned = random_state(problem, 0), random_state(problem, 1, turn=1.4)
    neutral = State(torch.zeros_like(posed.shape), posed.log_focal, torch.zeros_like(posed.motion))
    neutral.motion[:, problem.columns.translation] = torch.tensor([0, 0.2, 0.9], dtype=torch.float64)
    turned.motion[1, problem.columns.jaw] = 0
    turned.motion[1, problem.columns.left_eye] = 0
    return {"neutral": neutral, "posed": posed, "turned": turned}


def assert_near(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-9)


def arguments(problem: Problem, state: State, expressions: int) -> list[Tensor]:
    """The state as arguments of `skin`."""
    columns, motion = problem.columns, state.motion
    expression = torch.zeros(len(motion), expressions, dtype=torch.float64)
    expression[:, torch.as_tensor(problem.free)] = motion[:, columns.expression]
    zero = torch.zeros(len(motion), 3, dtype=torch.float64)
    left, right = zero.clone(), zero.clone()
    left[:, :2], right[:, :2] = motion[:, columns.left_eye], motion[:, columns.right_eye]
    move = motion[:, columns.translation]
    return [state.shape, expression, zero, zero, motion[:, columns.jaw], left, right, move]


def in_camera(problem: Problem, state: State, skinning: SkinningModel, expressions: int) -> Tensor:
    """(T, n, 3) vertices of `skinning`: posed at rest by `skin`, then turned about the root joint."""
    values = arguments(problem, state, expressions)
    move, values[-1] = values[-1], torch.zeros_like(values[-1])
    root = (skinning.joint_template.reshape(-1) + skinning.joint_dirs @ state.shape).reshape(5, 3)[0]
    world = axis_angle_to_matrix(state.motion[:, problem.columns.rotation]) @ axis_angle_to_matrix(FACING)
    return (skin(skinning, *values) - root) @ world.transpose(1, 2) + root + move[:, None]


def seen(problem: Problem, state: State, points: Tensor) -> Tensor:
    """(T, L, 2) residuals of points in camera space."""
    pixels = project(points, state.log_focal.exp(), problem.principal_point)[..., :2]
    return (pixels - problem.observed) / problem.scale_px[:, None, None]


@pytest.mark.parametrize("pose", ["neutral", "posed", "turned"])
def test_residuals_equal_those_of_skinned_landmarks(open_head: HeadModel, embedding: Embedding, pose: str) -> None:
    problem = few(known_problem(*sharp(open_head, embedding), frames=2)[0])
    weights = problem.points.weights / problem.points.weights.sum(1, keepdim=True)
    problem = dataclasses.replace(problem, points=dataclasses.replace(problem.points, weights=weights))
    state = states(problem)[pose]
    points = in_camera(problem, state, problem.points, open_head.num_expression)
    found = Geometry(problem, state.shape).at(state, TWO, derive=False).residual
    torch.testing.assert_close(found, seen(problem, state, points), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("pose", ["neutral", "posed", "turned"])
def test_residuals_equal_those_of_the_whole_mesh(open_head: HeadModel, embedding: Embedding, pose: str) -> None:
    model, exact = sharp(open_head, embedding)
    problem, _ = known_problem(model, exact, frames=2)
    state = states(problem)[pose]
    vertices = in_camera(problem, state, prepare(model, dtype=torch.float64), model.num_expression)
    corners = vertices[:, torch.as_tensor(exact.vertices)]
    expected = seen(problem, state, (torch.as_tensor(exact.barycentric)[..., None] * corners).sum(2))
    found = Geometry(problem, state.shape).at(state, TWO, derive=False).residual
    # the approximation: weights are interpolated within a triangle; where its corners agree there is none
    alike = np.ptp(model.weights[exact.vertices][:, :, 2:], axis=1).max(1) < 1e-12
    assert alike.sum() > 50
    rigid = torch.as_tensor(alike)
    torch.testing.assert_close(found[:, rigid], expected[:, rigid], rtol=1e-9, atol=1e-10)
    assert float((found - expected).norm(dim=-1).max()) < 0.02
    assert float((found - expected).norm(dim=-1).mean()) < 2e-3


@pytest.mark.parametrize("pose", ["neutral", "posed", "turned"])
def test_derivatives_equal_automatic_ones(open_head: HeadModel, embedding: Embedding, pose: str) -> None:
    problem = few(known_problem(open_head, embedding, frames=2)[0], slice(0, None, 37))
    state, points = states(problem)[pose], problem.points

    def residual(motion: Tensor, shape: Tensor, log_focal: Tensor, template: Tensor) -> Tensor:
        moved = dataclasses.replace(problem, points=dataclasses.replace(points, template=template))
        return Geometry(moved, shape).at(State(shape, log_focal, motion), TWO, derive=False).residual

    inputs = (state.motion, state.shape, state.log_focal, points.template)
    by_motion, by_shape, by_focal, by_place = torch.autograd.functional.jacobian(residual, inputs)  # type: ignore[no-untyped-call]
    geometry = Geometry(problem, state.shape)
    line = geometry.at(state, TWO, shared=True)
    assert line.by_shared is not None
    own_motion = torch.stack([by_motion[frame, :, :, frame] for frame in range(2)])
    assert not by_motion[0, :, :, 1].any()
    by_expression = torch.einsum("tlua,lae->tlue", line.by_rest, geometry.expressions)
    columns = problem.columns
    assert_near(by_expression, own_motion[..., columns.expression])
    assert_near(line.by_rigid, own_motion[..., columns.expressions :])
    assert_near(line.by_shared[..., :-1], by_shape)
    assert_near(line.by_shared[..., -1], by_focal)
    own_place = torch.stack([by_place[:, index, :, index] for index in range(len(points.template))], dim=1)
    assert_near(line.by_rest, own_place)


def test_residuals_alone_equal_those_with_derivatives(open_head: HeadModel, embedding: Embedding) -> None:
    problem, _ = known_problem(open_head, embedding, frames=4)
    state = random_state(problem, 2)
    geometry = Geometry(problem, state.shape)
    alone = geometry.at(state, slice(1, 3), derive=False)
    torch.testing.assert_close(alone.residual, geometry.at(state, slice(0, 4)).residual[1:3], rtol=0, atol=1e-12)
    assert alone.by_rest.numel() == alone.by_rigid.numel() == 0
    assert alone.by_shared is None


def test_float32_keeps_what_landmarks_tell(open_head: HeadModel, embedding: Embedding) -> None:
    problem, state = known_problem(open_head, embedding, frames=2)
    single = problem.single()
    exact = Geometry(problem, state.shape).at(state, TWO, shared=True)
    rounded = Geometry(single, state.shape).at(state, TWO, shared=True)
    assert exact.by_shared is not None
    assert rounded.by_shared is not None
    assert rounded.residual.dtype == torch.float32
    torch.testing.assert_close(rounded.residual.double(), exact.residual, rtol=0, atol=2e-5)
    for first, second in (
        (rounded.by_rest, exact.by_rest),
        (rounded.by_rigid, exact.by_rigid),
        (rounded.by_shared, exact.by_shared),
    ):
        torch.testing.assert_close(first.double(), second, rtol=0, atol=1e-4 * float(second.abs().max()))


@pytest.mark.parametrize("size", [0.0, 1e-6, 9e-5, 1.1e-4, 1e-2, 1.0, 3.1, 5.0])
def test_slopes_of_a_rotation(size: float) -> None:
    axis = torch.tensor([0.48, -0.6, 0.64], dtype=torch.float64)
    rotation = size * axis
    expected = torch.autograd.functional.jacobian(axis_angle_to_matrix, rotation)  # type: ignore[no-untyped-call]
    # below 1e-4 the axes of the components are taken for those at zero
    torch.testing.assert_close(rotation_slopes(rotation), expected, rtol=0, atol=6e-5 if size < 1e-4 else 1e-9)


def test_products_per_landmark() -> None:
    random = np.random.default_rng(0)
    through, directions = (
        torch.as_tensor(random.normal(size=(3, 5, 2, 4))),
        torch.as_tensor(random.normal(size=(5, 4, 6))),
    )
    expected = torch.einsum("tlun,lnk->tluk", through, directions)
    torch.testing.assert_close(per_landmark(through, directions), expected)
