"""Linear blend skinning with pose correctives, differentiable, for the whole mesh or for chosen surface points.

One module serves every model, heads (FLAME: Li et al. 2017, equations 2-5) and bodies (SMPL-X). The sparse path
evaluates only the vertices that landmarks touch; joints still come from the whole shape through a precomputed joint
basis, so both paths agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.models.head_model import HeadModel

if TYPE_CHECKING:
    from reconstruct.models.body_model import BodyModel


DENSE_CORRECTIVES = 36
"""Models with more columns of pose correctives than a head keep only those that are not zero."""


@dataclass(frozen=True)
class SkinningModel:
    """Tensors of a head or body model of J joints, restricted to some of its vertices (n of V)."""

    template: Tensor
    """(n, 3)"""
    shapedirs: Tensor
    """(3n, S + E)"""
    posedirs: Tensor
    """(3n, 9 (J - 1)), or only the columns in `features`"""
    weights: Tensor
    """(n, J)"""
    joint_template: Tensor
    """(J, 3) joints of the mean shape."""
    joint_dirs: Tensor
    """(3J, S) joints per identity coefficient."""
    parents: tuple[int, ...]
    num_shape: int
    vertex_ids: NDArray[np.int64]
    """(n,) of the full mesh."""
    features: Tensor | None = None
    """Columns of the pose correctives that are kept, where most are zero; None: all."""


def prepare(
    model: HeadModel | BodyModel,
    vertex_ids: NDArray[np.int64] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> SkinningModel:
    """Tensors for all vertices, or only for `vertex_ids` (unique, any order).

    As in FLAME, joints are regressed from the shaped mesh without expression.
    """
    ids = np.arange(model.num_vertices) if vertex_ids is None else np.asarray(vertex_ids, dtype=np.int64)
    regressor = model.joint_regressor.astype(np.float64)
    joint_dirs = np.einsum("jv,vck->jck", regressor, model.identity.astype(np.float64))

    def tensor(array: NDArray[np.float32] | NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array), dtype=dtype, device=device)

    posedirs, features = model.posedirs[ids].reshape(3 * len(ids), -1), None
    if posedirs.shape[1] > DENSE_CORRECTIVES:
        used = np.flatnonzero((posedirs != 0).any(0))
        posedirs, features = posedirs[:, used], torch.as_tensor(used, device=device)
    return SkinningModel(
        template=tensor(model.v_template[ids]),
        shapedirs=tensor(model.shapedirs[ids].reshape(3 * len(ids), -1)),
        posedirs=tensor(posedirs),
        weights=tensor(model.weights[ids]),
        joint_template=tensor(regressor @ model.v_template.astype(np.float64)),
        joint_dirs=tensor(joint_dirs.reshape(3 * len(regressor), -1)),
        parents=tuple(int(parent) for parent in model.parents),
        num_shape=model.num_shape,
        vertex_ids=ids,
        features=features,
    )


def axis_angle_to_matrix(rotation: Tensor) -> Tensor:
    """(..., 3) axis-angle in radians to (..., 3, 3) by Rodrigues' formula, smooth through zero."""
    squared = (rotation * rotation).sum(-1)[..., None, None]
    small = squared < 1e-8
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(small, 1 - squared / 6, torch.sin(angle) / angle)
    second = torch.where(small, 0.5 - squared / 24, (1 - torch.cos(angle)) / safe)
    x, y, z = rotation.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*rotation.shape[:-1], 3, 3)
    identity = torch.eye(3, dtype=rotation.dtype, device=rotation.device)
    return identity + first * cross + second * (cross @ cross)


def skin(
    model: SkinningModel,
    shape: Tensor,
    expression: Tensor,
    global_pose: Tensor,
    neck_pose: Tensor,
    jaw_pose: Tensor,
    left_eye_pose: Tensor,
    right_eye_pose: Tensor,
    translation: Tensor,
) -> Tensor:
    """Posed vertices (T, n, 3) in metres.

    Args: shape (S,) or (T, S); expression (T, E); the five poses (T, 3) axis-angle; translation (T, 3) metres. The
    global rotation turns about the root joint, as in FLAME.
    """
    poses = torch.stack([global_pose, neck_pose, jaw_pose, left_eye_pose, right_eye_pose], dim=1)
    return skin_joints(model, shape, expression, poses, translation)


def skin_joints(model: SkinningModel, shape: Tensor, expression: Tensor, poses: Tensor, translation: Tensor) -> Tensor:
    """Posed vertices (T, n, 3) in metres, of a model with any joints.

    Args: shape (S,) or (T, S); expression (T, E); poses (T, J, 3) axis-angle in the order of the model's joints;
    translation (T, 3) metres. The first joint's rotation turns the whole about it.
    """
    frames, joint_count = poses.shape[:2]
    if shape.dim() == 1:
        shape = shape[None]
    shape = shape.expand(frames, -1)
    rotations = axis_angle_to_matrix(poses)
    identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    feature = (rotations[:, 1:] - identity).reshape(frames, 9 * (joint_count - 1))
    if model.features is not None:
        feature = feature[:, model.features]
    coefficients = torch.cat([shape, expression], dim=1)
    offsets = coefficients @ model.shapedirs.T + feature @ model.posedirs.T
    count = len(model.template)
    vertices = model.template + offsets.reshape(frames, count, 3)
    rotation, offset = place_joints(model, shape, rotations)
    blended = (model.weights @ rotation.reshape(frames, joint_count, 9)).reshape(frames, count, 3, 3)
    moved = (blended @ vertices[..., None])[..., 0] + model.weights @ offset
    return moved + translation[:, None]


def place_joints(model: SkinningModel, shape: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation (T, J, 3, 3) and offset (T, J, 3) that carry a point of the rest pose along with each joint.

    Args: shape (T, S); rotations (T, J, 3, 3) of the joints against their parents.
    """
    frames, joint_count = rotations.shape[:2]
    joints = model.joint_template + (shape @ model.joint_dirs.T).reshape(frames, joint_count, 3)
    world_rotation, world_offset = [rotations[:, 0]], [joints[:, 0]]
    for joint in range(1, joint_count):
        parent = model.parents[joint]
        step = joints[:, joint] - joints[:, parent]
        world_offset.append(_rotate(world_rotation[parent], step) + world_offset[parent])
        world_rotation.append(world_rotation[parent] @ rotations[:, joint])
    rotation = torch.stack(world_rotation, dim=1)
    return rotation, torch.stack(world_offset, dim=1) - (rotation @ joints[..., None])[..., 0]


def _rotate(rotation: Tensor, vector: Tensor) -> Tensor:
    return (rotation @ vector[..., None])[..., 0]
