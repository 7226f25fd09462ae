"""What follows from decisions: verdicts, corrections, conflicts, and decisions about another fit."""

from __future__ import annotations

from typing import Any

import pytest

from review.decisions import Decision
from review.plan import make_plan
from schemas.errors import UsageError

NOW = {"c1": "new", "c2": "new", "c3": "new"}


def said(number: int, clip: str, verdict: str | None, reviewer: str = "a", **more: Any) -> Decision:
    time = f"2026-01-01T00:00:{number:02d}.000000+00:00"
    values = {"content_sha256": "new", "time": time, "decision_id": str(number), **more}
    return Decision(clip_id=clip, reviewer=reviewer, verdict=verdict, **values)


def test_only_what_was_said_of_this_content_counts() -> None:
    decisions = [
        said(0, "c1", "reject", content_sha256="old"),
        said(1, "c2", "reject", content_sha256="old"),
        said(2, "c2", "accept", "b"),
        said(3, "gone", "accept"),
    ]
    plan = make_plan(decisions, NOW.get)
    assert plan.verdicts == {"c2": "accept"}
    assert plan.stale == ("c1",)
    assert plan.unknown == ("gone",)


def test_conflicts_are_dropped_kept_or_stop() -> None:
    plan = make_plan([said(0, "c1", "accept"), said(1, "c1", "reject", "b"), said(2, "c2", "reject")], NOW.get)
    assert plan.conflicting == {"c1": {"a": "accept", "b": "reject"}}
    assert plan.dropped("drop", False) == {"c1", "c2"}
    assert plan.dropped("keep", False) == {"c2"}
    assert plan.dropped("keep", True) == set()
    with pytest.raises(UsageError, match="disagree about 1"):
        plan.dropped("stop", False)
    with pytest.raises(UsageError):
        plan.dropped("guess", False)


def test_the_latest_correction_counts_and_others_are_listed() -> None:
    decisions = [
        said(0, "c1", "accept", corrections={"emotion": "sad", "transcript": "one"}),
        said(1, "c1", "skip", "b", corrections={"emotion": "happy"}),
    ]
    plan = make_plan(decisions, NOW.get)
    assert plan.corrections == {"c1": {"emotion": "happy", "transcript": "one"}}
    assert plan.disputed == {"c1": {"emotion": {"a": "sad", "b": "happy"}}}
    assert plan.verdicts == {"c1": "accept"}
