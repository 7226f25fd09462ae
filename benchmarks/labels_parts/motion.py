"""Nods, shakes and blinks of rendered talkers found again, lips closed on key motions, looks away."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from reconstruction_parts.limits import Limits, table

from annotate.motion_events import find_gaze_aversions, motion_events
from annotate.performance import Performance
from labels_parts.clips import Clips
from pipelines.performance import performance_of
from schemas.types import Event, Int64, LandmarkTrack
from synthetic.events import LIDS, LIPS, closures, gaps_m
from synthetic.head_gestures import gesture_intervals

SEEDS = range(301, 311)
"""The rules were made on the talkers 1 to 10 and 101 to 110."""
OVERLAP = 0.3
"""Least intersection over union of a gesture found and one made."""
NEAR_US = 40_000
"""A blink or closure is met within a frame."""
F1, COVERED = 0.9, 0.9
Times = Sequence[tuple[int, int]]


def motion(limits: Limits, clips: Clips) -> None:
    """Print hits, misses and false alarms of each kind."""
    counts = {kind: np.zeros(3, np.int64) for kind in ("nod", "shake", "blink", "away")}
    covered = total = lows = frames = 0
    for seed in SEEDS[:2] if limits.quick else SEEDS:
        truth, gestures, seen = clips.rendered(seed)
        found = motion_events(seen)
        for kind in ("nod", "shake"):
            made = [(each.start_us, each.end_us) for each in gesture_intervals(gestures) if each.label == kind]
            counts[kind] += matched(made, of_label(found, kind), made, OVERLAP)
        lips, lids = gaps_m(clips.model, truth.track)
        pts = truth.pts_us

        def times(spans: Times, pts: Int64 = pts) -> list[tuple[int, int]]:
            return [(int(pts[start]) - NEAR_US, int(pts[stop - 1]) + NEAR_US) for start, stop in spans]

        counts["blink"] += matched(
            times(closures(lids, LIDS)), of_label(found, "blink"), times(closures(lids, LIDS, loose=True))
        )
        exact = performance_of(clips.model, truth.track, _unseen(seen, clips), seen.duration_us)
        if exact.gaze is not None:
            looks = [(event.start_us, event.end_us) for event in find_gaze_aversions(exact.pts_us, exact.gaze)]
            counts["away"] += matched(looks, of_label(found, "away"), looks, OVERLAP)
        closed = times(closures(lips, LIPS))
        keys = np.array([event.start_us for event in found if event.label == "lips:low"])
        covered += sum(bool(((keys >= start) & (keys <= end)).any()) for start, end in closed)
        total, lows, frames = total + len(closed), lows + len(keys), frames + len(pts)
    rows = []
    for kind, (hits, misses, false) in counts.items():
        rows.append((kind, [f"{hits}", f"{misses}", f"{false}", 2 * hits / max(2 * hits + misses + false, 1)]))
    table("events of rendered talkers", ["hits", "misses", "false", "F1"], rows)
    for kind in ("nod", "shake", "blink"):
        hits, misses, false = counts[kind]
        limits.check(f"{kind}s: F1", 2 * hits / max(2 * hits + misses + false, 1), F1, "", at_least=True)
    print(f"  key motions `lips:low`: {lows} in {frames} frames, {total} closures of the truth")
    limits.check("lip closures with a key motion", covered / max(total, 1), COVERED, "", at_least=True)


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


def _unseen(seen: Performance, clips: Clips) -> LandmarkTrack:
    """Landmarks of nothing, for the truth's own gaze."""
    count = len(seen.pts_us)
    nothing = np.full((count, len(clips.embedding.vertices), 2), np.nan, np.float32)
    valid = np.zeros(count, np.bool_)
    return LandmarkTrack(seen.pts_us, nothing, nothing[..., 0], valid, 1, 1, clips.embedding.detector)
