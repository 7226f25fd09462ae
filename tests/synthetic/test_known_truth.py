"""Clips with exact landmarks: projected as a naive reading of the full mesh says, and as varied as they claim to be."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from reconstruct.camera import FACING_CAMERA
from reconstruct.embedding import Embedding
from reconstruct.landmark_points import landmark_points
from reconstruct.landmarks.topology import interocular
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin
from schemas.types import Float32
from synthetic.evaluate import compare, face_errors_mm, track_vertices
from synthetic.known_truth import (
    INTEROCULAR_PX,
    SIZE,
    YAW_RAD,
    KnownClip,
    anny_clip,
    model_clip,
    nearest_shape,
    random_shape,
    swing,
    turned,
)

MOTION = ("expression", "global_pose", "neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose", "translation")


@pytest.fixture(scope="module")
def clip(open_head: HeadModel, embedding: Embedding) -> KnownClip:
    return model_clip(open_head, embedding.on_surface(), seed=7, frames=40)


def test_landmarks_lie_on_the_full_mesh(clip: KnownClip, open_head: HeadModel, embedding: Embedding) -> None:
    truth, frame = clip.truth, 17
    rows = slice(frame, frame + 1)
    moving = [torch.as_tensor(getattr(truth, name)[rows], dtype=torch.float64) for name in MOTION]
    mesh = skin(prepare(open_head, dtype=torch.float64), torch.as_tensor(truth.shape).double(), *moving)[0].numpy()
    for point in (1, 33, 152, 263, 468, 477):
        corners = mesh[embedding.vertices[point]]
        x, y, z = embedding.barycentric[point].astype(float) @ corners
        expected = truth.focal_px * np.array([x, y]) / z + np.array(SIZE) / 2
        np.testing.assert_allclose(clip.landmarks.face_xy[frame, point], expected, atol=1e-2)


def test_landmarks_are_where_the_detector_sees_them(open_head: HeadModel, embedding: Embedding) -> None:
    beside = model_clip(open_head, embedding, seed=7, frames=3)
    shape, *motion = (torch.as_tensor(getattr(beside.truth, name), dtype=torch.float64) for name in ("shape", *MOTION))
    points = skin(landmark_points(open_head, embedding, torch.float64), shape, *motion).numpy()
    expected = beside.truth.focal_px * points[..., :2] / points[..., 2:] + np.array(SIZE) / 2
    assert np.abs(beside.landmarks.face_xy - expected).mean() < 0.05  # skinning weights are interpolated in one of them
    plain = model_clip(open_head, embedding.on_surface(), seed=7, frames=3)
    assert np.abs(beside.landmarks.face_xy - plain.landmarks.face_xy).mean() > 0.3


def test_the_head_turns_as_far_as_it_should_and_fills_the_picture_alike(clip: KnownClip) -> None:
    facing = Rotation.from_rotvec(FACING_CAMERA.astype(float))
    head = Rotation.from_rotvec(clip.truth.global_pose) * Rotation.from_rotvec(clip.truth.neck_pose)
    yaw = (facing.inv() * head).as_euler("YXZ")[:, 0]
    assert np.abs(yaw).max() == pytest.approx(YAW_RAD, abs=1e-3)
    widest = interocular(clip.landmarks.face_xy).max()
    assert INTEROCULAR_PX[0] * 0.85 < widest < INTEROCULAR_PX[1] * 1.2
    points = clip.landmarks.face_xy
    assert points.min() > 0
    assert (points.max((0, 1)) < SIZE).all()
    assert clip.truth.left_eye_pose.std(0).max() > 0.02
    assert np.ptp(clip.truth.expression, axis=0).max() > 0.5


def test_the_same_seed_repeats_and_noise_is_as_strong_as_asked(
    clip: KnownClip, open_head: HeadModel, embedding: Embedding
) -> None:
    again = model_clip(open_head, embedding.on_surface(), seed=7, frames=40)
    np.testing.assert_array_equal(clip.landmarks.face_xy, again.landmarks.face_xy)
    noisy = model_clip(open_head, embedding.on_surface(), seed=7, frames=40, noise_px=1.5)
    difference = noisy.landmarks.face_xy - clip.landmarks.face_xy
    assert difference.std() == pytest.approx(1.5, rel=0.02)
    assert abs(difference.mean()) < 0.05
    other = model_clip(open_head, embedding.on_surface(), seed=8, frames=40)
    assert other.truth.focal_px != clip.truth.focal_px
    assert np.abs(other.truth.shape - clip.truth.shape).max() > 0.1


def test_face_errors_agree_with_compare(clip: KnownClip, open_head: HeadModel) -> None:
    face = open_head.regions["face"].astype(np.int64)
    rows = np.arange(len(clip.truth.valid))
    true_face = track_vertices(open_head, clip.truth, rows, face, False)
    fit = dataclasses.replace(clip.truth, shape=np.zeros_like(clip.truth.shape))
    errors = face_errors_mm(true_face, fit, open_head)
    assert errors.mean() == pytest.approx(compare(clip.truth, fit, open_head).vertex_mm)
    assert errors.mean() > 0.5
    hidden = dataclasses.replace(fit, valid=rows != 3)
    assert np.isnan(face_errors_mm(true_face, hidden, open_head)[3]).all()
    assert face_errors_mm(true_face, clip.truth, open_head).max() < 1e-3


def test_nearest_shape_finds_a_head_of_the_model(open_head: HeadModel) -> None:
    shape = random_shape(open_head, np.random.default_rng(3))
    rest = (open_head.v_template + open_head.identity @ shape).astype(np.float64)
    found = nearest_shape(open_head, rest)
    back = open_head.v_template + open_head.identity @ found
    assert np.linalg.norm(back - rest, axis=1).max() < 2e-4
    rest[open_head.regions["neck"], 1] -= 0.01  # what the model cannot do elsewhere hardly costs the face
    spoilt = open_head.identity @ nearest_shape(open_head, rest) + open_head.v_template - back
    assert np.linalg.norm(spoilt[open_head.regions["face"]], axis=1).mean() < 1e-3


class _Person:
    """Stands in for anny: its one person is a head of the model, moved by the model's own sculpted actions."""

    def __init__(self, model: HeadModel, shape: Float32) -> None:
        self.labels = [f"facial_action:{name}" for name in model.expression_names]
        self.model = SimpleNamespace(
            facial_action_labels=list(model.expression_names),
            phenotype_labels=["age", "african", "asian", "caucasian"],
            local_change_labels=["nose-width", "hand-size"],
        )
        self.rest = model.v_template + model.identity @ shape
        self.actions = model.expression

    def coefficients(self, phenotypes: Any, local: Any, actions: Any) -> Any:
        assert len(phenotypes) == len(local) == len(actions)
        assert np.abs(local[:, 0]).max() <= 1
        assert (local[:, 1] == 0).all()  # no part of the head
        return actions

    def vertices(self, coefficients: Any) -> Any:
        return (self.rest + np.einsum("vck,nk->nvc", self.actions, coefficients)).astype(np.float64)

    def bone(self, coefficients: Any, name: str) -> Any:
        return np.zeros((len(coefficients), 3))


def test_a_head_of_anny_is_placed_and_moved_as_its_truth_says(open_head: HeadModel, embedding: Embedding) -> None:
    shape = random_shape(open_head, np.random.default_rng(4))
    person: Any = _Person(open_head, shape)
    clip = anny_clip(person, open_head, embedding.on_surface(), seed=5, frames=10)
    assert clip.face is not None
    np.testing.assert_allclose(clip.truth.shape, shape, atol=0.02)
    # jaw and eye joints against sculpted actions: equal to a fraction of a millimetre
    assert face_errors_mm(clip.face, clip.truth, open_head).mean() < 0.2
    corners = embedding.vertices[[1, 33, 152, 263]]
    posed = track_vertices(open_head, clip.truth, np.arange(10), corners.ravel(), True).reshape(10, 4, 3, 3)
    points = (embedding.barycentric[[1, 33, 152, 263]][None, ..., None] * posed).sum(2)
    pixels = clip.truth.focal_px * points[..., :2] / points[..., 2:] + clip.truth.principal_point
    assert np.abs(pixels - clip.landmarks.face_xy[:, [1, 33, 152, 263]]).max() < 1.5
    assert clip.truth.jaw_pose[:, 0].max() > 0.02


def test_turned_sets_the_rotation_of_head_and_neck_together(clip: KnownClip) -> None:
    angles = np.tile([0.4, -0.1, 0.2], (40, 1))
    track = turned(clip.truth, angles)
    facing = Rotation.from_rotvec(FACING_CAMERA.astype(float))
    head = Rotation.from_rotvec(track.global_pose) * Rotation.from_rotvec(track.neck_pose)
    np.testing.assert_allclose((facing.inv() * head).as_euler("YXZ"), angles, atol=1e-5)
    assert np.abs(track.neck_pose).max() > 0.1  # the neck carries a part
    seconds = np.arange(75) / 25
    way = swing(seconds, np.random.default_rng(1))
    assert np.abs(way).max() == pytest.approx(1.0)
    assert np.abs(np.diff(way)).max() < 0.4
