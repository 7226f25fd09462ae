"""The picture of a fit, for review."""

from __future__ import annotations

from pipelines.results import Result
from pipelines.stage import ClipItem, Job, Stage
from pipelines.stages.fit import head_track
from pipelines.stages.landmarks import landmark_track
from pipelines.stages.source_file import source_file


class Overlay(Stage[ClipItem]):
    """Clip: mesh over video, for review."""

    name = "overlay"
    section = "overlay"
    needs = ("landmarks", "fit")
    models = ("head_model",)
    outputs = ("suffixes",)
    decided_later = ("enabled",)

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
            draw_overlay(reader, sound, start_us, head, landmarks, model, target, job.config.overlay)
        return Result({"suffixes": [".mp4"]}, files={".mp4": target})
