"""Streaming count, mean, standard deviation, minimum and maximum of every signal, in float64."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


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
        delta = mean - self.mean
        total = self.count + count
        self.squares += ((values - mean) ** 2).sum(axis=0) + delta**2 * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total
        self.minimum = np.minimum(self.minimum, values.min(axis=0))
        self.maximum = np.maximum(self.maximum, values.max(axis=0))

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


@dataclass
class Statistics:
    """Moments of every signal for each head model, whose coefficients must not be mixed, and totals."""

    signals: dict[str, dict[str, Moments]] = field(default_factory=dict)
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
        """Add the measured values (n, width) of a signal; per-clip signals come as one row."""
        signals = self.signals.setdefault(head_model, {})
        if name not in signals:
            signals[name] = Moments(batch.shape[1])
        signals[name].add(batch)

    def summary(self) -> dict[str, Any]:
        """The content of stats.json: `totals`, and `signals` by head model and column."""
        return {
            "totals": {
                "clips": self.clips,
                "frames": self.frames,
                "valid_frames": self.valid_frames,
                "seconds": self.duration_us / 1e6,
            },
            "signals": {
                model: {name: signals[name].summary() for name in signals}
                for model, signals in sorted(self.signals.items())
            },
        }
