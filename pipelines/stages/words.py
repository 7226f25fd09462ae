"""What is said in a source, and when."""

from __future__ import annotations

from pipelines.declarations import Environment, Resources
from pipelines.results import Result
from pipelines.stage import Job, SourceItem, Stage, View
from pipelines.stages.probe import source_span, video_info
from pipelines.stages.source_file import source_file
from pipelines.words import spoken_words
from schemas.config import Config
from schemas.types import Float32


class Words(Stage[SourceItem]):
    """Source: words and phones of its sound, over the whole span; each clip takes its own from them."""

    name = "words"
    version = 3
    section = "align"
    needs = ("probe",)
    models = ("aligner",)
    time_limit_s = 43_200.0
    decided_later = ("enabled", "recognize", "whisperx")  # the aligner's name carries the models of WhisperX

    def resources(self, config: Config) -> Resources:
        """WhisperX takes a part of a GPU where it is told to run on one."""
        align = config.align
        on_gpu = align.backend == "whisperx" and align.whisperx.device == "cuda"
        return Resources(gpus=config.run.gpu_fraction if on_gpu else 0.0)

    def environment(self, config: Config) -> Environment | None:
        """WhisperX in a Ray runtime environment: its numpy and torch are not ours."""
        from annotate.align.whisperx import IN_RAY

        align = config.align
        if align.backend != "whisperx" or align.whisperx.python != IN_RAY:
            return None
        return Environment((align.whisperx.package,))

    def inputs(self, item: SourceItem) -> tuple[str, ...]:
        """What is said, and in which language."""
        return (item.source.transcript or "", item.source.language or "")

    def wanted(self, view: View[SourceItem]) -> bool:
        """Where there is a transcript, or one may be heard, and a clip to take words from it."""
        align = view.config.align
        said = align.enabled and (align.recognize or bool(view.item.source.transcript))
        return said and bool(view.values["clips"]["clips"])

    def run(self, job: Job[SourceItem]) -> Result:
        """Words and phones on the source clock, or the reason why there are none: that costs no clip."""
        from annotate.audio import read_audio
        from pipelines.decoding import guarded

        item, decode = job.item, job.config.run.decode
        span = source_span(item, video_info(job.results["probe"].value))

        def read(start_us: int, end_us: int) -> Float32:
            with source_file(job) as path:
                return guarded(path, decode, read_audio, start_us, end_us)

        source, aligner = item.source, job.models.aligner
        return Result(spoken_words(read, span, source.transcript, source.language, aligner, job.scratch))
