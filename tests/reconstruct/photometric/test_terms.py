"""Derivatives of the photometric residuals against finite differences, and the robust albedo."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reconstruct.camera import default_focal
from reconstruct.embedding import Embedding
from reconstruct.fitting.derivatives import Geometry
from reconstruct.fitting.problem import State, make_problem
from reconstruct.models.head_model import HeadModel
from reconstruct.photometric.light import NUM_COEFFICIENTS
from reconstruct.photometric.pictures import Squares
from reconstruct.photometric.surface import make_surface
from reconstruct.photometric.terms import (
    Scene,
    Seen,
    albedo_of,
    linearise_tones,
    look,
    rest_normal_slopes,
    tones_of,
)
from reconstruct.raster import make_rasterizer
from schemas.config import FitConfig, PhotometricConfig
from schemas.types import LandmarkTrack

SIZE = 128


@pytest.fixture(scope="module")
def scene(open_head: HeadModel, embedding: Embedding) -> Scene:
    """Two frames of 128 x 128 whose pictures are the whole source; landmarks play no part."""
    count = len(embedding.vertices)
    points = np.random.default_rng(1).uniform(30, 90, (2, count, 2)).astype(np.float32)
    clock = np.array([0, 40_000], dtype=np.int64)
    ones = np.ones((2, count), np.float32)
    track = LandmarkTrack(clock, points, ones, np.ones(2, bool), SIZE, SIZE, embedding.detector)
    problem = make_problem(open_head, embedding, track, np.arange(2), FitConfig()).single()
    squares = Squares(np.full((2, SIZE, SIZE, 3), 128, np.uint8), torch.zeros(2, 2), 1.0)
    gain = torch.ones(count)
    return Scene(problem, make_surface(open_head), squares, make_rasterizer("warp"), gain, 1.0, PhotometricConfig())


def state_of(scene: Scene) -> State:
    """A random head at rest that is turned a little, in the middle of the picture."""
    random = torch.Generator().manual_seed(3)
    columns, size = scene.problem.columns, scene.problem.points.num_shape
    motion = torch.zeros(2, columns.total, dtype=torch.float64)
    motion[:, columns.rotation] = 0.2 * torch.randn(2, 3, generator=random, dtype=torch.float64)
    motion[:, columns.translation] = torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64)
    shape = 0.5 * torch.randn(size, generator=random, dtype=torch.float64)
    return State(shape, torch.tensor(float(np.log(default_focal(SIZE, SIZE)))).double(), motion)


def moved(state: State, light: torch.Tensor, which: str, index: int, step: float) -> tuple[State, torch.Tensor]:
    shape, focal, motion, light = state.shape.clone(), state.log_focal.clone(), state.motion.clone(), light.clone()
    if which == "motion":
        motion[:, index] += step
    elif index < len(shape):
        shape[index] += step
    elif index == len(shape):
        focal += step
    else:
        light[index - len(shape) - 1] += step
    return State(shape, focal, motion), light


def test_tones_follow_every_unknown_as_finite_differences_do(scene: Scene) -> None:
    """On a picture that changes linearly, where sampling has exact slopes; normals under a slanted light."""
    state = state_of(scene)
    light = torch.tensor([1.0, 0.15, -0.2, -0.3, 0.05, 0.02, -0.05, 0.04, 0.03])
    row, column = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    plane = torch.stack([0.02 * column - 0.03 * row, torch.full_like(row, 0.02), torch.full_like(row, -0.03)])
    nothing = torch.zeros(2, scene.surface.count)
    seen = Seen(slice(0, 2), plane.expand(2, -1, -1, -1).contiguous(), nothing, nothing, nothing)
    slopes = rest_normal_slopes(scene.surface, state.shape)
    geometry = Geometry(scene.dense(), state.shape)
    line = linearise_tones(scene, geometry, state, light, seen, slopes, shared=True)
    assert line.by_shared is not None
    torch.testing.assert_close(line.value, tones_of(scene, state, light, seen), atol=1e-4, rtol=0)
    columns, size = scene.problem.columns, len(state.shape)
    smile = columns.expression.start + 20
    cases = [("motion", index) for index in (smile, columns.rotation.start, columns.rotation.start + 1)]
    cases += [("motion", columns.translation.start), ("motion", columns.translation.stop - 1)]
    cases += [("shared", index) for index in (0, 3, 25, size, size + 1, size + NUM_COEFFICIENTS)]
    for which, index in cases:
        step = 1e-2 if which == "shared" and index < size else 2e-3
        ahead, behind = (tones_of(scene, *moved(state, light, which, index, sign * step), seen) for sign in (1, -1))
        difference = (ahead - behind) / (2 * step)
        slope = (line.by_motion if which == "motion" else line.by_shared)[..., index]
        scale = float(difference.abs().max())
        assert scale > 1e-4
        error = (slope - difference).abs()
        assert float(error.max()) < 0.03 * scale, (which, index)
        assert float(error.mean()) < 0.004 * scale, (which, index)


def test_what_is_usable_is_skin_that_faces_the_camera(scene: Scene) -> None:
    seen = look(scene, state_of(scene), slice(0, 2))
    shown = seen.usable.mean(1)
    assert bool(((shown > 0.4) & (shown <= 1)).all())
    assert not bool(seen.skin[:, scene.surface.lips].any())
    assert not bool(seen.textured[:, scene.surface.lips].any())
    assert bool((seen.skin <= seen.usable).all())


def test_albedo_withstands_an_occluder() -> None:
    """Three of ten frames show something else over some points, two do not show them at all."""
    random = torch.Generator().manual_seed(2)
    truth = 0.3 * torch.randn(50, generator=random)
    tones = truth + 0.01 * torch.randn(10, 50, generator=random)
    usable = torch.ones(10, 50)
    tones[:3, :20] += 1.2
    tones[3:5, 10:30] = 99.0
    usable[3:5, 10:30] = 0
    assert float((albedo_of(tones, usable, 0.07) - truth).abs().max()) < 0.03
    assert float((albedo_of(tones, torch.zeros(10, 50), 0.07)).abs().max()) == 0
