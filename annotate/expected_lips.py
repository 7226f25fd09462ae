"""What lips must do for a sound, judged by the sound alone: no words, no training on faces.

Each 10 ms the acoustic model says how well every phone fits; a phone asks for an opening, a rounding and a closure of
the lips (the ARKit weights of its viseme, `annotate.visemes`); the mean over the phones is what the lips should show.
The model is of English, but lips round for any [u] and close for any [m].
"""

from __future__ import annotations

import functools
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.align.acoustic_model import SILENCE, AcousticModel
from annotate.align.features import WINDOW, features
from annotate.align.pocketsphinx import english_model
from annotate.sound import RATE, Sound, as_sound
from annotate.visemes import ARKIT, ARKIT_NAMES, OCULUS15, lip_opening
from schemas.types import Float32

Float64 = NDArray[np.float64]

STEP_US: Final = 10_000
"""Row t stands for the sound around t x 10 ms."""
CHANNELS: Final = ("opening", "rounding", "closure")

_HOP: Final = RATE // 100
_PAD: Final = WINDOW // 2
_TEMPERATURE: Final = 2.0
"""Divides log likelihoods: neighbouring frames and Gaussians are not independent, so taken as they are they would be
far too sure of one phone. Between 1 and 6 what is found hardly changes."""
_SMOOTH: Final = 7
"""Rows of the Hann window over time: lips take 50 ms and more from one shape to the next."""
_BLOCK_S: Final = 30
_MARGIN_S: Final = 1
"""Sound on both sides of a block, so that the mean of its cepstra does not jump from block to block."""


def expected_lips(samples: Float32 | Sound) -> Float32:
    """(ceil(N / 160), 3) `CHANNELS` that the lips of who speaks should show, 0..1, at 100 Hz, of (N,) sound at 16 kHz.

    Raises UsageError when samples are not (N,) and finite.
    """
    sound = as_sound(samples)
    count = -(-sound.num_samples // _HOP)
    found = np.zeros((count, len(CHANNELS)), np.float32)
    model, states, table = _tables()
    for begin in range(0, count, 100 * _BLOCK_S):
        end = min(count, begin + 100 * _BLOCK_S)
        first, last = max(0, begin - 100 * _MARGIN_S), min(count, end + 100 * _MARGIN_S)
        read = sound.read(first * _HOP, min(sound.num_samples, last * _HOP))
        read = np.pad(read, (0, max(0, (last - first) * _HOP + WINDOW - len(read))))
        likelihood = model.log_likelihoods(features(read, _PAD), states)[: last - first]
        best = likelihood.reshape(len(likelihood), -1, 3).max(axis=2)
        share = np.exp((best - best.max(axis=1, keepdims=True)) / _TEMPERATURE)
        shown = _smoothed(share @ table / share.sum(axis=1, keepdims=True))
        found[begin:end] = shown[begin - first : end - first]
    return found


def _smoothed(rows: Float64) -> Float64:
    window = np.hanning(_SMOOTH + 2)[1:-1]
    padded = np.pad(rows, ((_SMOOTH // 2, _SMOOTH // 2), (0, 0)), mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, _SMOOTH, axis=0)
    return np.asarray(views @ (window / window.sum()))


@functools.cache
def _tables() -> tuple[AcousticModel, NDArray[np.int64], Float64]:
    """The acoustic model, the states of its phones, and (phones, 3) what each asks of the lips."""
    model = english_model()
    states = np.concatenate([model.states(phone) for phone in model.phones])
    rows = []
    for phone in model.phones:
        visemes = OCULUS15.phones.get(phone, ("sil",)) if phone != SILENCE else ("sil",)
        rows.append(np.mean([_asked(viseme, phone) for viseme in visemes], axis=0))
    return model, states, np.array(rows)


def _asked(viseme: str, phone: str) -> list[float]:
    weights = ARKIT[viseme]
    track = np.array([[weights.get(name, 0.0) for name in ARKIT_NAMES]], np.float32)
    rounding = weights.get("mouthFunnel", 0.0) + weights.get("mouthPucker", 0.0)
    spread = weights.get("mouthStretchLeft", 0.0) + weights.get("mouthSmileLeft", 0.0)
    closure = {"P": 1.0, "B": 1.0, "M": 1.0, "F": 0.6, "V": 0.6}.get(phone, 0.0)  # of f and v the lower lip alone
    return [float(lip_opening(track)[0]), rounding - spread / 2, closure]
