"""Fundamental frequency of a voice by the normalised autocorrelation of Boersma (1993), with a path through its peaks.

Numpy only, so that nothing is loaded for it; a clip of ten seconds takes some 30 ms.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.sound import RATE
from schemas.types import Float32

Float64 = NDArray[np.float64]

HOP_S: Final = 0.01
LOW_HZ: Final = 65.0
HIGH_HZ: Final = 500.0
WINDOW_S: Final = 3 / LOW_HZ
"""Three periods of the lowest pitch."""
VOICED: Final = 0.45
"""Least normalised autocorrelation of a voiced frame."""
SILENT_DB: Final = 30.0
"""Frames this far below the loudest ones (95th percentile) are not voiced."""
OCTAVE_COST: Final = 0.02
"""Favour of a peak over one an octave below it."""
JUMP_COST: Final = 0.35
"""Of an octave between neighbouring frames."""
CHANGE_COST: Final = 0.14
"""Of voice that begins or ends."""
FLOOR: Final = (35.0, 0.72)
CEILING: Final = (65.0, 1.9)
"""A voice stays between these percentiles of what is found at first, times these factors (De Looze & Hirst 2008)."""
_CANDIDATES: Final = 5
_BLOCK: Final = 512


def pitch_track(samples: Float32) -> Float32:
    """(M,) fundamental frequency in Hz every 10 ms of sound at 16 kHz, frame m about m x 10 ms; NaN where unvoiced."""
    hop, window = round(HOP_S * RATE), round(WINDOW_S * RATE) // 2 * 2
    count = -(-len(samples) // hop)
    if not len(samples):
        return np.zeros(0, np.float32)
    padded = np.pad(samples.astype(np.float64), (window // 2, window // 2 + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][:count]
    power = frames.var(axis=1)
    audible = power > np.percentile(power, 95) * 10 ** (-SILENT_DB / 10)
    heights = np.full((count, _CANDIDATES), -np.inf)
    pitches = np.full((count, _CANDIDATES), np.nan)
    rows = np.flatnonzero(audible & (power > 1e-10))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        heights[block], pitches[block] = _peaks(frames[block])
    first = _best_path(heights, pitches)
    voiced = first[np.isfinite(first)]
    if not len(voiced):
        return first
    low, high = (factor * np.percentile(voiced, part) for part, factor in (FLOOR, CEILING))
    outside = ~((pitches >= low) & (pitches <= high))
    return _best_path(np.where(outside, -np.inf, heights), np.where(outside, np.nan, pitches))


def _peaks(frames: Float64) -> tuple[Float64, Float64]:
    """Heights and frequencies (M, K) of the highest peaks of each frame's autocorrelation, -inf and NaN where none."""
    window = frames.shape[1]
    taper = np.hanning(window)
    size = 1 << (2 * window - 1).bit_length()
    own = np.fft.irfft(np.abs(np.fft.rfft(taper, size)) ** 2)[: window // 2]
    centred = (frames - frames.mean(axis=1, keepdims=True)) * taper
    raw = np.fft.irfft(np.abs(np.fft.rfft(centred, size, axis=1)) ** 2, axis=1)[:, : window // 2]
    ratio = raw / np.maximum(raw[:, :1], 1e-12) / (own / own[0])
    low, high = int(RATE / HIGH_HZ), min(int(RATE / LOW_HZ) + 1, ratio.shape[1] - 2)
    here, before, after = (ratio[:, low + shift : high + shift] for shift in (0, -1, 1))
    bend = np.minimum(before - 2 * here + after, -1e-9)
    offset = np.clip(0.5 * (before - after) / bend, -1, 1)
    hz = RATE / (np.arange(low, high) + offset)
    top = here - 0.25 * (before - after) * offset
    top = np.where(
        (here > before) & (here >= after), np.minimum(top, 1.0) + OCTAVE_COST * np.log2(hz / LOW_HZ), -np.inf
    )
    best = np.argsort(-top, axis=1)[:, :_CANDIDATES]
    heights = np.take_along_axis(top, best, axis=1)
    return heights, np.where(np.isfinite(heights), np.take_along_axis(hz, best, axis=1), np.nan)


def _best_path(heights: Float64, pitches: Float64) -> Float32:
    """(M,) the path of highest sum through the candidates and the state without voice."""
    count, width = heights.shape
    unvoiced = VOICED
    gains = np.column_stack([np.where(np.isfinite(heights), heights, -1e3), np.full(count, unvoiced)])
    octaves = np.column_stack([np.log2(np.where(np.isfinite(pitches), pitches, LOW_HZ)), np.zeros(count)])
    score = gains[0].copy()
    back = np.zeros((count, width + 1), np.int64)
    for frame in range(1, count):
        cost = JUMP_COST * np.abs(octaves[frame][None] - octaves[frame - 1][:, None])
        cost[width, :], cost[:, width] = CHANGE_COST, CHANGE_COST
        cost[width, width] = 0.0
        total = score[:, None] - cost
        back[frame] = total.argmax(axis=0)
        score = total.max(axis=0) + gains[frame]
    state = int(score.argmax())
    found = np.full(count, np.nan, np.float32)
    for frame in range(count - 1, -1, -1):
        if state < width:
            found[frame] = pitches[frame, state]
        state = int(back[frame, state])
    return found
