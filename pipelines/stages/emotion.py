"""What a clip feels like, and what it tells of its speaker's ordinary face and voice."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.keys import digest_of
from pipelines.results import Result, pack, unpack
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.clip_input import performance, performance_needs, spoken_inputs
from pipelines.stages.event_rows import event_values
from pipelines.stages.fit import head_track
from pipelines.stages.landmarks import landmark_track
from pipelines.stages.source_file import source_file
from schemas.config import Config
from schemas.errors import UsageError
from schemas.types import EmotionTrack, Float32, LandmarkTrack, Source

if TYPE_CHECKING:
    from annotate.emotion.base import Pictures
    from annotate.performance import Performance


class OrdinaryStage(Stage[ClipItem]):
    """Clip: medians of its face and voice, from which `pipelines.ordinary` finds what is ordinary for the speaker."""

    name = "ordinary"
    models = ("head_model", "embedding")
    outputs = ("face", "voice")

    def needed(self, config: Config) -> tuple[str, ...]:
        """The face, and how far the sound is shifted."""
        return performance_needs(config)

    def wanted(self, view: View[ClipItem]) -> bool:
        """Where emotions are told of a speaker who is named."""
        config = view.config.emotion
        return config.enabled and config.rest_from == "speaker" and bool(view.item.speaker)

    def run(self, job: Job[ClipItem]) -> Result:
        """52 weights and 7 features of the voice; None without face or sound. Raises decode_error."""
        from annotate.emotion.voice import features, voice_frames

        clip, _ = _measured(job)
        face, voice = None, None
        if clip.weights is not None and np.isfinite(clip.weights).any():
            face = [round(float(value), 5) for value in np.nanmedian(clip.weights, axis=0)]
        if clip.samples is not None and len(clip.samples):
            found = features(voice_frames(clip.samples), np.zeros(0), 0.0, clip.seconds)
            voice = [round(float(value), 5) if math.isfinite(value) else None for value in found]
        return Result({"face": face, "voice": voice})


class EmotionStage(Stage[ClipItem]):
    """Clip: emotion by window, span and clip."""

    name = "emotion"
    section = "emotion"
    models = ("head_model", "embedding", "emotion")
    outputs = ("record", "columns", "events")
    decided_later = ("enabled", "rest_from", "min_clips", "face_network", "voice_network", "classifier")
    # the item carries the speaker, the model's name the files

    def needed(self, config: Config) -> tuple[str, ...]:
        """Face, sound and how far it is shifted."""
        return performance_needs(config)

    def inputs(self, item: ClipItem) -> tuple[str, ...]:
        """The words, and what is ordinary for the speaker."""
        ordinary = () if item.ordinary is None else (digest_of([repr(part) for part in vars(item.ordinary).values()]),)
        return (*spoken_inputs(item), *ordinary)

    def wanted(self, view: View[ClipItem]) -> bool:
        """Unless switched off."""
        return view.config.emotion.enabled

    def run(self, job: Job[ClipItem]) -> Result:
        """An `EmotionTrack`, columns and events; all empty where neither face, voice nor text tells anything."""
        from annotate.emotion import emotion_of
        from annotate.emotion.make import make_judges
        from annotate.emotion.voice import OwnVoice

        clip, identity = _measured(job)
        known, config = job.item.ordinary, job.config.emotion
        rest = None if known is None or known.face is None else np.array(known.face, np.float32)
        own = None if known is None or known.voice is None else OwnVoice(known.voice)
        found = emotion_of(clip, make_judges(config, rest, identity, own), _pictures(job))
        if found is None:
            return Result({"record": None, "columns": {}, "events": []})
        packed = pack(found.track)
        intensity, valence, arousal = found.affect
        columns = {
            "emotion": found.label,
            "emotion_confidence": found.confidence,
            "emotion_intensity": intensity,
            "valence": valence,
            "arousal": arousal,
            "emotion_source": found.source,
        }
        value = {"record": dict(packed.value), "columns": columns, "events": event_values(found.events)}
        return Result(value, packed.arrays)


def emotion_track(results: Mapping[str, Result]) -> EmotionTrack | None:
    """What the emotion stage found, if anything."""
    result = results.get(EmotionStage.name)
    if result is None or result.value["record"] is None:
        return None
    return unpack(EmotionTrack, Result(result.value["record"], result.arrays))


def emotion_columns(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The index columns of a clip; `values` are by stage."""
    return dict(values.get(EmotionStage.name, {}).get("columns", {}))


def given_columns(source: Source) -> tuple[dict[str, Any], str | None]:
    """Columns of the emotion that a source's own labels name, and a warning where they cannot be understood."""
    from annotate.emotion.source_labels import given_emotion

    given = given_emotion(source.labels, source.uri)
    return {"emotion_given": given.emotion, "emotion_given_intensity": given.intensity}, given.warning


def _measured(job: Job[ClipItem]) -> tuple[Performance, Float32 | None]:
    """The clip with weights that are measured from one face in all clips of a speaker, and what its identity looks
    like (52,); of a head model without ARKit's actions the detector's own weights, if it gives them, and None.
    """
    from pipelines.surface import surface_weights
    from reconstruct.models.arkit import ARKIT_NAMES

    clip = performance(job)
    try:
        weights, identity = surface_weights(job.models.head, job.models.embedding, head_track(job.results))
    except UsageError:
        return clip, None
    return dataclasses.replace(clip, names=ARKIT_NAMES, weights=weights), identity


def _pictures(job: Job[ClipItem]) -> Pictures | None:
    """The pixels, where a network looks at them."""
    if job.config.emotion.face_network is None:
        return None
    from annotate.emotion.base import Pictures
    from pipelines.decoding import frames

    def decode() -> Iterable[tuple[int, NDArray[np.uint8]]]:
        with source_file(job) as path:
            yield from frames(path, *job.item.span, job.config.run.decode)

    return Pictures(decode, _boxes(landmark_track(job.results)))


def _boxes(track: LandmarkTrack) -> Float32:
    """(T, 4) left, top, width, height of the landmarks; NaN where not valid."""
    boxes = np.full((len(track.valid), 4), math.nan, np.float32)
    points = track.face_xy[track.valid]
    if len(points):
        low, high = points.min(axis=1), points.max(axis=1)
        boxes[track.valid] = np.concatenate([low, high - low], axis=1)
    return boxes
