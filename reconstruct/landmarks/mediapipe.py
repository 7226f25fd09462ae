"""MediaPipe face mesh with irises on a crop that follows the tracked face."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruct import quiet
from reconstruct.landmarks.topology import NUM_POINTS
from schemas.config import LandmarkConfig
from schemas.errors import UsageError
from schemas.types import FaceTrack, LandmarkTrack

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

VERSION: Final = 2
"""Of the cropping around the model: raise it when results change, for embeddings are cached by the detector's name."""
CROP_PX: Final = 256
"""Side of the crop that the mesh model sees. Its own input is 192 px; 192 to 384 px here give the same jitter (0.7 % of
the interocular distance on GRID) and the same error under shift and scale (0.1 to 0.3 %)."""
BLANK: Final = np.zeros((64, 64, 3), np.uint8)  # the models start, and talk, with the first picture
SMOOTH_S: Final = 0.3
MAX_OFFSET: Final = 0.6
"""Furthest distance of the found face's centre from the box centre, in box sizes."""
SIZE_RANGE: Final = (0.4, 2.2)
"""Extent of the found points over the box size; the box reaches from brow to chin."""
MIN_INSIDE: Final = 0.7
"""Fraction of the points that must lie within the picture."""


class MediapipeDetector:
    """478 points by `mediapipe.solutions.face_mesh`; a context manager."""

    def __init__(self, config: LandmarkConfig) -> None:
        self._config = config
        self._video: Any = None
        self._still: Any = None
        self._close_up: Any = None
        self._talked = False
        self.name = f"mediapipe-face-mesh-{importlib.metadata.version('mediapipe')}+{VERSION}"

    def __enter__(self) -> MediapipeDetector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the graphs."""
        for mesh in (self._video, self._still, self._close_up):
            if mesh is not None:
                mesh.close()
        self._video = self._still = self._close_up = None

    def detect(self, frames: Iterable[tuple[int, UInt8]], track: FaceTrack, width: int, height: int) -> LandmarkTrack:
        """Points of the tracked face in every frame of one clip; see `LandmarkDetector.detect`.

        Each frame is cut to a square of `crop_scale` box sizes around the smoothed, interpolated box and scaled to
        256 px; the points come back in source pixels. A frame is not valid when no face is found, when more than
        30 % of its points lie outside the picture, or when the face found is not the one of the box.
        """
        if len(track.pts_us) == 0:
            raise UsageError("the face track of the clip is empty", "Pass at least one box")
        boxes = _Boxes(track)
        mesh = self._fresh_video()
        following = False
        pts: list[int] = []
        points: list[Float32] = []
        for pts_us, rgb in frames:
            if rgb.shape[:2] != (height, width):
                raise UsageError(
                    f"a frame is {rgb.shape[1]}x{rgb.shape[0]}, not {width}x{height}", "Pass its true size"
                )
            centre, size = boxes.at(pts_us)
            found = self._find(mesh, rgb, centre, size * self._config.crop_scale, settle=not following)
            following = found is not None
            pts.append(pts_us)
            if found is None or not _is_the_face(found, centre, size, width, height):
                found = np.full((NUM_POINTS, 2), np.nan, np.float32)
            points.append(found)
        face_xy = np.stack(points) if points else np.zeros((0, NUM_POINTS, 2), np.float32)
        clock = np.array(pts, np.int64)
        return LandmarkTrack(
            pts_us=clock - clock[:1],
            face_xy=face_xy,
            valid=np.isfinite(face_xy).all(axis=(1, 2)),
            width=width,
            height=height,
            detector=self.name,
        )

    def detect_image(self, rgb: UInt8) -> Float32 | None:
        """Points (478, 2) of the most prominent face of one picture in its pixels, or None; see `LandmarkDetector`."""
        if self._still is None:
            self._still, self._close_up = self._mesh(static=True), self._mesh(static=False)
        side = max(rgb.shape[:2])
        square = np.zeros((side, side, 3), np.uint8)
        square[: rgb.shape[0], : rgb.shape[1]] = rgb
        rough = self._process(self._still, square)
        if rough is None:
            return None
        low, high = rough.min(axis=0) * side, rough.max(axis=0) * side
        self._close_up.process(BLANK)  # forgets the last picture
        size = float(np.max(high - low)) * self._config.crop_scale
        return self._find(self._close_up, rgb, np.asarray((low + high) / 2, np.float64), size, settle=True)

    def _find(self, mesh: Any, rgb: UInt8, centre: Float64, side: float, settle: bool) -> Float32 | None:
        """Run the mesh on a square around a centre; points in source pixels.

        Where the mesh has no earlier points to go by it starts from a face detection, which frames the face less well:
        `settle` runs it once more, from its own points.
        """
        corner = centre - side / 2
        crop = _crop(rgb, corner, side)
        points = self._process(mesh, crop)
        if settle and points is not None:
            points = self._process(mesh, crop)
        return None if points is None else np.asarray(points * side + corner, np.float32)

    def _process(self, mesh: Any, square: UInt8) -> Float32 | None:
        """Points (478, 2) in 0..1 of a square picture."""
        if self._talked:
            found = mesh.process(square).multi_face_landmarks
        else:  # with the first face a warning comes that does not concern square pictures
            with quiet.quiet():
                found = mesh.process(square).multi_face_landmarks
            self._talked = bool(found)
        return _as_array(found[0]) if found else None

    def _fresh_video(self) -> Any:
        """A graph without memory of another clip."""
        if self._video is None:
            self._video = self._mesh(static=False)
        else:
            with quiet.quiet():
                self._video.reset()
                self._video.process(BLANK)
        return self._video

    def _mesh(self, static: bool) -> Any:
        module = quiet.solutions().face_mesh
        with quiet.quiet():
            mesh = module.FaceMesh(
                static_image_mode=static,
                max_num_faces=1,
                refine_landmarks=True,
                min_detection_confidence=self._config.min_detection_confidence,
                min_tracking_confidence=self._config.min_tracking_confidence,
            )
            mesh.process(BLANK)
        return mesh


class _Boxes:
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


def _crop(rgb: UInt8, corner: Float64, side: float) -> UInt8:
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


def _as_array(landmarks: Any) -> Float32:
    """(478, 2), 0..1 of the picture that the mesh saw."""
    values: Iterator[float] = (value for point in landmarks.landmark for value in (point.x, point.y))
    return np.fromiter(values, np.float32, 2 * len(landmarks.landmark)).reshape(-1, 2)


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
