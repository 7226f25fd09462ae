"""Where the landmarks of a body are for a motion, and how they change with it: the geometric Jacobian.

A point that a joint carries moves by a x (p - c) when a hinge above it turns about the axis a through c: exact for
hinges, and for balls with the columns of the left Jacobian as axes. Frames in one array, no loop over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconstruct.body.articulation import Articulation, ancestors, left_jacobian
from reconstruct.body.points import BodyPoints
from reconstruct.models.body_model import NUM_JOINTS, PARENTS, BodyModel

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Skeleton:
    """Joints, landmarks and freedoms of a body model of S identity coefficients."""

    articulation: Articulation
    points: BodyPoints
    joints: Float64
    """(55, 3) of the mean shape."""
    joint_dirs: Float64
    """(55, 3, S)"""
    facing: Float64
    """(3, 3) from model space to the camera for a body that faces it: the root turns from there."""

    @property
    def num_shape(self) -> int:
        """S."""
        return int(self.joint_dirs.shape[2])


def skeleton_of(model: BodyModel, articulation: Articulation, points: BodyPoints, num_shape: int) -> Skeleton:
    """The skeleton with the first identity coefficients of a model."""
    regressor = model.joint_regressor.astype(np.float64)
    return Skeleton(
        articulation=articulation,
        points=points.cut(num_shape),
        joints=regressor @ model.v_template.astype(np.float64),
        joint_dirs=np.einsum("jv,vcs->jcs", regressor, model.identity[:, :, :num_shape].astype(np.float64)),
        facing=np.diag([1.0, -1.0, -1.0]),
    )


@dataclass(frozen=True)
class Posed:
    """A body in T frames, camera space, metres."""

    world: Float64
    """(T, 55, 3, 3) rotation of each joint, model space to camera space."""
    joints: Float64
    """(T, 55, 3)"""
    points: Float64
    """(T, 75, 3) landmarks."""
    turns: Float64
    """(T, F, 3, 3) rotation by each factor of the joints."""


def pose(skeleton: Skeleton, shape: Float64, motion: Float64) -> Posed:
    """Joints and landmarks for identity coefficients (S,) and motion (T, P)."""
    rest = skeleton.joints + skeleton.joint_dirs @ shape
    turns = skeleton.articulation.turns(motion)
    local = skeleton.articulation.products(turns)
    world, joints = _chain(skeleton, rest, local, motion)
    carrier = skeleton.points.carrier
    arms = skeleton.points.template + skeleton.points.dirs @ shape - rest[carrier]
    points = joints[:, carrier] + (world[:, carrier] @ arms[:, :, None])[..., 0]
    return Posed(world, joints, points, turns)


def _chain(skeleton: Skeleton, rest: Float64, local: Float64, motion: Float64) -> tuple[Float64, Float64]:
    """Rotation and place of every joint in camera space."""
    world, joints = np.empty_like(local), np.empty((*local.shape[:2], 3))
    world[:, 0] = skeleton.facing @ local[:, 0]
    joints[:, 0] = motion[:, skeleton.articulation.translation]
    for index in range(1, NUM_JOINTS):
        parent = PARENTS[index]
        world[:, index] = world[:, parent] @ local[:, index]
        joints[:, index] = joints[:, parent] + world[:, parent] @ (rest[index] - rest[parent])
    return world, joints


@dataclass(frozen=True)
class Derivatives:
    """How things in T frames change with the motion's P unknowns."""

    points: Float64
    """(T, P, 75, 3)"""
    head: Float64
    """(T, P, 3) angular velocity of the head, camera axes."""
    eyes: Float64
    """(T, P, 3) of the middle of the eyes."""


HEAD, LEFT_EYE, RIGHT_EYE = 15, 23, 24
_ABOVE = ancestors()


def differentiate(skeleton: Skeleton, posed: Posed, motion: Float64) -> Derivatives:
    """Derivatives of landmarks, head and eyes with respect to the motion (T, P), at the pose that it gives."""
    articulation = skeleton.articulation
    frames, count = motion.shape
    carrier = skeleton.points.carrier
    targets = np.concatenate([posed.points, posed.joints[:, [LEFT_EYE, RIGHT_EYE]].mean(1, keepdims=True)], axis=1)
    carried = np.append(carrier, HEAD)
    result = np.zeros((frames, count, len(carried), 3))
    head = np.zeros((frames, count, 3))
    before: dict[int, Float64] = {}
    for number, factor in enumerate(articulation.factors):
        parent = PARENTS[factor.joint]
        start = posed.world[:, parent] if parent >= 0 else np.broadcast_to(skeleton.facing, (frames, 3, 3))
        frame = before.get(factor.joint, start)
        columns = [factor.first] if factor.axis is not None else list(range(factor.first, factor.first + 3))
        if factor.axis is None:
            turning = frame @ left_jacobian(motion[:, factor.first : factor.first + 3])  # (T, 3, 3) columns
        else:
            turning = (factor.scale * (frame @ factor.axis))[:, :, None]
        before[factor.joint] = frame @ posed.turns[:, number]
        moved = np.flatnonzero(_ABOVE[factor.joint, carried])
        arms = targets[:, moved] - posed.joints[:, [factor.joint]]
        for position, column in enumerate(columns):
            axis = turning[:, :, position]
            result[:, column, moved] += cross(axis[:, None], arms)
            if _ABOVE[factor.joint, HEAD]:
                head[:, column] += axis
    for axis_index in range(3):
        result[:, articulation.translation.start + axis_index, :, axis_index] = 1.0
    return Derivatives(result[:, :, :-1], head, result[:, :, -1])


def cross(first: Float64, second: Float64) -> Float64:
    """Cross product over the last axis; several times faster than NumPy's."""
    a, b, c = first[..., 0], first[..., 1], first[..., 2]
    x, y, z = second[..., 0], second[..., 1], second[..., 2]
    return np.stack([b * z - c * y, c * x - a * z, a * y - b * x], axis=-1)


def by_shape(skeleton: Skeleton, posed: Posed) -> tuple[Float64, Float64]:
    """How landmarks (T, S, 75, 3) and the middle of the eyes (T, S, 3) change with the identity coefficients."""
    dirs = skeleton.joint_dirs
    joints = np.zeros((*posed.joints.shape, dirs.shape[2]))
    for index in range(1, NUM_JOINTS):
        parent = PARENTS[index]
        joints[:, index] = joints[:, parent] + posed.world[:, parent] @ (dirs[index] - dirs[parent])
    carrier = skeleton.points.carrier
    points = joints[:, carrier] + posed.world[:, carrier] @ (skeleton.points.dirs - dirs[carrier])
    eyes = joints[:, [LEFT_EYE, RIGHT_EYE]].mean(1)
    return np.moveaxis(points, -1, 1), np.moveaxis(eyes, -1, 1)
