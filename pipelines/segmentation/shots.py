"""Cuts of a video: PySceneDetect's adaptive detector, fed frame by frame by presentation time."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, FrameTimecode

from pipelines.segmentation.mixes import MixFinder, Step, step_of
from schemas.types import Span

UInt8 = NDArray[np.uint8]

WIDTH: Final = 256  # the width to which PySceneDetect itself scales before it compares
STRONG: Final = 15.0
"""Mean HSV change, 0..255, from which PySceneDetect by default takes what stands out from its neighbours for a cut."""

# Between two takes of one person in one room the change is smaller. There the mean is no measure: the pulse of a
# keyframe in a strongly compressed video is as large. But a pulse is spread thinly, a cut moves edges, so what counts
# is how much the most changed twentieth of a coarse picture changes. On 27 recordings joined at CRF 0 to 33, cuts
# between takes of one speaker have 5.7 and more, 2.1 times and more than anything within ten frames; keyframe pulses
# reach 5.6 with fast encoders, hence the limit: what is lost is a join of two nearly equal takes, strongly compressed.
COARSE: Final = 32
COARSE_PERCENTILE: Final = 95
WEAK: Final = 6.0
WEAK_WINDOW: Final = 5
WEAK_OVER_MOTION: Final = 1.6
STUTTER_MOTION: Final = 0.25
CANDIDATE_CONTENT: Final = 1.5
CANDIDATE_RATIO: Final = 0.7  # of the threshold: the detector proposes, the rules below decide
STILL: Final = 0.5  # coarse change between a picture and its repetition
FLASH_FRAMES: Final = 4  # a photo flash or a damaged picture returns to the same view within so many frames
ABRUPT_RATIO: Final = 2.0
"""Change against the five frames before it from which a frame may begin another view, before that is decided."""


@dataclass(frozen=True)
class Shots:
    """How a video is divided; shots and transitions together cover it without gaps or overlaps."""

    shots: list[Span]
    transitions: list[Span]
    """Fades and dissolves: spans whose frames show two pictures at once, or one that is fading."""


class _Content(AdaptiveDetector):  # type: ignore[misc]
    """PySceneDetect's detector on a change that is already computed; its own numpy code takes 2 ms a frame."""

    change = 0.0

    def _calculate_frame_score(self, timecode: Any, frame_img: Any) -> float:
        del timecode, frame_img
        return self.change


@dataclass(frozen=True)
class _Cut:
    """The first frame of a shot, and the pictures before and after."""

    index: int
    before: UInt8
    after: UInt8

    def step(self) -> Step:
        """What is kept of it."""
        return step_of(self.index, self.before, self.after)


class ShotFinder:
    """Takes frames in order and gives the uncut spans; a brief flash that returns to the same view is no cut.

    Its memory grows by a few numbers a frame.
    """

    def __init__(self, threshold: float = 3.0, mixes: bool = True) -> None:
        # Frame numbers serve as time codes, so uneven frame rates cannot disturb the detector; its own shortest
        # scene would drop true cuts, so flashes are dealt with here.
        self._detector = _Content(
            adaptive_threshold=CANDIDATE_RATIO * threshold, min_scene_len=0, min_content_val=CANDIDATE_CONTENT
        )
        self._threshold = threshold
        self._mixes = MixFinder() if mixes else None
        self._pts: list[int] = []
        self._change: list[float] = []
        self._coarse_change: list[float] = []
        self._last: tuple[UInt8, NDArray[np.float64]] | None = None
        self._recent: deque[tuple[int, UInt8]] = deque(maxlen=8)
        self._open: deque[_Cut] = deque()
        self._kept: deque[_Cut] = deque()
        self._cuts: list[Step] = []

    def push(self, pts_us: int, rgb: UInt8) -> bool:
        """Take the next frame, (H, W, 3) uint8, of any size that stays the same; whether it may begin another view."""
        scale = min(1.0, WIDTH / rgb.shape[1])
        size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        hsv = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2HSV), np.uint8)
        coarse = _coarse(small)
        index = len(self._pts)
        change = coarse_change = 0.0
        if self._last is not None:
            change, coarse_change = _mean_change(self._last[0], hsv), _largest_change(self._last[1], coarse)
        abrupt = self._is_abrupt(change, coarse_change)
        self._last = hsv, coarse
        self._change.append(change)
        self._coarse_change.append(coarse_change)
        self._pts.append(pts_us)
        self._recent.append((index, small))
        if self._mixes is not None:
            self._mixes.push(small)
        self._detector.change = change
        for code in self._detector.process_frame(FrameTimecode(index, fps=25.0), small):
            cut = int(code.frame_num)
            if cut > 0:
                views = dict(self._recent)
                self._open.append(_Cut(cut, views[cut - 1], views[cut]))
        while self._open and self._open[0].index + WEAK_WINDOW <= index:
            self._decide(self._open.popleft())
        return abrupt

    def finish(self, end_us: int | None = None) -> Shots:
        """The division from the first PTS to `end_us` (by default one frame after the last)."""
        if not self._pts:
            return Shots([], [])
        if end_us is None:
            end_us = 2 * self._pts[-1] - self._pts[-2] if len(self._pts) > 1 else self._pts[-1] + 1
        while self._open:
            self._decide(self._open.popleft())
        cuts = self._cuts + [cut.step() for cut in self._kept]
        if self._mixes is None:
            mixed: list[tuple[int, int]] = []
            clear = [cut.index for cut in cuts]
        else:
            mixed, clear = self._mixes.finish(cuts)
        times = [*self._pts, end_us]
        borders = sorted({0, len(self._pts), *clear, *itertools.chain(*mixed)})
        begins = {a for a, _ in mixed}
        shots: list[Span] = []
        transitions: list[Span] = []
        for a, b in itertools.pairwise(borders):
            (transitions if a in begins else shots).append(Span(times[a], times[b]))
        return Shots(shots, transitions)

    def _is_abrupt(self, change: float, coarse_change: float) -> bool:
        before = self._coarse_change[-WEAK_WINDOW:]
        usual = sum(before) / len(before) if before else 0.0
        return change >= STRONG or coarse_change >= max(WEAK, ABRUPT_RATIO * usual)

    def _decide(self, cut: _Cut) -> None:
        """Take a candidate for a cut or not, once the frames after it are known."""
        if not (self._is_strong(cut.index) or self._is_weak(cut.index)):
            return
        if self._kept and cut.index - self._kept[-1].index <= FLASH_FRAMES:
            away = min(self._change[cut.index], self._change[self._kept[-1].index])
            if _difference(self._kept[-1].before, cut.after) < away / 2:  # back where it was: a flash
                self._kept.pop()
                return
        self._kept.append(cut)
        while self._kept[0].index + FLASH_FRAMES < cut.index:  # no flash can begin there any more
            self._cuts.append(self._kept.popleft().step())

    def _is_strong(self, index: int) -> bool:
        change = self._change
        if change[index] < max(STRONG, self._threshold * _mean_around(change, index)):
            return False
        # Fast motion of which every picture is shown twice or more jumps as much, again and again.
        near = self._coarse_change[index - 1 : index] + self._coarse_change[index + 1 : index + 2]
        others = change[max(1, index - WEAK_WINDOW) : index] + change[index + 1 : index + 1 + WEAK_WINDOW]
        return min(near) >= STILL or max(others) < change[index] / 2

    def _is_weak(self, index: int) -> bool:
        """A small change that is more than the motion around it."""
        change, value = self._coarse_change, self._coarse_change[index]
        window = range(max(1, index - WEAK_WINDOW), min(len(change), index + 1 + WEAK_WINDOW))
        motion = max((change[i] for i in window if i != index and self._change[i] < STRONG), default=0.0)
        # Beside a repeated picture a jump is stutter, when there is motion besides.
        still = min(change[i] for i in window if 0 < abs(i - index) <= 1) < STILL
        stands_out = value >= max(WEAK, self._threshold * _mean_around(change, index), WEAK_OVER_MOTION * motion)
        return stands_out and not (still and motion > STUTTER_MOTION * value)


def find_shots(frames: Iterable[tuple[int, UInt8]], threshold: float = 3.0, end_us: int | None = None) -> Shots:
    """Shots and transitions of (pts_us, rgb) frames; a cut lies at the PTS of the first frame of the new shot.

    threshold is the ratio of a frame's content change to that of its neighbourhood. The last shot ends at `end_us`,
    by default one frame distance after the last PTS. Source: PySceneDetect AdaptiveDetector (window of two frames).
    """
    finder = ShotFinder(threshold)
    for pts_us, rgb in frames:
        finder.push(pts_us, rgb)
    return finder.finish(end_us)


def _mean_change(one: UInt8, other: UInt8) -> float:
    """Mean absolute HSV difference, 0..255: PySceneDetect's content value with its default weights."""
    return float(np.mean(cv2.mean(cv2.absdiff(one, other))[:3]))


def _difference(one: UInt8, other: UInt8) -> float:
    """`_mean_change` of two RGB pictures."""
    hsv = [np.asarray(cv2.cvtColor(view, cv2.COLOR_RGB2HSV), np.uint8) for view in (one, other)]
    return _mean_change(hsv[0], hsv[1])


def _coarse(small: UInt8) -> NDArray[np.float64]:
    picture = cv2.resize(small, (COARSE, COARSE * 3 // 4), interpolation=cv2.INTER_AREA)
    return np.asarray(picture.mean(axis=2))


def _largest_change(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Grey-value difference, 0..255, that the most changed twentieth of the coarse picture exceeds."""
    change = np.sort(np.abs(one - other), axis=None)
    return float(change[round(COARSE_PERCENTILE / 100 * (len(change) - 1))])


def _mean_around(change: list[float], index: int) -> float:
    """Mean over the two frames before and after, as PySceneDetect's adaptive detector takes it."""
    around = change[max(1, index - 2) : index] + change[index + 1 : index + 3]
    return sum(around) / max(1, len(around))
