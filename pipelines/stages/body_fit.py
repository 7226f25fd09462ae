"""The body of a clip with its hands, fitted in the camera of its head."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pipelines.results import Result, pack, unpack
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.body_landmarks import body_landmarks
from pipelines.stages.fit import head_track
from pipelines.stages.summary import known_or_none
from schemas.config import ReconstructConfig
from schemas.types import BodyTrack

if TYPE_CHECKING:
    from reconstruct.body.fit import BodyFitter
    from reconstruct.body.quality import BodyChecks

SCORES: Final = {
    "residual": "body_residual",
    "penetration": "body_penetration",
    "implausible": "body_implausible",
    "jitter": "body_jitter",
    "left_hand_ratio": "left_hand_ratio",
    "right_hand_ratio": "right_hand_ratio",
}
"""Score of `reconstruct.body.quality.BodyQuality` -> column of the index."""


class BodyFit(Stage[ClipItem]):
    """Clip: SMPL-X-layout parameters, where a body is asked for."""

    name = "body_fit"
    section = "reconstruct"
    needs = ("fit", "body_landmarks")
    models = ("head_model", "body_model", "body_detector", "body_points")
    outputs = ("record", "beyond_limits", *SCORES)
    decided_later = (
        *("body", "max_residual", "max_penetration", "max_implausible", "max_jitter", "min_hand_ratio"),
        *("pose_complexity", "hand_complexity"),
    )

    def wanted(self, view: View[ClipItem]) -> bool:
        """Only where a body is asked for."""
        return view.config.reconstruct.body

    def run(self, job: Job[ClipItem]) -> Result:
        """A `BodyTrack` and its scores; raises body_lost or fit_failed."""
        from reconstruct.body.fit import measured_head
        from reconstruct.body.quality import body_quality

        fitter, landmarks = _fitter(job.config.reconstruct), body_landmarks(job.results)
        head, camera = measured_head(job.models.head, head_track(job.results))
        track = fitter.fit(landmarks, head, camera)
        quality = body_quality(_checks(job.config.reconstruct), landmarks, track)
        packed = pack(track)
        scores: dict[str, Any] = {name: known_or_none(getattr(quality, name)) for name in SCORES}
        value = {"record": dict(packed.value), **scores, "beyond_limits": quality.beyond_limits}
        return Result(value, packed.arrays)

    def judge(self, view: View[ClipItem]) -> None:
        """Raise poor_body."""
        from reconstruct.body.quality import BodyQuality, judge_body

        value = view.values[self.name]
        scores = {name: float("nan") if value[name] is None else value[name] for name in SCORES}
        judge_body(BodyQuality(**scores, beyond_limits=value["beyond_limits"]), view.config.reconstruct)


@functools.lru_cache(maxsize=1)
def _fitter(config: ReconstructConfig) -> BodyFitter:
    """The body model with its landmarks, once in a process."""
    from reconstruct.body.calibrate import points_for
    from reconstruct.body.fit import BodyFitter
    from reconstruct.cache import cache_folder
    from reconstruct.models.registry import load_body

    model = load_body(config.body_model)
    return BodyFitter.of(model, points_for(model, config, cache_folder() / "embeddings"), config)


@functools.lru_cache(maxsize=1)
def _checks(config: ReconstructConfig) -> BodyChecks:
    """What its scores need, once in a process."""
    from reconstruct.body.quality import BodyChecks

    return BodyChecks.of(_fitter(config).model)


def body_track(results: Mapping[str, Result]) -> BodyTrack:
    """What the stage found."""
    result = results[BodyFit.name]
    return unpack(BodyTrack, Result(result.value["record"], result.arrays))


def body_columns(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The index columns of a clip; `values` are by stage. Empty without a body."""
    found = values.get(BodyFit.name, {})
    return {column: found.get(name) for name, column in SCORES.items()} if found else {}
