"""Nods, shakes and blinks of rendered talkers found again, lips closed on key motions, looks away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from reconstruction_parts.limits import Limits, table

from annotate.motion_events import find_gaze_aversions, find_head_gestures, motion_events
from annotate.performance import Performance
from labels_parts.clips import Clips
from pipelines.performance import performance_of
from schemas.types import Event, Int64, LandmarkTrack
from synthetic.events import LIDS, LIPS, closures, gaps_m
from synthetic.head_gestures import HeadGesture, gesture_intervals
from synthetic.make import Truth

SEEDS = range(301, 351)
"""Through pixels. The rules were made on the talkers 1 to 30, 101 to 110 and 201 to 210. The first twenty of these
were looked at afterwards, and nothing was changed."""
UNSEEN_SEEDS = range(401, 461)
"""Nothing is rendered and nothing fitted: their own head angles show what the rules alone get wrong."""
OVERLAP = 0.3
"""Least intersection over union of a gesture found and one made."""
NEAR_US = 40_000
"""A blink or closure is met within a frame."""
F1, COVERED = 0.9, 0.9
COLUMNS = ("hits", "misses", "false", "F1")
Times = Sequence[tuple[int, int]]


def motion(limits: Limits, clips: Clips) -> None:
    """Print hits, misses and false alarms of each kind."""
    counts = {kind: np.zeros(3, np.int64) for kind in ("nod", "shake", "blink", "away")}
    covered = total = lows = frames = 0
    for seed in SEEDS[:2] if limits.quick else SEEDS:
        truth, gestures, seen = clips.rendered(seed)
        found = motion_events(seen)
        for kind in ("nod", "shake"):
            counts[kind] += met(gestures, found, kind)
        lips, lids = gaps_m(clips.model, truth.track)
        pts = truth.pts_us

        def times(spans: Times, pts: Int64 = pts) -> list[tuple[int, int]]:
            return [(int(pts[start]) - NEAR_US, int(pts[stop - 1]) + NEAR_US) for start, stop in spans]

        counts["blink"] += matched(
            times(closures(lids, LIDS)), of_label(found, "blink"), times(closures(lids, LIDS, loose=True))
        )
        exact = _of_truth(truth, clips)
        if exact.gaze is not None:
            looks = [(event.start_us, event.end_us) for event in find_gaze_aversions(exact.pts_us, exact.gaze)]
            counts["away"] += matched(looks, of_label(found, "away"), looks, OVERLAP)
        closed = times(closures(lips, LIPS))
        keys = np.array([event.start_us for event in found if event.label == "lips:low"])
        covered += sum(bool(((keys >= start) & (keys <= end)).any()) for start, end in closed)
        total, lows, frames = total + len(closed), lows + len(keys), frames + len(pts)
    table("events of rendered talkers", COLUMNS, [_row(kind, count) for kind, count in counts.items()])
    for kind in ("nod", "shake", "blink"):
        limits.check(f"{kind}s: F1", f1(counts[kind]), F1, "", at_least=True)
    print(f"  key motions `lips:low`: {lows} in {frames} frames, {total} closures of the truth")
    limits.check("lip closures with a key motion", covered / max(total, 1), COVERED, "", at_least=True)
    _of_true_angles(limits, clips)


def _of_true_angles(limits: Limits, clips: Clips) -> None:
    counts = {kind: np.zeros(3, np.int64) for kind in ("nod", "shake")}
    for seed in UNSEEN_SEEDS[:2] if limits.quick else UNSEEN_SEEDS:
        _, truth, _, gestures = clips.acted(seed)
        head = _of_truth(truth, clips).head
        if head is not None:
            found = find_head_gestures(truth.pts_us, head)
            for kind, count in counts.items():
                count += met(gestures, found, kind)
    table("the same rules on true head angles", COLUMNS, [_row(kind, count) for kind, count in counts.items()])


def _row(kind: str, counts: Int64) -> tuple[str, list[float | str]]:
    return kind, [*(f"{count}" for count in counts), f1(counts)]


def f1(counts: Int64) -> float:
    """Of hits, misses and false alarms."""
    hits, misses, false = (int(count) for count in counts)
    return 2 * hits / max(2 * hits + misses + false, 1)


def met(gestures: Sequence[HeadGesture], found: Sequence[Event], kind: str) -> Int64:
    """(hits, misses, false alarms) of nods or of shakes."""
    made = [(each.start_us, each.end_us) for each in gesture_intervals(gestures) if each.label == kind]
    return matched(made, of_label(found, kind), made, OVERLAP)


def of_label(events: Sequence[Event], label: str) -> list[tuple[int, int]]:
    """Spans of the events of a label."""
    return [(event.start_us, event.end_us) for event in events if event.label == label]


def matched(wanted: Times, found: Times, allowed: Times, overlap: float = 0.0) -> Int64:
    """(hits, misses, false alarms); found ones that meet one of `allowed` are no false alarm."""
    hits = sum(any(_overlap(each, other) > overlap for other in found) for each in wanted)
    false = sum(not any(_overlap(each, other) > overlap for other in allowed) for each in found)
    return np.array([hits, len(wanted) - hits, false])


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Intersection over union; 0 where they do not meet."""
    shared = min(one[1], other[1]) - max(one[0], other[0])
    return max(shared, 0) / max(max(one[1], other[1]) - min(one[0], other[0]), 1)


def _of_truth(truth: Truth, clips: Clips) -> Performance:
    """What the true head does, with landmarks of nothing."""
    count = len(truth.pts_us)
    nothing = np.full((count, len(clips.embedding.vertices), 2), np.nan, np.float32)
    valid = np.zeros(count, np.bool_)
    landmarks = LandmarkTrack(truth.pts_us, nothing, nothing[..., 0], valid, 1, 1, clips.embedding.detector)
    return performance_of(clips.model, truth.track, landmarks, int(truth.pts_us[-1]) + 40_000)
