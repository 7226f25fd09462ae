"""SRGR on values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from generator.metrics_semantic import semantic_track, srgr, srgr_beat2022
from schemas.errors import UsageError

TRUTH = np.zeros((2, 2, 3))
PREDICTION = TRUTH.copy()
PREDICTION[0, 0] = [0.06, 0.06, 0.0]  # l1 0.12, l2 0.0849
PREDICTION[1, 1] = [0.5, 0.0, 0.0]
SCORES = np.array([0.2, 0.6])


def test_golden_values() -> None:
    # within 0.1 by l2: (0, 0), (0, 1), (1, 0); by l1: (0, 1), (1, 0); mean score 0.4; T J = 4
    assert srgr(TRUTH, PREDICTION, SCORES, delta=0.1) == pytest.approx((0.2 + 0.2 + 0.6) / (0.4 * 4))
    assert srgr(TRUTH, PREDICTION, SCORES, delta=0.1, norm="l1") == pytest.approx((0.2 + 0.6) / (0.4 * 4))
    assert srgr(TRUTH, PREDICTION, SCORES, delta=0.1, mean=0.5) == pytest.approx((0.2 + 0.2 + 0.6) / (0.5 * 4))
    assert srgr_beat2022(TRUTH, PREDICTION, SCORES) == pytest.approx((0.2 + 0.6) / (0.165 * 4))
    assert srgr_beat2022(TRUTH, PREDICTION, SCORES, delta=0.3) == pytest.approx((0.2 + 0.2 + 0.6) / (0.165 * 4))


def test_the_truth_itself_is_recalled_and_meaning_weighs() -> None:
    assert srgr(TRUTH, TRUTH, SCORES) == pytest.approx(1.0)
    late = TRUTH.copy()
    late[1] += 1.0
    early = TRUTH.copy()
    early[0] += 1.0
    assert srgr(TRUTH, late, SCORES) < srgr(TRUTH, early, SCORES)


def test_our_events_become_scores_of_frames() -> None:
    rows = [
        {"clip_id": "a", "kind": "semantic", "start_us": 0, "end_us": 80_000, "score": 0.5},
        {"clip_id": "a", "kind": "gesture", "start_us": 0, "end_us": 200_000, "score": 0.9},
        {"clip_id": "b", "kind": "semantic", "start_us": 0, "end_us": 200_000, "score": 1.0},
        {"clip_id": "a", "kind": "semantic", "start_us": 120_000, "end_us": 160_000, "score": 0.25},
    ]
    track = semantic_track(rows, np.arange(5) * 40_000, "a")
    assert track.tolist() == [0.5, 0.5, 0.0, 0.25, 0.0]
    joints = np.random.default_rng(0).normal(size=(5, 55, 3))
    assert srgr(joints, joints, track) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("prediction", "scores", "options"),
    [
        (np.zeros((2, 3, 3)), SCORES, {}),
        (PREDICTION, np.zeros(3), {}),
        (PREDICTION, np.zeros(2), {}),
        (PREDICTION, -SCORES, {}),
        (PREDICTION * np.nan, SCORES, {}),
        (PREDICTION, SCORES, {"norm": "l3"}),
        (PREDICTION, SCORES, {"delta": 0.0}),
    ],
)
def test_what_cannot_be_compared_is_refused(prediction: np.ndarray, scores: np.ndarray, options: dict) -> None:  # type: ignore[type-arg]
    with pytest.raises(UsageError):
        srgr(TRUTH, prediction, scores, **options)
