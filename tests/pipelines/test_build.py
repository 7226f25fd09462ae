"""What the clip stages store besides their tracks, and what is part of the key of a fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from talking_clips import people, write_clip

from pipelines.build import CLIP_STAGES, stages_named
from pipelines.results import Result
from pipelines.segmentation.choose import choose_clips
from pipelines.segmentation.faces import FaceFinder
from pipelines.segmentation.scan import scan_source
from pipelines.stage import ClipItem, Job, Models, key_of
from pipelines.stages.fit import head_track
from pipelines.stages.landmarks import landmark_track
from reconstruct.fitting.problem import Known
from reconstruct.landmarks.topology import FACE
from reconstruct.video import Reader, probe
from schemas.config import Config, load_config
from schemas.types import Clip, FaceTrack, Span, VideoInfo

FRAMES = 10
QUICK = [
    *("segment.min_clip_s=0.2", "landmarks.confidence=none", "fit.iterations=4", "fit.key_frames=4"),
    *("fit.photometric.size_px=96", "fit.photometric.iterations=2", "fit.photometric.key_frames=3"),
]
LANDMARKS, FIT = stages_named(CLIP_STAGES)[:2]


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> ClipItem:
    path = write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", people()[0][:FRAMES])
    settings = load_config(None, QUICK)
    with FaceFinder(settings.segment) as finder:
        scan = scan_source(Reader(path), (None, None), finder, None, settings.segment)
    [clip] = choose_clips("ab" * 32, "ab", scan, None, settings.segment, settings.speaker).clips
    return ClipItem(clip, path, "ab" * 32, probe(path))


@pytest.fixture(scope="module")
def seen(item: ClipItem) -> Result:
    return LANDMARKS.run(job(item, load_config(None, QUICK), {}))


def job(item: ClipItem, config: Config, results: Mapping[str, Result]) -> Job[ClipItem]:
    return Job(item, config, {}, results, Models(config), Path("nowhere"))


def naive_jitter(points: np.ndarray[Any, Any]) -> float:
    squares = [
        float(((points[t + 1, i] - 2 * points[t, i] + points[t - 1, i]) ** 2).sum())
        for t in range(1, len(points) - 1)
        for i in FACE
    ]
    return float(np.sqrt(np.mean(squares)))


def test_landmarks_say_how_much_they_shake(seen: Result) -> None:
    track = landmark_track({"landmarks": seen})
    assert track.valid.all()
    assert seen.value["detector_jitter_px"] == pytest.approx(naive_jitter(track.face_xy.astype(np.float64)))


def test_a_fit_says_how_good_it_is(item: ClipItem, seen: Result) -> None:
    result = FIT.run(job(item, load_config(None, QUICK), {"landmarks": seen}))
    head = head_track({"fit": result})
    assert head.held_out_nme is not None
    assert head.uncertainty_mm is not None
    assert result.value["held_out_nme"] == pytest.approx(float(head.held_out_nme.mean()))
    assert result.value["uncertainty_mm"] == pytest.approx(float(head.uncertainty_mm.mean()))
    assert 0 < result.value["jitter_px"] < seen.value["detector_jitter_px"]
    assert result.value["psnr_db"] is None


def test_without_held_out_landmarks_nothing_is_said_of_them(item: ClipItem, seen: Result) -> None:
    result = FIT.run(job(item, load_config(None, [*QUICK, "fit.hold_out=0"]), {"landmarks": seen}))
    assert head_track({"fit": result}).held_out_nme is None
    assert result.value["held_out_nme"] is None


def test_pixels_refine_the_fit_where_asked_for(item: ClipItem, seen: Result) -> None:
    plain = head_track({"fit": FIT.run(job(item, load_config(None, QUICK), {"landmarks": seen}))})
    with_pixels = load_config(None, [*QUICK, "fit.photometric.enabled=true"])
    result = FIT.run(job(item, with_pixels, {"landmarks": seen}))
    assert 15 < result.value["psnr_db"] < 60
    refined = head_track({"fit": result})
    assert not np.array_equal(refined.shape, plain.shape)
    known = dataclasses.replace(item, person=Known(plain.shape, plain.focal_px))
    given = head_track({"fit": FIT.run(job(known, with_pixels, {"landmarks": seen}))})
    np.testing.assert_array_equal(given.shape, plain.shape)
    assert given.focal_px == plain.focal_px
    assert given.nme.mean() < 0.03


def plain_item() -> ClipItem:
    track = FaceTrack(np.zeros(1, np.int64), np.zeros((1, 4), np.float32))
    info = VideoInfo(320, 240, Fraction(25), 1_000_000, 0, 0, None, None)
    return ClipItem(Clip("c", "s", Span(0, 1), track), Path("x"), "ab", info)


def fit_key(item: ClipItem, *overrides: str) -> str:
    roles = dict.fromkeys(("head_model", "detector", "embedding"), "x")
    return key_of(FIT, item, load_config(None, list(overrides)), roles, {"landmarks": "y"})


def test_the_key_of_a_fit() -> None:
    item = plain_item()
    assert fit_key(item) == fit_key(item, "fit.shape_from=speaker", "fit.focal_from=source", "fit.max_nme=0.1")
    assert fit_key(item) == fit_key(dataclasses.replace(item, speaker="ann"))
    assert fit_key(item) == fit_key(item, "fit.photometric.size_px=64")
    on = "fit.photometric.enabled=true"
    others = [
        fit_key(item),
        fit_key(item, "fit.shape_weight=0.5"),
        fit_key(item, on),
        fit_key(item, on, "fit.photometric.size_px=64"),
        *(fit_key(dataclasses.replace(item, person=person)) for person in persons()),
    ]
    assert len(set(others)) == len(others)


def persons() -> list[Known]:
    shape = np.linspace(0, 1, 5, dtype=np.float32)
    nudged = shape.copy()
    nudged[2] = np.nextafter(nudged[2], np.float32(2))
    return [Known(shape, 500.0), Known(nudged, 500.0), Known(shape, float(np.nextafter(500.0, 501.0))), Known(shape)]
