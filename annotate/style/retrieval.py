"""Whether the nearest clip, by style, is one of the same speaker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


def retrieval_top1(
    embeddings: NDArray[np.floating[Any]], owners: Sequence[str], queries: Sequence[int] | None = None
) -> tuple[float, float]:
    """Share of the queries whose nearest neighbour (Euclidean) among all others has the same owner, and chance.

    Args: embeddings (N, D); queries: rows that are asked for, all by default. Chance is the mean share of the same
    owner among the others. NaN without queries.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    asked = np.arange(len(vectors)) if queries is None else np.asarray(queries, dtype=np.int64)
    if not len(asked) or len(vectors) < 2:
        return float("nan"), float("nan")
    apart = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    same = np.array([[one == other for other in owners] for one in owners])
    np.fill_diagonal(same, False)
    hits = same[asked, apart[asked].argmin(axis=1)]
    return float(hits.mean()), float((same[asked].sum(1) / (len(vectors) - 1)).mean())
