"""Events as the JSON values of a stage's result, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.results import Result
from schemas.types import Event

STAGES = ("motion_events", "semantics", "language_model", "emotion")
"""Stages whose results have `events`."""


def event_values(events: Sequence[Event]) -> list[dict[str, Any]]:
    """JSON values of events; an unknown score is None."""
    return [{**vars(event), "score": None if math.isnan(event.score) else event.score} for event in events]


def events_of(results: Mapping[str, Result]) -> tuple[Event, ...]:
    """All events of the stages of a clip, in order of time."""
    found = [
        Event(**{**value, "score": math.nan if value["score"] is None else value["score"]})
        for stage in STAGES
        if stage in results
        for value in results[stage].value["events"]
    ]
    return tuple(sorted(found, key=lambda event: (event.start_us, event.end_us, event.kind, event.label)))
