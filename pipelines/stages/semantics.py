"""What a clip's words mean and the gestures that go with them."""

from __future__ import annotations

from pipelines.results import Result
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.clip_input import performance, performance_needs, spoken_inputs
from pipelines.stages.event_rows import event_values
from schemas.config import Config


class Semantics(Stage[ClipItem]):
    """Clip: relevance of its words, gestures, image schemas, sentences."""

    name = "semantics"
    section = "semantics"
    models = ("head_model", "speech")
    outputs = ("events",)
    decided_later = ("enabled",)

    def needed(self, config: Config) -> tuple[str, ...]:
        """Face, hands, and how far the sound is shifted."""
        return performance_needs(config)

    def inputs(self, item: ClipItem) -> tuple[str, ...]:
        """The words, and how they were written."""
        return spoken_inputs(item) if item.spoken is None else (*spoken_inputs(item), item.transcript or "")

    def wanted(self, view: View[ClipItem]) -> bool:
        """Where there are words, or hands that beat."""
        config = view.config
        return config.semantics.enabled and (view.item.spoken is not None or config.reconstruct.body)

    def run(self, job: Job[ClipItem]) -> Result:
        """The events. Raises decode_error."""
        from annotate.semantics.events import semantic_events

        return Result({"events": event_values(semantic_events(performance(job), transcript=job.item.transcript))})
