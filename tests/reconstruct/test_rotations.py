"""Rotation forms: round trips and axioms as properties, two other implementations, NaN rows, continuity over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp

from reconstruct.models import rotations as forms
from reconstruct.models import skinning

Float64 = NDArray[np.float64]


@st.composite
def axis_angles(draw: st.DrawFn, largest: float = np.pi - 1e-3) -> Float64:
    """(N, 3) with angles 0..largest, zero and tiny ones among them."""
    count = draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    axes = rng.normal(size=(count, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = rng.choice([0.0, 1e-9, 1e-4, 0.5, 1.0], count) * rng.uniform(0, largest, count)
    return np.asarray(axes * angles[:, None])


def assert_same_rotation(first: NDArray[Any], second: NDArray[Any], radians: float = 1e-7) -> None:
    between = Rotation.from_rotvec(first.reshape(-1, 3)).inv() * Rotation.from_rotvec(second.reshape(-1, 3))
    assert between.magnitude().max() < radians


@given(axis_angles())
def test_every_form_round_trips(rotation: Float64) -> None:
    np.testing.assert_allclose(forms.matrix_to_axis_angle(forms.axis_angle_to_matrix(rotation)), rotation, atol=1e-9)
    np.testing.assert_allclose(forms.sixd_to_axis_angle(forms.axis_angle_to_6d(rotation)), rotation, atol=1e-9)
    for order in ("wxyz", "xyzw"):
        quaternion = forms.axis_angle_to_quaternion(rotation, order)
        back = forms.quaternion_to_axis_angle(quaternion, order)
        np.testing.assert_allclose(back, rotation, atol=1e-9)


@given(axis_angles(largest=9.0))
def test_matrices_are_rotations_and_agree_with_skinning(rotation: Float64) -> None:
    matrices = forms.axis_angle_to_matrix(rotation)
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.tile(np.eye(3), (len(rotation), 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-12)
    ours = skinning.axis_angle_to_matrix(torch.as_tensor(rotation)).numpy()
    np.testing.assert_allclose(matrices, ours, atol=1e-9)


@given(axis_angles(largest=9.0), st.integers(0, 1000))
def test_composition_of_matrices_is_that_of_quaternions(rotation: Float64, seed: int) -> None:
    other = np.random.default_rng(seed).normal(size=rotation.shape)
    product = forms.axis_angle_to_matrix(rotation) @ forms.axis_angle_to_matrix(other)
    w, x, y, z = forms.axis_angle_to_quaternion(rotation).T
    p, q, r, s = forms.axis_angle_to_quaternion(other).T
    hamilton = np.stack(
        [
            w * p - x * q - y * r - z * s,
            w * q + x * p + y * s - z * r,
            w * r - x * s + y * p + z * q,
            w * s + x * r - y * q + z * p,
        ],
        axis=1,
    )
    assert_same_rotation(forms.matrix_to_axis_angle(product), forms.quaternion_to_axis_angle(hamilton))


def test_known_rotation_and_order_of_elements() -> None:
    quarter = np.array([0.0, 0.0, np.pi / 2])  # about z: x goes to y
    np.testing.assert_allclose(forms.axis_angle_to_matrix(quarter) @ [1, 0, 0], [0, 1, 0], atol=1e-12)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(forms.axis_angle_to_quaternion(quarter), [half, 0, 0, half], atol=1e-12)
    np.testing.assert_allclose(forms.axis_angle_to_quaternion(quarter, "xyzw"), [0, 0, half, half], atol=1e-12)
    np.testing.assert_allclose(forms.axis_angle_to_6d(quarter), [0, -1, 0, 1, 0, 0], atol=1e-12)  # rows
    assert (forms.axis_angle_to_quaternion(np.array([[4.0, 0, 0], [-4.0, 0, 0]]))[:, 0] >= 0).all()


def test_batches_keep_their_axes_and_float32() -> None:
    batch = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    shapes = {
        forms.axis_angle_to_matrix: (2, 5, 3, 3),
        forms.axis_angle_to_quaternion: (2, 5, 4),
        forms.axis_angle_to_6d: (2, 5, 6),
    }
    for function, shape in shapes.items():
        made = function(batch)
        assert made.shape == shape
        assert made.dtype == np.float32
    assert forms.axis_angle_to_matrix(np.zeros((0, 3))).shape == (0, 3, 3)
    with pytest.raises(ValueError, match=r"shape \(2, 4\), expected \(\.\.\., 3\)"):
        forms.axis_angle_to_matrix(np.zeros((2, 4)))


def test_rows_that_are_not_known_stay_nan_and_touch_no_other() -> None:
    rotation = np.random.default_rng(1).normal(size=(6, 3))
    holes = rotation.copy()
    holes[1] = np.nan
    holes[4, 2] = np.inf
    for there, back in (
        (forms.axis_angle_to_matrix, forms.matrix_to_axis_angle),
        (forms.axis_angle_to_quaternion, forms.quaternion_to_axis_angle),
        (forms.axis_angle_to_6d, forms.sixd_to_axis_angle),
    ):
        made = there(holes)
        np.testing.assert_array_equal(made[[0, 2, 3, 5]], there(rotation)[[0, 2, 3, 5]])
        for result in (made, back(made), forms.unwrap_axis_angle(holes)):
            assert np.isnan(result[[1, 4]]).all()
            assert np.isfinite(result[[0, 2, 3, 5]]).all()


def test_a_6d_output_needs_no_unit_length_and_a_degenerate_one_is_nan() -> None:
    rotation = np.array([[0.3, -0.2, 0.9]])
    rows = forms.axis_angle_to_6d(rotation)
    skewed = np.concatenate([5 * rows[:, :3], 0.1 * rows[:, 3:] - 2 * rows[:, :3]], axis=1)
    np.testing.assert_allclose(forms.sixd_to_axis_angle(skewed), rotation, atol=1e-9)
    bad = np.array([[0, 0, 0, 1, 0, 0], [1, 0, 0, -2, 0, 0], [1, 0, 0, 0, 0, 0.0]])
    assert np.isnan(forms.sixd_to_axis_angle(bad)).all()
    assert np.isfinite(forms.sixd_to_axis_angle(np.concatenate([bad, rows]))[3]).all()


def test_what_is_no_rotation_is_named() -> None:
    mirror = np.stack([np.eye(3), np.diag([1.0, 1.0, -1.0])])
    with pytest.raises(ValueError, match=r"matrix 1 .* determinant is -1"):
        forms.matrix_to_axis_angle(mirror)
    with pytest.raises(ValueError, match="quaternion 1 is zero"):
        forms.quaternion_to_axis_angle(np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="'zyxw'"):
        forms.axis_angle_to_quaternion(np.zeros(3), "zyxw")  # type: ignore[arg-type]


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=40)
def test_unwrapping_changes_no_rotation_and_leaves_no_jump(seed: int, holes: bool) -> None:
    rng = np.random.default_rng(seed)
    start = Rotation.from_rotvec([np.pi, 0, 0])
    steps = np.cumsum(rng.normal(0, 0.05, (80, 3)), axis=0)
    wrapped = (Rotation.from_rotvec(steps) * start).as_rotvec()
    if holes:
        wrapped[rng.uniform(size=80) < 0.3] = np.nan
    known = np.isfinite(wrapped).all(1)
    smooth = forms.unwrap_axis_angle(wrapped)
    np.testing.assert_array_equal(np.isnan(smooth), np.isnan(wrapped))
    assert_same_rotation(smooth[known], wrapped[known])
    # where neighbours differ by little as rotations, no other form of the later one is nearer to the earlier
    values = smooth[known]
    angle = np.linalg.norm(values, axis=1, keepdims=True)
    for turns in (-2, -1, 1, 2):
        other = values * (1 + 2 * np.pi * turns / angle)
        assert (
            np.linalg.norm(values[1:] - values[:-1], axis=1) <= np.linalg.norm(other[1:] - values[:-1], axis=1) + 1e-9
        ).all()


def test_unwrapping_near_pi() -> None:
    turns = np.stack([np.linspace(2.9, 3.6, 30), 0.05 * np.ones(30), np.zeros(30)], axis=1)
    wrapped = forms.matrix_to_axis_angle(forms.axis_angle_to_matrix(turns))
    assert np.abs(np.diff(wrapped, axis=0)).max() > 6
    np.testing.assert_allclose(forms.unwrap_axis_angle(wrapped), turns, atol=1e-9)


def test_unwrapping_counts_whole_turns_and_starts_where_it_is_told() -> None:
    turns = np.outer(np.linspace(0.1, 20, 120), [0.6, 0.0, 0.8])
    wrapped = forms.matrix_to_axis_angle(forms.axis_angle_to_matrix(turns))
    np.testing.assert_allclose(forms.unwrap_axis_angle(wrapped), turns, atol=1e-8)
    np.testing.assert_allclose(forms.unwrap_axis_angle(wrapped[60:], near=turns[59]), turns[60:], atol=1e-8)
    zero = forms.unwrap_axis_angle(np.array([[6.2, 0, 0], [0, 0, 0]]))
    np.testing.assert_allclose(zero[1], [2 * np.pi, 0, 0])


@given(axis_angles(), st.integers(0, 1000))
@settings(max_examples=40)
def test_slerp_agrees_with_scipy(rotation: Float64, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotation = np.concatenate([rotation, rotation[:1] + 0.3])
    times = np.cumsum(rng.integers(1, 50_000, len(rotation)))
    targets = np.sort(rng.integers(times[0], times[-1] + 1, 20))
    expected = Slerp(times, Rotation.from_rotvec(rotation))(targets).as_rotvec()
    assert_same_rotation(forms.slerp(rotation, times, targets), expected)


def test_slerp_keeps_holes_and_does_not_extrapolate() -> None:
    rotation = np.outer(np.arange(5.0), [0.1, 0, 0])
    rotation[2] = np.nan
    times = np.arange(5) * 40
    found = forms.slerp(rotation, times, [0, 20, 40, 60, 80, 100, 120, 140, 160])
    np.testing.assert_array_equal(np.isnan(found[:, 0]), [0, 0, 0, 1, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(found[[1, 7], 0], [0.05, 0.35])
    with pytest.raises(ValueError, match=r"leave the times 0\.\.160"):
        forms.slerp(rotation, times, [161])
    with pytest.raises(ValueError, match="rising times"):
        forms.slerp(rotation, times[::-1], [0])
