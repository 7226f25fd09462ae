"""Faces keep their number through gaps and crossings, and only so far."""

from __future__ import annotations

import numpy as np

from pipelines.segmentation.faces import FaceSample
from pipelines.segmentation.tracker import Tracker, follow_faces, smoothed
from schemas.config import SegmentConfig
from schemas.types import FaceBox, Span

CONFIG = SegmentConfig()


def _box(x: float, width: float = 100.0, score: float = 0.9) -> FaceBox:
    return FaceBox(x, 50.0, width, width, score)


def _samples(*rows: list[FaceBox]) -> list[FaceSample]:
    return [FaceSample(i * 200_000, tuple(row)) for i, row in enumerate(rows)]


def test_tracks_bridge_short_gaps_only() -> None:
    shot = Span(0, 10_000_000)
    brief = _samples([_box(0)], [], [_box(10)], [_box(10)])  # 0.4 s apart
    assert [len(t.pts_us) for t in follow_faces(brief, shot, CONFIG)] == [3]
    long = _samples([_box(0)], [], [], [_box(0)], [_box(0)])  # 0.6 s
    assert sorted(len(t.pts_us) for t in follow_faces(long, shot, CONFIG)) == [1, 2]


def test_two_tracks_do_not_mix_and_the_dominant_comes_first() -> None:
    rows = [[_box(i * 20), _box(400 - i * 20, 140)] for i in range(10)]
    tracks = follow_faces(_samples(*[row[:: (-1) ** i] for i, row in enumerate(rows)]), Span(0, 10_000_000), CONFIG)
    assert len(tracks) == 2
    assert np.allclose(tracks[0].box_xywh[:, 0], 400 - 20 * np.arange(10))
    assert np.allclose(tracks[1].box_xywh[:, 0], 20 * np.arange(10))


def test_a_jump_across_the_picture_is_another_face() -> None:
    tracks = follow_faces(_samples([_box(0)], [_box(0)], [_box(600)], [_box(600)]), Span(0, 10_000_000), CONFIG)
    assert len(tracks) == 2


def test_faces_that_cross_keep_their_numbers() -> None:
    looks = [np.eye(4, dtype=np.float32)[0], np.eye(4, dtype=np.float32)[1]]
    for gap in (0, 1):  # seen all the time, or hidden by the other while they meet
        samples = []
        for i in range(21):
            places = [100 + 20 * i, 500 - 20 * i]
            seen = [0, 1] if abs(places[0] - places[1]) > 30 or not gap else [0]
            boxes = tuple(FaceBox(places[k], 100, 100, 100, 0.9) for k in seen)
            samples.append(FaceSample(i * 80_000, boxes, tuple(looks[k] for k in seen)))
        tracks = follow_faces(samples, Span(0, 10_000_000), CONFIG)
        assert len(tracks) == 2
        for track in tracks:
            steps = np.diff(track.box_xywh[:, 0]) / np.diff(track.pts_us)
            assert (np.sign(steps) == np.sign(steps[0])).all()  # never turned back


def test_without_looks_motion_tells_who_is_who() -> None:
    places = [(100 + 25 * i, 500 - 25 * i) for i in range(17)]
    samples = [
        FaceSample(i * 80_000, tuple(FaceBox(x, 100 + 15 * k, 100, 100, 0.9) for k, x in enumerate(pair)))
        for i, pair in enumerate(places)
    ]
    for track in follow_faces(samples, Span(0, 10_000_000), CONFIG):
        assert abs(abs(track.box_xywh[-1, 0] - track.box_xywh[0, 0]) - 400) < 1


def test_smoothing_keeps_steady_motion_and_calms_a_jitter() -> None:
    times = np.cumsum([0, 200, 120, 280, 200, 200, 40, 360]) * 1000
    steady = np.stack([times * 1e-3, times * -2e-3, np.full(8, 90.0), np.full(8, 90.0)], axis=1)
    np.testing.assert_allclose(smoothed(times, steady), steady, atol=1e-3)
    shaken = steady + np.random.default_rng(0).normal(0, 3, steady.shape)
    off, was = (np.std((boxes - steady)[1:-1]) for boxes in (smoothed(times, shaken), shaken))
    assert off < 0.8 * was


def test_two_faces_that_meet_want_to_be_looked_at() -> None:
    tracker = Tracker(CONFIG)
    tracker.push(FaceSample(0, (_box(0), _box(400))))
    assert not tracker.crowded(40_000)
    tracker.push(FaceSample(200_000, (_box(100), _box(300))))
    assert tracker.crowded(300_000)
