"""Events of motion on signals whose truth is known: pulses, oscillations, drifts, holes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from annotate.motion_events import find_blinks, find_gaze_aversions, find_head_gestures, find_key_motions, motion_events
from annotate.performance import Performance
from annotate.signals import even, runs, swings
from schemas.types import Interval

FPS = 25
Float64 = NDArray[np.float64]


def times(seconds: float, fps: float = FPS) -> NDArray[np.int64]:
    return np.asarray(np.round(np.arange(round(seconds * fps)) * 1e6 / fps), dtype=np.int64)


def clip(pts: NDArray[np.int64], **signals: NDArray[np.float32]) -> Performance:
    duration = int(pts[-1]) + 40_000
    return Performance(pts, duration, np.ones(len(pts), np.bool_), **signals)  # type: ignore[arg-type]


def head(yaw: Float64, pitch: Float64) -> NDArray[np.float32]:
    return np.asarray(np.radians(np.stack([yaw, pitch, 0 * yaw], axis=1)), dtype=np.float32)


def burst(seconds: Float64, start: float, cycles: float, hz: float, degrees: float) -> Float64:
    part = (seconds - start) * hz / cycles
    inside = (part >= 0) & (part <= 1)
    return np.where(inside, degrees * np.sin(2 * np.pi * hz * (seconds - start)), 0.0)


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
@pytest.mark.parametrize("hz", [1.5, 2.5, 3.5])
def test_nods_and_shakes_are_told_apart_at_any_frame_rate(fps: int, hz: float) -> None:
    pts = times(8, fps)
    seconds = pts / 1e6
    yaw, pitch = burst(seconds, 1.0, 2.5, hz, 5.0), burst(seconds, 5.0, 2.5, hz, 4.0)
    found = find_head_gestures(pts, head(yaw, pitch))
    assert [event.label for event in found] == ["shake", "nod"]
    for event, start in zip(found, (1.0, 5.0), strict=True):
        assert event.start_us / 1e6 == pytest.approx(start, abs=0.3)
        assert event.end_us / 1e6 == pytest.approx(start + 2.5 / hz, abs=0.3)
        assert 0.2 < event.score <= 1


def test_one_beat_of_speech_a_slow_turn_and_a_drift_are_no_gesture() -> None:
    pts = times(10)
    seconds = pts / 1e6
    beats = sum(4.0 * np.exp(-0.5 * ((seconds - at) / 0.11) ** 2) for at in (1.0, 3.0, 6.5))
    turn = 20 * np.sin(2 * np.pi * 0.2 * seconds) + 3 * seconds
    assert find_head_gestures(pts, head(turn, np.asarray(beats))) == []


def test_a_wider_gesture_is_surer_and_one_in_a_hole_is_not_made_up() -> None:
    pts = times(8)
    seconds = pts / 1e6
    small, large = (find_head_gestures(pts, head(0 * seconds, burst(seconds, 2, 2.5, 2, size))) for size in (3.0, 8.0))
    assert small[0].score < large[0].score
    holed = head(0 * seconds, burst(seconds, 2, 2.5, 2, 8.0))
    holed[(seconds > 1.8) & (seconds < 3.6)] = np.nan
    assert find_head_gestures(pts, holed) == []


def test_beats_of_speech_about_a_nod_are_no_part_of_it() -> None:
    pts = times(8)
    seconds = pts / 1e6
    pitch = 1.3 * np.sin(2 * np.pi * 1.5 * seconds) + burst(seconds, 3.0, 3.0, 2.5, 6.0)
    [found] = find_head_gestures(pts, head(0 * seconds, pitch))
    assert found.label == "nod"
    assert found.start_us / 1e6 == pytest.approx(3.0, abs=0.3)
    assert found.end_us / 1e6 == pytest.approx(4.2, abs=0.3)


def test_a_shake_that_tilts_the_head_on_its_way_is_no_nod() -> None:
    pts = times(8)
    seconds = pts / 1e6
    yaw = burst(seconds, 2.0, 4.0, 2.0, 8.0)
    pitch = burst(seconds, 2.125, 3.75, 2.0, 4.0)  # widest where the yaw turns back
    assert [event.label for event in find_head_gestures(pts, head(yaw, pitch))] == ["shake"]


def lids(pts: NDArray[np.int64], *blinks: float, depth: float = 0.6, held: float = 0.05) -> Float64:
    seconds = pts / 1e6
    opening = 0.3 + 0.02 * np.sin(2 * np.pi * 0.3 * seconds)
    for at in blinks:
        opening *= 1 - depth * np.clip(1.5 - np.maximum(np.abs(seconds - at) - held, 0) / 0.08, 0, 1)
    return np.asarray(opening)


def seen(pts: NDArray[np.int64], left: Float64, right: Float64) -> Performance:
    return clip(pts, lid_opening=np.stack([left, right], axis=1).astype(np.float32))


def test_blinks_are_found_where_they_are_and_squints_are_none() -> None:
    pts = times(8)
    eye = lids(pts, 1.0, 4.5)
    slow = eye * (1 - 0.5 * np.exp(-0.5 * ((pts / 1e6 - 6.5) / 0.5) ** 2))
    found = find_blinks(seen(pts, slow, slow))
    assert [round((event.start_us + event.end_us) / 2e6, 1) for event in found] == [1.0, 4.5]
    assert all(event.score > 0.9 for event in found)


def test_one_eye_alone_counts_half_and_eyes_that_stay_shut_do_not_blink() -> None:
    pts = times(6)
    both = find_blinks(seen(pts, lids(pts, 2.0), lids(pts, 2.0)))
    one = find_blinks(seen(pts, lids(pts, 2.0), lids(pts)))
    assert len(one) == 1
    assert one[0].score < 0.6 < both[0].score
    assert find_blinks(seen(pts, lids(pts, 3.0, held=0.8), lids(pts, 3.0, held=0.8))) == []


def test_weights_serve_where_the_eyes_were_not_measured() -> None:
    pts = times(5)
    shut = (1 - lids(pts, 2.0, depth=0.9) / 0.3).clip(0, 1).astype(np.float32)
    weights = np.stack([shut, shut], axis=1)
    found = find_blinks(clip(pts, names=("eyeBlinkLeft", "eyeBlinkRight"), weights=weights))  # type: ignore[arg-type]
    assert len(found) == 1
    assert find_blinks(clip(pts)) == []


def test_looks_away_are_measured_from_where_the_eyes_rest() -> None:
    pts = times(6)
    seconds = pts / 1e6
    bias = np.radians([6.0, -4.0])
    away = ((seconds >= 2) & (seconds < 3)) | ((seconds >= 4) & (seconds < 4.08))
    gaze = np.where(away[:, None], bias + np.radians([18.0, 5.0]), bias)
    found = find_gaze_aversions(pts, gaze)
    assert len(found) == 1
    assert found[0].start_us == pytest.approx(2_000_000, abs=80_000)
    assert found[0].end_us == pytest.approx(3_000_000, abs=80_000)


def test_key_motions_are_the_extrema_of_the_lips_and_the_borders_of_phones() -> None:
    pts = times(3)
    opening = (0.2 - 0.15 * np.cos(2 * np.pi * 1.0 * pts / 1e6)).astype(np.float32)
    phone = Interval(1_210_000, 1_300_000, "B", 0.7, False, "t")
    found = find_key_motions(
        Performance(pts, 3_000_000, np.ones(len(pts), np.bool_), lip_opening=opening, phones=(phone,))
    )
    assert [(e.label, round(e.start_us / 1e6, 1)) for e in found if e.label.startswith("lips")][1:-1] == [
        ("lips:high", 0.5), ("lips:low", 1.0), ("lips:high", 1.5), ("lips:low", 2.0), ("lips:high", 2.5),
    ]  # fmt: skip
    border = [event for event in found if event.label == "phone:B"]
    assert [event.start_us for event in border] == [1_200_000]
    assert border[0].score == pytest.approx(0.7)


def test_events_lie_inside_the_clip_and_a_clip_without_anything_has_none() -> None:
    pts = times(4)
    seconds = pts / 1e6
    everything = Performance(
        pts,
        3_950_000,
        np.ones(len(pts), np.bool_),
        head=head(0 * seconds, burst(seconds, 2.0, 4, 2, 6.0)),
        gaze=np.where(seconds[:, None] > 3.4, 0.5, 0.0).repeat(2, axis=1).astype(np.float32),
        lid_opening=np.stack([lids(pts, 1.0)] * 2, axis=1).astype(np.float32),
    )
    found = motion_events(everything)
    assert {event.kind for event in found} == {"head_gesture", "gaze", "blink"}
    assert all(0 <= event.start_us <= event.end_us <= 3_950_000 for event in found)
    assert motion_events(clip(pts)) == []
    unseen = clip(pts, head=np.full((len(pts), 3), np.nan, np.float32), gaze=np.full((len(pts), 2), np.nan, np.float32))
    assert motion_events(unseen) == []


def test_swings_ignore_what_is_smaller_and_runs_are_half_open() -> None:
    curve = np.array([0.0, 1, 2, 1.8, 3, 2, 0.5, 0.7, 0.2, 4])
    assert swings(curve, 1.0) == [(0, 4), (4, 8), (8, 9)]
    assert swings(curve, 10.0) == []
    assert list(runs(np.array([True, True, False, True]))) == [(0, 2), (3, 4)]


def test_an_even_grid_bridges_short_holes_only() -> None:
    pts = times(2)
    values = np.arange(len(pts), dtype=np.float64)
    values[10:12] = np.nan
    values[30:40] = np.nan
    grid, curve = even(pts, values)
    known = np.isfinite(curve)
    assert known[np.abs(grid - 0.42).argmin()]
    assert not known[np.abs(grid - 1.4).argmin()]
    assert curve[known] == pytest.approx(grid[known] * FPS)
