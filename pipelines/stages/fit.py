"""The head of a clip, fitted to its landmarks and pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from pipelines.keys import person_digest, section_digest
from pipelines.results import Result, pack, unpack
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.landmarks import landmark_track
from pipelines.stages.source_file import source_file
from pipelines.stages.summary import known_or_none, mean_or_none
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.types import HeadTrack, LandmarkTrack


class Fit(Stage[ClipItem]):
    """Clip: head parameters from landmarks, and from pixels where asked for."""

    name = "fit"
    version = 2
    section = "fit"
    needs = ("landmarks",)
    models = ("head_model", "detector", "embedding")
    outputs = ("record", "nme_mean", "nme_p95", "held_out_nme", "uncertainty_mm", "jitter_px", "psnr_db")
    time_limit_s = 7200.0
    decided_later = ("max_nme", "shape_from", "focal_from")  # what they decide is the item's person

    def settings(self, config: Config) -> str:
        """Settings of the pixels count only where pixels do."""
        unread = () if config.fit.photometric.enabled else ("photometric",)
        return section_digest(config, self.section, (*self.decided_later, *unread))

    def inputs(self, item: ClipItem) -> tuple[str, ...]:
        """The person whom other clips have a say in."""
        return () if item.person is None else (person_digest(item.person),)

    def run(self, job: Job[ClipItem]) -> Result:
        """A `HeadTrack` with what is known of its quality; raises fit_failed, and decode_error with pixels."""
        from reconstruct.fit import fit_clip
        from reconstruct.landmarks.topology import topology_of
        from reconstruct.reprojection import landmark_jitter, reprojected

        model, embedding, landmarks = job.models.head, job.models.embedding, landmark_track(job.results)
        config, person = job.config.fit, job.item.person
        head, psnr_db = fit_clip(model, embedding, landmarks, config, person), None
        if config.photometric.enabled:
            head, psnr_db = _refined(job, landmarks, head)
        if person is not None and person.shape is not None:  # the solver keeps it only up to rounding
            head = dataclasses.replace(head, shape=person.shape, focal_px=person.focal_px or head.focal_px)
        if head.held_out_nme is not None and not np.isfinite(head.held_out_nme[head.valid]).all():
            head = dataclasses.replace(head, held_out_nme=None)  # no landmark was held out
        points = reprojected(model, embedding, head)[:, topology_of(landmarks.detector).face]
        packed = pack(head)
        errors = head.nme[head.valid]
        summary = {
            "nme_mean": float(np.mean(errors)),
            "nme_p95": float(np.percentile(errors, 95)),
            "held_out_nme": mean_or_none(head.held_out_nme),
            "uncertainty_mm": mean_or_none(head.uncertainty_mm),
            "jitter_px": known_or_none(landmark_jitter(points, 1.0, head.valid)),
            "psnr_db": psnr_db,
        }
        return Result({"record": dict(packed.value), **summary}, packed.arrays)

    def judge(self, view: View[ClipItem]) -> None:
        """Raise poor_fit."""
        nme, most = view.values[self.name]["nme_mean"], view.config.fit.max_nme
        if not nme <= most:
            message = f"the mean landmark error is {nme:.2%} of the eye distance, fit.max_nme is {most:.2%}"
            raise TalksetError("poor_fit", message)


def head_track(results: Mapping[str, Result]) -> HeadTrack:
    """What the fit stage found."""
    result = results["fit"]
    return unpack(HeadTrack, Result(result.value["record"], result.arrays))


def _refined(job: Job[ClipItem], landmarks: LandmarkTrack, head: HeadTrack) -> tuple[HeadTrack, float | None]:
    """The head refined with the pixels of the clip, and the mean PSNR in dB; None where the pixels told nothing."""
    from pipelines.decoding import frames
    from reconstruct.photometric.refine import refine_clip

    item = job.item
    model, embedding = job.models.head, job.models.embedding
    with source_file(job) as path:
        pictures = (rgb for _, rgb in frames(path, *item.span, job.config.run.decode))
        refined, report = refine_clip(model, embedding, landmarks, head, pictures, job.config.fit, item.person)
    return refined, mean_or_none(report.psnr_after)
