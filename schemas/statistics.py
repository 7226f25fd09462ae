"""Streaming moments and quantiles of every signal: what stats.json, the data card and its figures say of the values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.quantiles import RELATIVE_ERROR, QuantileSketch

Float64 = NDArray[np.float64]

QUANTILES: Final = {"q01": 0.01, "q05": 0.05, "q50": 0.5, "q95": 0.95, "q99": 0.99}
"""Quantiles of every signal in stats.json, with their fractions."""
HEAD_ANGLES: Final = ("pitch", "yaw", "roll")


class Moments:
    """Moments of a stream of vectors, merged batch by batch.

    Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    def __init__(self, width: int) -> None:
        self.count = 0
        self.mean: Float64 = np.zeros(width)
        self.squares: Float64 = np.zeros(width)
        """Sum of squared differences from the mean."""
        self.minimum: Float64 = np.full(width, np.inf)
        self.maximum: Float64 = np.full(width, -np.inf)

    def add(self, batch: NDArray[Any]) -> None:
        """Add a batch (n, width); an empty one changes nothing."""
        if batch.shape[1:] != self.mean.shape:
            raise ValueError(f"a batch of shape {batch.shape} does not fit moments of width {len(self.mean)}")
        count = len(batch)
        if count == 0:
            return
        values = batch.astype(np.float64)
        mean = values.mean(axis=0)
        squares = ((values - mean) ** 2).sum(axis=0)
        self._combine(count, mean, squares, values.min(axis=0), values.max(axis=0))

    def merge(self, other: Moments) -> None:
        """Add all vectors of another stream. Raises ValueError for another width."""
        if other.mean.shape != self.mean.shape:
            raise ValueError(f"moments of width {len(other.mean)} do not fit moments of width {len(self.mean)}")
        if other.count:
            self._combine(other.count, other.mean, other.squares, other.minimum, other.maximum)

    def _combine(self, count: int, mean: Float64, squares: Float64, minimum: Float64, maximum: Float64) -> None:
        delta = mean - self.mean
        total = self.count + count
        self.squares += squares + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total
        self.minimum = np.minimum(self.minimum, minimum)
        self.maximum = np.maximum(self.maximum, maximum)

    def summary(self) -> dict[str, Any]:
        """count, and mean, std (population), min, max as one list entry for each dimension."""
        if self.count == 0:
            return {"count": 0, "mean": [], "std": [], "min": [], "max": []}
        return {
            "count": self.count,
            "mean": self.mean.tolist(),
            "std": np.sqrt(self.squares / self.count).tolist(),
            "min": self.minimum.tolist(),
            "max": self.maximum.tolist(),
        }


class SignalStatistics:
    """Moments and quantiles of one signal; what is added must be finite (measured frames only)."""

    def __init__(self, width: int) -> None:
        self.moments = Moments(width)
        self.sketch = QuantileSketch(width)

    def add(self, batch: NDArray[Any]) -> None:
        """Add a batch (n, width). Raises ValueError for another width or values that are not finite."""
        self.sketch.add(batch)
        self.moments.add(batch)

    def merge(self, other: SignalStatistics) -> None:
        """Add all values of another stream. Raises ValueError for another width."""
        self.sketch.merge(other.sketch)
        self.moments.merge(other.moments)

    def summary(self) -> dict[str, Any]:
        """The moments and the `QUANTILES` as lists with one entry for each dimension."""
        known = self.sketch.quantiles(list(QUANTILES.values())).tolist() if self.sketch.count else [[]] * len(QUANTILES)
        return {**self.moments.summary(), **dict(zip(QUANTILES, known, strict=True))}


@dataclass
class Statistics:
    """Every signal for each head model, whose coefficients must not be mixed, and totals."""

    signals: dict[str, dict[str, SignalStatistics]] = field(default_factory=dict)
    """By head model and column."""
    head_angles: dict[str, SignalStatistics] = field(default_factory=dict)
    """By head model, in degrees: what `head_angles_deg` makes of global_pose."""
    clips: int = 0
    frames: int = 0
    valid_frames: int = 0
    duration_us: int = 0

    def add_clip(self, num_frames: int, valid_frames: int, duration_us: int) -> None:
        """Count one accepted clip."""
        self.clips += 1
        self.frames += num_frames
        self.valid_frames += valid_frames
        self.duration_us += duration_us

    def add_signal(self, head_model: str, name: str, batch: NDArray[Any]) -> None:
        """Add the measured values (n, width) of a signal; per-clip signals come as one row.

        Several clips of one head model may come in one batch. Raises ValueError that names the signal for another
        width or values that are not finite.
        """
        signals = self.signals.setdefault(head_model, {})
        if name not in signals:
            signals[name] = SignalStatistics(batch.shape[1])
        try:
            signals[name].add(batch)
        except ValueError as error:
            raise ValueError(f"signal {name} of {head_model}: {error}") from error
        if name == "global_pose":
            angles = self.head_angles.setdefault(head_model, SignalStatistics(len(HEAD_ANGLES)))
            angles.add(head_angles_deg(batch))

    def merge(self, other: Statistics) -> None:
        """Add everything that another part of the data set has counted."""
        for model, signals in other.signals.items():
            mine = self.signals.setdefault(model, {})
            for name, signal in signals.items():
                mine.setdefault(name, SignalStatistics(signal.sketch.width)).merge(signal)
        for model, angles in other.head_angles.items():
            self.head_angles.setdefault(model, SignalStatistics(len(HEAD_ANGLES))).merge(angles)
        self.clips += other.clips
        self.frames += other.frames
        self.valid_frames += other.valid_frames
        self.duration_us += other.duration_us

    def summary(self) -> dict[str, Any]:
        """The content of stats.json: `totals`, `signals` by head model and column, `head_angles_deg` by head model.

        Quantiles are by nearest rank and off by at most `quantile_relative_error` of their magnitude.
        """
        return {
            "totals": {
                "clips": self.clips,
                "frames": self.frames,
                "valid_frames": self.valid_frames,
                "seconds": self.duration_us / 1e6,
            },
            "quantile_relative_error": RELATIVE_ERROR,
            "signals": {
                model: {name: signals[name].summary() for name in signals}
                for model, signals in sorted(self.signals.items())
            },
            "head_angles_deg": {
                model: {"axes": list(HEAD_ANGLES), **angles.summary()}
                for model, angles in sorted(self.head_angles.items())
            },
        }


def head_angles_deg(global_pose: NDArray[Any]) -> Float64:
    """Pitch, yaw and roll (n, 3) in degrees of head rotations (n, 3): axis-angle, model space to camera space.

    All zero: the face looks into the camera, upright. Pitch is positive where it looks up, yaw where it turns to the
    subject's left, roll where it tilts to the subject's right; applied in the order roll, pitch, yaw.
    Source: Rodrigues' formula; the two spaces differ by half a turn about x.
    """
    vectors = np.asarray(global_pose, np.float64)
    angle = np.linalg.norm(vectors, axis=1)
    axis = vectors / np.where(angle > 0, angle, 1)[:, None]
    sine, cosine = np.sin(angle), np.cos(angle)

    def entry(row: int, column: int) -> Float64:
        value = axis[:, row] * axis[:, column] * (1 - cosine)
        if row == column:
            return np.asarray(value + cosine)
        other = 3 - row - column
        sign = -1 if (column - row) % 3 == 1 else 1
        return np.asarray(value + sign * axis[:, other] * sine)

    # Rows 1 and 2 change sign from camera space (y down, z forward) to model axes (y up, z towards the camera).
    pitch = np.arcsin(np.clip(-entry(1, 2), -1, 1))
    yaw = np.arctan2(entry(0, 2), -entry(2, 2))
    roll = np.arctan2(-entry(1, 0), -entry(1, 1))
    degrees: Float64 = np.degrees(np.stack([pitch, yaw, roll], axis=1))
    return degrees
