"""The clips of a source."""

from __future__ import annotations

from pipelines.results import Result
from pipelines.stage import Job, SourceItem, Stage
from pipelines.stages.source_file import source_file


class Segment(Stage[SourceItem]):
    """Source: shots, the dominant face of each, and the clips that come of it."""

    name = "segment"
    section = "segment"
    needs = ("probe",)
    models = ("finder",)

    def run(self, job: Job[SourceItem]) -> Result:
        """Clips and rejected spans. Raises decode_error and truncated."""
        from pipelines.decoding import GuardedReader
        from pipelines.segment import segment_source

        item, finder, config = job.item, job.models.finder, job.config.segment
        with source_file(job) as path, GuardedReader(path, job.config.run.decode) as reader:
            return Result(segment_source(reader, item.sha256, item.source_id, item.span, finder, config))
