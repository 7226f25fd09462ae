"""The embedding of a named detector: which detector is used, what is cached, what is said about it."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
from made_up_network import write_network

from reconstruct.embedding import Embedding, embedding_path
from reconstruct.landmarks import embed, make_detector
from reconstruct.landmarks.topology import IBUG_68
from reconstruct.models.head_model import HeadModel
from schemas.config import LandmarkConfig
from schemas.errors import UsageError


def made_up(model: HeadModel, detector: str) -> Embedding:
    count = IBUG_68.num_points
    return Embedding(
        detector=detector,
        model_sha256=model.sha256,
        vertices=model.faces[:count].astype(np.int64),
        barycentric=np.full((count, 3), 1 / 3, np.float32),
        spread_m=np.linspace(0.001, 0.003, count).astype(np.float32),
        samples=np.full(count, 5, np.int32),
        offset_m=np.zeros((count, 3), np.float32),
        response=np.zeros((count, 3, model.num_shape), np.float32),
    )


def test_the_named_detector_measures_once(
    open_head: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path))
    config = LandmarkConfig(backend="face-alignment", weights_path=str(write_network(tmp_path / "dot.pt")))
    with make_detector(config) as detector:
        name = detector.name
    calls: list[object] = []

    def compute(model: HeadModel, name: str, detect: object, eyeballs: object, lips: object) -> Embedding:
        calls.append((name, eyeballs, lips))
        return made_up(model, name)

    def with_response(_: HeadModel, made: Embedding, detect: object, eyeballs: object) -> Embedding:
        calls.append(("response", eyeballs))
        return made

    monkeypatch.setattr(embed, "compute_embedding", compute)
    monkeypatch.setattr(embed, "with_response", with_response)
    with caplog.at_level(logging.INFO):
        first = embed.embedding_for(open_head, name, config)
    assert "to within 2.0 mm" in caplog.text
    again = embed.embedding_for(open_head, name, config)
    points = IBUG_68
    assert calls == [(name, points.eyeball_points, points.open_mouth_points), ("response", points.eyeball_points)]
    assert np.array_equal(first.vertices, again.vertices)
    assert embedding_path(open_head.sha256, name).is_file()


def test_another_detector_is_refused(open_head: HeadModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="landmarks come from 'mediapipe-face-mesh-9', installed is 'mediapipe-face"):
        embed.embedding_for(open_head, "mediapipe-face-mesh-9", LandmarkConfig())
    assert not embedding_path(open_head.sha256, "mediapipe-face-mesh-9").exists()


def test_an_official_embedding_comes_first(open_head: HeadModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, it is taken as it is; points that it leaves out are those measured."""
    name = "face-alignment-2dfan-x+1"
    official, measured = made_up(open_head, name), made_up(open_head, name)
    measured = dataclasses.replace(measured, vertices=measured.vertices[::-1])
    monkeypatch.setattr(embed, "cached_embedding", lambda *_: measured)
    monkeypatch.setattr(embed, "official_embedding", lambda *_: official)
    assert embed.embedding_for(open_head, name) is official
    samples = official.samples.copy()
    samples[7] = 0
    partly = dataclasses.replace(official, samples=samples)
    monkeypatch.setattr(embed, "official_embedding", lambda *_: partly)
    joined = embed.embedding_for(open_head, name)
    assert np.array_equal(joined.vertices[7], measured.vertices[7])
    assert np.array_equal(np.delete(joined.vertices, 7, axis=0), np.delete(official.vertices, 7, axis=0))


def test_consistency_is_the_median_spread(open_head: HeadModel) -> None:
    assert embed.consistency_mm(made_up(open_head, "x")) == pytest.approx(2.0, abs=0.02)
