"""What a language model says of a clip from its words and numbers, where that is asked for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from pipelines.results import Result
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.clip_input import clip_words, spoken_inputs
from pipelines.stages.event_rows import event_values, events_of
from pipelines.stages.sync import sound_shift_us
from schemas.config import Config
from schemas.label_config import LanguageModelConfig

if TYPE_CHECKING:
    from annotate.language_model.annotator import Annotator


class LanguageModel(Stage[ClipItem]):
    """Clip: a caption of its manner, and suggestions of emotion, relevance and gestures."""

    name = "language_model"
    section = "language_model"
    outputs = ("events", "model", "prompt", "reason", "message")
    decided_later = (
        *("enabled", "key_variable", "timeout_s", "attempts", "requests_per_min", "budget_tokens", "cache"),
    )

    def needed(self, config: Config) -> tuple[str, ...]:
        """The labels that the question tells of, and how far the words are shifted."""
        sync = config.sync.enabled and config.sync.correct
        asked = {"motion_events": config.motion_events.enabled, "style": config.style.enabled, "sync": sync}
        return tuple(name for name, there in asked.items() if there)

    def inputs(self, item: ClipItem) -> tuple[str, ...]:
        """The words."""
        return spoken_inputs(item)

    def wanted(self, view: View[ClipItem]) -> bool:
        """Only where a language model is asked for."""
        return view.config.language_model.enabled

    def run(self, job: Job[ClipItem]) -> Result:
        """Events of the answer, or the reason why there is none, which costs no clip."""
        from annotate.language_model.answer import answer_events
        from annotate.language_model.question import ask_of

        shift_us = sound_shift_us({name: result.value for name, result in job.results.items()})
        spoken = clip_words(job.item, shift_us)
        words = () if spoken is None else spoken.words
        described = job.results["style"].value["descriptors"] if "style" in job.results else {}
        question = ask_of(words, described, events_of(job.results))
        if question is None:
            nothing = "no words and no measurements to ask about"
            return Result({"events": [], "model": None, "prompt": None, "reason": "nothing_to_ask", "message": nothing})
        found = _annotator(job.config.language_model).ask(question)
        events = []
        if found.answer is not None:
            duration_us = job.item.span[1] - job.item.span[0]
            events = answer_events(found.answer, words, duration_us, found.source)
        return Result(
            {
                "events": event_values(events),
                "model": found.model,
                "prompt": found.prompt,
                "reason": found.reason,
                "message": found.message,
            }
        )


@functools.lru_cache(maxsize=1)
def _annotator(config: LanguageModelConfig) -> Annotator:
    """The endpoint, once in a process."""
    from annotate.language_model.annotator import Annotator

    return Annotator(config)
