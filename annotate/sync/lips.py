"""The embedded estimator: at which offset the seen lips are best explained by what the voice lets expect of them.

What is expected comes from two witnesses that err independently: the phones that an acoustic model hears, each with the
mouth of its viseme, and the level of the first formant's band, which rises as the jaw falls. For each offset the lips
are a linear function of the expected ones plus noise that drifts, with unknown gains and an unknown level of noise;
both are integrated over (Bayesian linear regression with conjugate priors, e.g. Bishop,
"Pattern Recognition and Machine Learning", 2006, section 3.5). The evidence of all offsets is compared with each other
and with that of lips that have nothing to do with the sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from annotate.align.features import WINDOW
from annotate.expected_lips import CHANNELS, STEP_US, expected_lips
from annotate.sync.base import NOTHING, RATE, Face, SyncEstimate
from schemas.types import Float32

Float64 = NDArray[np.float64]

VERSION: Final = 1
STEP_MS: Final = 10
"""Distance of the offsets that are tried."""
NEAR_MS: Final = 45.0
"""Confidence is the probability of an offset this near: a frame at 25 fps."""
MIN_S: Final = 0.5
"""Less of a face than this says nothing."""

_MARGIN_MS: Final = 100
"""Sound beyond the largest offset, for the smoothing at its edges."""
_LATE_MS: Final = 10.0
"""How late the voice of a recording in sync is found: the mouth opens before it is heard. Two groups of GRID speakers
give 3 and 16 ms."""
_SMOOTH_S: Final = 0.04
"""Standard deviation of the smoothing of what is expected: a jaw does not follow every phone."""
_BAND_HZ: Final = (250.0, 1500.0)
"""Where vowels with an open jaw put their energy."""
_DYNAMIC_RANGE: Final = np.log(1e4)
"""Levels more than 40 dB below the loud ones count as silence, whatever noise or digital zero is there."""
_FFT: Final = 512
_DRIFT_S: Final = 0.5
"""Time after which the noise has forgotten itself: expression and pose move the lips more slowly than speech."""
_BASE_VARIANCE: Final = 100.0
_SHAPE, _SCALE = 2.0, 1.0
"""Inverse gamma prior of the variance of the noise, in variances of the seen lips."""
_TEMPER: Final = 0.3
"""Share of the evidence that counts: opening and width, and neighbouring frames, do not err independently."""


@dataclass(frozen=True)
class _Cue:
    """An expected track that explains a seen one: mean and variance of its gain, both of unit variance."""

    track: Float64
    gain: float
    variance: float


class LipSync:
    """See `annotate.sync.base.SyncEstimator`; nothing but lips, sound and the acoustic model of the aligner.

    `confidence` is the probability that the offset is right within 45 ms, given that it lies within +-`range_ms` and
    that sound and lips had an even chance of belonging together.
    """

    def __init__(self, range_ms: int = 500) -> None:
        self.range_ms = range_ms

    @property
    def name(self) -> str:
        """Backend and version."""
        return f"lips-{VERSION}"

    @property
    def margin_ms(self) -> int:
        """The largest offset and a little."""
        return self.range_ms + _MARGIN_MS

    def estimate(self, face: Face, samples_16k: Float32, start_us: int) -> SyncEstimate:
        """See `annotate.sync.base.SyncEstimator.estimate`; nothing is said of less than half a second of lips."""
        seen = np.isfinite(face.lips).all(axis=1)
        seconds, lips = face.pts_us[seen] / 1e6, face.lips[seen].astype(np.float64)
        heard = len(samples_16k) >= WINDOW and bool(np.ptp(samples_16k) > 0)
        moving = lips.std(axis=0) > 0 if len(lips) else np.zeros(2, np.bool_)
        if not heard or len(seconds) < 3 or seconds[-1] - seconds[0] < MIN_S or not moving.all():
            return NOTHING
        lags = np.arange(-self.range_ms, self.range_ms + STEP_MS, STEP_MS) / 1e3 + _LATE_MS / 1e3
        opening_cues, width_cues = _cues(samples_16k)
        heard_s = np.arange(len(opening_cues[0].track)) * STEP_US / 1e6 + start_us / 1e6
        evidence = np.zeros(len(lags))
        for track, cues in zip(_standard(lips).T, (opening_cues, width_cues), strict=True):
            alone = _log_evidence(track, seconds, np.zeros(1), heard_s, ())[0]
            evidence += _log_evidence(track, seconds, lags, heard_s, cues) - alone
        return _estimate(lags, evidence)


def _cues(samples_16k: Float32) -> tuple[tuple[_Cue, ...], tuple[_Cue, ...]]:
    """What explains opening and width of the lips, every 10 ms from the first sample."""
    lips = expected_lips(samples_16k).astype(np.float64)
    tracks = np.stack(
        [lips[:, CHANNELS.index("opening")], -lips[:, CHANNELS.index("rounding")], _level(samples_16k, len(lips))],
        axis=1,
    )
    opening, width, level = _standard(gaussian_filter1d(tracks, _SMOOTH_S * 1e6 / STEP_US, axis=0)).T
    return (
        (_Cue(opening, 0.5, 0.25), _Cue(level, 0.3, 0.1)),
        (_Cue(width, 0.3, 0.25), _Cue(level, 0.0, 0.1)),
    )


def _level(samples_16k: Float32, count: int) -> Float64:
    """(count,) logarithm of the energy around every 10 ms in the band of the first formant."""
    hop = RATE * STEP_US // 1_000_000
    padded = np.pad(samples_16k, (WINDOW // 2, count * hop + WINDOW - len(samples_16k)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::hop][:count]
    spectrum = np.fft.rfft(windows * np.hamming(WINDOW), _FFT)
    hz = np.arange(_FFT // 2 + 1) * RATE / _FFT
    band = (hz >= _BAND_HZ[0]) & (hz <= _BAND_HZ[1])
    power = np.log((spectrum.real[:, band] ** 2 + spectrum.imag[:, band] ** 2).sum(axis=1) + 1e-12)
    return np.asarray(np.maximum(power, np.percentile(power, 95) - _DYNAMIC_RANGE))


def _standard(tracks: Float64) -> Float64:
    """(N, K) tracks of zero mean and unit variance."""
    return np.asarray((tracks - tracks.mean(axis=0)) / np.maximum(tracks.std(axis=0), 1e-9))


def _log_evidence(seen: Float64, seconds: Float64, lags: Float64, heard_s: Float64, cues: Sequence[_Cue]) -> Float64:
    """(L,) logarithm of the density of a seen track (T,) at each lag, up to a constant of the track."""
    times = seconds + lags[:, np.newaxis]
    rows = [np.interp(times, heard_s, cue.track) for cue in cues]
    design = _whitened(np.stack([*rows, np.ones_like(times)], axis=1), seconds)
    mean = np.array([*(cue.gain for cue in cues), 0.0])
    spread = np.sqrt([*(cue.variance for cue in cues), _BASE_VARIANCE])
    residual = _whitened(seen, seconds) - np.einsum("lkt,k->lt", design, mean)
    scaled = design * spread[:, np.newaxis]
    precision = np.einsum("lkt,ljt->lkj", scaled, scaled) + np.eye(len(mean))
    pull = np.einsum("lkt,lt->lk", scaled, residual)
    explained = np.einsum("lk,lk->l", pull, np.linalg.solve(precision, pull[..., np.newaxis])[..., 0])
    left = np.einsum("lt,lt->l", residual, residual) - explained
    return np.asarray(-0.5 * np.linalg.slogdet(precision)[1] - (_SHAPE + len(seen) / 2) * np.log(_SCALE + 0.5 * left))


def _whitened(values: Float64, seconds: Float64) -> Float64:
    """(..., T) values without what drifting noise (an Ornstein-Uhlenbeck process of unit variance) would predict."""
    kept = np.exp(-np.diff(seconds) / _DRIFT_S)
    fresh = (values[..., 1:] - kept * values[..., :-1]) / np.sqrt(1 - kept**2)
    return np.concatenate([values[..., :1], fresh], axis=-1)


def _estimate(lags: Float64, evidence: Float64) -> SyncEstimate:
    best = int(np.argmax(evidence))
    offset = float(lags[best]) * 1e3 - _LATE_MS
    if 0 < best < len(lags) - 1:  # the top of the parabola through the best and its neighbours
        before, top, after = evidence[best - 1 : best + 2].tolist()
        offset += STEP_MS * 0.5 * (before - after) / min(before - 2 * top + after, -1e-12)
    odds = _TEMPER * evidence
    scale = max(float(odds.max()), 0.0)
    share = np.exp(odds - scale) / len(lags)
    near = share[np.abs(lags * 1e3 - _LATE_MS - offset) <= NEAR_MS].sum()
    return SyncEstimate(offset, float(near / (share.sum() + np.exp(-scale))))
