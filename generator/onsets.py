"""Onsets of a sound: those of librosa where it is installed, else our own, named as such.

Our detector: energy flux. Log-mel energies (40 bands, 1024-sample Hann window, hop 512 at 16 kHz), their rises summed
over the bands; a peak is the largest of 3 hops on either side and exceeds the mean of 9 hops around it by 0.07 of the
largest value. These are the parameters of librosa's default peak picking as far as they go at this hop; the spectrum
and the filters differ, so figures made with one detector are not compared with those of the other.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError

Float64 = NDArray[np.float64]

RATE_HZ: Final = 16_000
HOP: Final = 512
WINDOW: Final = 1024
BANDS: Final = 40
PEAK_HOPS: Final = 3
MEAN_HOPS: Final = 9
DELTA: Final = 0.07
OWN: Final = "talkset energy flux, 16 kHz, hop 512"


def onsets_s(samples: NDArray[np.float32], detector: str | None = None) -> tuple[Float64, str]:
    """(K,) onset times in seconds of mono sound at 16 kHz, and the name of the detector that found them.

    `detector` is "librosa" or "own"; None takes librosa where it is installed. Raises UsageError where it is asked for
    and not installed, or for samples that are not finite and mono.
    """
    sound = np.asarray(samples, np.float32)
    if sound.ndim != 1 or not np.isfinite(sound).all():
        raise UsageError(f"sound of shape {sound.shape} has no onsets", "Pass finite mono samples at 16 kHz")
    if detector not in (None, "librosa", "own"):
        raise UsageError(f"unknown onset detector {detector!r}", "Known: librosa, own")
    if detector != "own":
        try:
            import librosa
        except ModuleNotFoundError as error:
            if detector == "librosa":
                raise UsageError("librosa is not installed", "pip install librosa, or use the own detector") from error
        else:
            found = librosa.onset.onset_detect(y=sound, sr=RATE_HZ, hop_length=HOP, units="time")
            return np.asarray(found, np.float64), f"librosa {librosa.__version__}, 16 kHz, hop 512"
    return _own(sound), OWN


def _own(sound: NDArray[np.float32]) -> Float64:
    from generator.features import mel_filters

    if len(sound) < WINDOW:
        return np.zeros(0)
    padded = np.pad(sound.astype(np.float64), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    level = np.log10(np.maximum(power @ mel_filters(BANDS, WINDOW, RATE_HZ).T, 1e-10))
    level = np.maximum(level, level.max() - 8)  # 80 dB below the loudest nothing is heard
    flux = np.concatenate([[0.0], np.maximum(np.diff(level, axis=0), 0).mean(axis=1)])
    if flux.max() <= 1e-6:
        return np.zeros(0)
    flux /= flux.max()
    times = []
    for place in range(len(flux)):
        near = flux[max(0, place - PEAK_HOPS) : place + PEAK_HOPS + 1]
        around = flux[max(0, place - MEAN_HOPS // 2) : place + MEAN_HOPS // 2 + 1]
        if flux[place] == near.max() and flux[place] >= around.mean() + DELTA and flux[place] > 0:
            times.append(place * HOP / RATE_HZ)
    return np.array(times)
