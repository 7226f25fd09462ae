"""Agreement against worked examples and a second implementation; outcomes, undo and pace."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from review.agreement import agreement, cohen_kappa, conflicts, outcomes, state_before, to_undo, work
from review.decisions import Decision

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def said(clip: str, verdict: str | None, reviewer: str, after_s: float, **more: object) -> Decision:
    time = (START + timedelta(seconds=after_s)).isoformat(timespec="microseconds")
    made = Decision(clip, "ab", reviewer, verdict, time=time, decision_id=f"{clip}{reviewer}{after_s}")
    return replace(made, **more)  # type: ignore[arg-type]


def test_kappa_of_the_textbook_example() -> None:
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.sampled_from("ars"), st.sampled_from("ars")), min_size=1, max_size=60))
def test_kappa_is_that_of_the_confusion_matrix(pairs: list[tuple[str, str]]) -> None:
    matrix = np.zeros((3, 3))
    for one, other in pairs:
        matrix["ars".index(one), "ars".index(other)] += 1
    matrix /= matrix.sum()
    expected = float(matrix.sum(0) @ matrix.sum(1))
    found = cohen_kappa(pairs)
    if expected > 1 - 1e-12:
        assert found is None
    else:
        assert found == pytest.approx((np.trace(matrix) - expected) / (1 - expected))


def test_kappa_of_nothing_is_unknown() -> None:
    assert cohen_kappa([]) is None
    assert cohen_kappa([("a", "a")] * 9) is None
    assert cohen_kappa([("a", "a"), ("b", "b")]) == 1


def test_two_looks_at_the_same_content_are_compared_and_skips_are_not() -> None:
    decisions = [
        said("c1", "accept", "a", 0),
        said("c1", "accept", "b", 1),
        said("c2", "reject", "a", 2),
        said("c2", "accept", "a", 3, round=2),
        said("c3", "skip", "a", 4),
        said("c3", "accept", "b", 5),
        said("c4", "accept", "a", 6, content_sha256="other"),
        said("c4", "accept", "b", 7),
    ]
    found = agreement(decisions)
    assert (found.clips, found.same) == (2, 1)


def test_outcomes_and_conflicts() -> None:
    decisions = [
        said("c1", "accept", "a", 0),
        said("c1", "reject", "b", 1),
        said("c2", "skip", "a", 2),
        said("c2", "reject", "b", 3),
        said("c3", "reject", "a", 4),
        said("c3", None, "a", 5),
    ]
    assert outcomes(decisions) == {"c1": "conflict", "c2": "reject"}
    assert conflicts(decisions) == {"c1": {"a": "accept", "b": "reject"}}


def test_undo_goes_back_one_by_one() -> None:
    first, second = said("c1", "accept", "a", 0), said("c1", "reject", "a", 1)
    third = said("c2", "skip", "a", 2)
    other = said("c9", "accept", "b", 3)
    decisions = [first, second, third, other]
    assert to_undo(decisions, "a") == third
    assert state_before(decisions, third) is None
    decisions.append(said("c2", None, "a", 4, undoes=third.decision_id))
    assert to_undo(decisions, "a") == second
    assert state_before(decisions, second) == first
    decisions.append(replace(first, decision_id="back", undoes=second.decision_id, time=said("", None, "", 5).time))
    assert to_undo(decisions, "a") == first
    assert state_before(decisions, first) is None
    assert outcomes(decisions)["c1"] == "accept"


def test_the_pace_leaves_pauses_out() -> None:
    times = [0, 10, 20, 30, 3000, 3010]
    decisions = [said(f"c{number}", "accept", "a", time) for number, time in enumerate(times)]
    done = work(decisions, "a")
    assert done["clips_per_hour"] == pytest.approx(360)
    assert done["decided"] == 6
    assert work(decisions[:2], "a")["clips_per_hour"] is None
    assert work(decisions, "b")["decided"] == 0
