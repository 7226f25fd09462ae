"""Reprojected landmarks and their jitter."""

from __future__ import annotations

import numpy as np
import pytest

from reconstruct.embedding import Embedding
from reconstruct.models.head_model import HeadModel
from reconstruct.reprojection import landmark_jitter, reprojected
from synthetic.known_truth import model_clip


def test_a_head_reprojects_onto_the_landmarks_it_was_projected_to(open_head: HeadModel, embedding: Embedding) -> None:
    clip = model_clip(open_head, embedding, seed=4, frames=70)  # more than are posed at a time
    assert np.abs(reprojected(open_head, embedding, clip.truth) - clip.landmarks.face_xy).max() < 1e-3


def test_jitter_is_the_second_difference_in_the_unit_of_the_points() -> None:
    times = np.arange(6.0)
    points = np.stack([np.stack([times**2, 3 * times], axis=1)] * 5, axis=1)  # acceleration 2 along x
    valid = np.ones(6, bool)
    assert landmark_jitter(points, 1.0, valid) == pytest.approx(2.0)
    assert landmark_jitter(points, np.full(6, 4.0), valid) == pytest.approx(0.5)
    points[5] = np.nan
    valid[5] = False
    assert landmark_jitter(points, 1.0, valid) == pytest.approx(2.0)
    assert np.isnan(landmark_jitter(points[:2], 1.0, valid[:2]))
