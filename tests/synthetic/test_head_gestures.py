"""Nods and shakes that talkers make: where, how wide, and nothing else of the motion changes."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from reconstruct.models.head_model import HeadModel
from synthetic.head_gestures import HeadGesture, gesture_intervals, gesture_tracks, random_gestures
from synthetic.make import perform
from synthetic.talker import random_talker


def test_a_gesture_moves_its_own_axis_for_its_own_time() -> None:
    grid = np.arange(0, 4, 0.005)
    nod = HeadGesture("nod", 1.0, 2.0, 2.0, 0.1)
    yaw, pitch = gesture_tracks([nod], grid)
    assert (yaw == 0).all()
    assert (pitch[(grid < 1.0) | (grid > 2.0)] == 0).all()
    assert np.abs(pitch).max() == pytest.approx(0.1, rel=0.05)
    assert pitch[np.searchsorted(grid, 1.1)] > 0  # down first
    (interval,) = gesture_intervals([nod])
    assert (interval.start_us, interval.end_us, interval.label) == (1_000_000, 2_000_000, "nod")


def test_random_gestures_fit_into_their_time_and_do_not_meet() -> None:
    for seed in range(20):
        made = random_gestures(8.0, seed)
        assert made == random_gestures(8.0, seed)
        assert all(each.end_s <= 8.0 for each in made)
        assert all(after.start_s >= before.end_s + 0.9 for before, after in itertools.pairwise(made))
    assert random_gestures(0.5, 1) == ()


def test_a_talker_with_gestures_is_otherwise_the_same(open_head: HeadModel) -> None:
    plain = random_talker(5, 64, 64)
    moved = dataclasses.replace(
        plain, manner=dataclasses.replace(plain.manner, gestures=(HeadGesture("shake", 0.5, 2.0, 2.0, 0.12),))
    )
    first, second = (perform(talker, open_head)[0] for talker in (plain, moved))
    assert np.abs(second.track.global_pose - first.track.global_pose).max() > 0.03
    before = first.pts_us < 500_000
    assert second.track.global_pose[before] == pytest.approx(first.track.global_pose[before], abs=1e-6)
    assert second.track.jaw_pose == pytest.approx(first.track.jaw_pose, abs=1e-6)
