"""Emotion by voice: pitch, loudness, tilt of the spectrum, roughness and rate, against the speaker's own where known.

What voices do in each emotion is that of Juslin & Laukka, "Communication of emotions in vocal expression and music
performance", 2003 (table 7), in standard deviations of a speaker's own variation. A voice tells how aroused somebody
is; of kinds with the same arousal it tells little, and the reliability says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from annotate.emotion.base import NUM, Float64, Opinion, Pictures
from annotate.performance import Performance
from annotate.pitch import HOP_S, pitch_track
from annotate.sound import RATE
from schemas.labels import EMOTIONS
from schemas.types import Float32

FEATURES: Final = ("pitch_oct", "pitch_range_oct", "level_db", "level_range_db", "tilt_db", "roughness", "rate_hz")
"""Median octaves above 100 Hz; 10th to 90th percentile of the same; median level of voiced frames re full scale, and
10th to 90th percentile; level above 1 kHz over that below; mean change of pitch between neighbouring frames over pitch;
syllables (phones where they are known, over 2.4) a second of speech."""

PROFILES: Final = {
    #              pitch range level range tilt rough rate
    "neutral":    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "happiness":  (0.8, 0.8, 0.6, 0.4, 0.5, 0.0, 0.5),
    "anger":      (0.7, 0.6, 1.2, 0.6, 1.0, 0.5, 0.7),
    "sadness":    (-0.7, -0.9, -1.1, -0.5, -0.9, 0.0, -1.0),
    "contempt":   (-0.2, 0.0, -0.2, 0.0, 0.0, 0.2, -0.4),
    "surprise":   (1.2, 1.2, 0.5, 0.4, 0.3, 0.0, 0.2),
    "fear":       (1.0, -0.2, 0.2, 0.0, 0.1, 0.4, 0.9),
    "disgust":    (-0.3, 0.0, 0.1, 0.2, 0.2, 0.3, -0.6),
    "calm":       (-0.3, -0.5, -0.7, -0.4, -0.6, -0.2, -0.6),
}  # fmt: skip
AROUSAL: Final = (0.30, 0.15, 0.30, 0.05, 0.25, 0.05, 0.20)
"""Weights of the features in standard deviations; tanh of the sum is the arousal (after Schroeder 2001)."""

ANYBODY: Final = {
    "pitch_oct": (0.75, 0.60), "pitch_range_oct": (0.45, 0.35), "level_db": (-22.0, 1e3), "level_range_db": (12.0, 8.0),
    "tilt_db": (-14.0, 8.0), "roughness": (0.02, 0.02), "rate_hz": (4.6, 1.6),
}  # fmt: skip
"""Mean and standard deviation over people of whom nothing is known: a level says nothing without its microphone."""
OWN: Final = {
    "pitch_oct": 0.22, "pitch_range_oct": 0.25, "level_db": 3.5, "level_range_db": 6.0, "tilt_db": 3.5,
    "roughness": 0.012, "rate_hz": 1.0,
}  # fmt: skip
"""Standard deviation within one speaker, about a mean that is known."""
RELIABILITY: Final = 0.35
"""With the speaker known; listeners agree on acted voices in about half of nine classes, on natural ones in fewer."""
UNKNOWN_SPEAKER: Final = 0.4
"""Factor without."""
_VOICED_S: Final = 0.25
"""Least voiced speech of a window that is judged for itself."""
_SPLIT_HZ: Final = 1000.0
_PHONES_A_SYLLABLE: Final = 2.4
_WINDOW: Final = 512


@dataclass(frozen=True)
class OwnVoice:
    """Means of a speaker's features over several clips, in the order of `FEATURES`; NaN where unknown."""

    means: tuple[float, ...]


@dataclass(frozen=True)
class Frames:
    """A voice every 10 ms."""

    pitch_hz: Float32
    """(M,) NaN where unvoiced."""
    level_db: Float64
    tilt_db: Float64


class VoiceJudge:
    """See `annotate.emotion.base.EmotionClassifier`."""

    name = "voice:prosody-1"

    def __init__(self, own: OwnVoice | None = None) -> None:
        self._own = own

    def judge(self, clip: Performance, windows: Float64, pictures: Pictures | None = None) -> Opinion | None:
        """See the protocol; a window with less than a quarter of a second of voice takes what the whole clip tells."""
        del pictures
        if clip.samples is None or not len(clip.samples):
            return None
        frames = voice_frames(clip.samples)
        if np.isfinite(frames.pitch_hz).sum() * HOP_S < _VOICED_S:
            return None
        phones = np.array([(p.start_us + p.end_us) / 2e6 for p in clip.phones])
        whole = features(frames, phones, 0.0, clip.seconds)
        rows, voiced = [], np.zeros(len(windows))
        for index, (start, end) in enumerate(windows):
            own = np.isfinite(frames.pitch_hz[round(start / HOP_S) : round(end / HOP_S)]).sum() * HOP_S
            voiced[index] = min(1.0, own / _VOICED_S)
            rows.append(features(frames, phones, start, end) if own >= _VOICED_S else whole)
        table = np.array(rows)
        scores = self.scores(table)
        profiles = np.array([PROFILES[name] for name in EMOTIONS])
        known = np.isfinite(scores)
        distance = np.where(known[:, None], scores[:, None] - profiles, 0.0)
        arousal = np.tanh(np.where(known, scores, 0.0) @ np.array(AROUSAL))
        factor = RELIABILITY * (1.0 if self._own else UNKNOWN_SPEAKER)
        named = {f"voice_{name}": table[:, column] for column, name in enumerate(FEATURES)}
        return Opinion(
            source=self.name,
            log_odds=np.asarray(-0.5 * (distance**2).sum(2)).reshape(len(windows), NUM),
            reliability=factor * (0.5 + 0.5 * voiced),
            arousal=np.asarray(arousal),
            features=named,
        )

    def scores(self, table: Float64) -> Float64:
        """(W, 7) features in standard deviations from the speaker's own mean, or from anybody's."""
        scores = np.full(table.shape, np.nan)
        for column, name in enumerate(FEATURES):
            mean, spread = ANYBODY[name]
            if self._own is not None and np.isfinite(self._own.means[column]):
                mean, spread = self._own.means[column], OWN[name]
            scores[:, column] = np.clip((table[:, column] - mean) / spread, -2.5, 2.5)
        return scores


def own_voice(tables: list[NDArray[np.float64]]) -> OwnVoice:
    """A speaker's own voice from the features (F,) of several clips: medians, which a few excited clips do not move."""
    stacked = np.array(tables)
    return OwnVoice(tuple(float(np.nanmedian(c)) if np.isfinite(c).any() else float("nan") for c in stacked.T))


def voice_frames(samples: Float32) -> Frames:
    """Pitch, level and tilt of sound at 16 kHz, frame m about m x 10 ms."""
    pitch = pitch_track(samples)
    hop = round(HOP_S * RATE)
    padded = np.pad(samples.astype(np.float64), (_WINDOW // 2, _WINDOW // 2 + hop))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::hop][: len(pitch)]
    power = np.abs(np.fft.rfft(windows * signal.windows.hann(_WINDOW), axis=1)) ** 2
    split = round(_SPLIT_HZ * _WINDOW / RATE)
    low, high = power[:, 1:split].sum(1), power[:, split:].sum(1)
    level = 10 * np.log10(np.maximum(windows.var(axis=1), 1e-10))
    return Frames(pitch, level, 10 * np.log10(np.maximum(high, 1e-12) / np.maximum(low, 1e-12)))


def features(frames: Frames, phones_s: Float64, start: float, end: float) -> Float64:
    """(7,) of a span in seconds; NaN where there is no voice. `phones_s` (P,) are middles of phones, or none."""
    span = slice(round(start / HOP_S), max(round(end / HOP_S), round(start / HOP_S) + 1))
    pitch = frames.pitch_hz[span].astype(np.float64)
    voiced = np.isfinite(pitch)
    if voiced.sum() < 3:
        return np.full(len(FEATURES), np.nan)
    octaves = np.log2(pitch[voiced] / 100.0)
    level, tilt = frames.level_db[span][voiced], frames.tilt_db[span][voiced]
    steps = np.abs(np.diff(pitch)) / pitch[1:]
    steps = steps[np.isfinite(steps)]
    low, high = np.percentile(octaves, (10, 90))
    quiet, loud = np.percentile(level, (10, 90))
    values = (
        *(float(np.median(octaves)), float(high - low), float(np.median(level)), float(loud - quiet)),
        *(float(np.median(tilt)), float(steps.mean()) if len(steps) else np.nan),
        _rate(frames, phones_s, start, end),
    )
    return np.array(values)


def _rate(frames: Frames, phones_s: Float64, start: float, end: float) -> float:
    """Syllables a second of speech: by phones, or by the humps of the level."""
    span = slice(round(start / HOP_S), round(end / HOP_S))
    level = frames.level_db[span]
    if len(level) < 10:
        return float("nan")
    spoken = level > np.percentile(frames.level_db, 95) - 25
    seconds = max(spoken.sum() * HOP_S, 0.1)
    if len(phones_s):
        return float(((phones_s >= start) & (phones_s < end)).sum() / _PHONES_A_SYLLABLE / seconds)
    smooth = np.convolve(level, signal.windows.hann(9) / signal.windows.hann(9).sum(), mode="same")
    peaks, _ = signal.find_peaks(smooth, prominence=3.0, height=np.percentile(frames.level_db, 95) - 20)
    return float(len(peaks) / seconds)
