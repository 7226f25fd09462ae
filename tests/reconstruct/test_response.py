"""A detector that leaves the surface by a known law, and what is found of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct import response
from reconstruct.embedding import Embedding
from reconstruct.landmark_points import landmark_points
from reconstruct.models.head_model import HeadModel
from schemas.errors import TalksetError


class _Detector:
    """Sees each landmark beside its surface point, by an offset that is linear in the shape."""

    def __init__(self, model: HeadModel, embedding: Embedding, monkeypatch: pytest.MonkeyPatch) -> None:
        random = np.random.default_rng(3)
        self.law = random.normal(size=(len(embedding.vertices), 3, 4)) * 0.0005
        self.mean = random.normal(size=(len(embedding.vertices), 3)) * 0.001
        self.model, self.embedding = model, embedding
        self.calls = 0
        monkeypatch.setattr(response, "photograph", self.photograph)

    def photograph(self, model: HeadModel, shape: Any, vertices: Any, *_: Any) -> tuple[None, None, NDArray[np.uint8]]:
        rest = model.v_template + model.identity @ shape.numpy()
        posed = vertices[0].numpy().astype(float)
        left, _, right = np.linalg.svd((rest - rest.mean(0)).T @ (posed - posed.mean(0)))
        turn = (left @ right).T
        corners = self.embedding.vertices
        offset = self.mean + self.law @ shape.numpy()[:4]
        points = (self.embedding.barycentric[:, :, None] * posed[corners]).sum(1) + offset @ turn.T
        self.points = response.FOCAL_PX * points[:, :2] / points[:, 2:] + response.SIZE_PX / 2
        return None, None, np.zeros((4, 4, 3), np.uint8)

    def __call__(self, _: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        self.calls += 1
        return np.asarray(self.points, np.float32)


def test_a_linear_law_is_found(open_head: HeadModel, embedding: Embedding, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = embedding.on_surface()
    eyeballs = list(range(468, 478))
    detector = _Detector(open_head, plain, monkeypatch)
    found = response.with_response(open_head, plain, detector, eyeballs)
    skin = np.setdiff1d(np.arange(478), eyeballs)
    assert detector.calls == response.HEADS * len(response.VIEWS)
    # the views show depth least, and a part of it is pulled to zero
    assert np.abs(found.offset_m - detector.mean)[skin].mean() < 0.15 * np.abs(detector.mean).mean()
    shapes = np.random.default_rng(8).normal(size=(50, open_head.num_shape)).clip(-2, 2)
    wanted = np.einsum("lks,ns->nlk", detector.law, shapes[:, :4])[:, skin]
    got = np.einsum("lks,ns->nlk", found.response, shapes)[:, skin]
    assert ((got - wanted) ** 2).mean() < 0.1 * (wanted**2).mean()
    assert (found.offset_m[eyeballs] == 0).all()
    assert (found.spread_m[eyeballs] == plain.spread_m[eyeballs]).all()
    assert found.spread_m[skin].mean() < 0.5 * np.sqrt((wanted**2).sum(2).mean())


def test_landmarks_move_with_the_response(open_head: HeadModel, embedding: Embedding) -> None:
    random = np.random.default_rng(5)
    moved = dataclasses.replace(
        embedding.on_surface(),
        offset_m=random.normal(size=(478, 3)).astype(np.float32),
        response=random.normal(size=(478, 3, 7)).astype(np.float32),  # of fewer coefficients than the model has
    )
    first, second = (landmark_points(open_head, one, torch.float64) for one in (embedding.on_surface(), moved))
    shape = torch.as_tensor(random.normal(size=open_head.num_shape))
    whole = [
        points.template + (points.shapedirs[:, : open_head.num_shape] @ shape).reshape(-1, 3)
        for points in (first, second)
    ]
    expected = moved.offset_m + moved.response @ shape.numpy()[:7]
    np.testing.assert_allclose((whole[1] - whole[0]).numpy(), expected, atol=1e-9)


def test_left_out_errors_are_those_of_fitting_again() -> None:
    random = np.random.default_rng(2)
    inputs = random.normal(size=(14, 6))
    outputs = inputs @ random.normal(size=(6, 5)) + random.normal(size=(14, 5)) + 3.0
    at_zero, slope, left_out = response.regress(inputs, outputs)
    kept = np.arange(1, 14)
    errors = {}
    for ridge in response.RIDGES:
        middle, mean = inputs[kept].mean(0), outputs[kept].mean(0)
        centred = inputs[kept] - middle
        again = np.linalg.solve(centred.T @ centred + ridge * np.eye(6), centred.T @ (outputs[kept] - mean))
        errors[ridge] = outputs[0] - mean - (inputs[0] - middle) @ again
    assert min(np.abs(error - left_out[0]).max() for error in errors.values()) < 1e-9
    assert np.abs(at_zero + inputs @ slope - outputs).mean() < np.abs(outputs - outputs.mean(0)).mean()


def test_a_detector_that_sees_nothing(
    open_head: HeadModel, embedding: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response, "photograph", lambda *_: (None, None, np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(TalksetError, match=r"found 0 of 12 rendered heads of '.*'"):
        response.observe(open_head, embedding, lambda _: None, heads=12)
