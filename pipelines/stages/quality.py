"""How good picture and sound of a clip are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines.results import Result
from pipelines.stage import ClipItem, Job, Stage, View
from pipelines.stages.landmarks import landmark_track
from pipelines.stages.source_file import source_file
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.quality import MEASURES
from schemas.types import Int64

Float64 = NDArray[np.float64]

WORST_S: Final = 0.2
"""A picture's measure is as bad as its worst value that lasts this long: one odd frame is no bad clip."""


class Quality(Stage[ClipItem]):
    """Clip: mean and worst value of every measure of picture and sound."""

    name = "quality"
    section = "quality"
    needs = ("landmarks",)
    models = ("head_model", "detector", "embedding")
    outputs = tuple(name for measure in MEASURES for name in (measure.name, measure.worst))

    def settings(self, config: Config) -> str:
        """All of the section only judges."""
        del config
        return ""

    def wanted(self, view: View[ClipItem]) -> bool:
        """Unless switched off."""
        return view.config.quality.enabled

    def run(self, job: Job[ClipItem]) -> Result:
        """Values of all measures; None for what the clip does not have, such as sound. Raises decode_error."""
        with source_file(job) as path:
            pictures = _pictures(job, path)
            sound = _sound(job, path)
        track = landmark_track(job.results)
        value: dict[str, Any] = dict.fromkeys(self.outputs)
        for measure in MEASURES:
            if measure.name in pictures:
                values = pictures[measure.name]
                mean, worst = _mean(values), worst_of(values, track.pts_us, measure.more_is_better)
            else:
                values = sound.get(measure.name, np.zeros(0))
                mean = float(values[0]) if len(values) else None
                worst = None if not len(values) else float(values.min() if measure.more_is_better else values.max())
            value[measure.name], value[measure.worst] = mean, worst
        return Result(value)

    def judge(self, view: View[ClipItem]) -> None:
        """Raise low_quality for the first value beyond its limit."""
        values, limits = view.values[self.name], view.config.quality
        for measure in MEASURES:
            for column, limit in zip((measure.name, measure.worst), measure.limits, strict=True):
                value, allowed = values[column], getattr(limits, limit)
                if value is None or allowed is None:
                    continue
                if value < allowed if measure.more_is_better else value > allowed:
                    unit = "" if measure.unit == "1" else f" {measure.unit}"
                    message = f"{column} is {value:.3g}{unit}, quality.{limit} is {allowed:.3g}{unit}"
                    raise TalksetError("low_quality", message)


def quality_columns(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The index columns of a clip; `values` are by stage."""
    return dict(values.get(Quality.name, {}))


def worst_of(values: Float64, pts_us: Int64, more_is_better: bool) -> float | None:
    """The worst of (T,) values that lasts for `WORST_S`; None where none is known."""
    from scipy.ndimage import maximum_filter1d, minimum_filter1d

    known = np.isfinite(values)
    if not known.any():
        return None
    step = float(np.median(np.diff(pts_us[known]))) if known.sum() > 1 else WORST_S * 1e6
    width = min(max(1, round(WORST_S * 1e6 / step)), int(known.sum()))
    spread = maximum_filter1d if more_is_better else minimum_filter1d
    lasting = spread(values[known], width, mode="nearest")
    return float(lasting.min() if more_is_better else lasting.max())


def _mean(values: Float64) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _pictures(job: Job[ClipItem], path: Path) -> dict[str, Float64]:
    """(T,) values of each measure of the picture; of the bits one for each second, repeated over it."""
    from pipelines.decoding import frames, guarded
    from reconstruct.decode import coded_bits
    from reconstruct.landmark_points import landmark_points
    from reconstruct.quality import picture_quality

    item, decode, track = job.item, job.config.run.decode, landmark_track(job.results)
    points = landmark_points(job.models.head, job.models.embedding).template.numpy().astype(np.float64)
    found = picture_quality(frames(path, *item.span, decode), track, points)
    times, bits = guarded(path, decode, coded_bits, *item.span)
    pixels = item.info.width * item.info.height
    found["bits_per_pixel"] = _bits_per_pixel((times - item.span[0]) / 1e6, bits / pixels, track.pts_us)
    return found


def _bits_per_pixel(seconds: Float64, bits: Float64, pts_us: Int64) -> Float64:
    """(T,) mean bits per pixel and frame of the second that each frame is in."""
    if not len(seconds):
        return np.full(len(pts_us), np.nan)
    last = max(int(pts_us[-1] / 1e6 + 0.5), 1) - 1  # less than half a second belongs to the one before
    sums = np.bincount(np.clip(seconds.astype(np.int64), 0, last), bits, minlength=last + 1)
    own = np.clip(pts_us // 1_000_000, 0, last)
    counts = np.bincount(own, minlength=last + 1)
    return np.asarray((sums / np.maximum(counts, 1))[own])


def _sound(job: Job[ClipItem], path: Path) -> dict[str, Float64]:
    """Values of each measure of the sound, that of the whole clip first."""
    from annotate.audio import read_audio as read_mono
    from annotate.sound_quality import RATE, clipped, sound_quality
    from pipelines.decoding import guarded
    from reconstruct.video import read_audio

    item, decode = job.item, job.config.run.decode
    if item.info.audio_rate is None:
        return {}
    found = sound_quality(guarded(path, decode, read_mono, *item.span, rate=RATE))
    own = guarded(path, decode, read_audio, *item.span)
    return found if own is None else {**found, "clipped": clipped(*own)}
