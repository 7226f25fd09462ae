"""Metrics of time against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from generator import metrics_time
from schemas.errors import UsageError


def test_angular_speed_is_that_of_the_rotation_however_it_is_written() -> None:
    turned = Rotation.from_rotvec([[np.pi, 0, 0]]) * Rotation.from_rotvec([[0, 0.1 * k, 0] for k in range(4)])
    written = turned.as_rotvec()
    assert metrics_time.angular_speed(written, 25) == pytest.approx([2.5] * 3)
    length = np.linalg.norm(written[1])
    written[1] *= (length - 2 * np.pi) / length  # the same rotation the other way round
    assert metrics_time.angular_speed(written, 25) == pytest.approx([2.5] * 3)


def test_beats_of_the_head_are_where_its_speed_is_least() -> None:
    speed = np.array([3.0, 2, 1, 2, 3, 2, 1, 0.5, 1, 2, 3])  # minima at 2 and 7
    angle = np.concatenate([[0], np.cumsum(speed)]) / 100
    rotations = np.stack([np.zeros_like(angle), angle, np.zeros_like(angle)], axis=1)
    assert metrics_time.head_beats_s(rotations, 10) == pytest.approx([0.25, 0.75])
    assert metrics_time.head_beats_s(rotations, 10, order=3) == pytest.approx([0.75])  # 2 has no three on its left


def test_alignment_goes_over_the_beats_with_the_stated_sigma() -> None:
    found = metrics_time.head_beat_align(np.array([1.0, 2.0]), np.array([1.0, 2.12, 5.0]), sigma_s=0.12)
    assert found == pytest.approx((1 + np.exp(-0.5)) / 2)
    assert metrics_time.head_beat_align(np.array([1.0]), np.zeros(0)) == 0
    assert np.isnan(metrics_time.head_beat_align(np.zeros(0), np.array([1.0])))
    with pytest.raises(UsageError, match="sigma_s"):
        metrics_time.head_beat_align(np.array([1.0]), np.array([1.0]), sigma_s=0)


def test_diversity_is_the_mean_distance_of_pairs_of_samples() -> None:
    zero = np.zeros((2, 1, 3))
    near, far = zero + np.array([0.003, 0, 0]), zero + np.array([0, 0.004, 0])
    assert metrics_time.diversity_samples([zero, near, far]) == pytest.approx((3 + 4 + 5) / 3)
    assert metrics_time.diversity_samples([near, near]) == 0
    with pytest.raises(UsageError, match="two or more"):
        metrics_time.diversity_samples([zero])


def test_retrieval_counts_queries_whose_nearest_entry_has_their_label() -> None:
    gallery = np.array([[1.0, 0], [0, 1], [-1, 0]])
    queries = np.array([[0.9, 0.1], [0.1, 5.0], [0.0, -1.0]])
    labels = ["a", "b", "a"]
    assert metrics_time.retrieval_top1(queries[:2], gallery, ["a", "a"], labels) == 0.5
    assert metrics_time.retrieval_top1(queries, gallery, ["a", "b", "b"], labels) == pytest.approx(2 / 3)
    near = np.array([[0.2, 0.1]])  # the direction of the first, but nearer to a short one
    assert metrics_time.retrieval_top1(near, np.array([[1.0, 0], [0, 0.2]]), ["a"], ["a", "b"]) == 1
    assert metrics_time.retrieval_top1(near, np.array([[1.0, 0], [0, 0.2]]), ["a"], ["a", "b"], lengths_count=True) == 0


def test_blinks_are_rises_of_the_closure_per_minute() -> None:
    closure = np.zeros(250)  # ten seconds at 25 a second
    closure[20:24] = closure[100:103] = 1
    closure[200:203] = 0.4  # half closed is no blink
    assert metrics_time.blinks_per_minute(closure, 25) == pytest.approx(12)


def test_real_time_factor_is_sound_over_wall_time() -> None:
    assert metrics_time.real_time_factor(10, 2) == 5
