"""Held-out points, reprojection and jitter against known clips and naive formulas."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from reconstruct.calibration import LOOKS, View, render_view
from reconstruct.embedding import Embedding
from reconstruct.landmarks.topology import interocular
from reconstruct.models.head_model import HeadModel
from reconstruct.reprojection import landmark_jitter, reprojected
from schemas.config import FitConfig, LandmarkConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import LandmarkTrack
from synthetic.known_truth import KnownClip, model_clip
from talkset.measures import (
    every_nth,
    follow,
    held_out,
    look,
    normalised_errors,
    random_halves,
    scale_px,
    second_look,
)


@pytest.fixture(scope="module")
def clip(open_head: HeadModel, embedding: Embedding) -> KnownClip:
    return model_clip(open_head, embedding, seed=3, frames=8)


def test_the_truth_reprojects_onto_its_landmarks(clip: KnownClip, open_head: HeadModel, embedding: Embedding) -> None:
    assert np.abs(reprojected(open_head, embedding, clip.truth) - clip.landmarks.face_xy).max() < 1e-3
    moved = dataclasses.replace(clip.landmarks, face_xy=clip.landmarks.face_xy + np.array([3, 4], np.float32))
    errors = normalised_errors(open_head, embedding, clip.truth, moved)
    np.testing.assert_allclose(errors[2], 5 / interocular(clip.landmarks.face_xy)[2], rtol=1e-3)
    hidden = dataclasses.replace(clip.truth, valid=np.arange(8) != 5)
    assert np.isnan(reprojected(open_head, embedding, hidden)[5]).all()


def test_scale_is_the_distance_of_the_outer_eye_corners(clip: KnownClip) -> None:
    np.testing.assert_allclose(scale_px(clip.landmarks), interocular(clip.landmarks.face_xy), rtol=1e-6)


def test_every_point_is_left_out_once() -> None:
    for folds in (every_nth(478, 4), random_halves(478)):
        np.testing.assert_array_equal(np.sum(folds, axis=0), 1)
    assert [int(fold.sum()) for fold in random_halves(478)] == [239, 239]
    assert not np.array_equal(random_halves(478, 0)[0], random_halves(478, 1)[0])


def test_left_out_points_are_predicted_not_fitted(clip: KnownClip, open_head: HeadModel, embedding: Embedding) -> None:
    """Points pulled away count in full when they are left out, and hardly bend the fit."""
    left_out = every_nth(478, 4)[1]
    left_out[[33, 263, 133, 362]] = False  # the scale
    folds = [left_out]
    clean = held_out(open_head, embedding, clip.landmarks, FitConfig(), folds)
    assert clean < 0.01
    bad = clip.landmarks.face_xy.copy()
    shift = 0.05 * interocular(bad)[:, None]
    bad[:, left_out, 0] += shift
    spoilt: LandmarkTrack = dataclasses.replace(clip.landmarks, face_xy=bad)
    assert held_out(open_head, embedding, spoilt, FitConfig(), folds) == pytest.approx(0.05, abs=0.008)
    with pytest.raises(UsageError, match="left out"):
        held_out(open_head, embedding, clip.landmarks, FitConfig(), [])


def test_jitter_by_hand() -> None:
    points = np.zeros((5, 1, 2))
    points[2, 0, 0] = 1.0  # second differences 1, -2, 1
    scale = np.full(5, 10.0)
    valid = np.ones(5, np.bool_)
    assert landmark_jitter(points, scale, valid) == pytest.approx(np.sqrt((1 + 4 + 1) / 3) / 10)
    moving = points * 0 + np.arange(5)[:, None, None]
    assert landmark_jitter(moving, scale, valid) == 0.0
    valid[2] = False
    assert np.isnan(landmark_jitter(points, scale, valid))


def test_the_second_look_agrees_with_the_first_on_a_rendered_face(open_head: HeadModel) -> None:
    pictures = [
        (step * 40_000, render_view(open_head, View(0.05 * step, 0.0, 0.0, 0.1, {}, 2, LOOKS[0])).picture)
        for step in range(3)
    ]
    face = follow(pictures)
    config = LandmarkConfig(confidence="none")
    first, second = look(pictures, face, config), second_look(pictures, face, config)
    apart = np.linalg.norm(first.face_xy - second.face_xy, axis=2) / interocular(first.face_xy)[:, None]
    assert second.valid.all()
    assert 0.0005 < apart.mean() < 0.03  # left and right are not mixed up, and it is another look
    with pytest.raises(TalksetError, match="no face"):
        follow([(0, np.zeros((64, 64, 3), np.uint8))])
