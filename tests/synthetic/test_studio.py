"""The studio's scenes: every condition does to the pictures what it says, and the truth is of the same moments."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.camera import FACING_CAMERA
from reconstruct.models.head_model import HeadModel
from schemas.types import HeadTrack
from synthetic.events import LIDS, LIPS, closures, gaps_m
from synthetic.known_truth import random_shape
from synthetic.studio import FRAME_COLOUR, SCENES, SUB_FRAMES, Scene, act, film, rows_of

Array = NDArray[Any]
BY_NAME = {scene.name: scene for scene in SCENES}
LEFT = BY_NAME["left"]


@pytest.fixture(scope="module")
def shape(open_head: HeadModel) -> Array:
    return random_shape(open_head, np.random.default_rng(5))


def pictures(scene: Scene, model: HeadModel, exposures: HeadTrack, frames: list[int]) -> list[Array]:
    """Some pictures of a scene."""
    each = SUB_FRAMES if scene.blur else 1
    rows = np.concatenate([np.arange(frame * each, (frame + 1) * each) for frame in frames])
    return list(film(scene, model, rows_of(exposures, rows)))


def yaw_deg(track: HeadTrack) -> Array:
    head = Rotation.from_rotvec(track.global_pose) * Rotation.from_rotvec(track.neck_pose)
    facing = Rotation.from_rotvec(FACING_CAMERA.astype(float))
    return np.asarray(np.degrees((facing.inv() * head).as_euler("YXZ")[:, 0]))


def test_ten_scenes_each_with_a_condition_of_its_own() -> None:
    assert len(SCENES) == len({scene.name for scene in SCENES}) == len({scene.what for scene in SCENES}) == 10
    assert len({scene.seed for scene in SCENES}) == 10


def test_the_head_goes_where_the_scene_says_and_there_is_something_to_find(open_head: HeadModel, shape: Array) -> None:
    pts, truth, exposures = act(LEFT, open_head, shape)
    assert truth is not exposures
    assert len(pts) == len(truth.valid) == len(exposures.valid) == 65
    assert yaw_deg(truth).max() == pytest.approx(45, abs=0.5)
    assert yaw_deg(truth).min() == pytest.approx(-5, abs=0.5)
    lips, lids = gaps_m(open_head, truth)
    assert len(closures(lips, LIPS)) >= 3
    assert len(closures(lids, LIDS)) >= 1


def test_blur_averages_moments_about_the_truths(open_head: HeadModel, shape: Array) -> None:
    scene = dataclasses.replace(BY_NAME["blur"], noise=0.0)
    pts, truth, exposures = act(scene, open_head, shape)
    assert len(exposures.valid) == SUB_FRAMES * len(pts)
    middle = exposures.translation[SUB_FRAMES // 2 :: SUB_FRAMES]
    np.testing.assert_array_equal(truth.translation, middle)
    frame = int(np.abs(np.gradient(yaw_deg(truth))).argmax())
    blurred = pictures(scene, open_head, exposures, [frame])[0].astype(float)
    sharp = pictures(dataclasses.replace(scene, blur=False), open_head, truth, [frame])[0].astype(float)

    def edges(picture: Array) -> float:
        return float((np.diff(picture.mean(2), axis=1) ** 2).mean())

    assert edges(blurred) < 0.8 * edges(sharp)
    assert np.abs(blurred - sharp).mean() < 8


def test_low_light_is_dark_and_noisy_and_repeats(open_head: HeadModel, shape: Array) -> None:
    dim = BY_NAME["dim"]
    _, truth, exposures = act(dim, open_head, shape)
    dark, again = (pictures(dim, open_head, exposures, [10])[0] for _ in range(2))
    np.testing.assert_array_equal(dark, again)
    bright = pictures(dataclasses.replace(dim, exposure=1.0, noise=0.0), open_head, truth, [10])[0]
    assert dark.mean() < 0.35 * bright.mean()
    corner = dark[-40:, :40].astype(float)
    assert corner.std() > 4


def test_glasses_move_with_the_head(open_head: HeadModel, shape: Array) -> None:
    worn = dataclasses.replace(BY_NAME["glasses"], noise=0.0, yaw_deg=(-30.0, 30.0))
    _, truth, exposures = act(worn, open_head, shape)
    order = np.argsort(yaw_deg(truth))
    frames = [int(order[0]), int(order[-1])]
    bare = pictures(dataclasses.replace(worn, glasses=False), open_head, exposures, frames)
    columns = []
    for with_them, without in zip(pictures(worn, open_head, exposures, frames), bare, strict=True):
        drawn = (np.abs(with_them.astype(int) - np.array(FRAME_COLOUR)).max(2) < 12) & (with_them != without).any(2)
        assert 200 < drawn.sum() < 20_000
        columns.append(float(np.nonzero(drawn)[1].mean()))
    assert columns[1] - columns[0] > 15  # the face turned to its left, which is right in the picture
