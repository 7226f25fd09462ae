"""What the frames of a source show: shots, faces, mouths."""

from __future__ import annotations

from pipelines.results import Result
from pipelines.stage import Job, SourceItem, Stage
from pipelines.stages.probe import video_info
from pipelines.stages.source_file import source_file


class Segment(Stage[SourceItem]):
    """Source: shots, every face followed through them, and its mouth; one pass over the frames."""

    name = "segment"
    version = 4
    section = "segment"
    needs = ("probe",)
    models = ("finder", "cuts")
    decided_later = (
        *("shot_backend", "shot_weights_path"),  # the detector's name carries the hash of the weights
        *("dominance", "min_clip_s", "max_clip_s", "require_speech", "min_speech_ratio", "max_pause_s", "border_s"),
    )

    def run(self, job: Job[SourceItem]) -> Result:
        """A `Scan`. Raises decode_error and truncated."""
        from pipelines.decoding import GuardedReader
        from pipelines.segmentation.scan import pack_scan, scan_source

        heard = video_info(job.results["probe"].value).audio_rate is not None
        models = job.models
        mouths = models.mouths if heard else None
        with source_file(job) as path, GuardedReader(path, job.config.run.decode) as reader:
            scan = scan_source(reader, job.item.span, models.finder, mouths, job.config.segment, models.cuts())
            return pack_scan(scan)
