"""The picture of a fit, for review."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.results import Result
from pipelines.stage import ClipItem, Job, Stage
from pipelines.stages.body_fit import body_track
from pipelines.stages.body_landmarks import body_landmarks
from pipelines.stages.fit import head_track
from pipelines.stages.landmarks import landmark_track
from pipelines.stages.source_file import source_file
from schemas.config import Config

if TYPE_CHECKING:
    from reconstruct.body.layer import BodyLayer


class Overlay(Stage[ClipItem]):
    """Clip: mesh over video, for review."""

    name = "overlay"
    section = "overlay"
    needs = ("landmarks", "fit")
    models = ("head_model",)
    outputs = ("suffixes",)
    decided_later = ("enabled",)

    def needed(self, config: Config) -> tuple[str, ...]:
        """The body too where there is one."""
        return (*self.needs, "body_landmarks", "body_fit") if config.reconstruct.body else self.needs

    def run(self, job: Job[ClipItem]) -> Result:
        """An mp4."""
        from pipelines.decoding import GuardedReader, guarded
        from reconstruct.overlay import draw_overlay, end_of
        from reconstruct.video import read_audio

        item, model, decode, target = job.item, job.models.head, job.config.run.decode, job.scratch / "overlay.mp4"
        head, landmarks = head_track(job.results), landmark_track(job.results)
        start_us = item.clip.span.start_us
        with source_file(job) as path, GuardedReader(path, decode, item.info) as reader:
            sound = guarded(path, decode, read_audio, start_us, end_of(landmarks, start_us, item.info))
            body = _body(job)
            draw_overlay(reader, sound, start_us, head, landmarks, model, target, job.config.overlay, body)
        return Result({"suffixes": [".mp4"]}, files={".mp4": target})


def _body(job: Job[ClipItem]) -> BodyLayer | None:
    """The body of the clip where it was fitted."""
    if "body_fit" not in job.results:
        return None
    from reconstruct.body.layer import BodyLayer
    from reconstruct.models.registry import load_body

    model = load_body(job.config.reconstruct.body_model)
    return BodyLayer.of(model, body_track(job.results), body_landmarks(job.results), head_track(job.results))
