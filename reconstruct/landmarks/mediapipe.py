"""MediaPipe face mesh with irises (the `solutions` API, whose models come with the wheel)."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from reconstruct import quiet
from reconstruct.landmarks.crops import CropDetector, Finder, Float32, Float64, Found, UInt8, padded_square
from reconstruct.landmarks.topology import MEDIAPIPE
from schemas.config import LandmarkConfig

VERSION: Final = 2
"""Of the cropping around the model: raise it when results change, for embeddings are cached by the detector's name."""
BLANK: Final = np.zeros((64, 64, 3), np.uint8)  # the models start, and talk, with the first picture


class MediapipeDetector(CropDetector):
    """478 points by `mediapipe.solutions.face_mesh`; a context manager."""

    topology = MEDIAPIPE

    def __init__(self, config: LandmarkConfig) -> None:
        super().__init__(config)
        self._meshes: dict[str, Any] = {}
        self._talked = False
        self.name = f"mediapipe-face-mesh-{importlib.metadata.version('mediapipe')}+{VERSION}"

    def close(self) -> None:
        """Free the graphs."""
        for mesh in self._meshes.values():
            mesh.close()
        self._meshes = {}

    def _fresh(self, role: str) -> Finder:
        if role not in self._meshes:
            self._meshes[role] = self._mesh(static=False)
        elif role == "close-up":
            self._meshes[role].process(BLANK)  # forgets the last picture; a reset takes 20 ms longer
        else:
            with quiet.quiet():
                self._meshes[role].reset()
                self._meshes[role].process(BLANK)
        return lambda square: self._found(self._meshes[role], square)

    def _anywhere(self, rgb: UInt8) -> tuple[Float64, float] | None:
        if "still" not in self._meshes:
            self._meshes["still"] = self._mesh(static=True)
        square = padded_square(rgb)
        rough = self._found(self._meshes["still"], square)
        return None if rough is None else extent(rough.points, len(square))

    def _found(self, mesh: Any, square: UInt8) -> Found | None:
        if self._talked:
            found = mesh.process(square).multi_face_landmarks
        else:  # with the first face a warning comes that does not concern square pictures
            with quiet.quiet():
                found = mesh.process(square).multi_face_landmarks
            self._talked = bool(found)
        return Found(as_array(found[0].landmark)) if found else None

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


def as_array(landmarks: Any) -> Float32:
    """(L, 2), 0..1 of the picture that the mesh saw, of MediaPipe's list of landmarks."""
    values: Iterator[float] = (value for point in landmarks for value in (point.x, point.y))
    return np.fromiter(values, np.float32, 2 * len(landmarks)).reshape(-1, 2)


def extent(points: Float32, side: int) -> tuple[Float64, float]:
    """Centre (2,) and longer side, in pixels, of what points in 0..1 of a square of `side` pixels cover."""
    low, high = points.min(axis=0) * side, points.max(axis=0) * side
    return np.asarray((low + high) / 2, np.float64), float(np.max(high - low))
