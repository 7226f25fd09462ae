"""The division of the head's rotation: the head stays where it is, slow turns are the body's, fast ones the neck's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from known_heads import arguments, frame_times, known_head
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.camera import FACING_CAMERA
from reconstruct.fitting.neck import share_with_neck
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin

Float64 = NDArray[np.float64]
JOINTS = np.array([[0.0, -0.2, -0.03], [0.0, -0.1, -0.02]])
WIDE = np.tile(np.array([-2.0, 2.0], np.float32), (3, 1))
FACING = Rotation.from_rotvec(FACING_CAMERA.astype(np.float64))


def share(
    angles: Float64, times_s: Float64, after_s: float = 1.0, bounds: NDArray[np.float32] = WIDE
) -> tuple[Rotation, Rotation, Rotation]:
    """Head, root and neck of rotations (T, 3) away from a face that looks at the camera."""
    head = FACING * Rotation.from_rotvec(angles)
    root, neck, _ = share_with_neck(head.as_matrix(), np.zeros((len(angles), 3)), JOINTS, times_s, after_s, bounds)
    return head, Rotation.from_rotvec(root), Rotation.from_rotvec(neck)


def assert_same(first: Rotation, second: Rotation) -> None:
    assert float((first.inv() * second).magnitude().max()) < 1e-6


def turning(times_s: Float64, axis: int, size: float, period_s: float) -> Float64:
    angles = np.zeros((len(times_s), 3))
    angles[:, axis] = size * np.sin(2 * np.pi * times_s / period_s)
    return angles


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("bound", [0.05, 2.0])
def test_the_product_is_the_rotation_of_the_head(seed: int, bound: float) -> None:
    times_s = np.cumsum(np.random.default_rng(seed).uniform(0.02, 0.08, 60))
    times_s[30:] += 1.0
    angles = np.cumsum(np.random.default_rng(seed).normal(0, 0.1, (60, 3)), axis=0)
    bounds = np.tile(np.array([-bound, bound], np.float32), (3, 1))
    head, root, neck = share(angles, times_s, bounds=bounds)
    assert_same(root * neck, head)
    assert np.abs(neck.as_rotvec()).max() > 0.04


def test_the_head_stays_in_place() -> None:
    random = np.random.default_rng(2)
    times_s, angles = frame_times(50), np.cumsum(random.normal(0, 0.05, (50, 3)), axis=0)
    head, before = FACING * Rotation.from_rotvec(angles), random.normal(size=(50, 3))
    root, neck, after = share_with_neck(head.as_matrix(), before, JOINTS, times_s, 1.0, WIDE)
    point = np.array([0.03, 0.05, 0.08])
    still = head.apply(point - JOINTS[0]) + JOINTS[0] + before
    turned = Rotation.from_rotvec(neck).apply(point - JOINTS[1]) + JOINTS[1] - JOINTS[0]
    moved = Rotation.from_rotvec(root).apply(turned) + JOINTS[0] + after
    np.testing.assert_allclose(moved, still, atol=1e-6)
    assert np.abs(after - before).max() > 1e-3


def test_the_face_of_a_head_stays_in_place(open_head: HeadModel) -> None:
    times_s = frame_times(40)
    whole = known_head(open_head, times_s, 3)
    head = Rotation.from_rotvec(whole.global_pose.astype(np.float64))
    joints = open_head.joint_regressor[:2].astype(np.float64) @ (
        open_head.v_template + open_head.identity @ whole.shape
    )
    root, neck, move = share_with_neck(
        head.as_matrix(), whole.translation.astype(np.float64), joints, times_s, 1.0, open_head.pose_bounds[1]
    )
    turned, nodded, moved = (part.astype(np.float32) for part in (root, neck, move))
    shared = dataclasses.replace(whole, global_pose=turned, neck_pose=nodded, translation=moved)
    assert np.abs(neck).max() > 0.1
    face = open_head.regions["face"].astype(np.int64)
    above = face[open_head.weights[face, 0] < 1e-4]  # the rim below the chin hangs on the body
    assert len(above) > 0.9 * len(face)
    skinning = prepare(open_head, above, dtype=torch.float64)
    before, after = (skin(skinning, *arguments(track)) for track in (whole, shared))
    assert 1000 * float((before - after).norm(dim=-1).max()) < 0.05


def test_a_slow_turn_is_the_bodys() -> None:
    times_s = np.arange(200) / 10
    head, root, neck = share(turning(times_s, 1, 0.6, 20.0), times_s)
    assert float(np.degrees(neck.magnitude()).max()) < 2
    assert float(root.magnitude().max()) > 0.5
    assert float((head.inv() * root).magnitude().max()) < np.radians(2)


def test_a_fast_nod_is_the_necks() -> None:
    times_s = frame_times(75)
    nod = turning(times_s, 0, 0.15, 0.5)
    _, root, neck = share(nod, times_s)
    np.testing.assert_allclose(neck.as_rotvec()[5:-5], nod[5:-5], atol=0.03)
    assert float((root[5:-5] * root[5].inv()).magnitude().max()) < 0.05


def test_half_of_a_turn_in_between() -> None:
    """A sine whose period is 2 pi times `after_s` is divided evenly."""
    after_s = 0.4
    times_s = np.arange(400) / 25
    turn = turning(times_s, 1, 0.2, 2 * np.pi * after_s)
    _, _, neck = share(turn, times_s, after_s)
    np.testing.assert_allclose(neck.as_rotvec()[100:-100, 1], turn[100:-100, 1] / 2, atol=0.01)


def test_bounds_of_the_neck() -> None:
    times_s = frame_times(60)
    bounds = np.array([[-0.1, 0.2], [-0.3, 0.3], [-0.05, 0.05]], np.float32)
    head, root, neck = share(turning(times_s, 0, 0.5, 0.6), times_s, bounds=bounds)
    found = neck.as_rotvec()
    assert (found >= bounds[:, 0] - 1e-6).all()
    assert (found <= bounds[:, 1] + 1e-6).all()
    assert found[:, 0].min() == pytest.approx(-0.1)
    assert found[:, 0].max() == pytest.approx(0.2)
    assert_same(root * neck, head)


@pytest.mark.parametrize(("frames", "after_s"), [(40, 0.0), (1, 1.0), (2, 1.0)])
def test_a_neck_at_rest(frames: int, after_s: float) -> None:
    angles = np.random.default_rng(4).normal(0, 0.2, (frames, 3))
    head = FACING * Rotation.from_rotvec(angles)
    before = np.ones((frames, 3))
    root, neck, after = share_with_neck(head.as_matrix(), before, JOINTS, frame_times(frames), after_s, WIDE)
    assert not neck.any()
    assert_same(Rotation.from_rotvec(root), head)
    np.testing.assert_array_equal(after, before)


def test_a_still_head_has_a_neck_at_rest() -> None:
    head, root, neck = share(np.tile([0.1, -0.3, 0.2], (30, 1)), frame_times(30))
    assert float(neck.magnitude().max()) < 1e-9
    assert_same(root, head)
