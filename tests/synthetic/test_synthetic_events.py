"""Blinks and lip closures on hand-made curves, and their F1 score."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.models.head_model import HeadModel
from schemas.types import HeadTrack, Interval
from synthetic.events import LIDS, LIPS, Matches, bilabial_ratios, closures, gaps_m, match, opening

OPEN_M = 0.010


def curve(frames: int, *shut: tuple[int, int], level: float = -0.0005) -> NDArray[np.float64]:
    """A gap of 10 mm that is `level` in some spans of frames."""
    gap = np.full(frames, OPEN_M)
    for start, stop in shut:
        gap[start:stop] = level
    return gap


def test_closures_are_the_spans_below_the_threshold() -> None:
    assert closures(curve(60, (10, 13), (40, 41)), LIDS) == [(10, 13), (40, 41)]
    assert closures(curve(60, (0, 4), (55, 60)), LIPS) == [(0, 4), (55, 60)]  # at both ends of the clip


def test_opening_is_relative_to_the_clips_own_range() -> None:
    gap = curve(100, (20, 25), level=0.002)
    gap[50] = 0.004
    share = opening(gap)
    assert share[22] == pytest.approx(0.0)
    assert share[0] == pytest.approx(1.0)
    assert share[50] == pytest.approx((4 - 2) / (10 - 2))
    assert closures(gap, LIDS) == [(20, 25)]  # a fit whose lids do not quite meet still blinks
    assert closures(gap, LIDS, loose=True) == [(20, 25), (50, 51)]


def test_one_that_never_closes_has_no_closures() -> None:
    gap = OPEN_M + 0.001 * np.sin(np.arange(80))
    assert closures(gap, LIDS) == []
    assert closures(gap, LIPS) == []
    assert closures(np.full(10, np.nan), LIDS) == []


def test_lips_within_half_a_millimetre_are_closed_whatever_the_range() -> None:
    gap = np.full(50, 0.0008)
    gap[10:12] = 0.0004
    assert closures(gap, LIPS) == [(10, 12)]
    assert closures(gap, dataclasses.replace(LIPS, floor_m=0.0), loose=False) == [(10, 12)]
    always = np.full(30, 0.0003)
    assert closures(always, LIPS) == [(0, 30)]


def test_frames_without_a_face_are_open() -> None:
    gap = curve(40, (10, 16))
    gap[12:14] = np.nan
    assert closures(gap, LIDS) == [(10, 12), (14, 16)]


def test_events_match_by_overlap_with_a_frame_of_slack() -> None:
    truth = curve(90, (10, 13), (40, 44), (70, 72))
    # one frame late; missed; found; one that is not there
    fit = curve(90, (13, 15), (71, 74), (55, 57))
    found = match(truth, fit, LIDS)
    assert found == Matches(hits=2, misses=1, false=1)
    assert found.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert match(truth, curve(90, (14, 16)), LIDS) == Matches(hits=0, misses=3, false=1)  # a gap of one frame


def test_nearly_closed_frames_of_the_truth_count_neither_way() -> None:
    truth = curve(60, (10, 13))
    truth[30:33] = 0.35 * OPEN_M  # lids: more than strict, less than loose
    assert match(truth, curve(60, (10, 13), (30, 33)), LIDS) == Matches(1, 0, 0)
    assert match(truth, curve(60, (10, 13)), LIDS) == Matches(1, 0, 0)
    truth[30:33] = 0.6 * OPEN_M
    assert match(truth, curve(60, (10, 13), (30, 33)), LIDS) == Matches(1, 0, 1)


def test_matches_add_up_and_nothing_has_no_f1() -> None:
    assert Matches(1, 2, 3) + Matches(4, 0, 1) == Matches(5, 2, 4)
    assert Matches(3, 0, 0).f1 == 1.0
    assert Matches(0, 2, 0).f1 == 0.0
    assert np.isnan(Matches(0, 0, 0).f1)


def spoken(*phones: tuple[str, int, int]) -> list[Interval]:
    """Phones by first frame and frame after the last, at 25 frames a second."""
    return [Interval(a * 40_000, b * 40_000, label, 1.0, False, "test") for label, a, b in phones]


def test_bilabials_against_the_vowels_of_their_clip() -> None:
    times = np.arange(60) * 40_000
    gap = np.full(60, 0.004)
    gap[10:20], gap[30:40] = 0.008, 0.012  # vowels; their median is 10 mm
    gap[22], gap[45] = 0.001, 0.020
    phones = spoken(("AA", 10, 20), ("B", 20, 21), ("IY", 30, 40), ("T", 41, 43), ("M", 50, 52))
    # the closure two frames after the aligned b still counts, frame 45 is out of reach of m
    assert bilabial_ratios(gap, times, phones) == pytest.approx([0.1, 0.4])
    gap[48:54] = np.nan
    assert bilabial_ratios(gap, times, phones) == pytest.approx([0.1])
    assert bilabial_ratios(gap, times, spoken(("B", 20, 21))) == []
    assert bilabial_ratios(gap, times, spoken(("AA", 10, 20))) == []


def test_gaps_follow_jaw_and_lids(open_head: HeadModel) -> None:
    frames = 3
    zero = np.zeros((frames, 3), np.float32)
    codes = np.zeros((frames, open_head.num_expression), np.float32)
    codes[1, [open_head.expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]] = 0.5
    jaw = zero.copy()
    jaw[2, 0] = 0.2
    valid = np.ones(frames, np.bool_)
    turned, away = zero.copy(), zero.copy()
    turned[:, 0], away[:, 2] = 3.0, 1.0
    shape, centre = np.zeros(open_head.num_shape, np.float32), np.zeros(2, np.float32)
    track = HeadTrack(
        open_head.name, open_head.sha256, shape, codes, turned, zero, jaw, zero, zero, away, 900.0, centre, valid,
        zero[:, 0], zero[:, 0],
    )  # fmt: skip
    lips, lids = gaps_m(open_head, track)
    assert lids[0] - lids[1] == pytest.approx(0.0057, abs=0.001)  # eyeBlink carries the upper lid by 11 to 12 mm
    assert lids[2] == pytest.approx(lids[0])
    assert lips[2] - lips[0] > 0.008
    assert lips[1] == pytest.approx(lips[0], abs=1e-5)
    hidden = dataclasses.replace(track, valid=np.array([True, False, True]))
    np.testing.assert_allclose(gaps_m(open_head, hidden)[0], [lips[0], np.nan, lips[2]])
