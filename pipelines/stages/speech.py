"""Where somebody speaks in a source, and what its sound asks of lips."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.results import Result
from pipelines.stage import Job, SourceItem, Stage
from pipelines.stages.probe import source_span, video_info
from pipelines.stages.source_file import source_file
from schemas.errors import TalksetError
from schemas.types import Float32, Span

NOT_FATAL = ("no_audio", "decode_error")
"""Reasons for which a source is taken as one without sound."""


class Speech(Stage[SourceItem]):
    """Source: speech, loudness and expected lips of its sound."""

    name = "speech"
    version = 2
    needs = ("probe",)
    models = ("speech",)

    def run(self, job: Job[SourceItem]) -> Result:
        """Spans of speech on the source clock; arrays at 100 Hz from `start_us`, the start of the span.

        `probability` (of speech, every 32 ms), `envelope_db` (RMS of 10 ms against full scale), `lips`
        (`annotate.expected_lips`). Without sound none of them, but the reason.
        """
        from annotate.expected_lips import expected_lips
        from annotate.sound import envelope_db, spooled
        from annotate.speech_activity import speech_probability, speech_spans

        info = video_info(job.results["probe"].value)
        start_us, end_us = source_span(job.item, info)
        if info.audio_rate is None:
            return Result({"reason": "no_audio", "message": "the source carries no sound", "start_us": start_us})
        try:
            sound = spooled(reader_of(job), start_us, end_us, job.scratch / "sound.raw")
        except TalksetError as error:
            if error.reason not in NOT_FATAL:
                raise
            return Result({"reason": error.reason, "message": error.message, "start_us": start_us})
        probability = speech_probability(sound)
        spans = [[s.start_us + start_us, s.end_us + start_us] for s in speech_spans(probability)]
        arrays = {"probability": probability, "envelope_db": envelope_db(sound), "lips": expected_lips(sound)}
        return Result({"reason": None, "message": None, "start_us": start_us, "speech": spans}, arrays)


def reader_of(job: Job[SourceItem]) -> Any:
    """Reads the samples of a span of the source clock at 16 kHz; where they are damaged, nobody speaks."""
    from annotate.audio import read_audio
    from pipelines.decoding import guarded

    def read(start_us: int, end_us: int) -> Float32:
        with source_file(job) as path:
            return guarded(path, job.config.run.decode, read_audio, start_us, end_us, mend=True)

    return read


def heard_speech(value: Mapping[str, Any]) -> tuple[Span, ...] | None:
    """Where somebody speaks, on the source clock; None where the source has no sound."""
    return None if value["reason"] is not None else tuple(Span(*span) for span in value["speech"])
