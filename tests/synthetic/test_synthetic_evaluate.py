"""Errors against the truth, on cases whose answer is known by construction."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from schemas.errors import UsageError
from schemas.types import HeadTrack
from synthetic.evaluate import Errors, compare, similarity
from synthetic.make import perform
from synthetic.talker import random_talker

PER_FRAME = ("expression", "global_pose", "neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose", "translation")


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_model()


@pytest.fixture(scope="module")
def truth(model: HeadModel) -> HeadTrack:
    track = perform(random_talker(2), model)[0].track
    return rows(track, np.arange(40))


def rows(track: HeadTrack, which: NDArray[Any]) -> HeadTrack:
    names = (*PER_FRAME, "valid", "residual_px", "nme")
    chosen: dict[str, Any] = {name: getattr(track, name)[which] for name in names}
    return dataclasses.replace(track, **chosen)


def with_pose(track: HeadTrack, **poses: Any) -> HeadTrack:
    changed: dict[str, Any] = {name: np.asarray(pose, dtype=np.float32) for name, pose in poses.items()}
    return dataclasses.replace(track, **changed)


def turned(pose: NDArray[Any], rotvec_deg: tuple[float, float, float]) -> NDArray[Any]:
    """Poses with a rotation after them, in the joint's own axes."""
    extra = Rotation.from_rotvec(np.radians(rotvec_deg))
    return np.asarray((Rotation.from_rotvec(pose.astype(np.float64)) * extra).as_rotvec())


def test_a_track_against_itself_has_no_error(truth: HeadTrack, model: HeadModel) -> None:
    errors = compare(truth, truth, model)
    assert errors.frames == 40
    assert errors.valid_ratio == 1.0
    for name in ("vertex_mm", "vertex_p95_mm", "lips_mm", "lids_mm"):
        assert getattr(errors, name) == pytest.approx(0, abs=1e-5)
    for name in ("jaw_deg", "gaze_deg", "head_deg", "head_centred_deg"):
        assert getattr(errors, name) == pytest.approx(0, abs=1e-4)
    assert errors.expression_correlation == pytest.approx(1.0)
    assert errors.jitter_mm == errors.jitter_truth_mm > 0


def test_known_rotations_give_their_angles(truth: HeadTrack, model: HeadModel) -> None:
    jaw = compare(truth, with_pose(truth, jaw_pose=turned(truth.jaw_pose, (3, 0, 0))), model)
    assert jaw.jaw_deg == pytest.approx(3.0, abs=1e-3)
    assert jaw.lips_mm > 1.0
    gaze = compare(truth, with_pose(truth, left_eye_pose=turned(truth.left_eye_pose, (0, 8, 0))), model)
    assert gaze.gaze_deg == pytest.approx(4.0, abs=1e-3)  # one eye of two
    roll = compare(truth, with_pose(truth, left_eye_pose=turned(truth.left_eye_pose, (0, 0, 8))), model)
    assert roll.gaze_deg == pytest.approx(0.0, abs=1e-3)  # turning about the line of sight is no gaze error


def test_a_constant_head_offset_is_told_apart_from_a_changing_one(truth: HeadTrack, model: HeadModel) -> None:
    constant = compare(truth, with_pose(truth, neck_pose=turned(truth.neck_pose, (0, 5, 0))), model)
    assert constant.head_deg == pytest.approx(5.0, abs=1e-3)
    assert constant.head_centred_deg == pytest.approx(0.0, abs=1e-3)
    assert constant.vertex_mm == pytest.approx(0.0, abs=1e-4)
    swing = np.where(np.arange(40) % 2, 2.0, -2.0)
    bent = Rotation.from_rotvec(truth.neck_pose) * Rotation.from_rotvec(np.radians(np.outer(swing, [0, 1, 0])))
    changing = compare(truth, with_pose(truth, neck_pose=bent.as_rotvec()), model)
    assert changing.head_deg == pytest.approx(2.0, abs=1e-3)
    assert changing.head_centred_deg == pytest.approx(2.0, abs=1e-3)
    assert changing.jitter_mm > 3 * changing.jitter_truth_mm


def test_neck_and_global_rotation_count_together(truth: HeadTrack, model: HeadModel) -> None:
    whole = Rotation.from_rotvec(truth.global_pose) * Rotation.from_rotvec(truth.neck_pose)
    moved = with_pose(truth, global_pose=whole.as_rotvec(), neck_pose=np.zeros((40, 3)))
    assert compare(truth, moved, model).head_deg == pytest.approx(0.0, abs=1e-3)


def test_translation_and_focal_length_do_not_count_as_shape(truth: HeadTrack, model: HeadModel) -> None:
    far = dataclasses.replace(truth, translation=truth.translation + np.float32(0.3), focal_px=3 * truth.focal_px)
    errors = compare(truth, far, model)
    assert errors.vertex_mm == pytest.approx(0.0, abs=1e-4)
    assert errors.jitter_mm == pytest.approx(errors.jitter_truth_mm, rel=1e-3)


def test_apertures_measure_blinks_and_lips(truth: HeadTrack, model: HeadModel) -> None:
    still = with_pose(truth, expression=np.zeros_like(truth.expression), jaw_pose=np.zeros((40, 3)))
    codes = np.zeros_like(truth.expression)
    codes[:, [model.expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]] = 0.5
    errors = compare(still, with_pose(still, expression=codes), model)
    # eyeBlink carries the upper lid by 11 to 12 mm
    assert 4.5 < errors.lids_mm < 7.0
    assert errors.lips_mm < 0.05
    assert np.isnan(errors.expression_correlation)


def test_frames_meet_by_time(truth: HeadTrack, model: HeadModel) -> None:
    pts = np.arange(40) * 40_000
    some = np.arange(3, 33, 2)
    fit = rows(truth, some)
    errors = compare(truth, fit, model, pts, pts[some] + 700)
    assert errors.frames == len(some)
    assert errors.vertex_mm == pytest.approx(0, abs=1e-5)
    assert errors.valid_ratio == pytest.approx(len(some) / 40)
    assert np.isnan(errors.jitter_mm)  # no three frames in a row
    with pytest.raises(UsageError, match="no valid frame"):
        compare(truth, fit, model, pts, pts[some] + 20_000)
    with pytest.raises(UsageError, match="no PTS"):
        compare(truth, fit, model)
    with pytest.raises(UsageError, match="only one"):
        compare(truth, fit, model, pts)


def test_frames_that_are_not_valid_do_not_count(truth: HeadTrack, model: HeadModel) -> None:
    valid = np.arange(40) >= 10
    broken = truth.expression.copy()
    broken[~valid] = np.nan
    errors: Errors = compare(truth, dataclasses.replace(truth, valid=valid, expression=broken), model)
    assert errors.frames == 30
    assert errors.valid_ratio == 0.75
    assert errors.vertex_mm == pytest.approx(0, abs=1e-5)


def test_another_model_is_refused(truth: HeadTrack, model: HeadModel) -> None:
    with pytest.raises(UsageError, match="other"):
        compare(truth, dataclasses.replace(truth, head_model="other", model_sha256="0"), model)


def test_similarity_recovers_scale_rotation_and_offset() -> None:
    random = np.random.default_rng(0)
    source = random.normal(size=(5, 50, 3))
    turn = Rotation.random(5, random_state=1).as_matrix()
    scale, move = random.uniform(0.5, 2, 5), random.normal(size=(5, 3))
    target = scale[:, None, None] * source @ turn.transpose(0, 2, 1) + move[:, None]
    found_scale, found_turn, found_move = similarity(source, target)
    np.testing.assert_allclose(found_scale, scale)
    np.testing.assert_allclose(found_turn, turn, atol=1e-9)
    np.testing.assert_allclose(found_move, move, atol=1e-9)
    mirrored = source * [-1, 1, 1]
    assert np.linalg.det(similarity(source, mirrored)[1]) == pytest.approx(np.ones(5))
