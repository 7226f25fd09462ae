"""SyncNet as an estimator: distances of learned embeddings of mouth pictures and sound, with the user's own weights.

Chung & Zisserman, "Out of time: automated lip sync in the wild", 2016. Faces are cut as its released pipeline cuts
them, and the cepstra are those of `python_speech_features.mfcc` with its defaults, which it was trained on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from annotate.network_file import NetworkFile
from annotate.sync.base import NOTHING, RATE, Face, SyncEstimate
from schemas.types import Float32, Int64

Float64 = NDArray[np.float64]

FPS: Final = 25
WINDOW: Final = 5
"""Pictures that one embedding sees, and 20 cepstra with them."""
SIZE_PX: Final = 224
CEPSTRA: Final = 13
CROP_SCALE: Final = 0.4
"""Margin of the face square in half sides of the face box, as in the released pipeline."""
_HOP: Final = RATE // 100
_FRAME: Final = RATE // 40
_FFT: Final = 512
_FILTERS: Final = 26
_LIFTER: Final = 22
_PRE_EMPHASIS: Final = 0.97
_BATCH: Final = 16
_FULL_SCALE: Final = 32768.0


class _Network(Protocol):
    def lips(self, pictures: Float32) -> Float32:
        """(N, 3, 5, 224, 224) blue, green, red 0..255 -> (N, D)."""

    def sound(self, cepstra: Float32) -> Float32:
        """(N, 1, 13, 20) -> (N, D)."""


class SyncNet:
    """See `annotate.sync.base.SyncEstimator`.

    The weights are a TorchScript module (.pt, .pth) with the methods `forward_lip` and `forward_aud`, or an ONNX graph
    (.onnx) with the inputs `lip` and `aud`, whose first axes have names of their own, and the outputs `lip_embedding`
    and `aud_embedding`; in both, pictures are
    (N, 3, 5, 224, 224) float32 with the channels blue, green, red 0..255, cepstra (N, 1, 13, 20) float32, embeddings
    (N, D). `confidence` is SyncNet's own, the median distance over the offsets minus the least, divided by the
    median.
    """

    def __init__(self, weights: str, range_ms: int = 500) -> None:
        file = NetworkFile(Path(weights), "sync.weights_path", "docs/quality.md")
        self._name = f"syncnet-{file.fingerprint()}"
        self._network: _Network = _Graph(file) if file.is_graph() else _Module(file)
        self.range_ms = range_ms

    @property
    def name(self) -> str:
        """Backend and hash of the weights."""
        return self._name

    @property
    def margin_ms(self) -> int:
        """The largest offset and a window."""
        return self.range_ms + 1000 * WINDOW // FPS

    def estimate(self, face: Face, samples_16k: Float32, start_us: int) -> SyncEstimate:
        """See `annotate.sync.base.SyncEstimator.estimate`; nothing is said of less than five pictures of a face."""
        pictures, times = _mouths(face)
        windows = np.arange(len(pictures) - WINDOW + 1)
        windows = windows[_whole(times, windows)] if len(windows) else windows
        if not len(windows) or len(samples_16k) < RATE // 2 or not np.ptp(samples_16k) > 0:
            return NOTHING
        cepstra = mfcc(samples_16k)
        seen = [
            self._network.lips(
                np.stack([pictures[i : i + WINDOW].transpose(3, 0, 1, 2) for i in part]).astype(np.float32)
            )
            for part in np.array_split(windows, -(-len(windows) // _BATCH))
        ]
        heard = self._heard(cepstra)
        steps = np.arange(-(self.range_ms * FPS // 1000), self.range_ms * FPS // 1000 + 1)
        first = (times[windows] - start_us) / 1e6 * 100
        places = np.rint(first[:, np.newaxis] + steps * (100 / FPS)).astype(np.int64)
        inside = (places >= 0) & (places < len(heard))
        distance = np.linalg.norm(
            np.concatenate(seen)[:, np.newaxis] - heard[np.clip(places, 0, len(heard) - 1)], axis=2
        )
        counts = inside.sum(axis=0)
        mean = np.where(counts > 0, (distance * inside).sum(axis=0) / np.maximum(counts, 1), np.inf)
        return _nearest(steps, mean)

    def _heard(self, cepstra: Float32) -> Float32:
        """(M, D) an embedding for each 10 ms at which 20 cepstra begin."""
        count = 4 * WINDOW
        windows = np.lib.stride_tricks.sliding_window_view(cepstra, count, axis=0)[:, np.newaxis]
        parts = np.array_split(windows, -(-len(windows) // (16 * _BATCH)))
        return np.concatenate([self._network.sound(np.ascontiguousarray(part, np.float32)) for part in parts])


def mfcc(samples_16k: Float32) -> Float32:
    """(T, 13) mel cepstra every 10 ms of 16-bit samples, the first one the logarithm of the energy.

    The formulas and defaults of python_speech_features 0.6 (Lyons): windows of 25 ms without taper, 26 filters over
    0 to 8000 Hz, pre-emphasis 0.97, lifter 22.
    """
    scaled = samples_16k.astype(np.float64) * _FULL_SCALE
    emphasised = np.append(scaled[:1], scaled[1:] - _PRE_EMPHASIS * scaled[:-1])
    frames = np.lib.stride_tricks.sliding_window_view(emphasised, _FRAME)[::_HOP]
    power = np.abs(np.fft.rfft(frames, _FFT)) ** 2 / _FFT
    tiny = np.finfo(np.float64).eps
    energy = np.maximum(power.sum(axis=1), tiny)
    mel = np.log(np.maximum(power @ _filters().T, tiny))
    cepstra = mel @ _cosines()
    cepstra *= 1 + _LIFTER / 2 * np.sin(np.pi * np.arange(CEPSTRA) / _LIFTER)
    cepstra[:, 0] = np.log(energy)
    return np.asarray(cepstra, np.float32)


@functools.cache
def _filters() -> Float64:
    """(26, 257) triangles between the lines of the spectrum."""
    mel = np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), _FILTERS + 2)
    corners = np.floor((_FFT + 1) * 700 * (10 ** (mel / 2595) - 1) / RATE)
    line = np.arange(_FFT // 2 + 1)
    left, centre, right = corners[:-2, np.newaxis], corners[1:-1, np.newaxis], corners[2:, np.newaxis]
    rising = np.where((line >= left) & (line < centre), (line - left) / (centre - left), 0.0)
    falling = np.where((line >= centre) & (line < right), (right - line) / (right - centre), 0.0)
    return np.asarray(rising + falling)


@functools.cache
def _cosines() -> Float64:
    """(26, 13) orthonormal cosine transform."""
    basis = np.cos(np.pi / _FILTERS * np.outer(np.arange(_FILTERS) + 0.5, np.arange(CEPSTRA)))
    basis *= np.sqrt(2 / _FILTERS)
    basis[:, 0] /= np.sqrt(2)
    return np.asarray(basis)


def _mouths(face: Face) -> tuple[NDArray[np.uint8], Int64]:
    """(M, 224, 224, 3) face squares at 25 fps, the nearest picture in time to each, and their times."""
    seen = np.isfinite(face.box_xywh).all(axis=1)
    if not seen.any():
        return np.zeros((0, SIZE_PX, SIZE_PX, 3), np.uint8), np.zeros(0, np.int64)
    grid = np.arange(face.pts_us[0], face.pts_us[-1] + 1, 1_000_000 // FPS)
    nearest = np.abs(face.pts_us[np.newaxis] - grid[:, np.newaxis]).argmin(axis=1)
    kept = seen[nearest]
    cut = _cut(face.frames(), set(nearest[kept].tolist()), face.box_xywh)
    return np.stack([cut[i] for i in nearest[kept].tolist()]), grid[kept]


def _cut(
    frames: Iterable[tuple[int, NDArray[np.uint8]]], wanted: set[int], boxes: Float32
) -> dict[int, NDArray[np.uint8]]:
    found = {}
    for index, (_, rgb) in enumerate(frames):
        if index in wanted:
            x, y, width, height = boxes[index].astype(np.float64).tolist()
            half = max(width, height) / 2
            middle_x, middle_y = x + width / 2, y + height / 2 + CROP_SCALE * half
            side = half * (1 + CROP_SCALE)
            scale = SIZE_PX / (2 * side)
            matrix = np.array([[scale, 0, scale * (side - middle_x)], [0, scale, scale * (side - middle_y)]])
            square = cv2.warpAffine(rgb[..., ::-1], matrix, (SIZE_PX, SIZE_PX), borderValue=(110, 110, 110))
            found[index] = square
    return found


def _whole(times: Int64, windows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Windows without a hole."""
    step = 1_000_000 // FPS
    return np.asarray(times[windows + WINDOW - 1] - times[windows] == (WINDOW - 1) * step)


def _nearest(steps: NDArray[np.int64], distance: Float64) -> SyncEstimate:
    best = int(np.argmin(distance))
    known = distance[np.isfinite(distance)]
    if not len(known) or not np.median(known) > 0:
        return NOTHING
    offset = float(steps[best]) * 1000 / FPS
    if 0 < best < len(steps) - 1 and np.isfinite(distance[best - 1 : best + 2]).all():
        before, least, after = distance[best - 1 : best + 2].tolist()
        offset += 1000 / FPS * 0.5 * (before - after) / max(before - 2 * least + after, 1e-12)
    return SyncEstimate(offset, float(1 - distance[best] / np.median(known)))


class _Module:
    def __init__(self, file: NetworkFile) -> None:
        module = file.module()
        try:
            self._parts = module.forward_lip, module.forward_aud
        except AttributeError as error:
            raise file.unreadable(f"it is no SyncNet: {error}") from error

    def lips(self, pictures: Float32) -> Float32:
        return self._run(0, pictures)

    def sound(self, cepstra: Float32) -> Float32:
        return self._run(1, cepstra)

    def _run(self, part: int, values: Float32) -> Float32:
        import torch

        with torch.inference_mode():
            return np.asarray(self._parts[part](torch.from_numpy(np.ascontiguousarray(values))).numpy(), np.float32)


class _Graph:
    def __init__(self, file: NetworkFile) -> None:
        self._session = file.session
        names = {i.name for i in self._session.get_inputs()} | {o.name for o in self._session.get_outputs()}
        wanted = {"lip", "aud", "lip_embedding", "aud_embedding"}
        if not wanted <= names:
            raise file.unreadable(f"it is no SyncNet: it has {', '.join(sorted(names))}")

    def lips(self, pictures: Float32) -> Float32:
        silence = np.zeros((1, 1, CEPSTRA, 4 * WINDOW), np.float32)
        return np.asarray(self._session.run(["lip_embedding"], {"lip": pictures, "aud": silence})[0], np.float32)

    def sound(self, cepstra: Float32) -> Float32:
        black = np.zeros((1, 3, WINDOW, SIZE_PX, SIZE_PX), np.float32)
        return np.asarray(self._session.run(["aud_embedding"], {"lip": black, "aud": cepstra})[0], np.float32)
