"""The video and sound of a clip."""

from __future__ import annotations

from pipelines.results import Result
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.source_file import source_file
from pipelines.stages.sync import sound_shift_us
from schemas.config import Config


class Media(Stage[ClipItem]):
    """Clip: its own video and sound."""

    name = "media"
    section = "media"
    outputs = ("suffixes",)
    decided_later = ("enabled",)

    def needed(self, config: Config) -> tuple[str, ...]:
        """The offset of the sound, where it is corrected."""
        return ("sync",) if config.sync.enabled and config.sync.correct else ()

    def wanted(self, view: View[ClipItem]) -> bool:
        """Unless switched off."""
        return view.config.media.enabled

    def run(self, job: Job[ClipItem]) -> Result:
        """An mp4 and, where there is sound, a mono wav at the sound's own rate; sound is shifted as sync says."""
        from annotate.audio import read_audio, write_wav
        from pipelines.decoding import guarded
        from reconstruct.video import cut_video

        item, decode = job.item, job.config.run.decode
        shift_us = sound_shift_us({name: result.value for name, result in job.results.items()})
        start, end = (time + shift_us for time in item.span)
        files = {".mp4": job.scratch / "clip.mp4"}
        with source_file(job) as path:
            guarded(path, decode, cut_video, files[".mp4"], *item.span, job.config.media.crf, shift_us)
            samples = None
            if item.info.audio_rate is not None:
                samples = guarded(path, decode, read_audio, start, end, rate=item.info.audio_rate)
        if samples is not None and item.info.audio_rate is not None:
            files[".wav"] = job.scratch / "clip.wav"
            write_wav(files[".wav"], samples, item.info.audio_rate)
        return Result({"suffixes": sorted(files)}, files=files)
