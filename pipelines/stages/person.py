"""What the landmarks of a clip tell of its person."""

from __future__ import annotations

from pipelines.results import Result, pack
from pipelines.stage import ClipItem, Job, Stage
from pipelines.stages.landmarks import landmark_track


class Person(Stage[ClipItem]):
    """Clip: what its landmarks tell of the person in it, where a person is shared by clips (`pipelines.people`)."""

    name = "person"
    section = "fit"
    needs = ("landmarks",)
    models = ("head_model", "detector", "embedding")
    outputs = ("record",)
    decided_later = ("max_nme", "shape_from", "focal_from", "temporal_weight", "neck_after_s", "photometric")

    def run(self, job: Job[ClipItem]) -> Result:
        """An `Evidence`; raises fit_failed."""
        from reconstruct.person import clip_evidence

        models, landmarks = job.models, landmark_track(job.results)
        packed = pack(clip_evidence(models.head, models.embedding, landmarks, job.config.fit, job.item.unit))
        return Result({"record": dict(packed.value)}, packed.arrays)
