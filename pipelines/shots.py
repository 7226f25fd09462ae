"""Cuts of a video: PySceneDetect's adaptive detector, fed frame by frame by presentation time."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import AdaptiveDetector, FrameTimecode

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


class ShotFinder:
    """Takes frames in order and gives the uncut spans; a brief flash that returns to the same view is no cut."""

    def __init__(self, threshold: float = 3.0) -> None:
        # Frame numbers serve as time codes, so uneven frame rates cannot disturb the detector; its own shortest
        # scene would drop true cuts, so flashes are dealt with here.
        self._detector = AdaptiveDetector(
            adaptive_threshold=CANDIDATE_RATIO * threshold, min_scene_len=0, min_content_val=CANDIDATE_CONTENT
        )
        self._threshold = threshold
        self._pts: list[int] = []
        self._change: list[float] = []
        self._coarse_change: list[float] = []
        self._recent: deque[tuple[int, UInt8]] = deque(maxlen=8)
        self._cuts: list[tuple[int, UInt8, UInt8]] = []

    def push(self, pts_us: int, rgb: UInt8) -> None:
        """Take the next frame, (H, W, 3) uint8, of any size that stays the same."""
        scale = min(1.0, WIDTH / rgb.shape[1])
        size = max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale))
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        index = len(self._pts)
        self._change.append(_difference(self._recent[-1][1], small) if index else 0.0)
        self._coarse_change.append(_coarse_difference(self._recent[-1][1], small) if index else 0.0)
        self._pts.append(pts_us)
        self._recent.append((index, small))
        bgr = np.ascontiguousarray(small[:, :, ::-1])
        for code in self._detector.process_frame(FrameTimecode(index, fps=25.0), bgr):
            cut = int(code.frame_num)
            if cut > 0:
                views = dict(self._recent)
                self._cuts.append((cut, views[cut - 1], views[cut]))

    def finish(self, end_us: int | None = None) -> list[Span]:
        """The shots, in order, without gaps, from the first PTS to `end_us` (by default one frame after the last)."""
        if not self._pts:
            return []
        if end_us is None:
            end_us = 2 * self._pts[-1] - self._pts[-2] if len(self._pts) > 1 else self._pts[-1] + 1
        borders = [self._pts[0], *(self._pts[cut] for cut in self._true_cuts()), end_us]
        return [Span(start, stop) for start, stop in itertools.pairwise(borders)]

    def _true_cuts(self) -> list[int]:
        kept: list[tuple[int, UInt8, UInt8]] = []
        for cut in self._cuts:
            if not (self._is_strong(cut[0]) or self._is_weak(cut[0])):
                continue
            if kept and cut[0] - kept[-1][0] <= FLASH_FRAMES:
                away = min(self._change[cut[0]], self._change[kept[-1][0]])
                if _difference(kept[-1][1], cut[2]) < away / 2:  # back where it was: a flash
                    kept.pop()
                    continue
            kept.append(cut)
        return [cut[0] for cut in kept]

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


def find_shots(frames: Iterable[tuple[int, UInt8]], threshold: float = 3.0, end_us: int | None = None) -> list[Span]:
    """Uncut spans of (pts_us, rgb) frames; a cut lies at the PTS of the first frame of the new shot.

    threshold is the ratio of a frame's content change to that of its neighbourhood. The last shot ends at `end_us`,
    by default one frame distance after the last PTS. Source: PySceneDetect AdaptiveDetector (window of two frames).
    """
    finder = ShotFinder(threshold)
    for pts_us, rgb in frames:
        finder.push(pts_us, rgb)
    return finder.finish(end_us)


def _difference(one: UInt8, other: UInt8) -> float:
    """Mean absolute HSV difference, 0..255: PySceneDetect's content value with its default weights."""
    return float(cv2.absdiff(cv2.cvtColor(one, cv2.COLOR_RGB2HSV), cv2.cvtColor(other, cv2.COLOR_RGB2HSV)).mean())


def _coarse_difference(one: UInt8, other: UInt8) -> float:
    """Grey-value difference, 0..255, that the most changed twentieth of the coarse picture exceeds."""
    coarse = [cv2.resize(view, (COARSE, COARSE * 3 // 4), interpolation=cv2.INTER_AREA) for view in (one, other)]
    change = np.abs(coarse[0].mean(axis=2) - coarse[1].mean(axis=2))
    return float(np.percentile(change, COARSE_PERCENTILE))


def _mean_around(change: list[float], index: int) -> float:
    """Mean over the two frames before and after, as PySceneDetect's adaptive detector takes it."""
    around = change[max(1, index - 2) : index] + change[index + 1 : index + 3]
    return sum(around) / max(1, len(around))
