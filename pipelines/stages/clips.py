"""The clips of a source."""

from __future__ import annotations

from pipelines.keys import digest_of, section_digest
from pipelines.results import Result
from pipelines.stage import Job, SourceItem, Stage
from schemas.config import Config


class Clips(Stage[SourceItem]):
    """Source: where exactly one visible person speaks; cheap, so that its thresholds may be changed at will."""

    name = "clips"
    version = 2
    needs = ("segment", "speech", "speakers")

    def settings(self, config: Config) -> str:
        """What it reads of `segment` and `speaker`."""
        return digest_of([section_digest(config, "segment"), section_digest(config, "speaker")])

    def run(self, job: Job[SourceItem]) -> Result:
        """Clips with their scores, and rejected spans with their reasons."""
        from pipelines.segmentation.choose import choose_clips, chosen_to_json
        from pipelines.segmentation.scan import unpack_scan
        from pipelines.segmentation.spoken import Voice
        from pipelines.stages.speakers import unpack_odds
        from pipelines.stages.speech import heard_speech
        from pipelines.words import speech_ratio

        item, config = job.item, job.config
        scan, speech = unpack_scan(job.results["segment"]), heard_speech(job.results["speech"].value)
        voice = None
        if speech is not None and config.segment.require_speech:
            voice = Voice(speech, unpack_odds(job.results["speakers"]))
        chosen = choose_clips(item.sha256, item.source_id, scan, voice, config.segment, config.speaker)
        value = chosen_to_json(chosen)
        if speech is not None and voice is None:
            for clip in chosen.clips:
                value["scores"][clip.clip_id]["speech_ratio"] = speech_ratio(job.results["speech"].value, clip.span)
        return Result({**value, "corrupt_packets": scan.corrupt_packets})
