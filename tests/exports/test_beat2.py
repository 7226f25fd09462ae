"""BEAT2 files: the exact keys and shapes, and that a reader's body stands where ours does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from exports.beat2 import poses_of, read_beat2, resampled, to_beat2, upright, write_beat2
from schemas.errors import UsageError


def body(frames: int = 5) -> tuple[NDArray[Any], NDArray[Any]]:
    random = np.random.default_rng(0)
    return random.normal(0, 0.3, (frames, 55, 3)), random.normal(0, 1, (frames, 3))


def test_keys_shapes_and_types_are_those_of_the_format(tmp_path: Path) -> None:
    poses, place = body()
    arrays = to_beat2(poses, place, np.ones(150, np.float32), np.ones((5, 52), np.float32))
    write_beat2(tmp_path / "a.npz", arrays)
    with np.load(tmp_path / "a.npz", allow_pickle=True) as stored:
        assert set(stored.files) == {
            *("betas", "poses", "expressions", "trans", "model", "gender", "mocap_frame_rate"),
        }
        assert stored["betas"].shape == (300,)
        assert stored["poses"].shape == (5, 165)
        assert stored["expressions"].shape == (5, 100)
        assert stored["trans"].shape == (5, 3)
        assert str(stored["model"]) == "smplx2020"
        assert str(stored["gender"]) == "neutral"
        assert int(stored["mocap_frame_rate"]) == 30
        assert stored["betas"][149:151].tolist() == [1, 0]
    again = read_beat2(tmp_path / "a.npz")
    assert again["poses"] == pytest.approx(poses.reshape(5, 165), abs=1e-6)


def test_the_mean_hand_is_taken_away() -> None:
    poses, place = body()
    mean = np.arange(90, dtype=np.float32).reshape(2, 45)
    flat = to_beat2(poses, place, np.zeros(1, np.float32))["poses"]
    less = to_beat2(poses, place, np.zeros(1, np.float32), hands_mean=mean)["poses"]
    assert flat[:, 75:120] - less[:, 75:120] == pytest.approx(np.tile(mean[0], (5, 1)), abs=1e-5)
    assert flat[:, 120:] - less[:, 120:] == pytest.approx(np.tile(mean[1], (5, 1)), abs=1e-5)
    assert (flat[:, :75] == less[:, :75]).all()


def test_upright_turns_the_whole_body_and_nothing_else() -> None:
    poses, place = body()
    pelvis, vertex = np.array([0.01, -0.3, 0.02]), np.array([0.2, 0.4, 0.1])
    turned, moved = upright(poses, place, pelvis)
    flip = np.diag([1.0, -1.0, -1.0])

    def posed(root: NDArray[Any], translation: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(Rotation.from_rotvec(root).apply(vertex - pelvis) + pelvis + translation)

    assert posed(turned[:, 0], moved) == pytest.approx(posed(poses[:, 0], place) @ flip, abs=1e-9)
    assert (turned[:, 1:] == poses[:, 1:]).all()


def test_resampling_keeps_the_clock_and_the_ends() -> None:
    seconds = np.arange(26) / 25
    turn = np.zeros((26, 55, 3))
    turn[:, 3, 1] = seconds  # one radian a second
    place = np.stack([seconds, 2 * seconds, 0 * seconds], axis=1)
    poses, moved = resampled(turn, place, np.round(1e6 * seconds).astype(np.int64))
    assert len(poses) == 31
    assert poses[:, 3, 1] == pytest.approx(np.arange(31) / 30, abs=1e-6)
    assert moved[:, 1] == pytest.approx(2 * np.arange(31) / 30, abs=1e-6)


def test_columns_of_a_clip_become_joints() -> None:
    random = np.random.default_rng(1)
    columns = {
        "body_global_pose": random.normal(size=(2, 3)),
        "body_pose": random.normal(size=(2, 63)),
        "left_hand_pose": random.normal(size=(2, 45)),
        "right_hand_pose": random.normal(size=90),
        "jaw_pose": random.normal(size=6),
    }
    poses = poses_of(columns)
    assert poses[1, 40] == pytest.approx(columns["right_hand_pose"][45:48])
    assert poses[0, 1] == pytest.approx(columns["body_pose"][0, :3])
    assert poses[1, 22] == pytest.approx(columns["jaw_pose"][3:])
    assert not poses[:, 23:25].any()
    with pytest.raises(UsageError, match=r"reconstruct\.body"):
        poses_of({"jaw_pose": columns["jaw_pose"]})


def test_frames_without_values_are_refused() -> None:
    poses, place = body()
    place[2] = np.nan
    with pytest.raises(UsageError, match="without values"):
        to_beat2(poses, place, np.zeros(1, np.float32))


def test_a_file_without_a_key_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", poses=np.zeros((1, 165)))
    with pytest.raises(UsageError, match="betas"):
        read_beat2(tmp_path / "b.npz")
