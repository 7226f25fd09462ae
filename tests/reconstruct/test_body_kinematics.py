"""Landmarks of a posed body: against the skinned mesh, and derivatives against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct.body.articulation import (
    articulation_of,
    bounds_of,
    decompose,
    limited_joints,
    rotation_matrix,
)
from reconstruct.body.kinematics import Skeleton, by_shape, differentiate, pose, skeleton_of
from reconstruct.body.points import COUNT, POSE_MIRROR, points_of
from reconstruct.models.body_model import JOINTS, BodyModel, joint
from reconstruct.models.registry import load_body
from reconstruct.models.skinning import prepare, skin_joints

NUM_SHAPE = 6


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


@pytest.fixture(scope="module")
def skeleton(body: BodyModel) -> Skeleton:
    return skeleton_of(body, articulation_of(body), points_of(body), NUM_SHAPE)


def random_motion(skeleton: Skeleton, frames: int, seed: int) -> NDArray[Any]:
    random, parts = np.random.default_rng(seed), skeleton.articulation
    spread = np.minimum(parts.array("spread"), 0.4)
    motion = parts.array("rest") + random.normal(size=(frames, len(parts))) * spread
    motion[:, -3:] += [0.1, 0.3, 2.0]
    return np.asarray(np.clip(motion, parts.array("low"), parts.array("high")))


def test_derivatives_equal_differences(skeleton: Skeleton) -> None:
    motion, shape, step = random_motion(skeleton, 2, 1), np.linspace(-1, 1, NUM_SHAPE), 1e-6
    posed = pose(skeleton, shape, motion)
    found = differentiate(skeleton, posed, motion)
    by_identity, eyes_by_identity = by_shape(skeleton, posed)
    for column in range(motion.shape[1]):
        nudge = step * (np.arange(motion.shape[1]) == column)
        after, before = pose(skeleton, shape, motion + nudge), pose(skeleton, shape, motion - nudge)
        assert found.points[:, column] == pytest.approx((after.points - before.points) / (2 * step), abs=1e-6)
        eyes = (after.joints[:, [23, 24]].mean(1) - before.joints[:, [23, 24]].mean(1)) / (2 * step)
        assert found.eyes[:, column] == pytest.approx(eyes, abs=1e-6)
        turn = (after.world[:, 15] - before.world[:, 15]) / (2 * step) @ np.swapaxes(posed.world[:, 15], 1, 2)
        spin = np.stack([turn[:, 2, 1], turn[:, 0, 2], turn[:, 1, 0]], axis=1)
        assert found.head[:, column] == pytest.approx(spin, abs=1e-6)
    for column in range(NUM_SHAPE):
        nudge = step * (np.arange(NUM_SHAPE) == column)
        after, before = pose(skeleton, shape + nudge, motion), pose(skeleton, shape - nudge, motion)
        assert by_identity[:, column] == pytest.approx((after.points - before.points) / (2 * step), abs=1e-6)
        eyes = (after.joints[:, [23, 24]].mean(1) - before.joints[:, [23, 24]].mean(1)) / (2 * step)
        assert eyes_by_identity[:, column] == pytest.approx(eyes, abs=1e-6)


def test_fingertips_lie_on_the_skinned_mesh(body: BodyModel, skeleton: Skeleton) -> None:
    """Joints and rigidly carried points are where the skinning module puts them."""
    motion, parts = random_motion(skeleton, 3, 2), skeleton.articulation
    shape = np.zeros(body.num_shape)
    posed = pose(skeleton, np.zeros(NUM_SHAPE), motion)
    poses = parts.poses(motion)
    world = skeleton.facing @ rotation_matrix(poses[:, 0])
    from reconstruct.models.rotations import matrix_to_axis_angle

    poses[:, 0] = matrix_to_axis_angle(world)
    place = motion[:, -3:] - (body.joint_regressor.astype(np.float64) @ body.v_template)[0]
    vertices = skin_joints(
        prepare(body, dtype=torch.float64),
        torch.as_tensor(shape),
        torch.zeros(3, body.num_expression).double(),
        torch.as_tensor(poses),
        torch.as_tensor(place),
    ).numpy()
    for finger in ("left_index", "right_thumb"):
        own = np.flatnonzero(body.weights[:, joint(f"{finger}3")] > 0.999)
        tip = 33 + 8 if finger == "left_index" else 54 + 4
        rest = body.v_template[own].astype(np.float64)
        distance = np.linalg.norm(rest - skeleton.points.template[tip], axis=1)
        assert np.linalg.norm(vertices[:, own] - posed.points[:, [tip]], axis=2) == pytest.approx(
            np.tile(distance, (3, 1)), abs=1e-6
        )


def test_what_bends_the_left_bends_the_right_alike(skeleton: Skeleton) -> None:
    parts = skeleton.articulation
    motion = parts.at_rest(1)
    random = np.random.default_rng(0)
    for index, freedom in enumerate(parts.freedoms):
        if freedom.name.startswith("left_"):
            other = parts.index("right_" + freedom.name.removeprefix("left_"))
            value = 0.4 * freedom.high * random.uniform()
            ball = freedom.name.endswith(("_y", "_z"))
            motion[0, index], motion[0, other] = value, -value if ball else value
    points = pose(skeleton, np.zeros(NUM_SHAPE), motion).points[0] - motion[0, -3:]
    mirrored = points * [-1, 1, 1]
    assert points[list(POSE_MIRROR)] == pytest.approx(mirrored[:33], abs=0.02)
    assert points[54:75] == pytest.approx(mirrored[33:54], abs=0.03)


def test_stored_poses_give_back_their_angles(skeleton: Skeleton) -> None:
    parts = skeleton.articulation
    motion = random_motion(skeleton, 20, 3)
    names = limited_joints()
    assert len(names) == 32
    for name, angles in decompose(parts, parts.poses(motion), names).items():
        own = [factor for factor in parts.factors if factor.joint == joint(name)]
        assert angles[:, :-1] == pytest.approx(motion[:, [factor.first for factor in own]], abs=1e-6), name
        assert angles[:, -1] == pytest.approx(0, abs=1e-6)
        bounds = bounds_of(parts, name)
        assert bounds.shape == (len(own), 2)
        assert (bounds[:, 0] < bounds[:, 1]).all()


def test_every_landmark_has_a_carrier_of_its_side(skeleton: Skeleton) -> None:
    carriers = [JOINTS[index] for index in skeleton.points.carrier]
    assert len(carriers) == COUNT
    assert all(name.startswith("left_") for name in carriers[33:54])
    assert all(name.startswith("right_") for name in carriers[54:75])
    assert [carriers[index] for index in (13, 14, 15, 16)] == [
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
    ]
