"""What a clip sounds and moves like, by which copies are found."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.results import Result
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.landmarks import landmark_track
from pipelines.stages.source_file import source_file
from schemas.fingerprint import Fingerprint as Print


class Fingerprint(Stage[ClipItem]):
    """Clip: codes of its sound and the motion of its face."""

    name = "fingerprint"
    needs = ("landmarks",)
    outputs = ("codes", "hops")

    def wanted(self, view: View[ClipItem]) -> bool:
        """Unless copies are not looked for."""
        return view.config.duplicates.enabled

    def run(self, job: Job[ClipItem]) -> Result:
        """A `schemas.fingerprint.Fingerprint`; raises decode_error."""
        import numpy as np

        from annotate.audio import read_audio
        from annotate.fingerprint import RATE, sound_codes
        from pipelines.decoding import guarded
        from reconstruct.fingerprint import face_motion

        item, codes = job.item, np.zeros(0, np.uint32)
        if item.info.audio_rate is not None:
            with source_file(job) as path:
                codes = sound_codes(guarded(path, job.config.run.decode, read_audio, *item.span, rate=RATE))
        motion = face_motion(landmark_track(job.results))
        return Result({"codes": len(codes), "hops": len(motion)}, {"sound": codes, "motion": motion})


def fingerprint_of(results: Mapping[str, Result]) -> Print:
    """What the fingerprint stage found."""
    arrays = results["fingerprint"].arrays
    return Print(arrays["sound"], arrays["motion"])
