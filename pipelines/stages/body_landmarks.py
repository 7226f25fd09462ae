"""Body and hands in every frame of a clip."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from pipelines.results import Result, pack, unpack
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.source_file import source_file
from schemas.config import Config, ReconstructConfig
from schemas.errors import TalksetError
from schemas.types import BodyLandmarks as Found

if TYPE_CHECKING:
    from reconstruct.body.detect import BodyDetector


SHOULDERS: Final = (11, 12)
"""Of the 33 points of the pose."""
VISIBLE: Final = 0.5


class BodyLandmarks(Stage[ClipItem]):
    """Clip: 33 points of the pose and 21 of each hand, where a body is asked for."""

    name = "body_landmarks"
    section = "reconstruct"
    models = ("body_detector",)
    outputs = ("record", "body_ratio")

    def wanted(self, view: View[ClipItem]) -> bool:
        """Only where a body is asked for."""
        return view.config.reconstruct.body

    def settings(self, config: Config) -> str:
        """Of the section only the networks count, and those are in the detector's name."""
        del config
        return ""

    def run(self, job: Job[ClipItem]) -> Result:
        """`schemas.types.BodyLandmarks`; raises decode_error."""
        from pipelines.decoding import frames

        item = job.item
        with source_file(job) as path:
            pictures = frames(path, *item.span, job.config.run.decode)
            detector = _detector(job.config.reconstruct)
            found = detector.detect(pictures, item.clip.track, item.info.width, item.info.height)
        if not len(found.valid):
            raise TalksetError("decode_error", f"no frame of {item.path} is inside {item.span} us", "Replace the file")
        packed = pack(found)
        shoulders = np.nan_to_num(found.pose_xyc[:, SHOULDERS, 2]).min(1) >= VISIBLE
        return Result({"record": dict(packed.value), "body_ratio": float(shoulders.mean())}, packed.arrays)

    def judge(self, view: View[ClipItem]) -> None:
        """Raise body_lost where no frame shows both shoulders: nothing tells of the body then."""
        if view.values[self.name]["body_ratio"] == 0:
            raise TalksetError("body_lost", "no frame of the clip shows both shoulders of the face's person")


@functools.lru_cache(maxsize=1)
def _detector(config: ReconstructConfig) -> BodyDetector:
    """The detector of this process."""
    from reconstruct.body.detect import BodyDetector

    return BodyDetector(config)


def body_landmarks(results: Mapping[str, Result]) -> Found:
    """What the stage found."""
    result = results[BodyLandmarks.name]
    return unpack(Found, Result(result.value["record"], result.arrays))
