"""Vertex metrics against values computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from generator import metrics
from schemas.errors import UsageError

ERRORS: list[Callable[..., float]] = [metrics.lve_l2, metrics.lve_sq, metrics.lve_rms, metrics.mve, metrics.mhd]


def still(frames: int, vertices: int) -> Any:
    return np.zeros((frames, vertices, 3))


def off() -> tuple[Any, Any]:
    """Errors in mm: frame 0 has 5 (a 3-4-5 triangle) and 1, frame 1 has 2 and 13 (5-12-13); vertex 2 is 100 off."""
    truth = np.tile([0.1, -0.2, 0.3], (2, 3, 1))
    prediction = truth.copy()
    prediction[0, 0] += [0.003, 0.004, 0]
    prediction[0, 1] += [0, 0, -0.001]
    prediction[1, 0] += [0.002, 0, 0]
    prediction[1, 1] += [0, 0.005, 0.012]
    prediction[:, 2] += [0, 0, 0.1]
    return truth, prediction


def test_lip_errors_take_the_worst_lip_vertex_of_each_frame() -> None:
    truth, prediction = off()
    assert metrics.lve_l2(truth, prediction, [0, 1]) == pytest.approx((5 + 13) / 2)
    assert metrics.lve_sq(truth, prediction, [0, 1]) == pytest.approx((25 + 169) / 2)
    assert metrics.lve_rms(truth, prediction, [0, 1]) == pytest.approx(np.sqrt(97))
    assert metrics.lve_l2(truth, prediction, [1]) == pytest.approx((1 + 13) / 2)
    assert metrics.lve_l2(truth, prediction, [0, 2]) == pytest.approx(100)


def test_mean_errors_over_all_or_some_vertices() -> None:
    truth, prediction = off()
    assert metrics.mve(truth, prediction, [0, 1]) == pytest.approx((5 + 1 + 2 + 13) / 4)
    assert metrics.mve(truth, prediction) == pytest.approx((5 + 1 + 2 + 13 + 200) / 6)
    assert metrics.mhd(truth, prediction, np.array([0, 1])) == pytest.approx(np.sqrt((25 + 1 + 4 + 169) / 4))
    assert metrics.mhd(truth, prediction) >= metrics.mve(truth, prediction)


def test_fdd_std_sq_is_the_spread_of_the_squared_distance_from_the_template() -> None:
    truth, prediction, template = still(2, 3), still(2, 3), np.zeros((3, 3))
    truth[1, 0, 0] = 0.004  # squared distances 0 and 16 mm^2: standard deviation 8
    truth[:, 1] = [0.0, 0.003, 0.004]  # held still away from the template: 0
    prediction[1, 0, 2] = 0.002  # 0 and 4: 2
    prediction[0, 1, 1] = 0.006  # 36 and 0: 18
    assert metrics.fdd_std_sq(truth, prediction, template, [0]) == pytest.approx(8 - 2)
    assert metrics.fdd_std_sq(truth, prediction, template, [0, 1]) == pytest.approx(((8 - 2) + (0 - 18)) / 2)
    template[0, 0] = 0.002  # truth is 2 mm off in both frames, the prediction's squares are 4 and 8
    assert metrics.fdd_std_sq(truth, prediction, template, [0]) == pytest.approx(0 - 2)


def test_fdd_abs_xyz_sums_coordinates_and_counts_in_cm() -> None:
    truth, prediction = still(2, 2), still(2, 2)
    truth[1, 0] = [0.01, 0.02, 0.03]  # sums 0 and 0.06 m: standard deviation 0.03
    prediction[1, 0] = [0.01, -0.01, 0.0]  # sums 0 and 0
    prediction[1, 1] = [0.0, 0.0, 0.02]  # 0.01, the truth is still
    assert metrics.fdd_abs_xyz(truth, prediction, [0]) == pytest.approx(3.0)
    assert metrics.fdd_abs_xyz(truth, prediction, [0, 1]) == pytest.approx((3.0 + 1.0) / 2)


def test_fdd_motion_is_the_spread_of_the_distance_from_the_temporal_mean() -> None:
    truth, prediction = still(4, 1), still(4, 1)
    truth[:, 0, 0] = [0.004, 0, 0, 0]  # mean 1, distances 3 1 1 1 mm: standard deviation sqrt(0.75)
    prediction[:, 0, 1] = [0.002, 0, 0, 0]  # half of that
    expected = np.sqrt(0.75) / 2
    assert metrics.fdd_motion(truth, prediction, [0]) == pytest.approx(expected)
    assert metrics.fdd_motion(prediction, truth, [0]) == pytest.approx(-expected)
    assert metrics.fdd_motion(truth, prediction + 0.05, [0]) == pytest.approx(expected)
    prediction[:, 0, 1] = [0.002, -0.002, 0.002, -0.002]  # two poses, always 2 mm from the mean
    assert metrics.fdd_motion(still(4, 1), prediction, [0]) == pytest.approx(0)


def test_mod_compares_the_vertical_extent_of_the_inner_lips() -> None:
    truth, prediction = still(2, 3), still(2, 3)
    truth[:, 0, 1], truth[:, 1, 1] = [0.010, 0.002], [0.0, -0.002]  # open by 10, then 4 mm
    prediction[:, 0, 1] = [0.007, 0.009]  # 7, then 9 mm
    prediction[:, :, 0] = [[0.0, 0.5, 1.0]]  # sideways is not opening
    prediction[:, 2, 1] = 1.0  # not of the inner lips
    assert metrics.mod(truth, prediction, [0, 1]) == pytest.approx((3 + 5) / 2)


def test_head_rotation_is_not_removed() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 0.05, (3, 5, 3))
    turned = truth @ Rotation.from_euler("y", 10, degrees=True).as_matrix().T
    assert all(error(truth, turned, [0, 1, 2]) > 1 for error in ERRORS)


@pytest.mark.parametrize("error", ERRORS)
def test_float32_in_and_zero_for_equal(error: Callable[..., float]) -> None:
    truth, prediction = off()
    narrow = error(truth.astype(np.float32), prediction.astype(np.float32), [0, 1])
    assert narrow == pytest.approx(error(truth, prediction, [0, 1]), rel=1e-4)
    assert error(truth, truth, [0, 1]) == 0


@pytest.mark.parametrize(
    ("truth", "prediction", "ids", "told"),
    [
        (still(2, 3), still(3, 3), [0], r"truth has shape \(2, 3, 3\), prediction \(3, 3, 3\)"),
        (still(2, 3)[0], still(2, 3)[0], [0], r"truth is float64 of shape \(3, 3\), expected float \(T, V, 3\)"),
        (still(0, 3), still(0, 3), [0], r"shape \(0, 3, 3\)"),
        (still(2, 3), still(2, 3).astype(int), [0], "prediction is int64"),
        (still(2, 3), still(2, 3) + np.nan, [0], "prediction holds values that are not finite"),
        (still(2, 3), still(2, 3), [0, 3], r"refers to vertices 0..3, there are 0..2"),
        (still(2, 3), still(2, 3), [-1], r"refers to vertices -1..-1"),
        (still(2, 3), still(2, 3), [], "expected a list of vertex ids"),
        (still(2, 3), still(2, 3), [True, False, True], "is bool"),
    ],
)
def test_what_cannot_be_compared_is_told(truth: Any, prediction: Any, ids: list[int], told: str) -> None:
    every: list[Callable[..., float]] = [*ERRORS, metrics.mod, metrics.fdd_abs_xyz, metrics.fdd_motion]
    every.append(lambda a, b, ids: metrics.fdd_std_sq(a, b, np.zeros((3, 3)), ids))
    for metric in every:
        with pytest.raises(UsageError, match=told):
            metric(truth, prediction, ids)


def test_the_template_belongs_to_the_mesh() -> None:
    with pytest.raises(UsageError, match=r"template has shape \(4, 3\), expected \(3, 3\)"):
        metrics.fdd_std_sq(still(2, 3), still(2, 3), np.zeros((4, 3)), [0])
