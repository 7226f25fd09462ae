"""Blinks, nods, shakes, looks away and key motions of a clip."""

from __future__ import annotations

from pipelines.results import Result
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.clip_input import performance, performance_needs, spoken_inputs
from pipelines.stages.event_rows import event_values
from schemas.config import Config


class MotionEvents(Stage[ClipItem]):
    """Clip: events of its motion."""

    name = "motion_events"
    version = 2
    section = "motion_events"
    models = ("head_model",)
    outputs = ("events",)
    decided_later = ("enabled",)

    def needed(self, config: Config) -> tuple[str, ...]:
        """Face, hands, and how far the words are shifted."""
        return performance_needs(config)

    def inputs(self, item: ClipItem) -> tuple[str, ...]:
        """The phones, whose boundaries are key motions."""
        return spoken_inputs(item)

    def wanted(self, view: View[ClipItem]) -> bool:
        """Unless switched off."""
        return view.config.motion_events.enabled

    def run(self, job: Job[ClipItem]) -> Result:
        """The events; kinds whose signal is missing have none."""
        from annotate.motion_events import motion_events

        return Result({"events": event_values(motion_events(performance(job, sound=False)))})
