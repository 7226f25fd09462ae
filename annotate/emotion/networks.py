"""Emotion by real networks from local files: HSEmotion-like ones on face crops, wav2vec2-like ones on sound.

ONNX graphs (.onnx) and TorchScript modules (.pt, .pth) of one input and one output. Faces: (N, 3, S, S)
float32 RGB with ImageNet's mean and deviation. Sound: (1, samples) float32 at 16 kHz with zero mean and unit variance.
The output is (N, C) logits in the order of `labels`, of which `valence` and `arousal` are values in -1..1 and not
logits, and names that are no class of ours (`other`, `dominance`) are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from annotate.emotion.base import HOP_S, NUM, Float64, Opinion, Pictures
from annotate.network_file import NetworkFile
from annotate.performance import Performance
from annotate.sound import RATE
from schemas.errors import TalksetError, UsageError
from schemas.labels import EMOTIONS
from schemas.types import Float32

HSEMOTION: Final = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
"""Order of the released enet_b0_8 and enet_b2_8 networks (Savchenko 2022)."""
WAV2VEC2: Final = ("neutral", "happiness", "anger", "sadness")
"""Order of SUPERB's emotion task (neu, hap, ang, sad)."""
SCALES: Final = ("valence", "arousal")
MEAN: Final = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION: Final = np.array([0.229, 0.224, 0.225], np.float32)
SIDE_PX: Final = 224
"""Where the graph does not say."""
FACE_SCALE: Final = 1.1
"""Side of the crop over that of the face box."""
RELIABILITY: Final = 0.7
"""Nets trained on pictures of the web are right in two of three cases on faces of another source."""
UNHEARD: Final = -4.0
"""Log odds of a class that the network does not know, against one it knows."""


class FaceNetwork:
    """See `annotate.emotion.base.EmotionClassifier`. Raises TalksetError missing_model or corrupt_data."""

    def __init__(self, path: str, labels: Sequence[str] = HSEMOTION) -> None:
        self.name = f"face:{network_name(path)}"
        self._labels = checked_labels(labels)
        file = _file(path)
        self._run = file.load(("pictures",))
        self._side = _side(file)

    def judge(self, clip: Performance, windows: Float64, pictures: Pictures | None = None) -> Opinion | None:
        """See the protocol; one picture in 0.2 s is looked at. None without pictures."""
        if pictures is None or not np.isfinite(pictures.boxes_xywh).any():
            return None
        times, crops, due = [], [], 0.0
        frames = zip(pictures.decode(), clip.pts_us / 1e6, pictures.boxes_xywh, strict=False)
        for (_, rgb), seconds, box in frames:
            if seconds >= due and np.isfinite(box).all():
                times.append(seconds)
                crops.append(face_input(rgb, box, self._side))
                due = seconds + HOP_S - 1e-3
        if not crops:
            return None
        outputs = np.concatenate([_checked(self._run(crop[None]), 1, self._labels, self.name) for crop in crops])
        at = np.array(times)
        inside = (at >= windows[:, :1]) & (at < windows[:, 1:])
        count = inside.sum(1)
        mean = np.divide(inside @ outputs, count[:, None], out=np.zeros((len(windows), outputs.shape[1])),
                         where=count[:, None] > 0)  # fmt: skip
        return _opinion(self.name, mean, self._labels, count > 0)


class VoiceNetwork:
    """See `annotate.emotion.base.EmotionClassifier`. Raises TalksetError missing_model or corrupt_data."""

    def __init__(self, path: str, labels: Sequence[str] = WAV2VEC2) -> None:
        self.name = f"voice:{network_name(path)}"
        self._labels = checked_labels(labels)
        self._run = _file(path).load(("samples",))

    def judge(self, clip: Performance, windows: Float64, pictures: Pictures | None = None) -> Opinion | None:
        """See the protocol; the windows are heard one by one. None without sound."""
        del pictures
        if clip.samples is None or not len(clip.samples):
            return None
        outputs, heard = [], []
        for start, end in windows:
            piece = clip.samples[int(start * RATE) : int(end * RATE)]
            loud = len(piece) > RATE // 10 and float(piece.std()) > 1e-4
            heard.append(loud)
            given = (piece - piece.mean()) / (piece.std() + 1e-7) if loud else np.zeros(RATE, np.float32)
            outputs.append(_checked(self._run(given[None].astype(np.float32)), 1, self._labels, self.name)[0])
        return _opinion(self.name, np.array(outputs), self._labels, np.array(heard))


def checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels of a network's outputs; raises UsageError where none of them is a class or a scale of ours."""
    if not set(labels) & {*EMOTIONS, *SCALES}:
        raise UsageError(f"none of the labels {', '.join(labels)} is known", f"Use {', '.join((*EMOTIONS, *SCALES))}")
    return tuple(labels)


def network_name(path: str) -> str:
    """Name and hash of the file. Raises TalksetError missing_model where there is none."""
    file = _file(path)
    return f"{file.path.stem}-{file.fingerprint(12)}"


def _file(path: str) -> NetworkFile:
    return NetworkFile(Path(path), "emotion network", "docs/labels.md")


def _side(file: NetworkFile) -> int:
    """Side of the pictures that the network takes, where its file says it."""
    shape: list[Any] = file.session.get_inputs()[0].shape if file.is_graph() else []
    return shape[-1] if len(shape) == 4 and isinstance(shape[-1], int) else SIDE_PX


def face_input(rgb: NDArray[np.uint8], box_xywh: Float32, side: int) -> Float32:
    """(3, side, side) of the square about a face box, as the networks take it."""
    x, y, width, height = (float(value) for value in box_xywh)
    half = FACE_SCALE * max(width, height) / 2
    scale = side / (2 * half)
    left, top = x + width / 2 - half, y + height / 2 - half
    matrix = np.array([[scale, 0.0, -scale * left], [0.0, scale, -scale * top]])
    crop = cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return np.asarray(((crop.astype(np.float32) / 255 - MEAN) / DEVIATION).transpose(2, 0, 1), np.float32)


def _opinion(source: str, outputs: Float64, labels: Sequence[str], known: NDArray[np.bool_]) -> Opinion:
    log_odds = np.full((len(outputs), NUM), UNHEARD)
    classes = [(column, EMOTIONS.index(name)) for column, name in enumerate(labels) if name in EMOTIONS]
    scales = {name: np.clip(outputs[:, labels.index(name)], -1, 1) for name in SCALES if name in labels}
    if classes:
        columns, places = zip(*classes, strict=True)
        chosen = outputs[:, list(columns)]
        log_odds[:, list(places)] = chosen - np.log(np.exp(chosen - chosen.max(1, keepdims=True)).sum(1, keepdims=True))
        log_odds[:, list(places)] -= chosen.max(1, keepdims=True)
    else:
        log_odds[:] = 0.0  # only scales: no class is more likely than another
    told = {name: np.where(known, values, np.nan) for name, values in scales.items()}
    return Opinion(
        source=source,
        log_odds=np.where(known[:, None], log_odds, 0.0),
        reliability=RELIABILITY * known.astype(np.float64),
        valence=told.get("valence"),
        arousal=told.get("arousal"),
    )


def _checked(output: NDArray[Any], rows: int, labels: Sequence[str], name: str) -> Float64:
    values = np.asarray(output, np.float64)
    if values.shape != (rows, len(labels)) or not np.isfinite(values).all():
        message = f"{name} gave an output of shape {values.shape}, its labels ask for ({rows}, {len(labels)})"
        raise TalksetError("corrupt_data", message, "Name one label for each output, in its order")
    return values
