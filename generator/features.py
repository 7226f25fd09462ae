"""What the generator hears: log-mel energies for every step of the motion, or features of a pretrained network.

The clock is rational: step k of motion at `fps` frames a second is at k / fps seconds, and its sound is centred there,
so features do not drift over an hour (one public loader takes int(16000 / 30) samples a frame and is 375 ms early
after ten minutes).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

RATE_HZ: Final = 16_000
MELS: Final = 40
PARTS: Final = 4
"""Spectra for every step of motion: 10 ms apart at 25 frames a second."""
WINDOW: Final = 400
FFT: Final = 512
FLOOR: Final = 1e-6
WIDTH: Final = MELS * PARTS
LOGMEL: Final = "logmel"
CHUNK_STEPS: Final = 2048
"""Steps whose windows are in memory at once: an hour of sound needs no more than a minute does."""

Extractor = Callable[[Float32, int, Fraction], Float32]
"""(samples at 16 kHz, steps, steps a second) -> (steps, width) features."""


@functools.lru_cache(maxsize=8)
def mel_filters(count: int, fft: int, rate: int) -> Float64:
    """(count, fft // 2 + 1) triangular filters, evenly spaced on the mel scale of 2595 log10(1 + f / 700) to rate/2."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, count + 2) / 2595) - 1)
    grid = np.linspace(0, rate / 2, fft // 2 + 1)
    rise = (grid - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    fall = (corners[2:, None] - grid) / (corners[2:] - corners[1:-1])[:, None]
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)))


def log_mel(samples: Float32, steps: int, fps: Fraction, first: int = 0, origin: int = 0) -> Float32:
    """(steps, 160) log-mel energies of the sound around each step of motion from step `first` on.

    Four spectra of 25 ms a step, of 40 mel bands each; silence stands where there is no sound. Natural logarithm of the
    power, -14 (silence) to 9. `origin` is the number of the first sample given: a part of a long sound will do.
    Raises UsageError for samples that are not mono or not finite.
    """
    sound = np.asarray(samples, np.float32)
    if sound.ndim != 1:
        raise UsageError(f"sound has shape {sound.shape}, expected (N,)", "Average the channels first")
    if not np.isfinite(sound).all():
        raise UsageError("the sound holds values that are not finite", "Decode the file again")
    filters, taper = mel_filters(MELS, FFT, RATE_HZ).T.astype(np.float32), np.hanning(WINDOW).astype(np.float32)
    made = np.empty((steps, WIDTH), np.float32)
    for start in range(0, steps, CHUNK_STEPS):
        count = min(CHUNK_STEPS, steps - start)
        parts = (first + start) * PARTS + np.arange(count * PARTS)
        # the middle of part p of step k is at (k + (p + 1/2) / PARTS - 1/2) / fps
        twice = (2 * parts + 1 - PARTS) * RATE_HZ * fps.denominator
        begins = np.floor_divide(twice, 2 * PARTS * fps.numerator) - WINDOW // 2 - origin
        low, high = int(begins[0]), int(begins[-1]) + WINDOW
        piece = sound[max(low, 0) : max(high, 0)]
        piece = np.pad(piece, (min(max(-low, 0), high - low), 0))
        piece = np.pad(piece, (0, max(0, high - low - len(piece))))
        frames = piece[(begins - low)[:, None] + np.arange(WINDOW)] * taper
        power = np.abs(np.fft.rfft(frames, FFT, axis=1)).astype(np.float32) ** 2
        made[start : start + count] = np.log(power @ filters + FLOOR).reshape(count, WIDTH)
    return made


def make_extractor(name: str) -> tuple[Extractor, int | None]:
    """The extractor of that name and its width (None: known after the first clip).

    "logmel" is the built-in one; anything else is the folder or hub name of a HuBERT or wav2vec2 model, read by
    transformers (an optional extra: `pip install 'talkset[audio-models]'`). Raises UsageError where that fails.
    """
    if name == LOGMEL:
        return log_mel, WIDTH
    return pretrained(name), None


def pretrained(name: str) -> Extractor:
    """The last hidden layer of a HuBERT or wav2vec2 model, interpolated to the steps of motion.

    Sound goes through in pieces of 20 s with 1 s of context on either side, so memory does not grow with its length.
    """
    try:
        from transformers import AutoModel
    except ModuleNotFoundError as error:
        message = f"the audio features {name!r} need transformers"
        raise UsageError(message, "pip install 'talkset[audio-models]', or use logmel") from error
    try:
        network = AutoModel.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{name!r} is no model that transformers can load: {error}", "Give a folder or hub name"
        ) from error
    network.eval()

    def extract(samples: Float32, steps: int, fps: Fraction) -> Float32:
        hidden, times = _hidden(network, np.asarray(samples, np.float32))
        wanted = np.arange(steps) * float(1 / fps)
        return np.stack([np.interp(wanted, times, column) for column in hidden.T], axis=1).astype(np.float32)

    return extract


def _hidden(network: Any, samples: Float32) -> tuple[Float32, Float64]:
    """(N, D) hidden states and their times in seconds."""
    import torch

    piece, context = 20 * RATE_HZ, RATE_HZ
    stride = int(np.prod(network.config.conv_stride))
    states, times = [], []
    scale = max(float(samples.std()), 1e-5)
    normal = (samples - samples.mean()) / scale
    for start in range(0, max(len(normal), 1), piece):
        low, high = max(0, start - context), min(len(normal), start + piece + context)
        part = np.pad(normal[low:high], (0, max(0, 2 * context - (high - low))))
        with torch.no_grad():
            found = network(torch.as_tensor(part)[None]).last_hidden_state[0].float().cpu().numpy()
        at = (low + (np.arange(len(found)) + 0.5) * stride) / RATE_HZ
        keep = (at >= start / RATE_HZ) & (at < (start + piece) / RATE_HZ)
        states.append(found[keep])
        times.append(at[keep])
    return np.concatenate(states), np.concatenate(times)
