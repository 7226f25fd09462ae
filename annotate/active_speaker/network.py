"""Light-ASD and TalkNet as judges of who speaks, with the user's own weights.

Liao et al., "A Light Weight Model for Active Speaker Detection", 2023; Tao et al., "Is someone speaking?", 2021. Both
take the same input, and the released pipeline of TalkNet says how faces are cut and which cepstra are meant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from annotate.active_speaker.base import Face, Heard
from annotate.network_file import NetworkFile
from annotate.sound import RATE
from annotate.sync.syncnet import mfcc
from schemas.errors import TalksetError
from schemas.types import Float32

UInt8 = NDArray[np.uint8]

FPS: Final = 25
CROP_PX: Final = 112
CROP_SCALE: Final = 0.4
"""Shift of the square down the face, in half sides of its box, as in the released pipeline."""
CROP_HALF: Final = 0.7
"""Half side of the square, in half sides of the box: the middle half of a square of 1.4."""
CHUNK_S: Final = 20
"""Longest piece of a face that is looked at at once."""
MARGIN_S: Final = 1
"""Of neighbouring pieces that both look at."""


class NetworkJudge:
    """See `annotate.active_speaker.base.ActiveSpeaker`.

    The weights are a TorchScript module (.pt, .pth) called with, or an ONNX graph (.onnx) with the inputs, `audio`
    (1, 4 T, 13) float32, mel cepstra at 100 Hz, and `video` (1, T, 112, 112) float32, grey 0..255 at 25 pictures a
    second. The first output is (T,) log odds, or (T, 2) logits of silent and speaking; leading axes of 1 are dropped.
    """

    crop_px: int | None = CROP_PX

    def __init__(self, backend: str, weights: str) -> None:
        self.name = weights_name(backend, weights)
        self._run = _file(weights).load(("audio", "video"))

    def log_odds(self, faces: Sequence[Face], heard: Heard) -> list[Float32]:
        """See `ActiveSpeaker.log_odds`. Raises TalksetError corrupt_data where the network gives another shape."""
        return [self._judge(face, heard) for face in faces]

    def _judge(self, face: Face, heard: Heard) -> Float32:
        if face.crops is None or not len(face.pts_us):
            return np.zeros(len(face.pts_us), np.float32)
        step_us = 1_000_000 // FPS
        grid = np.arange(face.pts_us[0], face.pts_us[-1] + step_us, step_us)
        after = np.clip(np.searchsorted(face.pts_us, grid), 1, max(1, len(face.pts_us) - 1))
        after = np.minimum(after, len(face.pts_us) - 1)
        before = np.maximum(after - 1, 0)
        nearer = grid - face.pts_us[before] <= face.pts_us[after] - grid
        nearest = np.where(nearer, before, after)
        odds = np.zeros(len(grid), np.float32)
        for begin in range(0, len(grid), CHUNK_S * FPS):
            end = min(len(grid), begin + CHUNK_S * FPS)
            first, last = max(0, begin - MARGIN_S * FPS), min(len(grid), end + MARGIN_S * FPS)
            video = np.stack([face.crops[i] for i in nearest[first:last]]).astype(np.float32)
            audio = _cepstra(heard, int(grid[first]), last - first)
            odds[begin:end] = self._checked(self._run(audio[np.newaxis], video[np.newaxis]), last - first)[
                begin - first : end - first
            ]
        return np.asarray(np.interp(face.pts_us, grid, odds), np.float32)

    def _checked(self, output: NDArray[Any], count: int) -> Float32:
        values = np.asarray(output, np.float32).reshape(-1, 2) if output.size == 2 * count else output.reshape(-1)
        if len(values) != count:
            message = f"{self.name} gave {output.shape} for {count} pictures, expected ({count},) or ({count}, 2)"
            raise TalksetError("corrupt_data", message, "Export the network as docs/segmentation.md says")
        return np.asarray(values[:, 1] - values[:, 0] if values.ndim == 2 else values, np.float32)


def face_crop(rgb: UInt8, box_xywh: Sequence[float], size: int = CROP_PX) -> UInt8:
    """(size, size) grey picture of the lower middle of a face box, as TalkNet's pipeline cuts it."""
    x, y, width, height = box_xywh
    half = max(width, height) / 2
    side = CROP_HALF * half
    left, top = x + width / 2 - side, y + height / 2 + CROP_SCALE * half - side
    scale = size / (2 * side)
    matrix = np.array([[scale, 0.0, -scale * left], [0.0, scale, -scale * top]])
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.warpAffine(grey, matrix, (size, size), borderValue=110), np.uint8)


def weights_name(backend: str, weights: str) -> str:
    """Backend and hash of the weights. Raises TalksetError missing_model where there is no such file."""
    return f"{backend}-{_file(weights).fingerprint()}"


def _file(weights: str) -> NetworkFile:
    return NetworkFile(Path(weights), "speaker.weights_path", "docs/segmentation.md")


def _cepstra(heard: Heard, start_us: int, pictures: int) -> Float32:
    """(4 pictures, 13) cepstra from a time on; silence where there is no sound."""
    count = pictures * 4 * (RATE // 100) + RATE // 40
    first = round(start_us * RATE / 1e6)
    low, high = max(0, first), max(0, min(heard.sound.num_samples, first + count))
    read = heard.sound.read(low, high) if high > low else np.zeros(0, np.float32)
    padded = np.pad(read, (min(count, low - first), 0))
    samples = np.pad(padded, (0, max(0, count - len(padded))))[:count]
    return np.asarray(mfcc(samples)[: 4 * pictures], np.float32)
