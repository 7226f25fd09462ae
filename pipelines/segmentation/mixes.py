"""Fades and dissolves: frames on a straight line, in the space of pictures, from one view to another.

An editor's fade or dissolve shows (1 - a) A + a B with a growing from 0 to 1, and black or white is a view like any
other, so fades are the same thing (the production model of Hampapur, Jain, Weymouth: Digital video segmentation, 1994).
Motion is not: where an edge moves by more than a pixel, the picture in the middle is not the mean of the ends. Light
that changes on one view moves on such a line too, but there B is a function of A's brightness.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

SIZE: Final = (96, 72)
"""Pixels that are compared: fine enough that a head that turns moves edges by more than one of them."""
LENGTHS: Final = (7, 10, 14, 19, 26, 36, 50, 70)
"""Frames of the windows that are tried: each transition of 3 to 60 frames has one that ends shortly beside it."""
EVERY: Final = 2
"""Frames from one try to the next; a window may end anywhere in the still frames after a transition."""
LEAST_CHANGE: Final = 8.0
"""RMS grey-value difference of the ends, 0..255. Two takes of one person in one room mostly differ by 15 and more, a
person who sits up slowly by 7."""
MOST_RESIDUAL: Final = 0.30
"""Distance from the line over its length, worst frame; two views of a moving head have 0.5 and more."""
MEAN_RESIDUAL: Final = 0.20
LARGEST_STEP: Final = 0.55
"""Of a from one frame to the next: a cut is one step of 1."""
PLATEAU: Final = 0.12
"""How far a may be from its ends where the window begins and stops."""
FOOT: Final = 0.12
"""Part of the course at either end that is reckoned, not measured."""
BACKWARD: Final = 0.06
"""How far a may fall back: noise and motion."""
FLAT: Final = 6.0
"""Standard deviation of the grey values of a picture that is one colour; without the darkest and the brightest pixels,
half their range."""
ONE_VIEW: Final = 0.35
"""Part of the change that the brightness of the first view does not explain, below which only the light changes."""
TOUCHING: Final = 0.4
"""Part of a mix that may lie in another one; two views of the same mix share more."""
ONE_MOTION: Final = 0.68
"""The same where each block of the first view may move."""
FARTHEST: Final = 2.5
"""Pixels that a block may move: further, an edge leaves the line."""
BLOCK: Final = 8
KEPT: Final = round(0.93 * SIZE[0] * SIZE[1])
"""Pixels that must fit."""
STRICT: Final = 0.5
"""Part of the residuals that is allowed without the pixels that fit worst."""
POINTS: Final = 12
"""Frames of a window on which the line is tested."""


@dataclass(frozen=True)
class _Mix:
    """Frames first..last-1 mix two views."""

    first: int
    last: int
    strength: float
    residual: float


class MixFinder:
    """Takes small pictures in order and gives the spans of frames that mix two views."""

    def __init__(self) -> None:
        self._depth = max(LENGTHS) + 1
        self._ring = np.zeros((self._depth, SIZE[0] * SIZE[1]), np.float32)
        self._flat = np.zeros(self._depth, np.bool_)
        self._count = 0
        self._found: list[_Mix] = []

    def push(self, rgb: UInt8) -> None:
        """Take the next frame, (H, W, 3) uint8."""
        grey = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), SIZE, interpolation=cv2.INTER_AREA).reshape(-1)
        place = self._count % self._depth
        self._ring[place] = grey
        low, high = np.partition(grey, (len(grey) - KEPT, KEPT))[[len(grey) - KEPT, KEPT]].astype(int)
        self._flat[place] = high - low < 2 * FLAT or float(grey.std()) < FLAT
        self._count += 1
        if self._count % EVERY == 0 or self._flat[place]:
            self._try(self._count - 1)

    def finish(self) -> list[tuple[int, int]]:
        """Spans [first, last) of frame numbers, in order and apart."""
        for end in range(self._count - 1, max(-1, self._count - 1 - EVERY), -1):
            if end >= 0 and (end + 1) % EVERY:
                self._try(end)
        chosen: list[tuple[int, int]] = []
        for mix in sorted(self._found, key=lambda mix: (mix.residual - 0.004 * mix.strength, mix.first)):
            shared = sum(max(0, min(mix.last, last) - max(mix.first, first)) for first, last in chosen)
            if shared <= TOUCHING * (mix.last - mix.first):  # out to black and in again meet
                chosen.append((mix.first, mix.last))
        spans: list[tuple[int, int]] = []
        for first, last in sorted(chosen):
            if spans and first <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(last, spans[-1][1])
            else:
                spans.append((first, last))
        return spans

    def _rows(self, numbers: NDArray[np.int64]) -> Float32:
        return np.asarray(self._ring[numbers % self._depth], np.float32)

    def _try(self, end: int) -> None:
        """Look for a mix in each of the windows that end with a frame."""
        final = self._ring[end % self._depth]
        for length in LENGTHS:
            begin = end - length
            if begin < 0:
                return
            along = final - self._ring[begin % self._depth]
            size = float(along @ along)
            if size < LEAST_CHANGE**2 * along.size:
                continue
            mix = self._line(begin, end, along)
            if mix is not None:
                self._found.append(mix)

    def _line(self, begin: int, end: int, along: Float32) -> _Mix | None:
        """The mix of a window if its frames lie on the line between its ends.

        The pixels that fit worst may be left out where the others fit the better: a clock or a subtitle does not take
        part in a dissolve, and of a head that moves they are what gives it away.
        """
        first = self._ring[begin % self._depth]
        middle = self._ring[(begin + end) // 2 % self._depth][np.newaxis] - first
        everything = np.ones(len(along), np.bool_)
        if _off_line(middle, along, _fitting(middle, along))[1][0] > MOST_RESIDUAL:
            return None  # most windows end here
        numbers = np.unique(np.linspace(begin, end, min(POINTS, end - begin + 1)).round().astype(np.int64))
        away = self._rows(numbers) - first
        for kept, part in ((everything, 1.0), (_fitting(away, along), STRICT)):
            place, residual = _off_line(away, along, kept)
            if residual.max() <= part * MOST_RESIDUAL and residual.mean() <= part * MEAN_RESIDUAL:
                break
        else:
            return None
        along = along[kept]
        size = float(along @ along)
        if size < LEAST_CHANGE**2 * along.size or np.diff(place).min() < -BACKWARD:
            return None
        every = np.arange(begin, end + 1)
        course = (self._rows(every)[:, kept] - first[kept]) @ along / size
        if np.diff(course).max() > LARGEST_STEP or not self._has_ends(course, begin, end):
            return None
        if self._is_one_view(first, self._ring[end % self._depth] - first, begin, end):
            return None
        # The views themselves move a little, so the ends are where the middle of the course leads.
        moving = np.flatnonzero((course > FOOT) & (course < 1 - FOOT))
        if len(moving) < 2:
            return None
        tail = round(len(moving) * FOOT / (1 - 2 * FOOT))
        low, high = max(begin, begin + int(moving[0]) - tail), min(end, begin + int(moving[-1]) + tail) + 1
        return _Mix(low, high, float(np.sqrt(size / along.size)), float(residual.mean()))

    def _has_ends(self, course: Float32, begin: int, end: int) -> bool:
        """Whether the views on both sides stay as they are; a picture of one colour needs no proof."""
        if self._flat[begin % self._depth] and self._flat[end % self._depth]:
            return False  # from black to white leads a line near any view
        beside = max(2, len(course) // 8)
        starts = course[1 : 1 + beside].max() < PLATEAU or bool(self._flat[begin % self._depth]) or begin == 0
        stops = course[-1 - beside : -1].min() > 1 - PLATEAU or bool(self._flat[end % self._depth])
        return bool(starts and stops)

    def _is_one_view(self, first: Float32, along: Float32, begin: int, end: int) -> bool:
        """Whether both ends show the same view: under another light, or a little moved."""
        size = float(along @ along)
        if self._flat[begin % self._depth] or self._flat[end % self._depth]:
            return False
        centred, change = first - first.mean(), along - along.mean()
        explained = float(change @ centred) ** 2 / max(1e-6, float(centred @ centred))
        if float(change @ change) - explained < ONE_VIEW**2 * size:
            return True
        return _moved(first + along / 2, along) < ONE_MOTION**2 * size


def _fitting(away: Float32, along: Float32) -> NDArray[np.bool_]:
    """(P,) the pixels whose course (T, P) is nearest to a common line along (P,)."""
    place = away @ along / float(along @ along)
    off = np.abs(away - place[:, np.newaxis] * along).max(axis=0)
    return np.asarray(off <= np.partition(off, KEPT - 1)[KEPT - 1])


def _off_line(away: Float32, along: Float32, kept: NDArray[np.bool_]) -> tuple[Float32, Float32]:
    """(T,) places on the line and (T,) distances from it over its length, of the pixels that are kept."""
    away, along = away[:, kept], along[kept]
    size = max(1e-6, float(along @ along))
    place = away @ along / size
    residual = np.sqrt(np.maximum(np.einsum("td,td->t", away, away) / size - place**2, 0.0))
    return place, residual


def _moved(picture: Float32, change: Float32) -> float:
    """Square sum of what a motion of each block of a picture leaves of a change (Lucas and Kanade's equation)."""
    shape = SIZE[1], SIZE[0]
    down, across = np.gradient(picture.reshape(shape))

    def blocks(values: Float32) -> Float32:
        rows, columns = SIZE[1] // BLOCK, SIZE[0] // BLOCK
        split = values.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
        return np.asarray(split.reshape(rows * columns, BLOCK * BLOCK), np.float32)

    x, y, z = blocks(across), blocks(down), blocks(change.reshape(shape))
    xx, yy, xy = (np.einsum("bp,bp->b", a, b) for a, b in ((x, x), (y, y), (x, y)))
    xz, yz = np.einsum("bp,bp->b", x, z), np.einsum("bp,bp->b", y, z)
    ridge = 1.0 + 0.01 * (xx + yy)
    xx, yy = xx + ridge, yy + ridge
    area = xx * yy - xy**2
    u, v = (yy * xz - xy * yz) / area, (xx * yz - xy * xz) / area
    u, v = np.clip(u, -FARTHEST, FARTHEST), np.clip(v, -FARTHEST, FARTHEST)
    left = z - u[:, np.newaxis] * x - v[:, np.newaxis] * y
    return float(np.sum(left**2))
