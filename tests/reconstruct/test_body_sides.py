"""Left and right over a clip: hands that are found in both squares, hands that swap looks, poses that swap sides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.body.points import POSE_MIRROR
from reconstruct.body.sides import Hand, chosen_hands, repaired_pose

FRAMES = 12


def pose_track() -> NDArray[Any]:
    """(T, 33, 3) a person with shoulders 100 px apart whose wrists cross slowly in the middle of the clip."""
    pose = np.zeros((FRAMES, 33, 3), np.float32)
    pose[..., 2] = 1
    pose[:, 11, 0], pose[:, 12, 0] = 150, 50
    for t in range(FRAMES):
        pose[t, 15, :2] = 150 - 8 * t, 100
        pose[t, 16, :2] = 50 + 8 * t, 140
        pose[t, 13, :2], pose[t, 14, :2] = (160, 80), (40, 80)
    return pose


def hand_at(place: NDArray[Any], left: float, score: float = 0.9) -> Hand:
    spread = np.stack([np.linspace(0, 20, 21), np.linspace(0, -20, 21)], axis=1)
    return Hand(place + spread, np.zeros((21, 3)), left, score)


def test_each_hand_follows_its_wrist_though_both_are_in_each_square() -> None:
    pose = pose_track()
    found = []
    for t in range(FRAMES):
        pair = [hand_at(pose[t, 15, :2], 0.9), hand_at(pose[t, 16, :2], 0.1)]
        found.append([pair, pair[::-1]])
    (left, _), (right, _) = chosen_hands(pose, found)
    assert left[:, 0, :2] == pytest.approx(pose[:, 15, :2], abs=1e-4)
    assert right[:, 0, :2] == pytest.approx(pose[:, 16, :2], abs=1e-4)


def test_a_frame_of_wrong_looks_does_not_swap_hands() -> None:
    pose = pose_track()
    found = []
    for t in range(FRAMES):
        wrong = t in (5, 6)
        pair = [hand_at(pose[t, 15, :2], 0.1 if wrong else 0.9), hand_at(pose[t, 16, :2], 0.9 if wrong else 0.1)]
        found.append([pair, []])
    (left, _), (right, _) = chosen_hands(pose, found)
    assert left[:, 0, :2] == pytest.approx(pose[:, 15, :2], abs=1e-4)
    assert np.isfinite(right).all()


def test_what_is_seen_near_a_wrist_is_kept() -> None:
    """Also where a hand looks like the other one and has moved by its own size since the frame before."""
    pose = pose_track()
    found = []
    for t in range(FRAMES):
        shaken = np.array([30.0 * (-1) ** t, 0.0])
        found.append([[hand_at(pose[t, 15, :2] + shaken, 0.9)], [hand_at(pose[t, 16, :2] - shaken, 0.95, 0.6)]])
    for hand, _ in chosen_hands(pose, found):
        assert np.isfinite(hand).all()


def test_one_hand_is_not_two_and_a_stranger_is_none() -> None:
    pose = pose_track()
    only = [[[hand_at(pose[t, 15, :2], 0.9)], [hand_at(pose[t, 15, :2] + 1, 0.9, 0.5)]] for t in range(FRAMES)]
    (left, _), (right, _) = chosen_hands(pose, only)
    assert np.isfinite(left).all()
    assert np.isnan(right).all()
    far = [[[hand_at(np.array([400.0, 300.0]), 0.9)], []] for _ in range(FRAMES)]
    (left, _), (right, _) = chosen_hands(pose, far)
    assert np.isnan(left).all()
    assert np.isnan(right).all()


def test_poses_with_swapped_sides_are_put_right() -> None:
    pose = pose_track()[:5]
    world = np.arange(5 * 33 * 4, dtype=np.float32).reshape(5, 33, 4)
    mixed, mixed_world = pose.copy(), world.copy()
    for t in (2, 4):
        mixed[t], mixed_world[t] = pose[t][list(POSE_MIRROR)], world[t][list(POSE_MIRROR)]
    points, places = repaired_pose(mixed, mixed_world)
    assert (points == pose).all()
    assert (places == world).all()
    missing = mixed.copy()
    missing[1] = np.nan
    points, _ = repaired_pose(missing, mixed_world)
    assert np.isnan(points[1]).all()
    assert (points[2] == pose[2]).all()
