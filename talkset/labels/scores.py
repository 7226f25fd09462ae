"""Figures of classifiers and scales: calibration, confusion, concordance."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

BINS: Final = 10


def reliability(probabilities: ArrayLike, truth: ArrayLike, bins: int = BINS) -> list[tuple[float, float, int]]:
    """Mean confidence, share of right ones and count of each bin of confidence that is not empty.

    Args: probabilities (N, C); truth (N,) columns. Confidence is the largest probability (Guo et al. 2017).
    """
    table, wanted = np.asarray(probabilities, dtype=np.float64), np.asarray(truth)
    confidence, right = table.max(1), table.argmax(1) == wanted
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    found = []
    for index in range(bins):
        inside = place == index
        if inside.any():
            found.append((float(confidence[inside].mean()), float(right[inside].mean()), int(inside.sum())))
    return found


def ece(probabilities: ArrayLike, truth: ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: mean distance of confidence and share of right ones over bins, by count."""
    found = reliability(probabilities, truth, bins)
    total = sum(count for _, _, count in found)
    return sum(count * abs(confidence - right) for confidence, right, count in found) / total if total else float("nan")


def confusion(truth: ArrayLike, found: ArrayLike, classes: int) -> Int64:
    """(C, C) counts: rows are the truth, columns what was found."""
    table = np.zeros((classes, classes), np.int64)
    np.add.at(table, (np.asarray(truth), np.asarray(found)), 1)
    return table


def ccc(truth: ArrayLike, found: ArrayLike) -> float:
    """Concordance correlation coefficient (Lin 1989); NaN where both are constant or fewer than two are known."""
    one, other = np.asarray(truth, dtype=np.float64), np.asarray(found, dtype=np.float64)
    known = np.isfinite(one) & np.isfinite(other)
    one, other = one[known], other[known]
    if len(one) < 2:
        return float("nan")
    spread = one.var() + other.var() + (one.mean() - other.mean()) ** 2
    return float(2 * ((one - one.mean()) * (other - other.mean())).mean() / spread) if spread > 0 else float("nan")


def macro_f1(table: Int64) -> float:
    """Mean F1 of the classes that occur in the truth."""
    hits = np.diag(table).astype(np.float64)
    total = table.sum(0) + table.sum(1)
    occurs = table.sum(1) > 0
    f1 = np.divide(2 * hits, total, out=np.zeros(len(hits)), where=total > 0)
    return float(f1[occurs].mean()) if occurs.any() else float("nan")
