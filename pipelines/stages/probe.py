"""What the container of a source says."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from pipelines.results import Result
from pipelines.stage import Job, SourceItem, Stage
from pipelines.stages.source_file import source_file
from schemas.errors import TalksetError
from schemas.types import VideoInfo


class Probe(Stage[SourceItem]):
    """Source: what its container says."""

    name = "probe"
    outputs = ("fps", "width", "height", "duration_us")

    def run(self, job: Job[SourceItem]) -> Result:
        """`VideoInfo` as JSON. Raises the errors of `pipelines.decoding.probe`, and bad_value."""
        from pipelines.decoding import probe

        item = job.item
        with source_file(job) as path:
            info = probe(path, job.config.run.decode)
        start, end = item.source.start_us, info.video_start_us + info.duration_us
        if start is not None and start >= end:
            message = f"start {start / 1e6:g} s is not inside {item.path}, which ends at {end / 1e6:g} s"
            raise TalksetError("bad_value", message, "Mend start in the manifest")
        return Result({**vars(info), "fps": [info.fps.numerator, info.fps.denominator]})


def video_info(value: Mapping[str, Any]) -> VideoInfo:
    """What the probe stage found."""
    return VideoInfo(**{**value, "fps": Fraction(*value["fps"])})


def source_span(item: SourceItem, info: VideoInfo) -> tuple[int, int]:
    """The asked span within the video, microseconds of the source clock."""
    start, end = item.span
    last = info.video_start_us + info.duration_us
    return max(start or 0, info.video_start_us), min(last if end is None else end, last)
