"""Landmarks of every frame of a clip."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipelines.declarations import Resources
from pipelines.results import Result, pack, unpack
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.source_file import source_file
from pipelines.stages.summary import known_or_none
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.types import LandmarkTrack


class Landmarks(Stage[ClipItem]):
    """Clip: 2D landmarks of every frame."""

    name = "landmarks"
    version = 3
    section = "landmarks"
    models = ("detector",)
    outputs = ("record", "num_frames", "valid_ratio", "detector_jitter_px")
    decided_later = ("min_valid_ratio", "task_path", "weights_path")  # the detector's name carries the files' hashes

    def resources(self, config: Config) -> Resources:
        """The network of face-alignment runs on a GPU where there is one."""
        return Resources(gpus=config.run.gpu_fraction if config.landmarks.backend == "face-alignment" else 0.0)

    def run(self, job: Job[ClipItem]) -> Result:
        """A `LandmarkTrack`, and how much it shakes; raises decode_error."""
        from pipelines.decoding import frames
        from reconstruct.landmarks.topology import topology_of
        from reconstruct.reprojection import landmark_jitter

        item = job.item
        with source_file(job) as path:
            pictures = frames(path, *item.span, job.config.run.decode)
            track = job.models.detector.detect(pictures, item.clip.track, item.info.width, item.info.height)
        if not len(track.valid):
            raise TalksetError("decode_error", f"no frame of {item.path} is inside {item.span} us", "Replace the file")
        packed = pack(track)
        face = track.face_xy[:, topology_of(track.detector).face].astype(np.float64)
        summary = {
            "num_frames": len(track.valid),
            "valid_ratio": float(np.mean(track.valid)),
            "detector_jitter_px": known_or_none(landmark_jitter(face, 1.0, track.valid)),
        }
        return Result({"record": dict(packed.value), **summary}, packed.arrays)

    def judge(self, view: View[ClipItem]) -> None:
        """Raise face_lost."""
        least, ratio = view.config.landmarks.min_valid_ratio, view.values[self.name]["valid_ratio"]
        if ratio < least or ratio == 0:
            message = f"the face is seen in {ratio:.0%} of the frames, landmarks.min_valid_ratio is {least:.0%}"
            raise TalksetError("face_lost", message)


def landmark_track(results: Mapping[str, Result]) -> LandmarkTrack:
    """What the landmarks stage found."""
    result = results["landmarks"]
    return unpack(LandmarkTrack, Result(result.value["record"], result.arrays))
