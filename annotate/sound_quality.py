"""How good the sound of a clip is: noise, music, clipping; docs/quality.md defines every measure."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label

from annotate.align.features import mel_filters
from annotate.speech_activity import FRAME_US, speech_probability
from schemas.types import Float32

Float64 = NDArray[np.float64]

RATE: Final = 16_000
SOUND_MEASURES: Final = ("snr_db", "speech_modulation", "clipped")
SNR_LIMITS_DB: Final = (-20.0, 80.0)
"""What is reported at most: digital silence has no noise to divide by."""
_WINDOW: Final = 512
_HOP: Final = 160
_FRAMES_S: Final = RATE // _HOP
_SURE: Final = 0.5
"""Probability of speech from which on a frame counts as spoken."""
_QUIET: Final = 0.1
"""And below which it counts as background, away from speech."""
_MODULATION_HZ: Final = (2.0, 8.0)
"""Around the rate of syllables."""
_PIECE_S: Final = 2
_FLAT: Final = 0.01
"""Samples this near to the largest of their channel are at the limit."""
_RUN: Final = 3
_LOUD: Final = 0.1
"""A channel whose largest sample is below this is not driven into its limit."""


def sound_quality(samples_16k: Float32) -> dict[str, Float64]:
    """Values of `snr_db` and `speech_modulation` of (N,) samples at 16 kHz: the first of each is that of the whole.

    The others are those of its pieces, whose worst says more than their mean: seconds with speech for the ratio, two
    seconds for the modulation. Empty where there is no speech, or no sound.
    """
    if len(samples_16k) < _WINDOW or not np.ptp(samples_16k) > 0:
        return {"snr_db": np.zeros(0), "speech_modulation": np.zeros(0)}
    windows = np.lib.stride_tricks.sliding_window_view(samples_16k, _WINDOW)[::_HOP]
    spectrum = np.fft.rfft(windows * np.hanning(_WINDOW), _WINDOW)
    mel = (spectrum.real**2 + spectrum.imag**2) @ mel_filters()
    return {"snr_db": _snr_db(samples_16k, mel.sum(axis=1)), "speech_modulation": _modulation(mel)}


def clipped(samples: Float32, rate: int) -> Float64:
    """Share of samples (C, N) in runs of three and more at their channel's limit: of the whole, then of each second.

    The worst channel counts. A limit is what a channel's largest magnitude makes of it, because sound that was clipped
    is often turned down later.
    """
    share = np.zeros(samples.shape[1])
    for channel in np.atleast_2d(samples):
        peak = float(np.abs(channel).max(initial=0.0))
        if peak < _LOUD:
            continue
        runs, count = label(np.abs(channel) >= (1 - _FLAT) * peak)
        lengths = np.bincount(runs, minlength=count + 1)
        lengths[0] = 0
        share = np.maximum(share, lengths[runs] >= _RUN)
    pieces = [share[i : i + rate].mean() for i in range(0, max(len(share) - rate // 2, 1), rate) if len(share)]
    return np.array([share.mean(), *pieces]) if len(share) else np.zeros(0)


def _snr_db(samples: Float32, power: Float64) -> Float64:
    """Power of speech over that of the background, dB."""
    probability = speech_probability(samples)
    middle_us = (_HOP * np.arange(len(power)) + _WINDOW / 2) * 1e6 / RATE
    spoken = probability[np.minimum(middle_us // FRAME_US, len(probability) - 1).astype(np.int64)]
    speech = spoken >= _SURE
    if not speech.any():
        return np.zeros(0)
    quiet = spoken < _QUIET
    floor = np.percentile(power, 5) if quiet.sum() < _FRAMES_S // 5 else np.median(power[quiet])
    seconds = [slice(i, i + _FRAMES_S) for i in range(0, len(power), _FRAMES_S)]
    spans = [slice(None), *(part for part in seconds if speech[part].mean() >= 0.3)]
    loud = np.array([power[part][speech[part]].mean() for part in spans])
    ratios = np.maximum(loud - floor, 1e-12) / max(float(floor), 1e-12)
    return np.asarray(np.clip(10 * np.log10(ratios), *SNR_LIMITS_DB))


def _modulation(mel: Float64) -> Float64:
    """RMS of each band's level between 2 and 8 Hz over its mean, weighed by the bands' energy.

    The 4 Hz modulation energy of Scheirer & Slaney, "Construction and evaluation of a robust multifeature speech/music
    discriminator", 1997, over linear levels.
    """
    size = _PIECE_S * _FRAMES_S
    starts = range(0, max(len(mel) - size // 2, 1), _FRAMES_S)
    parts = [mel, *(mel[i : i + size] for i in starts)]
    return np.array([_modulation_of(np.sqrt(part)) for part in parts if len(part) >= _FRAMES_S // 2])


def _modulation_of(level: Float64) -> float:
    mean = level.mean(axis=0)
    lines = np.fft.rfft(level - mean, axis=0)
    hz = np.fft.rfftfreq(len(level), 1 / _FRAMES_S)
    inside = (hz >= _MODULATION_HZ[0]) & (hz <= _MODULATION_HZ[1])
    rms = np.sqrt(2 * (np.abs(lines[inside]) ** 2).sum(axis=0)) / len(level)
    return float((rms / np.maximum(mean, 1e-12)) @ mean / max(float(mean.sum()), 1e-12))
