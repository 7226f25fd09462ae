"""Metrics of gestures against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from generator import metrics_gesture
from schemas.errors import UsageError


def path(speeds: list[float]) -> NDArray[np.float64]:
    """(T, 1, 3) a joint that moves along x at those speeds a frame."""
    place = np.concatenate([[0.0], np.cumsum(speeds)])
    return np.asarray(np.stack([place, 0 * place, 0 * place], axis=1)[:, None])


def test_motion_beats_are_minima_of_relative_speed_above_the_threshold() -> None:
    speeds = [9.0, 8, 7, 6, 5, 4, 3, 2, 3, 4, 5, 6, 7, 8, 9, 9]  # mean 5.9, minimum 2 at step 7: relative 0.34
    assert metrics_gesture.motion_beats_s(path(speeds), 30) == pytest.approx([7.5 / 30])
    assert len(metrics_gesture.motion_beats_s(path(speeds), 30, threshold=0.5)) == 0
    speeds[7] = 0.2  # a joint at rest has no beat
    assert len(metrics_gesture.motion_beats_s(path(speeds), 30)) == 0


def test_beat_consistency_goes_over_onsets() -> None:
    found = metrics_gesture.beat_consistency(np.array([1.0, 9.0]), np.array([1.0, 1.3, 3.0]))
    assert found == pytest.approx((1 + np.exp(-0.5) + np.exp(-(2.0**2) / (2 * 0.09))) / 3)
    assert metrics_gesture.beat_consistency(np.zeros(0), np.array([1.0])) == 0
    assert np.isnan(metrics_gesture.beat_consistency(np.array([1.0]), np.zeros(0)))


def test_l1_div_is_the_mean_l1_distance_from_the_mean_pose() -> None:
    motion = np.array([[0.0, 1], [2, 1], [4, 4]])  # mean (2, 2); distances 2+1, 0+1, 2+2
    assert metrics_gesture.l1_div(motion) == pytest.approx((3 + 1 + 4) / 3)


def test_lvd_and_mse_face() -> None:
    truth = path([0.1, 0.1])
    still = np.zeros_like(truth)
    assert metrics_gesture.lvd(truth, still, 30) == pytest.approx(3.0)
    assert metrics_gesture.lvd(truth, truth + 1.0, 30) == pytest.approx(0)  # a constant offset has no velocity
    moved = still + np.array([0.001, 0.002, 0])
    assert metrics_gesture.mse_face(still, moved) == pytest.approx(5.0)


def test_fgd_is_named_after_its_extractor() -> None:
    rng = np.random.default_rng(0)
    motion = rng.normal(size=(500, 2))
    scaled = motion * 2 + [3, 0]
    name, distance = metrics_gesture.fgd(motion, scaled, lambda rows: rows, "identity")
    mean, covariance = motion.mean(0), np.cov(motion, rowvar=False)
    # C2 = 4 C1, so tr(C1 + 4 C1 - 2 * 2 C1) = tr(C1)
    expected = ((2 * mean + [3, 0] - mean) ** 2).sum() + np.trace(covariance)
    assert name == "fgd(identity)"
    assert distance == pytest.approx(expected)
    assert metrics_gesture.fgd(motion, motion, lambda rows: rows, "identity")[1] == pytest.approx(0, abs=1e-9)
    with pytest.raises(UsageError, match="Name the extractor"):
        metrics_gesture.fgd(motion, motion, lambda rows: rows, "")
