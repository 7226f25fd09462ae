"""Fades and dissolves: frames on a straight line, in the space of pictures, from one view to another.

An editor's fade or dissolve shows (1 - a) A + a B with a growing from 0 to 1, and black or white is a view like any
other, so fades are the same thing (the production model of Hampapur, Jain, Weymouth: Digital video segmentation, 1994).
Motion is not: where an edge moves by more than a pixel, the picture in the middle is not the mean of the ends. People
in A and B move while they dissolve, so part of the pixels may leave the line. Light that changes on one view moves on
such a line too, but there B is a function of A's brightness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.segmentation import detail
from pipelines.segmentation.lines import FITS, SIZE, course_of, is_one_colour, is_one_view, line_of

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

COARSE: Final = (24, 18)
"""Pixels on which windows are looked through before they are examined."""
LENGTHS: Final = (7, 9, 11, 14, 17, 21, 26, 32, 40, 50, 62, 78)
"""Frames of the windows that are tried: each transition of 3 to 60 frames has one that ends shortly beside it."""
LARGEST_STEP: Final = 0.55
"""Of a from one frame to the next: a cut is one step of 1."""
CERTAIN_STEP: Final = 0.85
"""A cut whatever pixels are left out."""
PLATEAU: Final = 0.12
"""How far a may be from its ends where the window begins and stops."""
FOOT: Final = 0.12
"""Part of the course at either end that is reckoned, not measured."""
STILL: Final = 0.03
"""How far a may be from its ends in frames of one view: what noise and motion make of 0."""
UNSTEADY: Final = 0.25
"""How far a may be from a steady course between the ends of a mix: easing in and out takes 0.1, lost frames as much."""
BACKWARD: Final = 0.06
"""How far a may fall back: noise and motion."""
SLACK: Final = 0.08
"""What coarse pictures may have more of each of these."""
COARSE_KEPT: Final = round(0.8 * COARSE[0] * COARSE[1])
"""Pixels of a coarse picture that must have them."""
FLAT: Final = 6.0
"""Standard deviation of the grey values of a picture that is one colour; without the darkest and the brightest pixels,
half their range."""
FLAT_PART: Final = 0.93
"""Pixels of a picture of one colour that must have it: a clock or a logo may stay."""
ENDS: Final = 2
"""Frames of a run of one colour at which windows end."""
HELD: Final = 50
"""Frames of one colour between a fade out and a fade in that belong to both: two seconds."""
TOUCHING: Final = 0.4
"""Part of a mix that may lie in another one; two views of the same mix share more."""
POINTS: Final = 10
"""Frames of a window on which line and detail are tested."""
JUMP: Final = 3.0
"""A step off the line, over the other ones, that is a cut."""
LEAST_JUMP: Final = 4.0
"""RMS grey-value difference of it, on coarse pictures."""
HELD_PIXELS: Final = round(0.9 * COARSE[0] * COARSE[1])
"""Of a step of a mix, that go along its line."""
NEAR: Final = 3
"""A cut so many frames beside a mix may be a step of it."""


@dataclass(frozen=True)
class Step:
    """A change from one frame to the next that may be a cut."""

    index: int
    """Number of the frame after it."""
    change: Float32
    """(432,) grey-value difference of the two, coarse."""


@dataclass(frozen=True)
class _Mix:
    """Frames first..last-1 mix two views."""

    first: int
    last: int
    strength: float
    residual: float
    along: Float32
    """(432,) from one view to the other, coarse."""

    def shares(self, other: _Mix) -> bool:
        """Whether both are views of one mix; out to black and in again only meet."""
        shared = min(self.last, other.last) - max(self.first, other.first)
        return shared > TOUCHING * min(self.last - self.first, other.last - other.first)

    def holds(self, step: Step) -> bool:
        """Whether a step is a part of this mix: beside it or in it, and along its line."""
        if not self.first - NEAR <= step.index <= self.last + NEAR:
            return False
        part = float(course_of(step.change[np.newaxis], self.along)[0])
        off = np.abs(step.change - part * self.along)
        kept = off <= np.partition(off, HELD_PIXELS)[HELD_PIXELS]
        along, change = self.along[kept], step.change[kept]
        size = max(1e-6, float(along @ along))
        part = float(change @ along) / size
        return 0 < part <= LARGEST_STEP and float(change @ change) <= 2 * part**2 * size


def step_of(index: int, before: UInt8, after: UInt8) -> Step:
    """The step between two pictures (H, W, 3) uint8."""
    return Step(index, _shrunk(_grey(after), COARSE) - _shrunk(_grey(before), COARSE))


class MixFinder:
    """Takes small pictures in order and gives the spans of frames that mix two views."""

    def __init__(self) -> None:
        self._depth = max(LENGTHS) + 1
        self._fine = np.zeros((self._depth, SIZE[0] * SIZE[1]), np.float32)
        self._coarse = np.zeros((self._depth, COARSE[0] * COARSE[1]), np.float32)
        self._detail = np.zeros((self._depth, *detail.SIZE[::-1]), np.uint8)
        self._flat = np.zeros(self._depth, np.bool_)
        self._held: list[list[int]] = []
        self._count = 0
        self._found: list[_Mix] = []
        self._chosen: list[_Mix] = []

    def push(self, rgb: UInt8) -> None:
        """Take the next frame, (H, W, 3) uint8."""
        place, number = self._count % self._depth, self._count
        grey = _grey(rgb)
        self._fine[place] = _shrunk(grey, SIZE)
        self._coarse[place] = _shrunk(grey, COARSE)
        self._detail[place] = cv2.resize(grey, detail.SIZE, interpolation=cv2.INTER_AREA)
        self._flat[place] = _is_flat(self._fine[place])
        self._count += 1
        if self._flat[place]:
            if self._held and self._held[-1][1] == number:
                self._held[-1][1] += 1
            else:
                self._held.append([number, number + 1])
            if self._held[-1][1] - self._held[-1][0] > ENDS:
                return  # every frame of a run of black is the same end
        self._try(number)

    def finish(self, cuts: Sequence[Step] = ()) -> tuple[list[tuple[int, int]], list[int]]:
        """Spans [first, last) of frame numbers that mix views, in order and apart; and the cuts that are none of them.

        No span contains a cut.
        """
        self._settle()
        left = [
            step.index
            for step in cuts
            if not any(mix.holds(step) for mix in self._chosen) and not self._is_in_black(step.index)
        ]
        spans: list[tuple[int, int]] = []
        for mix in sorted(self._chosen, key=lambda mix: mix.first):
            first, last = _without(mix.first, mix.last, left)
            before = spans[-1][1] if spans else -1
            apart = any(before <= cut <= first for cut in left)
            if spans and not apart and (first <= before or self._is_held(before, first)):
                spans[-1] = spans[-1][0], max(last, before)
            elif last > max(first, before):
                spans.append((max(first, before), last))
        return spans, left

    def _is_held(self, first: int, last: int) -> bool:
        """Whether the frames from one to before the other show one colour, with a frame's grace on both sides."""
        if last - first > HELD:
            return False
        return last - first <= 2 or any(a <= first + 1 and last - 1 <= b for a, b in self._held)

    def _is_in_black(self, cut: int) -> bool:
        """Whether a cut lies in one colour that a fade leads to or from: nothing but a clock can have changed there."""
        runs = [(a, b) for a, b in self._held if a < cut < b and b - a <= HELD]
        return any(
            a - NEAR <= end <= b + NEAR for a, b in runs for mix in self._chosen for end in (mix.first, mix.last)
        )

    def _settle(self) -> None:
        """Of mixes that overlap, choose those that fit best."""
        chosen: list[_Mix] = []
        for mix in sorted(self._found, key=lambda mix: (mix.residual - 0.004 * mix.strength, mix.first)):
            if not any(mix.shares(other) for other in chosen):
                chosen.append(mix)
        self._chosen += chosen
        self._found = []

    def _try(self, end: int) -> None:
        """Look for a mix in each of the windows that end with a frame."""
        if self._found and end - max(LENGTHS) > max(mix.last for mix in self._found):
            self._settle()
        for length in LENGTHS:
            begin = end - length
            if begin < 0:
                return
            if not self._may_mix(begin, end):
                continue
            mix = self._mix(begin, end)
            if mix is not None:
                self._found.append(mix)

    def _may_mix(self, begin: int, end: int) -> bool:
        """Whether the coarse pictures of a window go from one view to another, step by step, and stay there."""
        first = self._coarse[begin % self._depth]
        along = self._coarse[end % self._depth] - first
        size = float(along @ along)
        if size < (0.5 * FITS[0].least_change) ** 2 * along.size or is_one_colour(along):
            return False
        away = self._coarse[np.arange(begin, end + 1) % self._depth] - first
        course = course_of(away, along)
        if not self._is_course(course, begin, end, SLACK):
            if np.diff(course).max() > CERTAIN_STEP:
                return False
            off = np.abs(away - course[:, np.newaxis] * along).max(axis=0)
            kept = np.asarray(off <= np.partition(off, COARSE_KEPT)[COARSE_KEPT], np.float32)
            if not self._is_course(course_of(away, along, kept), begin, end, SLACK):
                return False
        return not _off_cut(away, along)

    def _mix(self, begin: int, end: int) -> _Mix | None:
        """The mix of a window if its frames lie on the line between its ends."""
        first = self._fine[begin % self._depth]
        line = line_of(self._fine[self._spread(begin, end)] - first)
        if line is None:
            return None
        along = self._fine[end % self._depth] - first
        part = along * line.kept
        places = self._fine @ part - float(first @ part)
        course = places[np.arange(begin, end + 1) % self._depth] / float(along @ part)
        if not self._is_course(course, begin, end):
            return None
        flat = self._flat[begin % self._depth] or self._flat[end % self._depth]
        if not flat and is_one_view(first, along, line.kept):
            return None
        span = _span_of(course)
        if span is None:
            return None
        mix = _Mix(begin + span[0], begin + span[1], line.change, line.residual, self._along(begin, end))
        return mix if flat or self._is_known(mix) or self._loses_detail(mix, line.kept, begin, end) else None

    def _along(self, begin: int, end: int) -> Float32:
        """(432,) from one frame to another, coarse."""
        return np.asarray(self._coarse[end % self._depth] - self._coarse[begin % self._depth], np.float32)

    def _is_known(self, mix: _Mix) -> bool:
        """Whether another window has shown the same mix."""
        return any(abs(mix.first - other.first) + abs(mix.last - other.last) <= 1 for other in self._found)

    def _loses_detail(self, mix: _Mix, kept: Float32, begin: int, end: int) -> bool:
        """Whether the frames of a mix in a window have lost the detail that mixing takes."""
        part = cv2.resize(kept.reshape(SIZE[::-1]), detail.SIZE, interpolation=cv2.INTER_NEAREST)
        inner = self._spread(max(begin, mix.first - 1), min(end, mix.last))
        return detail.is_mix(self._detail[inner].astype(np.float32), np.asarray(part, np.float32))

    def _spread(self, first: int, last: int) -> NDArray[np.int64]:
        """Places in memory of some frames from one to another, both among them."""
        numbers = np.linspace(first, last, min(POINTS, last - first + 1)).round().astype(np.int64)
        return np.asarray(np.unique(numbers) % self._depth, np.int64)

    def _is_course(self, course: Float32, begin: int, end: int, slack: float = 0.0) -> bool:
        """Whether places on a line go from one end to the other in more than one step, and stay there."""
        steps = np.diff(course)
        return bool(
            steps.max() <= LARGEST_STEP + slack
            and steps.min() >= -BACKWARD - slack
            and self._has_ends(course, begin, end, slack)
        )

    def _has_ends(self, course: Float32, begin: int, end: int, slack: float = 0.0) -> bool:
        """Whether the views on both sides stay as they are; a picture of one colour needs no proof."""
        flat = bool(self._flat[begin % self._depth]), bool(self._flat[end % self._depth])
        beside = max(2, len(course) // 8)
        starts = flat[0] or begin == 0 or course[1 : 1 + beside].max() < PLATEAU + slack
        stops = flat[1] or course[-1 - beside : -1].min() > 1 - PLATEAU - slack
        return bool(not all(flat) and starts and stops)


def _grey(rgb: UInt8) -> UInt8:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def _shrunk(grey: UInt8, size: tuple[int, int]) -> Float32:
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32).reshape(-1)


def _is_flat(grey: Float32) -> bool:
    count = round(FLAT_PART * len(grey))
    low, high = np.partition(grey, (len(grey) - count, count))[[len(grey) - count, count]]
    return bool(high - low < 2 * FLAT or grey.std() < FLAT)


def _off_cut(away: Float32, along: Float32) -> bool:
    """Whether pictures (T, P) make a step off their line that stands out: a cut, before which nothing may begin."""
    steps = np.diff(away, axis=0)
    part = steps @ along / float(along @ along)
    off = np.sqrt(np.mean((steps - part[:, np.newaxis] * along) ** 2, axis=1))
    others = np.sort(off)[-1 - max(1, len(off) // 8)]
    return bool(off.max() > max(LEAST_JUMP, JUMP * others))


def _span_of(course: Float32) -> tuple[int, int] | None:
    """First and one past the last place of a course that mix; None where hardly any do, or at changing speed.

    The views themselves move a little, so the ends are where a straight line through the middle leads; a course that
    sets in slowly begins earlier.
    """
    moving = np.flatnonzero((course > FOOT) & (course < 1 - FOOT))
    if len(moving) < 2:
        return None
    low, high = int(moving[0]), int(moving[-1])
    tail = round(len(moving) * FOOT / (1 - 2 * FOOT))
    reach = max(2, len(moving) // 4)
    before = np.flatnonzero(course[:low] <= STILL)
    after = np.flatnonzero(course[high + 1 :] >= 1 - STILL)
    first = int(before[-1]) + 1 if len(before) else 0
    last = high + 1 + int(after[0]) if len(after) else len(course)
    first = max(0, low - tail - reach, min(first, low - tail))
    last = min(len(course), high + 1 + tail + reach, max(last, high + 1 + tail))
    steady = np.arange(1, last - first + 1) / (last - first + 1)
    return None if np.abs(course[first:last] - steady).max() > UNSTEADY else (first, last)


def _without(first: int, last: int, cuts: Sequence[int]) -> tuple[int, int]:
    """The longer part of a span on one side of the cuts in it."""
    edges = [first, *(cut for cut in sorted(cuts) if first < cut < last), last]
    widest = max(range(len(edges) - 1), key=lambda i: edges[i + 1] - edges[i])
    return edges[widest], edges[widest + 1]
