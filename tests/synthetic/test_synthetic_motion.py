"""Motion of the talkers: what the phones demand of the mouth, and what eyes and head may do."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.camera import FACING_CAMERA
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from reconstruct.models.skinning import prepare, skin
from schemas.errors import UsageError
from schemas.types import HeadTrack, Interval
from synthetic.apertures import find_apertures, gap_m
from synthetic.make import Truth, perform
from synthetic.motion import talk
from synthetic.speech import Voice
from synthetic.talker import DEMO_TALKERS, Talker, placement_of, random_talker, shape_of
from synthetic.visemes import BILABIALS, VISEMES, blend

SPEAKERS = (*DEMO_TALKERS, random_talker(4), random_talker(7))


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_model()


def gaps_mm(model: HeadModel, track: HeadTrack) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Gap of the lips and of the left and right lids, (T,) each."""
    zero = torch.zeros(len(track.valid), 3)
    poses = [torch.as_tensor(p) for p in (track.jaw_pose, track.left_eye_pose, track.right_eye_pose)]
    shape, expression = torch.as_tensor(track.shape), torch.as_tensor(track.expression)
    vertices = skin(prepare(model), shape, expression, zero, zero, poses[0], poses[1], poses[2], zero).numpy()
    slits = find_apertures(model)
    lips, left, right = (1000 * gap_m(vertices, slit) for slit in (slits.lips, slits.left_eye, slits.right_eye))
    return lips, left, right


def in_middle(truth: Truth, phone: Interval) -> NDArray[Any]:
    """Frames in the part of a phone from 10 to 50 %."""
    length = phone.end_us - phone.start_us
    pts = truth.pts_us
    return np.flatnonzero((pts >= phone.start_us + 0.1 * length) & (pts <= phone.start_us + 0.5 * length))


@pytest.mark.parametrize("talker", SPEAKERS, ids=lambda t: t.name)
def test_lips_close_on_bilabials_and_open_on_vowels(model: HeadModel, talker: Talker) -> None:
    truth, _ = perform(dataclasses.replace(talker, fps=Fraction(100)), model)
    lips, _, _ = gaps_mm(model, truth.track)
    closed = [lips[in_middle(truth, p)] for p in truth.speech.phones if p.label in BILABIALS]
    assert len(closed) >= 1
    assert max(gap.max() for gap in closed) < 0.3
    wide = [lips[in_middle(truth, p)].max() for p in truth.speech.phones if p.label in ("AA", "AE", "AO", "AY", "AW")]
    assert wide
    assert np.mean(wide) > 6.0


def test_no_bilabial_is_missed_at_25_frames_per_second(model: HeadModel) -> None:
    talker = dataclasses.replace(DEMO_TALKERS[0], fps=Fraction(25), voice=Voice(speaking_rate=1.6))
    truth, _ = perform(talker, model)
    lips, _, _ = gaps_mm(model, truth.track)
    for phone in truth.speech.phones:
        if phone.label in BILABIALS:
            during = (truth.pts_us >= phone.start_us) & (truth.pts_us < phone.start_us + 45_000)
            assert lips[during].min() < 0.3, phone


def test_lips_are_closed_in_silence(model: HeadModel) -> None:
    truth, _ = perform(DEMO_TALKERS[1], model)
    lips, _, _ = gaps_mm(model, truth.track)
    first, last = truth.speech.phones[0].start_us, truth.speech.phones[-1].end_us
    silent = (truth.pts_us < first - 100_000) | (truth.pts_us > last + 130_000)
    assert silent.sum() >= 5
    assert lips[silent].max() < 0.6


def test_visemes_shape_the_lips() -> None:
    def at_middle(label: str, channel: str) -> float:
        phone = Interval(1_000_000, 1_150_000, label, 1.0, False, "truth")
        return float(blend([phone], np.array([0.0, 1.075, 2.0]))[channel][1])

    assert at_middle("AA", "jaw") > at_middle("IH", "jaw") > at_middle("S", "jaw")
    assert at_middle("UW", "mouthPucker") > 0.5 > at_middle("IY", "mouthPucker")
    assert at_middle("SH", "mouthFunnel") > 0.3
    assert at_middle("F", "mouthRollLower") > 0.4
    assert at_middle("IY", "mouthStretch") > 0.1


def test_neighbours_share_the_mouth() -> None:
    """The same T is rounder between two UW than between two IY."""

    def between(vowel: str) -> float:
        labels = (vowel, "T", vowel)
        phones = [Interval(k * 100_000, (k + 1) * 100_000, p, 1.0, False, "truth") for k, p in enumerate(labels)]
        return float(blend(phones, np.array([0.15]))["mouthPucker"][0])

    assert between("UW") > between("IY") + 0.2


def test_every_phone_of_the_synthesiser_has_a_viseme() -> None:
    from synthetic.phonetics import DURATIONS_MS

    assert set(DURATIONS_MS) == set(VISEMES)


@pytest.mark.parametrize("talker", SPEAKERS, ids=lambda t: t.name)
def test_blinks_close_both_lids_and_open_again(model: HeadModel, talker: Talker) -> None:
    truth, _ = perform(talker, model)
    _, left, right = gaps_mm(model, truth.track)
    shut = (left < 0.2) & (right < 0.2)
    assert shut.any()
    assert shut.mean() < 0.12  # eyes are open most of the time
    assert np.median(left) > 4.0


def test_blinks_take_as_long_as_people_s(model: HeadModel) -> None:
    truth, _ = perform(dataclasses.replace(DEMO_TALKERS[0], fps=Fraction(200)), model)
    _, left, _ = gaps_mm(model, truth.track)
    low = left < 0.9 * np.median(left)
    edges = np.flatnonzero(np.diff(low.astype(int)))
    lengths = np.diff(edges)[::2] * 5  # ms
    blinks = lengths[lengths > 100]
    assert len(blinks) >= 1
    assert (blinks < 400).all()


@pytest.mark.parametrize("talker", SPEAKERS, ids=lambda t: t.name)
def test_all_stays_within_the_model_s_bounds(model: HeadModel, talker: Talker) -> None:
    track = perform(talker, model)[0].track
    low, high = model.expression_bounds.T
    assert (track.expression >= low - 1e-6).all()
    assert (track.expression <= high + 1e-6).all()
    for joint, pose in ((1, track.neck_pose), (2, track.jaw_pose), (3, track.left_eye_pose), (4, track.right_eye_pose)):
        assert (pose >= model.pose_bounds[joint, :, 0] - 1e-6).all()
        assert (pose <= model.pose_bounds[joint, :, 1] + 1e-6).all()
    fixed = [model.expression_names.index(name) for name in model.fixed_expressions]
    assert (track.expression[:, fixed] == 0).all()
    turned = Rotation.from_rotvec(FACING_CAMERA).inv() * Rotation.from_rotvec(track.global_pose)
    yaw, pitch, roll = np.degrees((turned * Rotation.from_rotvec(track.neck_pose)).as_euler("YXZ")).T
    assert np.abs(yaw).max() <= 20
    assert np.abs(pitch).max() <= 10
    assert np.abs(roll).max() <= 6
    assert yaw.std() > 0.5
    assert np.abs(np.diff(track.global_pose, axis=0)).max() < 0.2  # no jump between equal axis-angles


def test_eyes_stay_on_the_camera_while_the_head_turns(model: HeadModel) -> None:
    """In world space gaze is still most of the time (fixations), though the head moves."""
    truth, _ = perform(dataclasses.replace(DEMO_TALKERS[0], fps=Fraction(100)), model)
    head = Rotation.from_rotvec(FACING_CAMERA).inv() * Rotation.from_rotvec(truth.track.global_pose)
    head = head * Rotation.from_rotvec(truth.track.neck_pose)
    gaze = (head * Rotation.from_rotvec(truth.track.left_eye_pose)).apply([0, 0, 1])
    speed = np.degrees(np.linalg.norm(np.diff(gaze, axis=0), axis=1)) * 100
    assert np.median(speed) < 1.0
    assert speed.max() > 50  # saccades


def test_the_seed_decides_and_the_frame_rate_does_not(model: HeadModel) -> None:
    talker = DEMO_TALKERS[0]
    first, _ = perform(talker, model)
    again, _ = perform(talker, model)
    np.testing.assert_array_equal(first.track.expression, again.track.expression)
    np.testing.assert_array_equal(first.track.global_pose, again.track.global_pose)
    double, _ = perform(dataclasses.replace(talker, fps=Fraction(50)), model)
    np.testing.assert_allclose(double.track.jaw_pose[::2][:100], first.track.jaw_pose[:100], atol=1e-6)
    other, _ = perform(dataclasses.replace(talker, motion_seed=99), model)
    assert np.abs(other.track.global_pose[:50] - first.track.global_pose[:50]).max() > 0.01


def test_an_unknown_phone_is_named(model: HeadModel) -> None:
    phones = [Interval(0, 100_000, "QX", 1.0, False, "truth")]
    talker = DEMO_TALKERS[0]
    with pytest.raises(UsageError, match="QX"):
        talk(model, shape_of(talker, model), phones, (), np.array([0, 40_000]), placement_of(talker), talker.manner, 0)
