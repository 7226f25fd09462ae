"""MediaPipe's FaceLandmarker (the Tasks API): 478 points and 52 blend-shape weights from the user's `.task` file."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from reconstruct import quiet
from reconstruct.landmarks.crops import CropDetector, Finder, Float64, Found, UInt8, padded_square
from reconstruct.landmarks.files import file_sha256
from reconstruct.landmarks.mediapipe import BLANK, as_array, extent
from reconstruct.landmarks.topology import MEDIAPIPE
from reconstruct.models.arkit import ARKIT_NAMES
from schemas.config import LandmarkConfig
from schemas.errors import TalksetError, UsageError

VERSION: Final = 1
"""Of the use made of the model: raise it when results change, for embeddings are cached by the detector's name."""
STEP_MS: Final = 1_000_000
"""Time that the graph is told has passed from one frame to the next.

In VIDEO mode it takes the face's place from the frame before, which frames it better than a new face detection, but it
also smooths the points over time (one-euro filter): a face that jumps by 6 px arrives after five frames, and the
detector's noise is hidden from the fit. After that long a pause the filter takes a frame as it is."""


class MediapipeTasksDetector(CropDetector):
    """478 points and blend-shape weights by `mediapipe.tasks` FaceLandmarker; a context manager.

    Of MediaPipe's 52 categories `_neutral` is dropped; the other 51 carry ARKit's names and are put into the order of
    `arkit.ARKIT_NAMES`. MediaPipe does not see the tongue: `tongueOut` is 0.
    """

    topology = MEDIAPIPE

    def __init__(self, config: LandmarkConfig) -> None:
        super().__init__(config)
        if config.task_path is None:
            raise UsageError(
                "landmarks.backend=mediapipe-tasks needs a FaceLandmarker model",
                "Set landmarks.task_path to a .task file",
            )
        self._path = Path(config.task_path)
        self.name = (
            f"mediapipe-tasks-{importlib.metadata.version('mediapipe')}-{file_sha256(self._path)[:12]}+{VERSION}"
        )
        self._landmarkers: dict[str, Any] = {}
        self._time_ms: dict[str, int] = {}

    def close(self) -> None:
        """Free the graphs."""
        for landmarker in self._landmarkers.values():
            landmarker.close()
        self._landmarkers = {}

    def _fresh(self, role: str) -> Finder:
        if role in self._landmarkers:
            self._run(role, BLANK)  # no face: the graph forgets where one was
        else:
            self._landmarkers[role] = self._landmarker("VIDEO")
            self._time_ms[role] = 0
            with quiet.quiet():
                self._run(role, BLANK)
        return lambda square: self._run(role, square)

    def _anywhere(self, rgb: UInt8) -> tuple[Float64, float] | None:
        tasks = _tasks()
        square = padded_square(rgb)
        if "still" not in self._landmarkers:
            self._landmarkers["still"] = self._landmarker("IMAGE")
        with quiet.quiet():
            found = _found(self._landmarkers["still"].detect(tasks.image(square)))
        return None if found is None else extent(found.points, len(square))

    def _run(self, role: str, square: UInt8) -> Found | None:
        self._time_ms[role] += STEP_MS
        return _found(self._landmarkers[role].detect_for_video(_tasks().image(square), self._time_ms[role]))

    def _landmarker(self, mode: str) -> Any:
        tasks = _tasks()
        try:
            model = self._path.read_bytes()
            with quiet.quiet():
                return tasks.vision.FaceLandmarker.create_from_options(
                    tasks.vision.FaceLandmarkerOptions(
                        base_options=tasks.options(model_asset_buffer=model),
                        running_mode=tasks.vision.RunningMode[mode],
                        min_face_detection_confidence=self._config.min_detection_confidence,
                        min_face_presence_confidence=self._config.min_tracking_confidence,
                        min_tracking_confidence=self._config.min_tracking_confidence,
                        output_face_blendshapes=True,
                    )
                )
        except (RuntimeError, ValueError) as error:
            raise TalksetError(
                "corrupt_data",
                f"{self._path} is no FaceLandmarker model ({str(error).splitlines()[0]})",
                "Get face_landmarker_v2_with_blendshapes.task or face_landmarker.task from MediaPipe",
            ) from error


@dataclass(frozen=True)
class _Tasks:
    """The parts of MediaPipe that are used, imported on first use."""

    vision: Any
    options: Any
    mediapipe: Any

    def image(self, rgb: UInt8) -> Any:
        """A picture as MediaPipe takes it."""
        return self.mediapipe.Image(image_format=self.mediapipe.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))


@functools.lru_cache(maxsize=1)
def _tasks() -> _Tasks:
    quiet.solutions()  # sets the log levels before anything native starts
    python = importlib.import_module("mediapipe.tasks.python")
    vision = importlib.import_module("mediapipe.tasks.python.vision")
    return _Tasks(vision, python.BaseOptions, importlib.import_module("mediapipe"))


def _found(result: Any) -> Found | None:
    if not result.face_landmarks:
        return None
    scores = {category.category_name: category.score for category in result.face_blendshapes[0]}
    weights = np.array([scores.get(name, 0.0) for name in ARKIT_NAMES], np.float32)
    return Found(as_array(result.face_landmarks[0]), blendshapes=weights)
