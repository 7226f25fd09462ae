"""Confidence: its curve, when it is measured, and what lies between."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.landmarks.confidence import SCALE, SECOND_VIEWS, Sampled, confidence_of
from reconstruct.landmarks.topology import IBUG_68

RGB = np.zeros((8, 8, 3), np.uint8)
CENTRE = np.zeros(2)


def face() -> NDArray[np.float32]:
    """(68, 2) random points whose outer eye corners are 100 px apart."""
    points = np.random.default_rng(1).uniform(0, 200, (68, 2)).astype(np.float32)
    points[IBUG_68.right_eye_outer], points[IBUG_68.left_eye_outer] = (50, 60), (150, 60)
    return points


def test_the_curve() -> None:
    values = confidence_of(np.array([0, SCALE / 3, SCALE, 3 * SCALE, 1e6], np.float32))
    assert values[[0, 1, 2, 3]] == pytest.approx([1, 0.9, 0.5, 0.1])
    assert values[4] < 1e-6
    assert all(one > other for one, other in pairwise(values.tolist()))


def test_measured_every_few_frames_and_linear_between() -> None:
    points, seen = face(), []

    def look(rgb: NDArray[np.uint8], centre: NDArray[np.float64], side: float) -> NDArray[np.float32]:
        seen.append(side)
        moved = points.copy()
        moved[3, 0] += 100 * SCALE if side >= 4 else 0
        return moved

    sampled = Sampled(look, IBUG_68, every=4)
    clock = np.arange(6) * 40_000
    for index, pts_us in enumerate(clock.tolist()):
        sampled.see(pts_us, points, RGB, CENTRE, float(index))
    assert seen == [0, 4]
    confidence = sampled.confidence(clock)
    assert confidence.shape == (6, 68)
    assert confidence[:, 3] == pytest.approx([1, 0.875, 0.75, 0.625, 0.5, 0.5])
    assert np.delete(confidence, 3, axis=1) == pytest.approx(1)


def test_after_a_hole_it_is_measured_at_once_and_an_unconfirmed_face_has_none() -> None:
    points, seen = face(), []

    def look(rgb: NDArray[np.uint8], centre: NDArray[np.float64], side: float) -> None:
        seen.append(side)

    sampled = Sampled(look, IBUG_68, every=10)
    for index in range(6):
        sampled.see(index, None if index in (2, 3) else points, RGB, CENTRE, float(index))
    assert seen == [0, 4]
    assert (sampled.confidence(np.arange(6)) == 0).all()


def test_a_clip_without_a_face_has_no_confidence() -> None:
    sampled = Sampled(lambda *_: None, IBUG_68, every=2)
    sampled.see(0, None, RGB, CENTRE, 1.0)
    assert np.isnan(sampled.confidence(np.arange(3))).all()


def test_the_second_square_lies_about_the_first() -> None:
    for name, wider in (("flip", 1.0), ("crops", 1.25)):
        view = SECOND_VIEWS[name]
        assert view is not None
        corner, side = view.square(np.array([100.0, 80.0]), 40.0)
        assert side == wider * 40
        assert corner + side / 2 == pytest.approx(np.array([100, 80]) + 40 * np.array(view.shift))
        assert (corner <= [80, 60]).all()
        assert (corner + side >= [120, 100]).all()
