"""Resampling: known motion at other rates, holes, exact times over an hour, rotations near pi, a naive twin."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from talkset.resample import frame_times, resample

NTSC = Fraction(30000, 1001)


def frames_at(fps: Fraction | int, seconds: int = 2) -> NDArray[np.int64]:
    return frame_times(0, seconds * 1_000_000, fps)


def turning(pts_us: NDArray[np.int64], start: float = 2.8) -> NDArray[np.float64]:
    """Constant angular velocity about a fixed axis, passing pi."""
    angle = start + 0.4 * pts_us / 1e6
    return np.outer(angle, [0.6, 0.0, 0.8])


def all_valid(pts_us: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.ones(len(pts_us), dtype=bool)


@pytest.mark.parametrize("chain", [(25, 50, 25), (25, 30), (30, 25), (25, NTSC, 50), (NTSC, 24)])
def test_constant_velocity_stays_exact(chain: tuple[Fraction | int, ...]) -> None:
    pts = frames_at(chain[0])
    made: dict[str, Any] = {"turn": turning(pts), "move": np.outer(pts / 1e6, [1.0, -2.0]), "pts_us": pts}
    made["valid"] = all_valid(pts)
    for fps in chain[1:]:
        signals = {"turn": made["turn"], "move": made["move"]}
        made = resample(signals, {"turn": "axis_angle", "move": "linear"}, made["pts_us"], made["valid"], fps)
        np.testing.assert_array_equal(made["pts_us"], frame_times(0, int(made["pts_us"][-1]), fps))
        np.testing.assert_allclose(made["turn"], turning(made["pts_us"]), atol=1e-9)
        np.testing.assert_allclose(made["move"], np.outer(made["pts_us"] / 1e6, [1.0, -2.0]), atol=1e-9)
        assert made["valid"].all()
        assert made["pts_us"].dtype == np.int64


def test_times_are_used_not_the_index() -> None:
    pts = np.array([0, 40_000, 50_000, 200_000, 240_000])  # variable frame rate
    made = resample({"x": pts / 1e6}, {"x": "linear"}, pts, all_valid(pts), 25)
    np.testing.assert_allclose(made["x"], made["pts_us"] / 1e6)
    np.testing.assert_array_equal(made["pts_us"], np.arange(7) * 40_000)


def test_a_hole_stays_a_hole() -> None:
    pts = np.arange(10) * 40_000
    valid = all_valid(pts)
    valid[4:6] = False  # 160 and 200 ms
    signals = {"x": np.arange(10.0), "seen": valid, "turn": turning(pts), "label": np.arange(10)}
    kinds = {"x": "linear", "seen": "bool", "turn": "axis_angle", "label": "nearest"}
    made = resample(signals, kinds, pts, valid, 50)
    inside = (made["pts_us"] > 120_000) & (made["pts_us"] < 240_000)
    np.testing.assert_array_equal(made["valid"], ~inside)
    np.testing.assert_array_equal(made["seen"], ~inside)
    np.testing.assert_array_equal(np.isnan(made["x"]), inside)
    np.testing.assert_array_equal(np.isnan(made["turn"]).all(1), inside)
    np.testing.assert_allclose(made["turn"][~inside], turning(made["pts_us"])[~inside], atol=1e-9)
    assert made["label"].tolist()[:5] == [0, 1, 1, 2, 2]  # half-way is the later frame
    # values of frames that are not valid are never read
    garbage = np.where(valid, np.arange(10.0), 1e9)
    np.testing.assert_array_equal(resample({"x": garbage}, kinds, pts, valid, 50)["x"], made["x"])


def test_a_gap_between_frames_is_a_hole_on_request() -> None:
    pts = np.array([0, 40_000, 80_000, 400_000, 440_000])
    filled = resample({}, {}, pts, all_valid(pts), 25)
    assert filled["valid"].all()
    made = resample({}, {}, pts, all_valid(pts), 25, max_gap_us=100_000)
    np.testing.assert_array_equal(made["valid"], (made["pts_us"] <= 80_000) | (made["pts_us"] >= 400_000))


def test_ntsc_times_do_not_drift_over_an_hour() -> None:
    hour = frame_times(0, 3_600_000_000, NTSC)
    assert len(hour) == 3600 * 30000 // 1001 + 1
    exact = [Fraction(k * 1001 * 1_000_000, 30000) for k in (0, 1, 53_946, len(hour) - 1)]
    assert hour[[0, 1, 53_946, -1]].tolist() == [round(time) for time in exact]
    angle = 1e-4 * np.arange(len(hour))
    made = resample({"x": angle}, {"x": "linear"}, hour, all_valid(hour), 25)
    np.testing.assert_allclose(made["x"], 1e-4 * made["pts_us"] * 30000 / 1001 / 1e6, atol=1e-8)


def test_the_same_rate_changes_nothing_even_where_times_were_cut_instead_of_rounded() -> None:
    cut = np.array([int(Fraction(k * 1001 * 1_000_000, 30000)) for k in range(60)])
    assert (cut != frame_times(0, int(cut[-1]), NTSC)).any()
    values = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    valid = np.random.default_rng(1).uniform(size=60) < 0.7
    made = resample({"x": values}, {"x": "linear"}, cut, valid, NTSC)
    np.testing.assert_array_equal(made["valid"], valid)
    np.testing.assert_array_equal(made["x"], np.where(valid[:, None], values, np.nan))
    assert made["x"].dtype == np.float32
    assert made["pts_us"][-1] == cut[-1]


def test_a_rotation_near_pi_does_not_flip() -> None:
    pts = np.arange(50) * 40_000
    rotation = Rotation.from_rotvec(0.1 * np.sin(pts / 2e5)[:, None] * [1.0, 0.3, 0]) * Rotation.from_rotvec(
        [np.pi, 0, 0]
    )
    wrapped = rotation.as_rotvec()
    assert np.abs(np.diff(wrapped, axis=0)).max() > 6  # the shortest form jumps
    made = resample({"pose": wrapped.astype(np.float32)}, {"pose": "axis_angle"}, pts, all_valid(pts), 50)
    assert np.abs(np.diff(made["pose"], axis=0)).max() < 0.1
    expected = Slerp(pts, rotation)(made["pts_us"])
    assert (Rotation.from_rotvec(made["pose"]).inv() * expected).magnitude().max() < 1e-5
    np.testing.assert_allclose(made["pose"][0], wrapped[0], atol=1e-6)


def test_many_joints_at_once() -> None:
    pts = np.arange(8) * 40_000
    joints = np.random.default_rng(0).normal(0, 0.3, (8, 5, 3))
    made = resample({"pose": joints}, {"pose": "axis_angle"}, pts, all_valid(pts), 30)["pose"]
    for joint in range(5):
        alone = resample({"pose": joints[:, joint]}, {"pose": "axis_angle"}, pts, all_valid(pts), 30)["pose"]
        np.testing.assert_array_equal(made[:, joint], alone)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_agrees_with_a_naive_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    pts = np.cumsum(rng.integers(5, 80_000, count))
    valid = rng.uniform(size=count) < 0.7
    x = rng.normal(size=(count, 2))
    pose = rng.normal(0, 0.5, (count, 3))
    targets = np.unique(np.concatenate([rng.choice(pts, 3), rng.integers(pts[0], pts[-1] + 1, 10)]))
    gap = int(rng.integers(1, 80_000))
    made = resample({"x": x, "pose": pose}, {"x": "linear", "pose": "axis_angle"}, pts, valid, targets, gap)
    for place, time in enumerate(targets):
        near = [i for i in range(count) if abs(pts[i] - time) <= 1]
        if near:
            known, expected, turn = valid[near[0]], x[near[0]], Rotation.from_rotvec(pose[near[0]])
        else:
            i = max(i for i in range(count) if pts[i] < time)
            part = (time - pts[i]) / (pts[i + 1] - pts[i])
            known = valid[i] and valid[i + 1] and pts[i + 1] - pts[i] <= gap
            expected = (1 - part) * x[i] + part * x[i + 1]
            turn = Slerp([0, 1], Rotation.from_rotvec(pose[i : i + 2]))(part)
        assert made["valid"][place] == known
        if known:
            np.testing.assert_allclose(made["x"][place], expected, atol=1e-12)
            assert (Rotation.from_rotvec(made["pose"][place]).inv() * turn).magnitude() < 1e-6
        else:
            assert np.isnan(made["x"][place]).all()
            assert np.isnan(made["pose"][place]).all()


def test_what_cannot_be_resampled_is_named() -> None:
    pts, x = np.arange(4) * 40_000, np.zeros(4)
    valid = all_valid(pts)
    cases: list[tuple[str, tuple[Any, ...]]] = [
        (r"signal 'x' has the kind None", ({"x": x}, {}, pts, valid, 25)),
        (
            r"'x' has shape \(3,\) float64, which is not 4 frames of linear",
            ({"x": x[1:]}, {"x": "linear"}, pts, valid, 25),
        ),
        (r"not 4 frames of linear", ({"x": pts}, {"x": "linear"}, pts, valid, 25)),
        (r"not 4 frames of axis_angle", ({"x": x}, {"x": "axis_angle"}, pts, valid, 25)),
        (r"40000 us is followed by 40000 us at 2", ({}, {}, np.array([0, 40_000, 40_000, 50_000]), valid, 25)),
        (r"pts_us has shape \(4,\) float64", ({}, {}, pts / 1e6, valid, 25)),
        (r"leave the frames 0\.\.120000 us", ({}, {}, pts, valid, np.array([0, 120_001]))),
        (r"target does not rise", ({}, {}, pts, valid, [40_000, 0])),
        (r"0 frames per second", ({}, {}, pts, valid, 0)),
        (r"nan frames per second", ({}, {}, pts, valid, float("nan"))),
        (r"valid has shape \(3,\)", ({}, {}, pts, valid[1:], 25)),
        (r"max_gap_us is 0", ({}, {}, pts, valid, 25, 0)),
    ]
    for message, arguments in cases:
        with pytest.raises(ValueError, match=message):
            resample(*arguments)
    assert resample({"x": x}, {"x": "linear"}, pts, valid, [])["x"].shape == (0,)
    assert resample({"x": x}, {"x": "linear"}, pts, valid, np.array(25))["x"].shape == (4,)
