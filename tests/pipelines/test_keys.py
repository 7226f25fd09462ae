"""A key changes with everything that can change a result, and with nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pipelines.keys import clip_digest, output_digest, result_key, section_digest, source_unit
from schemas.config import Config, FitConfig, RunConfig
from schemas.types import Clip, FaceTrack, Source, Span

BASE: dict[str, Any] = {
    "stage": "fit",
    "version": 1,
    "source_sha256": "a" * 64,
    "span": (0, 1_000_000),
    "section_digest": "d",
    "models": {"head_model": "m"},
    "inputs": ("x",),
    "dependencies": ["k"],
}


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "landmarks"},
        {"version": 2},
        {"source_sha256": "b" * 64},
        {"span": (0, 1_000_001)},
        {"section_digest": "e"},
        {"models": {"head_model": "n"}},
        {"inputs": ("y",)},
        {"dependencies": ["l"]},
    ],
)
def test_every_part_counts(change: dict[str, Any]) -> None:
    assert result_key(**BASE) != result_key(**{**BASE, **change})
    assert result_key(**BASE) == result_key(**BASE)


def test_only_fields_that_change_a_result_count() -> None:
    later = ("max_nme",)
    plain = section_digest(Config(), "fit", later)
    assert section_digest(Config(fit=FitConfig(max_nme=0.5)), "fit", later) == plain
    assert section_digest(Config(fit=FitConfig(shape_weight=0.5)), "fit", later) != plain


def test_how_it_runs_is_no_part_of_the_output() -> None:
    assert output_digest(Config(run=RunConfig(engine="local", workers=7))) == output_digest(Config())
    assert output_digest(Config(fit=FitConfig(max_nme=0.5))) != output_digest(Config())


def test_a_clip_is_its_span_and_track() -> None:
    track = FaceTrack(np.array([0, 5], np.int64), np.ones((2, 4), np.float32))
    clip = Clip("c", "s", Span(0, 10), track)
    other = dataclasses.replace(track, box_xywh=track.box_xywh + np.float32(1e-6))
    assert clip_digest(clip) == clip_digest(dataclasses.replace(clip, clip_id="d"))
    assert clip_digest(clip) != clip_digest(dataclasses.replace(clip, track=other))
    assert clip_digest(clip) != clip_digest(dataclasses.replace(clip, span=Span(0, 11)))


def test_units_name_what_a_row_asks_for() -> None:
    row = Source("a.mp4", 1, speaker="x")
    assert source_unit(row) == source_unit(dataclasses.replace(row, row=9, speaker="y"))
    units = {source_unit(row), source_unit(row, 1), source_unit(dataclasses.replace(row, start_us=0))}
    assert len(units) == 3
