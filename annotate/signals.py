"""Per-frame signals on an even grid of time: uneven presentation times, holes and frame rates are dealt with once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from schemas.types import Bool, Int64

Float64 = NDArray[np.float64]

HZ: Final = 50.0
"""Of the grid: above twice the fastest movement of a head, lid or lip."""
BRIDGE_S: Final = 0.15
"""Longest hole that is bridged; beyond it the signal is unknown."""


def even(pts_us: Int64, values: ArrayLike, hz: float = HZ) -> tuple[Float64, Float64]:
    """Times (N,) in seconds from the first to the last frame, and the values (N, ...) there.

    Args: values (T, ...), not finite where unknown. Linear between frames; NaN in holes longer than `BRIDGE_S` and
    outside of the known frames.
    """
    table = np.asarray(values, dtype=np.float64)
    seconds = np.asarray(pts_us, dtype=np.float64) / 1e6
    if not len(seconds):
        return np.zeros(0), table
    grid = np.arange(seconds[0], seconds[-1] + 0.5 / hz, 1 / hz)
    flat = table.reshape(len(table), -1)
    known = np.isfinite(flat).all(1)
    out = np.full((len(grid), flat.shape[1]), np.nan)
    if known.any():
        at = seconds[known]
        after = np.clip(np.searchsorted(at, grid), 0, len(at) - 1)
        before = np.clip(after - (at[after] > grid), 0, len(at) - 1)
        inside = (grid >= at[0] - 1e-9) & (grid <= at[-1] + 1e-9) & (at[after] - at[before] <= BRIDGE_S)
        for column in range(flat.shape[1]):
            out[inside, column] = np.interp(grid[inside], at, flat[known, column])
    return grid, out.reshape(len(grid), *table.shape[1:])


def smooth(values: Float64, sigma_s: float, hz: float = HZ) -> Float64:
    """(N, ...) Gaussian mean of what is known around each time; NaN stays NaN."""
    known = np.isfinite(values)
    weight = gaussian_filter1d(known.astype(np.float64), sigma_s * hz, axis=0, mode="nearest")
    total = gaussian_filter1d(np.where(known, values, 0.0), sigma_s * hz, axis=0, mode="nearest")
    return np.where(known, total / np.maximum(weight, 1e-9), np.nan)


def runs(inside: Bool) -> Iterator[tuple[int, int]]:
    """Half-open spans of consecutive true values of (N,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    yield from ((int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True))


def swings(values: Float64, least: float) -> list[tuple[int, int]]:
    """Rises and falls of (N,) finite values by at least `least`, each as (index of its start, index of its end).

    One follows the other: the end of each is the start of the next. Smaller movements back and forth do not break a
    larger one.
    """
    turns: list[int] = []
    low = high = way = 0
    for index, value in enumerate(values.tolist()):
        if way >= 0 and value > values[high]:
            high = index
        if way <= 0 and value < values[low]:
            low = index
        if way >= 0 and values[high] - value >= least:
            turns.append(high)
            low, way = index, -1
        elif way <= 0 and value - values[low] >= least:
            turns.append(low)
            high, way = index, 1
    if way:
        turns.append(high if way > 0 else low)
    return list(itertools.pairwise(turns))
