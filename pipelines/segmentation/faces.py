"""The faces of a picture, at any size, and pictures sampled from a video."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruct import quiet
from schemas.config import SegmentConfig
from schemas.types import FaceBox

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

US: Final = 1_000_000
MIN_SCORE: Final = 0.5
LARGE_FACE: Final = 0.1
"""Width over the longer side of the picture from which the whole-picture pass is trusted to see every rival face."""
TILE_FACE: Final = 12.0
"""Tile side over the smallest face width: the model sees a tile at 192 px, so such a face is 16 px wide."""
TILE_OVERLAP: Final = 0.25
SAME_FACE_IOU: Final = 0.3
LOOK_PX: Final = 12
"""Side of the picture of a face that is kept to know it again."""


@dataclass(frozen=True)
class FaceSample:
    """Faces found at one time of the source clock."""

    pts_us: int
    boxes: tuple[FaceBox, ...]
    looks: tuple[Float32, ...] = ()
    """Of each box as `look_of` gives it; empty where nobody asked."""


class FaceFinder:
    """MediaPipe face detection at any size down to `min_face_px`; a context manager.

    The full-range model sees the whole picture at 192 px. Where it finds no large face and small ones are wanted,
    overlapping tiles are searched too, so that a 40 px face of a 720p picture is found.
    """

    def __init__(self, config: SegmentConfig) -> None:
        self._config = config
        module = quiet.solutions().face_detection
        with quiet.quiet():
            self._far = module.FaceDetection(model_selection=1, min_detection_confidence=MIN_SCORE)
            self._near = module.FaceDetection(model_selection=0, min_detection_confidence=MIN_SCORE)
            for model in (self._far, self._near):
                model.process(np.zeros((64, 64, 3), np.uint8))  # the models start, and talk, with the first picture
        self._next_us: int | None = None

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the graphs."""
        self._far.close()
        self._near.close()

    def detect(self, rgb: UInt8) -> list[FaceBox]:
        """All faces of a picture (H, W, 3), in its pixels, the surest first."""
        height, width = rgb.shape[:2]
        longest = max(height, width)
        whole = _run(self._far, rgb, 0, 0) or _run(self._near, rgb, 0, 0)
        if any(box.width >= LARGE_FACE * longest for box in whole):
            return _distinct(whole)
        side = round(TILE_FACE * self._config.min_face_px)
        if side >= longest:
            return _distinct(whole)
        tiles: list[FaceBox] = []
        for top, left in itertools.product(_starts(height, side), _starts(width, side)):
            tile = np.ascontiguousarray(rgb[top : top + side, left : left + side])
            tiles += _run(self._far, tile, left, top)
        # A tile shows a small face larger, so its box is the better one.
        return _distinct(sorted(tiles, key=lambda box: -box.score), whole)

    def push(self, pts_us: int, rgb: UInt8, now: bool = False) -> FaceSample | None:
        """Take the next frame of a source; one every `detect_every_s` is searched, and this one where it must be `now`.

        Returns the faces of a frame that was searched.
        """
        due = self._next_us is None or pts_us >= self._next_us
        if not (due or now):
            return None
        boxes = tuple(self.detect(rgb))
        if due:
            step_us = round(self._config.detect_every_s * US)
            asked = pts_us if self._next_us is None else self._next_us
            self._next_us = max(asked + step_us, pts_us + 1) if pts_us < asked + step_us else pts_us + step_us
        return FaceSample(pts_us, boxes, tuple(look_of(rgb, box) for box in boxes))

    def restart(self) -> None:
        """The next `push` begins another source."""
        self._next_us = None

    def sample(self, frames: Iterable[tuple[int, UInt8]]) -> list[FaceSample]:
        """Faces of (pts_us, rgb) frames, every `detect_every_s`."""
        self.restart()
        found = [self.push(pts_us, rgb) for pts_us, rgb in frames]
        return [sample for sample in found if sample is not None]


def look_of(rgb: UInt8, box: FaceBox) -> Float32:
    """(3 * 12 * 12,) colours of a face, mean 0 and length 1: two looks of one face have a product near 1."""
    height, width = rgb.shape[:2]
    left, top = (max(0, min(round(v), size - 2)) for v, size in ((box.x, width), (box.y, height)))
    right, bottom = (
        max(low + 2, min(round(v), size))
        for v, size, low in ((box.x + box.width, width, left), (box.y + box.height, height, top))
    )
    small = cv2.resize(rgb[top:bottom, left:right], (LOOK_PX, LOOK_PX), interpolation=cv2.INTER_AREA)
    values = small.astype(np.float32).reshape(-1)
    values -= values.mean()
    return np.asarray(values / max(1.0, float(np.linalg.norm(values))), np.float32)


def _run(model: Any, rgb: UInt8, left: int, top: int) -> list[FaceBox]:
    height, width = rgb.shape[:2]
    boxes: list[FaceBox] = []
    for found in model.process(np.ascontiguousarray(rgb)).detections or ():
        box = found.location_data.relative_bounding_box
        x, y = left + box.xmin * width, top + box.ymin * height
        boxes.append(FaceBox(x, y, box.width * width, box.height * height, float(found.score[0])))
    return [box for box in boxes if box.width > 0 and box.height > 0]


def _starts(length: int, side: int) -> list[int]:
    """Corners of tiles that cover a length evenly with at least the wanted overlap."""
    if side >= length:
        return [0]
    count = math.ceil((length - side) / (side * (1 - TILE_OVERLAP))) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _distinct(*groups: Iterable[FaceBox]) -> list[FaceBox]:
    """One box a face: of those that overlap, the earliest given."""
    kept: list[FaceBox] = []
    for box in itertools.chain(*groups):
        if all(_overlap(box, other) < SAME_FACE_IOU for other in kept):
            kept.append(box)
    return sorted(kept, key=lambda box: -box.score)


def intersection(a: FaceBox, b: FaceBox) -> float:
    """Area that two boxes share."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(0.0, width) * max(0.0, height)


def _overlap(a: FaceBox, b: FaceBox) -> float:
    """Intersection over union, or 1 where one box lies in the other."""
    shared, areas = intersection(a, b), (a.width * a.height, b.width * b.height)
    return 1.0 if shared >= 0.8 * min(areas) else shared / (sum(areas) - shared)
