"""Faces followed through a shot: who is who from one look at the picture to the next."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipelines.segmentation.faces import FaceSample, intersection
from schemas.config import SegmentConfig
from schemas.types import FaceBox, FaceTrack, Span

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

US: Final = 1_000_000
JUMP: Final = 0.8
"""A face may be so many of its widths from where its motion led and stay the same track."""
MEMORY_US: Final = 700_000
"""Sightings from which the motion of a face is taken."""
LOOK_WEIGHT: Final = 1.0
"""How much the look of a face counts against its place: 1 is as much as the step from apart to full overlap."""
LOOK_MEMORY: Final = 0.8
"""Part of the remembered look that stays with each new sighting."""


@dataclass
class Sightings:
    """One face: where it was seen, and what it looks like."""

    number: int
    times: list[int] = field(default_factory=list)
    boxes: list[FaceBox] = field(default_factory=list)
    look: Float32 | None = None

    def expected(self, pts_us: int) -> FaceBox:
        """Where the face should be at a time, moving on as it did; never further than its own width."""
        last = self.boxes[-1]
        recent = [i for i in range(max(0, len(self.times) - 5), len(self.times)) if self.times[i] >= pts_us - MEMORY_US]
        if len(recent) < 2:
            return last
        times = np.array([(self.times[i] - self.times[-1]) / US for i in recent])
        centres = np.array([_centre(self.boxes[i]) for i in recent])
        away = times - times.mean()
        speed = away @ centres / (away @ away)
        step = speed * (pts_us - self.times[-1]) / US
        length = float(np.hypot(*step))
        step *= min(1.0, last.width / max(length, 1e-9))
        return FaceBox(last.x + float(step[0]), last.y + float(step[1]), last.width, last.height, last.score)

    def take(self, pts_us: int, box: FaceBox, look: Float32 | None) -> None:
        """See the face again."""
        self.times.append(pts_us)
        self.boxes.append(box)
        if look is not None:
            self.look = look if self.look is None else LOOK_MEMORY * self.look + (1 - LOOK_MEMORY) * look

    def part(self, span: Span) -> FaceTrack | None:
        """The sightings inside a span, smoothed; None without one."""
        if not self.times or self.times[-1] < span.start_us or self.times[0] >= span.end_us:
            return None
        inside = [i for i, time in enumerate(self.times) if span.start_us <= time < span.end_us]
        if not inside:
            return None
        boxes = np.array([[b.x, b.y, b.width, b.height] for b in (self.boxes[i] for i in inside)])
        times = np.array([self.times[i] for i in inside], np.int64)
        return FaceTrack(times, smoothed(times, boxes))


class Tracker:
    """Gives every face of a video a number that it keeps for as long as it is followed.

    Faces of one look at the picture are given to the tracks by the Hungarian algorithm: those that overlap where the
    motion of the track led, or are within JUMP of it, at the least cost of place and look. A track ends when its face
    was not seen for `bridge_s`.
    """

    def __init__(self, config: SegmentConfig) -> None:
        self._bridge_us = bridge_us(config)
        self._numbers = itertools.count()
        self.live: list[Sightings] = []
        self.done: list[Sightings] = []

    def push(self, sample: FaceSample) -> list[Sightings]:
        """Take the faces of the next look at the picture; the track of each, in their order."""
        gone = [track for track in self.live if sample.pts_us - track.times[-1] > self._bridge_us]
        self.done += gone
        self.live = [track for track in self.live if sample.pts_us - track.times[-1] <= self._bridge_us]
        looks: Sequence[Float32 | None] = sample.looks or [None] * len(sample.boxes)
        given: dict[int, Sightings] = {}
        if self.live and sample.boxes:
            cost = np.array(
                [
                    [_cost(track, place, box, look) for box, look in zip(sample.boxes, looks, strict=True)]
                    for track, place in ((track, track.expected(sample.pts_us)) for track in self.live)
                ]
            )
            for i, j in zip(*linear_sum_assignment(cost), strict=True):
                if cost[i, j] < 0:
                    given[int(j)] = self.live[int(i)]
        for j, box in enumerate(sample.boxes):
            if j not in given:
                given[j] = Sightings(next(self._numbers))
                self.live.append(given[j])
            given[j].take(sample.pts_us, box, looks[j])
        return [given[j] for j in range(len(sample.boxes))]

    def crowded(self, pts_us: int) -> bool:
        """Whether two faces are about to meet, so that the next look should come soon."""
        boxes = [track.expected(pts_us) for track in self.live]
        return any(_gap(a, b) < 0.25 * min(a.width, b.width) for a, b in itertools.combinations(boxes, 2))

    def all(self) -> list[Sightings]:
        """Every track so far, in the order in which they began."""
        return sorted(self.done + self.live, key=lambda track: track.number)


def follow_faces(samples: Sequence[FaceSample], shot: Span, config: SegmentConfig) -> list[FaceTrack]:
    """Tracks of a shot, the most dominant (summed box area x score) first."""
    tracker = Tracker(config)
    for sample in samples:
        if shot.start_us <= sample.pts_us < shot.end_us:
            tracker.push(sample)
    ordered = sorted(tracker.all(), key=lambda track: -dominance_of(track.boxes))
    return [part for track in ordered if (part := track.part(shot)) is not None]


def dominance_of(boxes: Sequence[FaceBox]) -> float:
    """Summed area times score."""
    return sum(box.width * box.height * box.score for box in boxes)


def bridge_us(config: SegmentConfig) -> float:
    """Longest distance of two sightings; never less than the distance of the samples, with room for frame times."""
    return (max(config.bridge_s, config.detect_every_s) + config.detect_every_s / 2) * US


def smoothed(times: NDArray[np.int64], boxes: Float64) -> Float32:
    """Boxes (N, 4) of which each is drawn half way to what its neighbours in time say: steady motion stays as it is."""
    result = boxes.copy()
    if len(times) > 2:
        share = ((times[1:-1] - times[:-2]) / (times[2:] - times[:-2]))[:, np.newaxis]
        between = boxes[:-2] * (1 - share) + boxes[2:] * share
        result[1:-1] = (boxes[1:-1] + between) / 2
    return np.asarray(result, np.float32)


def _cost(track: Sightings, expected: FaceBox, box: FaceBox, look: Float32 | None) -> float:
    """Below zero for what may be the same face, the lower the better; zero for what cannot."""
    near = _affinity(expected, box)
    if near <= 0:
        return 0.0
    alike = 1.0 if track.look is None or look is None else _likeness(track.look, look)
    return -(near + LOOK_WEIGHT * alike)


def _likeness(one: Float32, other: Float32) -> float:
    """0..1."""
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return max(0.0, float(one @ other) / length) if length else 0.0


def _affinity(a: FaceBox, b: FaceBox) -> float:
    """1..2 for overlap, 0..1 for nearness, 0 for neither; faces of very different size are never the same."""
    if not 0.5 < a.width / b.width < 2.0:
        return 0.0
    shared = intersection(a, b)
    if shared > 0:
        return 1 + shared / (a.width * a.height + b.width * b.height - shared)
    distance = math.dist(_centre(a), _centre(b))
    return max(0.0, 1 - distance / (JUMP * max(a.width, b.width) * math.sqrt(2)))


def _centre(box: FaceBox) -> tuple[float, float]:
    return box.x + box.width / 2, box.y + box.height / 2


def _gap(a: FaceBox, b: FaceBox) -> float:
    """Distance of the nearest sides; below zero where boxes overlap."""
    across = max(a.x, b.x) - min(a.x + a.width, b.x + b.width)
    along = max(a.y, b.y) - min(a.y + a.height, b.y + b.height)
    return max(across, along)
