"""Who speaks, without trained weights of faces: what each mouth does against what the sound asks of lips."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.active_speaker.base import Face, Heard
from schemas.types import Float32, Span

Float64 = NDArray[np.float64]

VERSION: Final = 1
STEP_US: Final = 20_000
"""Of the grid on which lips and sound are compared."""
TREND_S: Final = 1.0
"""Hann window whose mean is taken away: expressions and the pauses between words are slower than syllables."""
NOISE_S: Final = 0.08
"""Hann window of the smoothing: faster than that is noise of the landmarks."""
WINDOW_S: Final = 1.5
"""Hann window of a score: 5 to 8 syllables. It tells 97 of 100 pairs of voices apart, one of 1 s 96, one of 3 s all;
but turns of a talk are as short."""
CLOSED: Final = 0.03
"""Gap of the inner lips, over the distance of the eye corners, that counts as hardly open."""
LEAST_MOTION: Final = 0.012
"""Motion of the lips, over that distance, below which a mouth counts as still: speech moves them by 0.02 and more."""
LEAST_MOTION_PX: Final = 0.35
"""The same in pixels: noise of the landmarks."""
MATCHING, OTHER, SPREAD = 0.78, 0.0, 0.30
"""Mean score of the own and of another voice in one window, and the standard deviation of both: of 19 recordings and
synthetic talkers with every one of their voices."""
MOST: Final = 6.0
"""No window is surer than this."""
OFFSET_PRIOR_MS: Final = 150.0
"""Sound and picture are mostly within this of each other: so many ms of offset cost one unit of evidence."""
USUAL_OFFSET_MS: Final = 60.0
CROWD_COST, CROWD_PRIOR_MS = 5.0, 100.0
"""Where faces are seen together, an offset of more than the usual costs the first, and one more for each of the second:
of several wrong mouths one fits a voice by chance at some offset."""


@dataclass(frozen=True)
class _Lips:
    """A face on the grid."""

    first: int
    shown: Float64
    """(4, n) inner gap, outer gap, closure, roundness; trend taken away; zero where the face was lost."""
    seen: NDArray[np.bool_]
    """(n,)"""
    floor: Float64
    """(4,) motion below which each counts as still."""


class LipJudge:
    """Correlates four channels of each mouth with the expected lips and turns the sum into log odds.

    Each score is the mean of the correlations of inner and outer gap with the expected opening, of closed lips with the
    expected closure, and of the mouth's narrowness with the expected rounding, in a window of 1.5 s. The offset of
    sound and picture is found first, one for the source, as that at which the best face of each shot fits best.
    """

    crop_px: int | None = None

    def __init__(self, max_offset_ms: float = 500.0) -> None:
        self._max_offset_ms = max_offset_ms
        self.name = f"lips+{VERSION}"

    def log_odds(self, faces: Sequence[Face], heard: Heard) -> list[Float32]:
        """See `ActiveSpeaker.log_odds`."""
        scores, _ = self.scores(faces, heard)
        return [log_odds_of(score) for score in scores]

    def scores(self, faces: Sequence[Face], heard: Heard) -> tuple[list[Float32], float]:
        """For each face (M,) scores, about -1..1, and the offset of the source in ms (positive: sound comes late)."""
        asked = expected_on_grid(heard.lips)
        spoken = speech_on_grid(heard.speech, asked.shape[1])
        lips = [on_grid(face, asked.shape[1]) for face in faces]
        steps = round(self._max_offset_ms * 1000 / STEP_US)
        shift = self._offset(lips, asked, spoken, steps, _any_together(faces))
        found = []
        for face, lip in zip(faces, lips, strict=True):
            course = _windowed(lip, asked, shift)
            at = np.arange(len(course)) + lip.first
            found.append(np.asarray(np.interp(face.pts_us / STEP_US, at, course), np.float32))
        return found, shift * STEP_US / 1000

    def _offset(
        self, lips: Sequence[_Lips], asked: Float64, spoken: NDArray[np.bool_], steps: int, together: bool
    ) -> int:
        """Grid steps by which the sound is late."""
        shifts = np.arange(-steps, steps + 1)
        total = np.array([sum(_evidence(lip, asked, spoken, int(shift)) for lip in lips) for shift in shifts])
        late_ms = np.abs(shifts) * STEP_US / 1000
        cost = np.where(late_ms > USUAL_OFFSET_MS, CROWD_COST + late_ms / CROWD_PRIOR_MS, 0.0)
        return int(shifts[np.argmax(total - (cost if together else late_ms / OFFSET_PRIOR_MS))])


def _any_together(faces: Sequence[Face]) -> bool:
    """Whether two faces are seen at one time."""
    spans = sorted((int(face.pts_us[0]), int(face.pts_us[-1])) for face in faces if len(face.pts_us))
    return any(later[0] < earlier[1] for earlier, later in itertools.pairwise(spans))


def log_odds_of(scores: Float32) -> Float32:
    """Log odds of own against another voice, of scores that are normal with one spread around two means."""
    middle, gain = (MATCHING + OTHER) / 2, (MATCHING - OTHER) / SPREAD**2
    return np.asarray(np.clip(gain * (scores - middle), -MOST, MOST), np.float32)


def expected_on_grid(lips: Float32) -> Float64:
    """(4, n) what the sound asks of the channels of `on_grid`, trend taken away, of (N, 3) expected lips at 100 Hz."""
    times = np.arange(len(lips)) * 10_000
    grid = np.arange(0, max(1, len(lips) * 10_000 // STEP_US)) * STEP_US
    opening, rounding, closure = (np.interp(grid, times, lips[:, c]) for c in range(3))
    whole = np.ones(len(grid), np.bool_)
    return np.stack([_band(values, whole) for values in (opening, opening, closure, rounding)])


def speech_on_grid(speech: Sequence[Span], count: int) -> NDArray[np.bool_]:
    """(n,) where somebody speaks."""
    spoken = np.zeros(count, np.bool_)
    for span in speech:
        spoken[span.start_us // STEP_US : -(-span.end_us // STEP_US)] = True
    return spoken


def on_grid(face: Face, count: int) -> _Lips:
    """A mouth on the grid of the sound, from its first to its last reading."""
    first = int(np.clip(face.pts_us[0] // STEP_US, 0, count - 1)) if len(face.pts_us) else 0
    last = int(np.clip(face.pts_us[-1] // STEP_US, first, count - 1)) if len(face.pts_us) else 0
    good = np.isfinite(face.mouth).all(axis=1) if len(face.mouth) else np.zeros(0, np.bool_)
    grid = np.arange(first, last + 1) * STEP_US
    if good.sum() < 2:
        empty = np.zeros((4, len(grid)))
        return _Lips(first, empty, np.zeros(len(grid), np.bool_), np.full(4, LEAST_MOTION))
    times, mouth = face.pts_us[good], face.mouth[good].astype(np.float64)
    after = np.clip(np.searchsorted(times, grid), 1, len(times) - 1)
    gap = np.minimum(np.abs(grid - times[after - 1]), np.abs(grid - times[after]))
    seen = gap <= max(60_000, 1.5 * float(np.median(np.diff(times))))
    scale = np.median(mouth[:, 3])
    # The distance of the eyes shakes more than the mouth is wide or narrow: its slow course is what counts.
    steady = mouth[:, :3] * (mouth[:, 3] / _smooth(mouth[:, 3], 12))[:, np.newaxis]
    inner, width, outer = (np.interp(grid, times, steady[:, c]) for c in range(3))
    shown = np.stack([_band(v, seen) for v in (inner, outer, np.exp(-inner / CLOSED), -width)])
    still = max(LEAST_MOTION, LEAST_MOTION_PX / float(scale))
    return _Lips(first, shown, seen, np.array([still, still, still / CLOSED / 2, still]))


def _windowed(lip: _Lips, asked: Float64, shift: int) -> Float64:
    """(n,) scores of windows around each step of the grid of a face."""
    own = _shifted(asked, lip.first + shift, lip.shown.shape[1])
    window = np.hanning(round(WINDOW_S * 1e6 / STEP_US) | 1)
    weight = np.maximum(_same(lip.seen.astype(np.float64), window), 1e-9)
    total = np.zeros(len(lip.seen))
    for x, y, floor in zip(own, lip.shown, lip.floor, strict=True):
        x = np.where(lip.seen, x, 0.0)
        xy, xx, yy = (_same(values, window) / weight for values in (x * y, x * x, y * y))
        total += xy / np.sqrt((xx + 1e-4) * (yy + floor**2))
    return total / len(own) * 2


def _evidence(lip: _Lips, asked: Float64, spoken: NDArray[np.bool_], shift: int) -> float:
    """Summed log odds, one for each second, of the part of a face in which somebody speaks, where they favour it."""
    score = _windowed(lip, asked, shift)
    part = _shifted(spoken[np.newaxis].astype(np.float64), lip.first + shift, len(score))[0] > 0
    odds = log_odds_of(np.asarray(score[part & lip.seen], np.float32))
    return float(np.maximum(odds, 0.0).sum()) * STEP_US / 1e6


def _shifted(rows: Float64, first: int, count: int) -> Float64:
    """Columns first .. first + count - 1, zero outside."""
    result = np.zeros((len(rows), count))
    low, high = max(0, -first), min(count, rows.shape[1] - first)
    if high > low:
        result[:, low:high] = rows[:, low + first : high + first]
    return result


def _band(values: Float64, seen: NDArray[np.bool_]) -> Float64:
    """Values without their trend and noise; zero where nothing was seen."""
    trend, noise = (np.hanning((round(s * 1e6 / STEP_US) + 1) | 1) for s in (TREND_S, NOISE_S))
    return np.where(seen, _mean(values - _mean(values, seen, trend), seen, noise), 0.0)


def _mean(values: Float64, seen: NDArray[np.bool_], window: Float64) -> Float64:
    """Weighted mean of what is seen around each place."""
    weight = _same(seen.astype(np.float64), window)
    return np.asarray(_same(np.where(seen, values, 0.0), window) / np.maximum(weight, 1e-9))


def _same(values: Float64, window: Float64) -> Float64:
    """Convolution as long as the values, however long the window."""
    full = np.convolve(values, window)
    begin = (len(window) - 1) // 2
    return np.asarray(full[begin : begin + len(values)])


def _smooth(values: Float64, half: int) -> Float64:
    """Mean over 2 half + 1 values."""
    padded = np.pad(values, half, mode="edge")
    return np.convolve(padded, np.full(2 * half + 1, 1 / (2 * half + 1)), "valid")
