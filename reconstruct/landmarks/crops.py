"""What all landmark backends share: a square crop that follows the tracked face, and points back in source pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruct.landmarks.confidence import Sampled, second_view
from reconstruct.landmarks.topology import Topology
from schemas.config import LandmarkConfig
from schemas.errors import UsageError
from schemas.types import FaceTrack, LandmarkTrack

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Detector = TypeVar("Detector", bound="CropDetector")

CROP_PX: Final = 256
"""Side of the crop that the network sees. MediaPipe's own input is 192 px; 192 to 384 px here give the same jitter
(0.7 % of the interocular distance on GRID) and the same error under shift and scale (0.1 to 0.3 %)."""
SMOOTH_S: Final = 0.3
MAX_OFFSET: Final = 0.6
"""Furthest distance of the found face's centre from the box centre, in box sizes."""
SIZE_RANGE: Final = (0.4, 2.2)
"""Extent of the found points over the box size; the box reaches from brow to chin."""
MIN_INSIDE: Final = 0.7
"""Fraction of the points that must lie within the picture."""


@dataclass(frozen=True)
class Found:
    """What a network sees in a square picture."""

    points: Float32
    """(L, 2) in 0..1 of the picture; in source pixels once the crop is undone."""
    confidence: Float32 | None = None
    """(L,) 0..1, where the network itself gives one."""
    blendshapes: Float32 | None = None
    """(52,) where the network gives them."""


class Finder(Protocol):
    """A network that may remember the picture before; called with square RGB crops of one face in time order."""

    def __call__(self, square: UInt8, /) -> Found | None:
        """Points in 0..1 of a square picture, or None without a face."""


class CropDetector(ABC):
    """Base of the backends: `detect` over a clip and `detect_image`, given a network for one crop.

    A backend sets `name` and `topology` and makes finders; each `role` is one that keeps its own memory.
    """

    name: str
    topology: Topology
    settles: bool = True
    """Whether a finder without memory frames the face less well, so that its first crop is looked at twice."""
    measures_confidence: bool = True
    """Whether confidence comes from a second look, as `landmarks.confidence` says."""

    def __init__(self, config: LandmarkConfig) -> None:
        if config.confidence_every < 1:
            raise UsageError(f"landmarks.confidence_every is {config.confidence_every}", "Use 1 or more frames")
        second_view(config.confidence)  # raises for an unknown one
        self._config = config

    @abstractmethod
    def _fresh(self, role: str) -> Finder:
        """A finder without memory of any earlier picture; the last one of the same role is no longer used."""

    @abstractmethod
    def _anywhere(self, rgb: UInt8) -> tuple[Float64, float] | None:
        """Centre (2,) and size in pixels of the box of the most prominent face of a picture."""

    @abstractmethod
    def close(self) -> None:
        """Free the networks."""

    def __enter__(self: Detector) -> Detector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def detect(self, frames: Iterable[tuple[int, UInt8]], track: FaceTrack, width: int, height: int) -> LandmarkTrack:
        """Points of the tracked face in every frame of one clip; see `LandmarkDetector.detect`.

        Each frame is cut to a square of `crop_scale` box sizes around the smoothed, interpolated box and scaled to
        256 px; the points come back in source pixels. A frame is not valid when no face is found, when more than
        30 % of its points lie outside the picture, or when the face found is not the one of the box.
        Raises UsageError for an empty track or a frame of another size.
        """
        if len(track.pts_us) == 0:
            raise UsageError("the face track of the clip is empty", "Pass at least one box")
        boxes = Boxes(track)
        finder = self._fresh("clip")
        sampled = self._second()
        following = False
        pts: list[int] = []
        rows: list[Found | None] = []
        for pts_us, rgb in frames:
            if rgb.shape[:2] != (height, width):
                raise UsageError(
                    f"a frame is {rgb.shape[1]}x{rgb.shape[0]}, not {width}x{height}", "Pass its true size"
                )
            centre, size = boxes.at(pts_us)
            middle, side = self._frame(centre, size)
            found = self._find(finder, rgb, middle, side, settle=not following)
            following = found is not None
            if found is not None and not _is_the_face(found.points, centre, size, width, height):
                found = None
            pts.append(pts_us)
            rows.append(found)
            if sampled is not None:
                sampled.see(pts_us, None if found is None else found.points, rgb, middle, side)
        clock = np.array(pts, np.int64)
        measured = None if sampled is None else sampled.confidence(clock)
        return self._track(clock, rows, measured, width, height)

    def detect_image(self, rgb: UInt8) -> Float32 | None:
        """Points (L, 2) of the most prominent face of one picture in its pixels, or None; see `LandmarkDetector`."""
        box = self._anywhere(rgb)
        if box is None:
            return None
        found = self._find(self._fresh("close-up"), rgb, *self._frame(*box), settle=True)
        return None if found is None else found.points

    def _frame(self, centre: Float64, size: float) -> tuple[Float64, float]:
        """Centre and side of the crop for a box."""
        return centre, size * self._config.crop_scale

    def _second(self) -> Sampled | None:
        """The second look that confidence is measured with, or None where there is none."""
        view = second_view(self._config.confidence)
        if view is None or not self.measures_confidence:
            return None
        finder = self._fresh("second")
        topology = self.topology

        following = False

        def look(rgb: UInt8, centre: Float64, side: float) -> Float32 | None:
            """Points in source pixels, seen another way."""
            nonlocal following
            corner, wide = view.square(centre, side)
            square = crop(rgb, corner, wide)
            if view.mirrored:
                square = np.ascontiguousarray(square[:, ::-1])
            found = finder(square)
            if not following and self.settles and found is not None:
                found = finder(square)
            following = found is not None
            if found is None:
                return None
            points = found.points
            if view.mirrored:
                points = (points * [-1, 1] + [1, 0])[topology.mirror]
            return np.asarray(points * wide + corner, np.float32)

        return Sampled(look, topology, self._config.confidence_every)

    def _find(self, finder: Finder, rgb: UInt8, centre: Float64, side: float, settle: bool) -> Found | None:
        """Look at a square around a centre; points in source pixels."""
        corner = centre - side / 2
        square = crop(rgb, corner, side)
        found = finder(square)
        if settle and self.settles and found is not None:
            found = finder(square)
        if found is None:
            return None
        return Found(np.asarray(found.points * side + corner, np.float32), found.confidence, found.blendshapes)

    def _track(
        self, clock: NDArray[np.int64], rows: list[Found | None], measured: Float32 | None, width: int, height: int
    ) -> LandmarkTrack:
        """The rows of a clip as arrays."""
        count, points = len(rows), self.topology.num_points
        face_xy = np.full((count, points, 2), np.nan, np.float32)
        confidence = np.full((count, points), np.nan, np.float32)
        with_shapes = any(row is not None and row.blendshapes is not None for row in rows)
        blendshapes = np.full((count, 52), np.nan, np.float32) if with_shapes else None
        for index, row in enumerate(rows):
            if row is None:
                continue
            face_xy[index] = row.points
            own = 1.0 if measured is None else measured[index]
            confidence[index] = own if row.confidence is None else row.confidence
            if blendshapes is not None and row.blendshapes is not None:
                blendshapes[index] = row.blendshapes
        return LandmarkTrack(
            pts_us=clock - clock[:1],
            face_xy=face_xy,
            confidence=confidence,
            valid=np.isfinite(face_xy).all(axis=(1, 2)),
            width=width,
            height=height,
            detector=self.name,
            blendshapes=blendshapes,
        )


class Boxes:
    """Centre and size of the tracked box at any time: smoothed over the samples, linear between them."""

    def __init__(self, track: FaceTrack) -> None:
        order = np.argsort(track.pts_us)
        self.times = track.pts_us[order].astype(np.float64)
        box = track.box_xywh[order].astype(np.float64)
        size = np.sqrt(np.maximum(box[:, 2] * box[:, 3], 1.0))
        values = np.stack([box[:, 0] + box[:, 2] / 2, box[:, 1] + box[:, 3] / 2, size], axis=1)
        reach = (self.times[:, None] - self.times[None, :]) / (SMOOTH_S * 1e6)
        weights = np.exp(-0.5 * reach**2) if len(self.times) < 2000 else None
        self.values = values if weights is None else weights @ values / weights.sum(axis=1, keepdims=True)

    def at(self, pts_us: int) -> tuple[Float64, float]:
        """Centre (2,) and size in source pixels; constant before the first and after the last sample."""
        x, y, size = (float(np.interp(pts_us, self.times, column)) for column in self.values.T)
        return np.array([x, y]), size


def crop(rgb: UInt8, corner: Float64, side: float) -> UInt8:
    """The square from `corner` (continuous source pixels), scaled to CROP_PX; outside the picture its edge goes on."""
    scale = CROP_PX / side
    shrink = int(1 / scale)
    if shrink > 1:  # average first, or the linear sampling below would skip pixels
        height, width = rgb.shape[0] // shrink * shrink, rgb.shape[1] // shrink * shrink
        rgb = np.asarray(
            cv2.resize(rgb[:height, :width], (width // shrink, height // shrink), interpolation=cv2.INTER_AREA),
            np.uint8,
        )
        corner, scale = corner / shrink, scale * shrink
    # OpenCV counts from pixel centres, the rest of this module from pixel corners.
    shift = -corner * scale + 0.5 * scale - 0.5
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return np.asarray(
        cv2.warpAffine(rgb, matrix, (CROP_PX, CROP_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def padded_square(rgb: UInt8) -> UInt8:
    """The picture at the top left of a black square of its longer side."""
    side = max(rgb.shape[:2])
    square = np.zeros((side, side, 3), np.uint8)
    square[: rgb.shape[0], : rgb.shape[1]] = rgb
    return square


def _is_the_face(points: Float32, centre: Float64, size: float, width: int, height: int) -> bool:
    inside = ((points >= 0) & (points <= np.array([width, height]))).all(axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    offset = float(np.linalg.norm((low + high) / 2 - centre))
    extent = float(np.sqrt(np.prod(high - low)))
    return bool(
        inside.mean() >= MIN_INSIDE
        and offset <= MAX_OFFSET * size
        and SIZE_RANGE[0] * size <= extent <= SIZE_RANGE[1] * size
    )
