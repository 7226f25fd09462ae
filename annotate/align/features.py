"""The acoustic features that pocketsphinx' English model was trained on: mel cepstra and their deltas.

Follows CMU Sphinx' front end (`fe_sigproc.c`, `fe_noise.c`, `feat.c`, BSD) with the settings in the model's
`feat.params`, except that noise is only taken out where there is some: on clean speech its removal blurs boundaries by
a few milliseconds.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

RATE: Final = 16_000
HOP: Final = 160
WINDOW: Final = 410
"""Samples of the analysis window: 25.625 ms."""

_FFT: Final = 512
_FILTERS: Final = 25
_CEPSTRA: Final = 13
_BAND_HZ: Final = (130.0, 6800.0)
_LIFTER: Final = 22
_PRE_EMPHASIS: Final = 0.97
_LOG_FLOOR: Final = 1e-4
_DELTA: Final = 2
"""Frames on either side of a delta."""

CLEAN_DB: Final = 30.0
"""Speech that stands this far above its pauses needs no removal of noise."""


def features(samples: Float32, pad: int = 0) -> Float32:
    """(T, 3, 13) cepstra, deltas and double deltas of (N,) samples at 16 kHz, full scale 1.0.

    `pad` samples of quiet are added on either side, then frame t looks at samples [160 t, 160 t + 410). The mean over
    time of each cepstral coefficient is zero. Needs at least 410 samples.
    """
    # drawn anew for each call, so that the result depends on nothing but the sound; one bit of noise keeps digital
    # silence from being an infinite log energy
    dither = np.random.default_rng(0).uniform(-1.0, 1.0, len(samples) + 2 * pad).astype(np.float32)
    scaled = np.pad(samples.astype(np.float32) * np.float32(32768.0), pad) + dither
    emphasised = np.append(scaled[:1] * np.float32(1 - _PRE_EMPHASIS), scaled[1:] - _PRE_EMPHASIS * scaled[:-1])
    windows = np.lib.stride_tricks.sliding_window_view(emphasised, WINDOW)[::HOP]
    spectrum = np.fft.rfft(windows * np.hamming(WINDOW), _FFT)
    mel = (spectrum.real**2 + spectrum.imag**2) @ mel_filters()
    if signal_to_noise_db(mel[pad // HOP : len(mel) - pad // HOP]) < CLEAN_DB:
        mel = _without_noise(mel)
    cepstra = np.log(mel + _LOG_FLOOR) @ _cosines()
    loud = cepstra[cepstra[:, 0] >= 0]
    cepstra -= loud.mean(axis=0) if len(loud) else 0.0
    edges = _DELTA + 1
    padded = np.concatenate([np.repeat(cepstra[:1], edges, 0), cepstra, np.repeat(cepstra[-1:], edges, 0)])
    delta = padded[2 * _DELTA :] - padded[: -2 * _DELTA]
    stacked = np.stack((cepstra, delta[1:-1], delta[2:] - delta[:-2]), axis=1)
    return np.asarray(stacked, np.float32)


def signal_to_noise_db(power: Float64) -> float:
    """How far the loud frames of (T, bands) powers stand above the quiet ones: percentiles 95 and 5, in dB."""
    level = 10.0 * np.log10(power.sum(axis=1) + 1.0)
    quiet, loud = np.percentile(level, (5, 95))
    return float(loud - quiet)


def _without_noise(mel: Float64) -> Float64:
    """(T, 25) mel powers after spectral subtraction with temporal masking, as `fe_remove_noise` does it."""
    smooth = np.empty_like(mel)
    power, noise, floor, peak = mel[0], mel[0] / 20.0, mel[0] / 20.0, np.zeros_like(mel[0])
    width = np.minimum(np.arange(_FILTERS) + 4, _FILTERS - 1) - np.maximum(np.arange(_FILTERS) - 4, 0) + 1
    band = (np.abs(np.subtract.outer(np.arange(_FILTERS), np.arange(_FILTERS))) <= 4) / width
    for index, now in enumerate(mel):
        power = 0.7 * power + 0.3 * now
        noise = _lower_envelope(power, noise)
        signal = np.maximum(power - noise, 1.0)
        floor = _lower_envelope(signal, floor)
        peak = 0.85 * peak
        masked = np.where(signal < 0.85 * peak, 0.2 * peak, signal)
        peak = np.maximum(peak, signal)
        gain = np.maximum(masked, floor) / power
        smooth[index] = np.clip(gain, 1 / 20, 20.0)
    return np.asarray(mel * (smooth @ band))


def _lower_envelope(value: Float64, envelope: Float64) -> Float64:
    weight = np.where(value >= envelope, 0.995, 0.5)
    return np.asarray(weight * envelope + (1 - weight) * value)


@functools.cache
def mel_filters() -> Float64:
    """(257, 25) triangular filters with their corners on the lines of the spectrum."""
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in _BAND_HZ)
    corners = 700.0 * (10.0 ** (np.linspace(low, high, _FILTERS + 2) / 2595.0) - 1.0)
    line = RATE / _FFT
    corners = np.floor(corners / line + 0.5) * line
    hz = np.arange(_FFT // 2 + 1)[:, np.newaxis] * line
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    return np.asarray(np.maximum(0.0, np.minimum((hz - left) / (centre - left), (right - hz) / (right - centre))))


@functools.cache
def _cosines() -> Float64:
    """(25, 13) unitary cosine transform with lifter."""
    order: Any = np.arange(_CEPSTRA)
    basis = np.cos(np.pi / _FILTERS * np.outer(np.arange(_FILTERS) + 0.5, order)) * np.sqrt(2.0 / _FILTERS)
    basis[:, 0] = np.sqrt(1.0 / _FILTERS)
    return np.asarray(basis * (1.0 + _LIFTER / 2 * np.sin(order * np.pi / _LIFTER)))
