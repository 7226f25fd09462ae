"""Skinning: against a naive twin, by gradcheck, sparse against full, and on known rotations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, axis_angle_to_matrix, prepare, skin

Arrays = dict[str, NDArray[np.float64]]


def tiny_model(vertices: int = 7, shapes: int = 3, expressions: int = 2) -> HeadModel:
    random = np.random.default_rng(4)
    weights = random.uniform(0, 1, (vertices, 5))
    regressor = random.uniform(0, 1, (5, vertices))

    def small(*size: int) -> NDArray[np.float32]:
        return random.normal(0, 0.1, size).astype(np.float32)

    return HeadModel(
        name="tiny",
        licence="CC0-1.0",
        v_template=small(vertices, 3),
        shapedirs=small(vertices, 3, shapes + expressions),
        posedirs=small(vertices, 3, 36),
        joint_regressor=(regressor / regressor.sum(1, keepdims=True)).astype(np.float32),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        parents=np.array([-1, 0, 1, 1, 1]),
        faces=np.array([[0, 1, 2]], dtype=np.int32),
        num_shape=shapes,
        expression_names=tuple(f"e{i}" for i in range(expressions)),
        expression_bounds=np.tile(np.array([0, 1], dtype=np.float32), (expressions, 1)),
        pose_bounds=np.zeros((5, 3, 2), dtype=np.float32),
    )


def random_pose(model: HeadModel, frames: int, seed: int = 0) -> list[torch.Tensor]:
    random = np.random.default_rng(seed)
    shape = torch.as_tensor(random.normal(size=model.num_shape))
    expression = torch.as_tensor(random.uniform(0, 1, (frames, model.num_expression)))
    poses = [torch.as_tensor(random.normal(0, 0.6, (frames, 3))) for _ in range(5)]
    return [shape, expression, *poses, torch.as_tensor(random.normal(size=(frames, 3)))]


def rodrigues(rotation: NDArray[np.float64]) -> NDArray[np.float64]:
    angle = np.linalg.norm(rotation)
    if angle == 0:
        return np.eye(3)
    x, y, z = rotation / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def naive_skin(model: HeadModel, arguments: list[torch.Tensor]) -> NDArray[np.float64]:
    """FLAME's equations vertex by vertex with homogeneous matrices."""
    shape, expression, *poses, translation = (argument.numpy() for argument in arguments)
    result = np.zeros((len(expression), model.num_vertices, 3))
    for t in range(len(expression)):
        rest = model.v_template + model.identity @ shape
        joints = model.joint_regressor @ rest
        rest = rest + model.expression @ expression[t]
        matrices = [rodrigues(pose[t]) for pose in poses]
        feature = np.concatenate([(matrix - np.eye(3)).ravel() for matrix in matrices[1:]])
        rest = rest + model.posedirs @ feature
        worlds: list[NDArray[Any]] = []
        for joint, parent in enumerate(model.parents):
            local = np.eye(4)
            local[:3, :3] = matrices[joint]
            local[:3, 3] = joints[joint] - (joints[parent] if parent >= 0 else 0)
            worlds.append(worlds[parent] @ local if parent >= 0 else local)
        for joint in range(5):
            back = np.eye(4)
            back[:3, 3] = -joints[joint]
            worlds[joint] = worlds[joint] @ back
        for v in range(model.num_vertices):
            blended = sum(model.weights[v, joint] * worlds[joint] for joint in range(5))
            result[t, v] = (blended @ np.append(rest[v], 1))[:3] + translation[t]
    return result


def test_equals_the_naive_twin() -> None:
    model = tiny_model()
    arguments = random_pose(model, frames=4)
    fast = skin(prepare(model, dtype=torch.float64), *arguments)
    np.testing.assert_allclose(fast.numpy(), naive_skin(model, arguments), atol=1e-7)


def test_equals_the_naive_twin_on_the_open_head(open_head: HeadModel) -> None:
    arguments = random_pose(open_head, frames=1)
    fast = skin(prepare(open_head, dtype=torch.float64), *arguments)
    np.testing.assert_allclose(fast.numpy(), naive_skin(open_head, arguments), atol=2e-6)


def test_sparse_path_equals_the_full_one(open_head: HeadModel) -> None:
    ids = np.random.default_rng(0).choice(open_head.num_vertices, 200, replace=False)
    arguments = random_pose(open_head, frames=3)
    full = skin(prepare(open_head, dtype=torch.float64), *arguments)
    sparse = skin(prepare(open_head, ids, dtype=torch.float64), *arguments)
    torch.testing.assert_close(sparse, full[:, torch.as_tensor(ids)], atol=1e-12, rtol=0)


@pytest.mark.parametrize("argument", range(8))
def test_gradcheck(argument: int) -> None:
    model = tiny_model(vertices=4, shapes=2)
    skinning: SkinningModel = prepare(model, dtype=torch.float64)
    arguments = random_pose(model, frames=2)

    def by_one(value: torch.Tensor) -> torch.Tensor:
        changed = [*arguments[:argument], value, *arguments[argument + 1 :]]
        return skin(skinning, *changed)

    assert torch.autograd.gradcheck(by_one, (arguments[argument].requires_grad_(),))


def test_gradient_of_the_rotation_is_finite_at_zero() -> None:
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(axis_angle_to_matrix, (zero,))


def test_global_rotation_keeps_distances_and_turns_about_the_root(open_head: HeadModel) -> None:
    shape, expression, *_ = random_pose(open_head, frames=1)
    zero, turn = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[0.0, 1.2, 0.0]], dtype=torch.float64)
    model = prepare(open_head, dtype=torch.float64)
    still = skin(model, shape, expression, zero, zero, zero, zero, zero, zero)[0]
    turned = skin(model, shape, expression, turn, zero, zero, zero, zero, zero)[0]
    root = (model.joint_template.reshape(-1) + model.joint_dirs @ shape).reshape(5, 3)[0]
    expected = (still - root) @ axis_angle_to_matrix(turn)[0].T + root
    torch.testing.assert_close(turned, expected, atol=1e-8, rtol=0)
