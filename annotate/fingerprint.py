"""Codes of a sound that survive codecs, levels and resampling, by which copies are found.

Haitsma & Kalker, "A highly robust audio fingerprinting system", ISMIR 2002: each bit says whether the difference of
energy between two neighbouring bands grew or fell from one frame to the next.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.fingerprint import SOUND_HOP_US
from schemas.types import Float32

RATE: Final = 16_000
HOP: Final = RATE * SOUND_HOP_US // 1_000_000
"""Samples from one code to the next."""
WINDOW: Final = 5952
"""372 ms: long windows move little from hop to hop, so codes taken between two of a copy still match."""
_BANDS: Final = 33
_BAND_HZ: Final = (300.0, 2000.0)
_DYNAMIC_RANGE_DB: Final = 40.0
"""Frames this far below the loudest carry noise of the codec and no code."""


def sound_codes(samples_16k: Float32) -> NDArray[np.uint32]:
    """(M,) codes of (N,) samples, code m of the window that begins at m x 20 ms; 0 where it is too quiet."""
    if len(samples_16k) < WINDOW + HOP:
        return np.zeros(0, np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(samples_16k, WINDOW)[::HOP]
    hz = np.fft.rfftfreq(WINDOW, 1 / RATE)
    edges = np.searchsorted(hz, np.geomspace(*_BAND_HZ, _BANDS + 1))
    taper = np.hanning(WINDOW).astype(np.float32)
    energy = np.empty((len(windows), _BANDS))
    for start in range(0, len(windows), 256):  # bounds the memory
        spectrum = np.fft.rfft(windows[start : start + 256] * taper, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        energy[start : start + 256] = np.add.reduceat(power, edges, axis=1)[:, :-1]
    slope = np.diff(energy, axis=1)
    bits = np.diff(slope, axis=0, prepend=slope[:1]) > 0
    codes = (bits.astype(np.uint32) << np.arange(32, dtype=np.uint32)).sum(axis=1, dtype=np.uint32)
    total = energy.sum(axis=1)
    codes[total <= total.max() * 10 ** (-_DYNAMIC_RANGE_DB / 10)] = 0
    codes[0] = 0
    return np.asarray(codes)
