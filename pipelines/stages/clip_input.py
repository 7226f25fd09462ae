"""What the label stages read of a clip: its face, sound, words and hands as one `annotate.performance.Performance`."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from annotate.performance import Performance
from pipelines.keys import digest_of
from pipelines.stage import ClipItem, Job
from pipelines.stages.body_fit import body_track
from pipelines.stages.fit import head_track
from pipelines.stages.landmarks import landmark_track
from pipelines.stages.source_file import source_file
from pipelines.stages.sync import sound_shift_us
from pipelines.words import cut_spoken
from schemas.config import Config
from schemas.types import Float32, Span, Transcription

if TYPE_CHECKING:
    from reconstruct.models.body_model import BodyModel


def performance_needs(config: Config, sound: bool = True) -> tuple[str, ...]:
    """Stages whose results `performance` reads."""
    needs = ["landmarks", "fit"]
    if config.reconstruct.body:
        needs.append("body_fit")
    if sound and config.sync.enabled and config.sync.correct:
        needs.append("sync")
    return tuple(needs)


def spoken_inputs(item: ClipItem) -> tuple[str, ...]:
    """What a stage's key has of the words about a clip."""
    if item.spoken is None:
        return ()
    return (digest_of([[list(vars(each).values()) for each in part] for part in vars(item.spoken).values()]),)


def performance(job: Job[ClipItem], sound: bool = True, surface: bool = False) -> Performance:
    """The clip as annotators take it; without `sound` the source is not read. Raises decode_error.

    With `surface` the landmarks' embedding is read for the look of the face at rest.
    """
    from pipelines.performance import hands_of, performance_of

    item, config = job.item, job.config
    shift_us = sound_shift_us({name: result.value for name, result in job.results.items()})
    start, end = item.span
    hands = None
    if "body_fit" in job.results:
        hands = hands_of(_body(config.reconstruct.body_model), body_track(job.results))
    spoken = clip_words(item, shift_us)
    samples = _samples(job, start + shift_us, end + shift_us) if sound else None
    head, landmarks = head_track(job.results), landmark_track(job.results)
    embedding = job.models.embedding if surface else None
    return performance_of(job.models.head, head, landmarks, end - start, samples, spoken, hands, embedding)


def clip_words(item: ClipItem, shift_us: int) -> Transcription | None:
    """Words and phones inside the clip once its sound is shifted."""
    if item.spoken is None:
        return None
    return cut_spoken(item.spoken, Span(item.span[0] + shift_us, item.span[1] + shift_us))[0]


def _samples(job: Job[ClipItem], start_us: int, end_us: int) -> Float32 | None:
    from annotate.audio import read_audio
    from pipelines.decoding import guarded

    if job.item.info.audio_rate is None:
        return None
    with source_file(job) as path:
        return guarded(path, job.config.run.decode, read_audio, start_us, end_us)


@functools.lru_cache(maxsize=1)
def _body(name: str) -> BodyModel:
    from reconstruct.models.registry import load_body

    return load_body(name)
