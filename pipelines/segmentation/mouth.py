"""How far the mouth of each followed face is open, frame by frame, from a landmark network on a small crop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from schemas.errors import TalksetError
from schemas.types import FaceBox

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

COLUMNS: Final = ("opening", "width", "outer", "scale_px", "presence")
"""Of `MouthReader.read`: gap of the inner lips, width of the mouth, gap of the outer lips, all over `scale_px`, the
distance of the outer eye corners in pixels; and the network's belief, 0..1, that this is a face."""

SIDE: Final = 192
"""Of the network's picture."""
FROM_BOX: Final = 1.6
"""Side of the crop around a detected box, in its widths: MediaPipe's own 1.5, and room for what is not square."""
FROM_POINTS: Final = 1.5
"""Side of the crop around the landmarks of the frame before, in their larger extent, as MediaPipe has it."""
SURE: Final = 0.5
"""Presence below which the landmarks are no face."""
STRAY: Final = 0.5
"""The crop goes back to the detected box where it is so many widths away from it."""

_INNER: Final = ((13, 14), (82, 87), (312, 317))
_OUTER: Final = (0, 17)
_CORNERS: Final = (78, 308)
_EYES: Final = (33, 263)


@dataclass(frozen=True)
class _Crop:
    """A square of the picture: centre and side in pixels, and how it is turned, radians."""

    x: float
    y: float
    side: float
    angle: float = 0.0
    followed: bool = False
    """Whether it was made of landmarks, not of a detected box."""


class MouthReader:
    """MediaPipe's face landmark network (468 points), run by OpenCV on one crop a face and frame.

    Nothing is carried from frame to frame but where the face was, so a result depends on the picture alone. MediaPipe's
    own graph smooths over time and keeps state, one graph a face.
    """

    def __init__(self) -> None:
        self._network = _network()
        self._crops: dict[int, _Crop] = {}

    def restart(self) -> None:
        """Forget all faces: another source begins."""
        self._crops = {}

    def seen(self, face: int, box: FaceBox) -> None:
        """Tell where a face was detected; its crop follows its landmarks unless it has gone astray."""
        crop = self._crops.get(face)
        x, y = box.x + box.width / 2, box.y + box.height / 2
        if crop is not None:
            off = np.hypot(crop.x - x, crop.y - y)
            if off < STRAY * box.width and 0.5 < crop.side / (FROM_BOX * box.width) < 2.0:
                return
        self._crops[face] = _Crop(x, y, FROM_BOX * box.width)

    def forget(self, faces: set[int]) -> None:
        """Keep the crops of these faces only."""
        self._crops = {face: crop for face, crop in self._crops.items() if face in faces}

    def read(self, rgb: UInt8, face: int) -> Float32:
        """(5,) `COLUMNS` of a face that was seen, in a picture (H, W, 3); NaN but for the presence without a face."""
        crop = self._crops[face]
        presence, points = self._landmarks(rgb, crop)
        if presence < SURE or self._taken(face, points):
            return np.array([np.nan, np.nan, np.nan, np.nan, presence], np.float32)
        self._crops[face] = _around(points)
        return np.array([*_mouth(points), presence], np.float32)

    def _taken(self, face: int, points: Float64) -> bool:
        """Whether another face that is followed is there already: one stands before the other."""
        mine = _around(points)
        return any(
            np.hypot(other.x - mine.x, other.y - mine.y) < 0.25 * mine.side
            for number, other in self._crops.items()
            if number != face and other.followed
        )

    def _landmarks(self, rgb: UInt8, crop: _Crop) -> tuple[float, Float64]:
        """Presence and (468, 3) points in pixels of the picture."""
        scale = crop.side / SIDE
        turn = scale * np.array([[np.cos(crop.angle), -np.sin(crop.angle)], [np.sin(crop.angle), np.cos(crop.angle)]])
        place = np.array([crop.x, crop.y]) - turn @ np.full(2, SIDE / 2)
        matrix = np.column_stack((turn, place))
        square = cv2.warpAffine(
            rgb, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
        )
        self._network.setInput(cv2.dnn.blobFromImage(square, 1 / 255.0))
        outputs = self._network.forward(self._network.getUnconnectedOutLayersNames())
        flag, values = sorted((np.asarray(output).reshape(-1) for output in outputs), key=len)
        found = values.reshape(-1, 3).astype(np.float64)
        points = np.column_stack((found[:, :2] @ turn.T + place, found[:, 2] * scale))
        return float(1.0 / (1.0 + np.exp(-flag[0]))), points


def _mouth(points: Float64) -> tuple[float, float, float, float]:
    """Opening, width, outer opening (over the scale) and scale of (468, 3) points in pixels.

    Widths are measured with their depth, so that a face that turns away keeps them.
    """
    scale = float(np.linalg.norm(points[_EYES[1]] - points[_EYES[0]]))
    opening = float(np.mean([np.linalg.norm(points[b, :2] - points[a, :2]) for a, b in _INNER]))
    width = float(np.linalg.norm(points[_CORNERS[1]] - points[_CORNERS[0]]))
    outer = float(np.linalg.norm(points[_OUTER[1], :2] - points[_OUTER[0], :2]))
    scale = max(scale, 1e-6)
    return opening / scale, width / scale, outer / scale, scale


def _around(points: Float64) -> _Crop:
    """The crop for the next frame: upright after the eyes, around all points."""
    across = points[_EYES[1], :2] - points[_EYES[0], :2]
    angle = float(np.arctan2(across[1], across[0]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    upright = points[:, :2] @ turn.T
    low, high = upright.min(axis=0), upright.max(axis=0)
    x, y = (low + high) / 2 @ turn
    return _Crop(float(x), float(y), FROM_POINTS * float(max(high - low)), angle, True)


def _network() -> Any:
    """MediaPipe's landmark network, from its wheel, in OpenCV."""
    import importlib.util

    package = importlib.util.find_spec("mediapipe")
    folders = list(package.submodule_search_locations or []) if package else []
    path = Path(*folders[:1], "modules", "face_landmark", "face_landmark.tflite")
    if not folders or not path.is_file():
        message = f"the landmark network {path.name} is not installed"
        raise TalksetError("missing_model", message, "Install mediapipe 0.10.21, whose wheel carries it")
    return cv2.dnn.readNetFromTFLite(str(path))
