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
    decided_later = ("enabled",)

    def run(self, job: Job[ClipItem]) -> Result:
        """An mp4."""
        from reconstruct.overlay import render_overlay

        target = job.scratch / "overlay.mp4"
        head, landmarks = head_track(job.results), landmark_track(job.results)
        start_us = job.item.clip.span.start_us
        with source_file(job) as path:
            render_overlay(path, start_us, head, landmarks, job.models.head, target, job.config.overlay)
        return Result({"suffixes": [".mp4"]}, files={".mp4": target})
