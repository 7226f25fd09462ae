"""What the sound tells of a manner: pitch, level, pauses and the colour of the voice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.pitch import HOP_S, pitch_track
from annotate.sound import RATE, as_sound, envelope_db
from annotate.speech_activity import speech_probability, speech_spans
from schemas.types import Bool, Float32, Span

Float64 = NDArray[np.float64]

BANDS: Final = 12
"""Of the spectrum, evenly spaced on the mel scale."""
BAND_HZ: Final = (120.0, 4500.0)
"""Telephones and strong compression keep that much."""
_WINDOW: Final = 512


@dataclass(frozen=True)
class Voice:
    """Sound of a clip in steps of 10 ms, N of them."""

    pitch_hz: Float32
    """(N,) NaN where unvoiced."""
    level_db: Float32
    """(N,) of full scale."""
    speaking: Bool
    """(N,)"""
    spans: tuple[Span, ...]
    """Where somebody speaks, microseconds."""
    colour_db: Float64
    """(BANDS,) long-term spectrum of the voiced speech against its mean, which depends less on the words than that of
    all speech; NaN without it."""


def listen(samples: Float32) -> Voice:
    """The voice of (N,) samples at 16 kHz. Raises UsageError when they are not (N,) and finite."""
    sound = as_sound(samples)
    level = envelope_db(sound)
    spans = speech_spans(speech_probability(sound))
    middles = (np.arange(len(level)) + 0.5) * HOP_S * 1e6
    speaking = np.zeros(len(level), np.bool_)
    for span in spans:
        speaking |= (middles >= span.start_us) & (middles < span.end_us)
    pitch = pitch_track(samples)
    pitch = np.where(speaking[: len(pitch)], pitch, np.nan).astype(np.float32)
    return Voice(pitch, level, speaking, spans, _colour(samples, np.isfinite(pitch)))


def _colour(samples: Float32, voiced: Bool) -> Float64:
    hop = round(HOP_S * RATE)
    padded = np.pad(samples.astype(np.float64), (_WINDOW // 2, _WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::hop][: len(voiced)][voiced]
    if not len(frames):
        return np.full(BANDS, np.nan)
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)) ** 2
    power = (power / np.maximum(power.sum(1, keepdims=True), 1e-12)).mean(0)  # loud vowels count like others
    mel = 2595 * np.log10(1 + np.fft.rfftfreq(_WINDOW, 1 / RATE) / 700)
    low, high = (2595 * np.log10(1 + hz / 700) for hz in BAND_HZ)
    edges = np.linspace(float(low), float(high), BANDS + 1)
    band = np.digitize(mel, edges) - 1
    levels = np.array([10 * np.log10(power[band == index].mean() + 1e-12) for index in range(BANDS)])
    return np.asarray(levels - levels.mean())
