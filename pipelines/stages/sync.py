"""How far sound and lips of a clip are apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from annotate.sync.base import RATE, Face, SyncEstimate
from pipelines.keys import section_digest
from pipelines.results import Result
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.landmarks import landmark_track
from pipelines.stages.source_file import source_file
from pipelines.stages.summary import known_or_none
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.types import Float32, LandmarkTrack

NOTHING_S: Final = 1.0
"""So short clips of a voice tell nothing."""
LONG_S: Final = 6.0
"""On recordings joined to 6 s the own voice has 0.95 at least, another one 0.2 in the middle, 0.5 in one of seven. Were
3 s long, 11 of 100 clips of 3 s with another voice would pass instead of 42, but one of 16 recordings would not."""


class Sync(Stage[ClipItem]):
    """Clip: offset of sound against lips, and by how much the sound is shifted."""

    name = "sync"
    section = "sync"
    needs = ("landmarks",)
    models = ("sync",)
    outputs = ("offset_ms", "confidence", "applied_ms", "offset_after_ms", "confidence_after")
    decided_later = (
        *("enabled", "max_offset_ms", "min_confidence", "min_long_confidence"),
        "weights_path",  # the model's name has their hash
    )

    def settings(self, config: Config) -> str:
        """What decides on a correction counts only where there may be one."""
        unread = () if config.sync.correct else ("correct_above_ms", "trust")
        return section_digest(config, self.section, (*self.decided_later, *unread))

    def wanted(self, view: View[ClipItem]) -> bool:
        """Unless switched off."""
        return view.config.sync.enabled

    def run(self, job: Job[ClipItem]) -> Result:
        """Offset and confidence before and after any correction; all None without sound. Raises decode_error."""
        item, config = job.item, job.config.sync
        if item.info.audio_rate is None:
            return Result(dict.fromkeys(self.outputs))
        track = landmark_track(job.results)
        with source_file(job) as path:
            first = after = _measured(job, path, track, 0)
            applied_us = 0
            sure = first.confidence >= config.trust
            if config.correct and sure and abs(first.offset_ms) > config.correct_above_ms:
                applied_us = round(first.offset_ms * 1000)
                after = _measured(job, path, track, applied_us)
        return Result(
            {
                "offset_ms": known_or_none(first.offset_ms),
                "confidence": first.confidence,
                "applied_ms": applied_us / 1000,
                "offset_after_ms": known_or_none(after.offset_ms),
                "confidence_after": after.confidence,
            }
        )

    def judge(self, view: View[ClipItem]) -> None:
        """Raise out_of_sync where that is asked for."""
        value, config = view.values[self.name], view.config.sync
        confidence, offset = value["confidence_after"], value["offset_after_ms"]
        if confidence is None:
            return
        least, most = config.min_confidence, config.max_offset_ms
        if least is not None and confidence < least:
            message = f"sound and lips agree with the confidence {confidence:.2f}, sync.min_confidence is {least:g}"
            raise TalksetError("out_of_sync", message)
        seconds = (view.item.span[1] - view.item.span[0]) / 1e6
        needed = needed_confidence(view.config, seconds)
        if offset is not None and confidence < needed:
            message = f"sound and lips of {seconds:.1f} s agree with the confidence {confidence:.2f}, that needs"
            raise TalksetError("out_of_sync", f"{message} {needed:.2f} (sync.min_long_confidence)")
        if most is not None and confidence >= config.trust and offset is not None and abs(offset) > most:
            message = f"the sound is {offset:+.0f} ms after the lips, sync.max_offset_ms is {most:g}"
            raise TalksetError("out_of_sync", message)


def needed_confidence(config: Config, seconds: float) -> float:
    """Least confidence of a clip of that length, where clips are of people who speak."""
    least = config.sync.min_long_confidence
    if least is None or config.sync.backend != "lips" or not config.segment.require_speech:
        return 0.0
    return least * min(1.0, max(0.0, (seconds - NOTHING_S) / (LONG_S - NOTHING_S)))


def sound_shift_us(values: Mapping[str, Mapping[str, Any]]) -> int:
    """By how much later than the clip its sound is taken from the source, microseconds; `values` are by stage."""
    return round(1000 * (values.get("sync", {}).get("applied_ms") or 0.0))


def _measured(job: Job[ClipItem], path: Path, track: LandmarkTrack, shift_us: int) -> SyncEstimate:
    """The offset of the sound once it is taken from the source `shift_us` later than the clip."""
    from annotate.audio import read_audio
    from pipelines.decoding import guarded
    from reconstruct.landmarks.lips import lip_shape

    estimator, span, decode = job.models.sync, job.item.span, job.config.run.decode
    margin_us = estimator.margin_ms * 1000
    start, end = span[0] + shift_us - margin_us, span[1] + shift_us + margin_us
    samples = guarded(path, decode, read_audio, start, end, rate=RATE)

    def frames() -> Any:
        from pipelines.decoding import frames

        return frames(path, *span, decode)

    return estimator.estimate(Face(track.pts_us, lip_shape(track), _boxes(track), frames), samples, -margin_us)


def _boxes(track: LandmarkTrack) -> Float32:
    """(T, 4) left, top, width, height of the landmarks; NaN where not valid."""
    boxes = np.full((len(track.valid), 4), math.nan, np.float32)
    points = track.face_xy[track.valid]
    if len(points):
        low, high = points.min(axis=1), points.max(axis=1)
        boxes[track.valid] = np.concatenate([low, high - low], axis=1)
    return boxes
