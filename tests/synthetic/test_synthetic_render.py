"""Pictures of the talkers: a detector finds them, they repeat exactly, and the fast shading equals the reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct.appearance import shade, to_srgb
from reconstruct.camera import project
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from reconstruct.models.skinning import skin
from reconstruct.raster import fragments, make_rasterizer
from schemas.types import HeadTrack
from synthetic.make import perform
from synthetic.render import POSES, render
from synthetic.shading import bake, draw, gloss_of
from synthetic.talker import DEMO_TALKERS, Talker, random_talker, scaled, shape_of
from synthetic.wardrobe import dress, paint_background


@pytest.fixture(scope="module")
def model() -> HeadModel:
    return load_model()


@pytest.fixture(scope="module")
def face_mesh() -> Iterator[Any]:
    from mediapipe.python.solutions.face_mesh import FaceMesh

    with FaceMesh(static_image_mode=True, max_num_faces=2, refine_landmarks=True) as mesh:
        yield mesh


def some_frames(track: HeadTrack, rows: list[int]) -> HeadTrack:
    per_frame = ("expression", *POSES, "translation", "valid", "residual_px", "nme")
    return dataclasses.replace(track, **{name: getattr(track, name)[rows] for name in per_frame})


def eyes_px(model: HeadModel, track: HeadTrack) -> NDArray[Any]:
    """(T, 2, 2) pixels of the eyeballs' centres, left then right."""
    from reconstruct.models.skinning import prepare

    ids = np.concatenate([model.regions["left_eyeball"], model.regions["right_eyeball"]]).astype(np.int64)
    poses = [torch.as_tensor(getattr(track, name)) for name in POSES]
    vertices = skin(
        prepare(model, ids),
        torch.as_tensor(track.shape),
        torch.as_tensor(track.expression),
        poses[0],
        poses[1],
        poses[2],
        poses[3],
        poses[4],
        torch.as_tensor(track.translation),
    )
    centres = vertices.reshape(len(vertices), 2, -1, 3).mean(2)
    return project(centres, track.focal_px, torch.as_tensor(track.principal_point))[..., :2].numpy()


@pytest.mark.parametrize("talker", [*DEMO_TALKERS, random_talker(3)], ids=lambda t: t.name)
def test_the_detector_finds_one_face_where_it_is(model: HeadModel, face_mesh: Any, talker: Talker) -> None:
    truth, _ = perform(talker, model)
    frames = len(truth.pts_us)
    track = some_frames(truth.track, [frames // 5, frames // 2, frames - 10])
    truth_px = eyes_px(model, track)
    for picture, expected in zip(render(model, talker, track), truth_px, strict=True):
        assert picture.shape == (talker.height, talker.width, 3)
        faces = face_mesh.process(picture).multi_face_landmarks
        assert faces is not None
        assert len(faces) == 1
        points = faces[0].landmark
        size = np.array([talker.width, talker.height])
        found = np.array(
            [[np.mean([[points[i].x, points[i].y] for i in ids], axis=0)] for ids in ((263, 362), (33, 133))]
        )
        interocular = np.linalg.norm(expected[0] - expected[1])
        assert np.linalg.norm(found[:, 0] * size - expected, axis=1).max() < 0.25 * interocular


def test_pictures_repeat_exactly_and_do_not_depend_on_the_frames_before(model: HeadModel) -> None:
    talker = scaled(DEMO_TALKERS[0], 0.3)
    truth, _ = perform(talker, model)
    track = some_frames(truth.track, list(range(0, 50, 10)))
    first, again = list(render(model, talker, track)), list(render(model, talker, track))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[0].astype(int) - first[2]).max() > 40


def test_fast_shading_equals_the_reference(model: HeadModel) -> None:
    """One kernel with baked paint against appearance.shade at every sample."""
    talker = scaled(DEMO_TALKERS[1], 0.6)
    truth, _ = perform(talker, model)
    track = some_frames(truth.track, [60])
    dressed = dress(model, track.shape, talker)
    poses = [torch.as_tensor(getattr(track, name)) for name in POSES]
    shape, expression = torch.as_tensor(track.shape), torch.as_tensor(track.expression)
    translation = torch.as_tensor(track.translation)
    vertices = skin(dressed.skinning, shape, expression, poses[0], poses[1], poses[2], poses[3], poses[4], translation)
    pixels = project(vertices, track.focal_px, torch.as_tensor(track.principal_point))
    background = torch.as_tensor(paint_background(talker))
    surface = torch.stack([gloss_of(dressed.canvas), dressed.occlusion[:, 0]], dim=1)
    texture = bake(dressed.canvas, talker.look, dressed.faces)
    every = torch.zeros_like(dressed.plain)
    fast = draw(vertices, pixels, dressed.faces, every, dressed.closed, texture, surface, talker.look, background)[
        0
    ].astype(int)
    quick = draw(
        vertices, pixels, dressed.faces, dressed.plain, dressed.closed, texture, surface, talker.look, background
    )[0].astype(int)
    fine = torch.cat([2 * (pixels[..., :2] + 0.5) - 0.5, pixels[..., 2:]], dim=-1)
    height, width = talker.height, talker.width
    ids = make_rasterizer().rasterize(fine, dressed.faces, 2 * height, 2 * width)
    front = fragments(ids, fine, dressed.faces)
    large = background.repeat_interleave(2, 0).repeat_interleave(2, 1)
    light = dressed.occlusion[None]
    large[front.row, front.column] = shade(dressed.canvas, talker.look, front, vertices, dressed.faces, light)
    reference = to_srgb(large.reshape(height, 2, width, 2, 3).mean((1, 3))).numpy().astype(int)
    for picture in (fast, quick):
        difference = np.abs(picture - reference)
        assert difference.mean() < 0.5
        assert np.percentile(difference, 99) <= 6
    assert np.abs(reference - to_srgb(background).numpy().astype(int)).mean() > 10  # there is a head


def test_heads_differ_and_stay_plausible(model: HeadModel) -> None:
    shapes = [shape_of(talker, model) for talker in DEMO_TALKERS]
    assert all(np.abs(shape).max() <= 1.6 + 1e-6 for shape in shapes)
    heads = [model.v_template + model.identity @ shape for shape in shapes]
    face = model.regions["face"]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.linalg.norm((heads[one] - heads[other])[face], axis=1).mean() > 0.003
    assert random_talker(5) == random_talker(5)
    assert random_talker(5) != random_talker(6)
    assert random_talker(5, 200, 120, Fraction(30)).fps == 30
