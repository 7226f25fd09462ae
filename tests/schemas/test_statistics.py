"""Streaming statistics against numpy over everything at once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from schemas.statistics import QUANTILES, Moments, Statistics, head_angles_deg

FRONTAL = Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
"""Model space to camera space of a face that looks into the camera."""


def _check(moments: Moments, whole: np.ndarray) -> None:  # type: ignore[type-arg]
    summary = moments.summary()
    assert summary["count"] == len(whole)
    if len(whole):
        for key, expected in (
            ("mean", whole.mean(0)),
            ("std", whole.std(0)),
            ("min", whole.min(0)),
            ("max", whole.max(0)),
        ):
            np.testing.assert_allclose(summary[key], expected, rtol=1e-9, atol=1e-7)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 2**32 - 1), st.floats(-1e4, 1e4))
def test_batches_and_merged_streams_equal_the_whole(sizes: list[int], seed: int, offset: float) -> None:
    values = (np.random.default_rng(seed).normal(size=(sum(sizes), 3)) + offset).astype(np.float32)
    moments, merged = Moments(3), Moments(3)
    for batch in np.split(values, np.cumsum(sizes)[:-1]):
        moments.add(batch)
        part = Moments(3)
        part.add(batch)
        merged.merge(part)
    _check(moments, values.astype(np.float64))
    _check(merged, values.astype(np.float64))


def test_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match="width 3"):
        Moments(3).add(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="width 3"):
        Moments(3).merge(Moments(4))
    statistics = Statistics()
    statistics.add_signal("open-head", "jaw_pose", np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"signal jaw_pose of open-head: .* width 3"):
        statistics.add_signal("open-head", "jaw_pose", np.zeros((2, 4)))


def _filled(seeds: range) -> Statistics:
    statistics = Statistics()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        model = ("open-head", "flame2023")[seed % 2]
        for name in ("expression", "global_pose"):
            statistics.add_signal(model, name, rng.normal(size=(20, 3)).astype(np.float32))
        statistics.add_clip(25, 20, 1_000_000)
    return statistics


def test_summary_has_quantiles_of_each_head_model_and_is_json() -> None:
    statistics = _filled(range(6))
    statistics.add_signal("flame2023", "never_measured", np.zeros((0, 2)))
    summary = json.loads(json.dumps(statistics.summary(), allow_nan=False))
    assert list(summary["signals"]) == ["flame2023", "open-head"]
    values = np.concatenate([np.random.default_rng(seed).normal(size=(20, 3)) for seed in (1, 3, 5)]).astype(np.float32)
    found = summary["signals"]["flame2023"]["expression"]
    for name, fraction in QUANTILES.items():
        exact = np.quantile(values.astype(np.float64), fraction, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(found[name], exact, rtol=summary["quantile_relative_error"])
    assert found["min"] == values.min(0).tolist()
    nothing = summary["signals"]["flame2023"]["never_measured"]
    assert nothing == {"count": 0, **{key: [] for key in ("mean", "std", "min", "max", *QUANTILES)}}
    assert summary["head_angles_deg"]["open-head"]["count"] == 60
    assert summary["totals"] == {"clips": 6, "frames": 150, "valid_frames": 120, "seconds": 6.0}


def test_merged_parts_equal_the_whole() -> None:
    whole, merged = _filled(range(6)).summary(), _filled(range(2))
    for part in (range(2, 3), range(3, 6), range(0)):
        merged.merge(_filled(part))
    found = merged.summary()
    assert found["totals"] == whole["totals"]
    for model in ("open-head", "flame2023"):
        for name in ("expression", "global_pose"):
            for key, values in whole["signals"][model][name].items():
                np.testing.assert_allclose(found["signals"][model][name][key], values, rtol=1e-12)
        assert found["head_angles_deg"][model]["q95"] == whole["head_angles_deg"][model]["q95"]


@pytest.mark.parametrize(
    ("angles", "nose", "subject_left"),
    [
        ((0, 0, 0), (0, 0, -1), (1, 0, 0)),
        ((90, 0, 0), (0, -1, 0), (1, 0, 0)),  # looks up: the camera's y points down
        ((0, 90, 0), (1, 0, 0), (0, 0, 1)),  # turned to the subject's left, which is the right of the picture
        ((0, 0, 90), (0, 0, -1), (0, -1, 0)),  # tilted to the subject's right: the left ear is on top
    ],
)
def test_head_angles_mean_what_they_say(
    angles: tuple[float, ...], nose: tuple[float, ...], subject_left: tuple[float, ...]
) -> None:
    pitch, yaw, roll = angles
    rotation = FRONTAL * Rotation.from_euler("YXZ", [yaw, -pitch, roll], degrees=True)
    np.testing.assert_allclose(rotation.apply([0, 0, 1]), nose, atol=1e-12)
    np.testing.assert_allclose(rotation.apply([1, 0, 0]), subject_left, atol=1e-12)
    almost = FRONTAL * Rotation.from_euler("YXZ", [yaw, -0.99 * pitch, roll], degrees=True)  # clear of gimbal lock
    found = head_angles_deg(almost.as_rotvec()[None])
    np.testing.assert_allclose(found, [[0.99 * pitch, yaw, roll]], atol=1e-9)


def test_head_angles_round_trip_also_where_the_rotation_is_unwrapped() -> None:
    angles = np.random.default_rng(1).uniform(-85, 85, (100, 3))
    pitch, yaw, roll = angles.T
    vectors = (FRONTAL * Rotation.from_euler("YXZ", np.stack([yaw, -pitch, roll], 1), degrees=True)).as_rotvec()
    np.testing.assert_allclose(head_angles_deg(vectors), angles, atol=1e-8)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(head_angles_deg(vectors * (norm - 2 * np.pi) / norm), angles, atol=1e-8)
    np.testing.assert_allclose(np.abs(head_angles_deg(np.zeros((1, 3)))), [[0, 180, 180]])
