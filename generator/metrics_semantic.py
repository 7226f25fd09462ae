"""Metrics of gesture generation that weigh frames by meaning: SRGR in its published forms, one name, one definition.

All take float arrays (T, J, 3) of joint positions (metres) or rotations of the truth and of the prediction at the same
frames, and (T,) semantic scores; `semantic_track` makes the scores of our `semantic` events. Everything is computed in
float64. Every function raises UsageError for arrays of another or unequal shape, without frames, or with values that
are not finite, and for negative scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError

Float64 = NDArray[np.float64]
Joints = NDArray[np.floating[Any]]

BEAT_MEAN: Final = 0.165
"""Mean semantic score of BEAT's test set, which BEAT's code divides by whatever the data."""


def srgr(
    truth: Joints, prediction: Joints, semantic: Joints, delta: float = 0.3, norm: str = "l2", mean: float | None = None
) -> float:
    """Semantic-relevant gesture recall: sum_{t,j} 1[|p - t|_{t,j} < delta] s_t / (mean(s) T J).

    1 where every joint of every frame that has meaning is recalled. `mean` is the mean semantic score of the whole data
    set; that of the given frames by default. norm: "l2" or "l1" over the three coordinates. delta in the unit of the
    joints. After Liu et al. 2022 (BEAT), with the normalisation that the text asks for. Head and body rotation are as
    given. Raises UsageError also for a data set without meaning (mean 0).
    """
    success, scores = _recalled(truth, prediction, semantic, delta, norm)
    usual = float(scores.mean()) if mean is None else mean
    if usual <= 0:
        raise UsageError("the mean semantic score is 0, so there is nothing to recall", "Give clips with meaning")
    return float((success * scores[:, None]).sum() / (usual * success.size))


def srgr_beat2022(truth: Joints, prediction: Joints, semantic: Joints, delta: float = 0.1) -> float:
    """SRGR as BEAT's code computes it: L1 distance, delta 0.1, divided by the constant 0.165 whatever the data.

    On data with another mean score it is not between 0 and 1. EMAGE uses the same code with delta 0.3.
    """
    success, scores = _recalled(truth, prediction, semantic, delta, "l1")
    return float((success * scores[:, None]).sum() / (BEAT_MEAN * success.size))


def semantic_track(
    rows: Iterable[Mapping[str, Any]], pts_us: NDArray[np.integer[Any]], clip_id: str | None = None
) -> Float64:
    """(T,) semantic score 0..1 at each presentation time: that of the word which is spoken, 0 between words.

    Args: rows of the events table (kind, start_us, end_us, score; clip_id where several clips are in it).
    """
    times = np.asarray(pts_us, dtype=np.int64)
    track = np.zeros(len(times))
    for row in rows:
        if row["kind"] != "semantic" or (clip_id is not None and row["clip_id"] != clip_id):
            continue
        inside = (times >= row["start_us"]) & (times < row["end_us"])
        track[inside] = np.maximum(track[inside], float(row["score"] or 0.0))
    return track


def _recalled(
    truth: Joints, prediction: Joints, semantic: Joints, delta: float, norm: str
) -> tuple[NDArray[np.bool_], Float64]:
    """(T, J) whether each joint is recalled, and (T,) scores."""
    true, predicted = (np.asarray(array, dtype=np.float64) for array in (truth, prediction))
    scores = np.asarray(semantic, dtype=np.float64)
    if true.ndim != 3 or true.shape[2] != 3 or 0 in true.shape or true.shape != predicted.shape:
        message = f"truth has shape {true.shape}, prediction {predicted.shape}, expected both (T, J, 3)"
        raise UsageError(message, "Compare the same joints at the same times")
    if scores.shape != (len(true),):
        raise UsageError(f"semantic has shape {scores.shape}, expected ({len(true)},)", "Give one score for each frame")
    if not (np.isfinite(true).all() and np.isfinite(predicted).all() and np.isfinite(scores).all()):
        raise UsageError("joints or scores hold values that are not finite", "Leave out frames that are not valid")
    if (scores < 0).any() or delta <= 0:
        raise UsageError("semantic scores and delta must not be negative", "Give scores from 0 to 1 and delta above 0")
    if norm not in ("l1", "l2"):
        raise UsageError(f"unknown norm {norm!r}", "Known: l1, l2")
    apart = np.abs(predicted - true)
    distance = apart.sum(2) if norm == "l1" else np.sqrt((apart**2).sum(2))
    return distance < delta, scores
