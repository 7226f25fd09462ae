"""Detection and calibration on pictures and points whose truth is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.body.articulation import articulation_of
from reconstruct.body.calibrate import View, calibrate, mirrored_landmarks
from reconstruct.body.detect import BodyDetector, check_networks, cut, detector_name
from reconstruct.body.kinematics import skeleton_of
from reconstruct.body.picture import render_body
from reconstruct.body.points import points_of
from reconstruct.models.body_model import BodyModel
from reconstruct.models.registry import load_body
from schemas.config import ReconstructConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import FaceTrack
from synthetic.body_motion import BodyScene, make_scene, seen_by_exact_detectors


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


@pytest.fixture(scope="module")
def scene(body: BodyModel) -> BodyScene:
    return make_scene(body, points_of(body), seed=1001, seconds=0.12)


def pictures(scene: BodyScene) -> list[tuple[int, NDArray[Any]]]:
    poses, place = scene.vertices_motion()
    made = render_body(
        scene.model,
        scene.betas.astype(np.float32),
        poses.astype(np.float32),
        place.astype(np.float32),
        scene.camera.focal_px,
        scene.camera.centre.astype(np.float32),
        scene.width,
        scene.height,
    )
    return list(zip(scene.pts_us.tolist(), made, strict=True))


def test_a_rendered_body_is_found_and_strangers_are_not(scene: BodyScene) -> None:
    truth, frames = seen_by_exact_detectors(scene), pictures(scene)
    face = truth.pose_xyc[0, 0, :2]
    track = FaceTrack(scene.pts_us[:1], np.array([[*(face - 40), 80, 80]], np.float32))
    elsewhere = FaceTrack(scene.pts_us[:1], np.array([[5, 5, 80, 80]], np.float32))
    with BodyDetector(ReconstructConfig()) as detector:
        found = detector.detect(frames, track, scene.width, scene.height)
        assert found.detector == detector_name(ReconstructConfig())
        assert found.valid.all()
        arms = np.linalg.norm((found.pose_xyc - truth.pose_xyc)[:, 11:15, :2], axis=2)
        shoulders = np.linalg.norm(truth.pose_xyc[0, 11, :2] - truth.pose_xyc[0, 12, :2])
        assert np.median(arms) < 0.15 * shoulders
        assert np.isfinite(found.pose_world[..., :3]).all()
        other = detector.detect(frames, elsewhere, scene.width, scene.height)
        assert not other.valid.any()
        with pytest.raises(UsageError, match="not 10x10"):
            detector.detect(frames[:1], None, 10, 10)


def test_networks_that_are_not_installed_are_refused() -> None:
    check_networks(ReconstructConfig())
    with pytest.raises(TalksetError, match="pose_landmark_heavy"):
        check_networks(ReconstructConfig(pose_complexity=2))
    with pytest.raises(UsageError, match="hand_complexity"):
        check_networks(ReconstructConfig(hand_complexity=7))


def test_a_cut_keeps_places_in_the_picture() -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[20:22, 30:32] = 255
    square = cut(picture, np.array([20.0, 10.0]), 40.0, 160).astype(np.float64)[..., 0]
    rows, columns = np.mgrid[:160, :160] + 0.5
    centre = [(square * axis).sum() / square.sum() for axis in (columns, rows)]
    assert np.array(centre) / 4 + [20, 10] == pytest.approx([31, 21], abs=0.02)
    outside = cut(picture, np.array([-100.0, -100.0]), 50.0, 32)
    assert not outside.any()


def test_calibration_finds_offsets_again(body: BodyModel) -> None:
    """Landmarks moved in their joints' frames, mirrored on the two sides, are measured from their pixels."""
    points = points_of(body)
    random = np.random.default_rng(0)
    mirror = mirrored_landmarks()
    offset = random.normal(0, 0.01, (75, 3))
    for index, other in enumerate(mirror):
        if other == index:
            offset[index, 0] = 0
        elif other > index:
            offset[other] = offset[index] * [-1, 1, 1]
    moved = points.moved(offset, np.zeros(75), "exact")
    elsewhere = skeleton_of(body, articulation_of(body), moved, body.num_shape)
    views = []
    for seed in range(12):
        scene = make_scene(body, points, seed, seconds=0.04)
        found = seen_by_exact_detectors(dataclasses.replace(scene, skeleton=elsewhere))
        views.append(View(scene.posed, scene.camera.focal_px, scene.camera.centre, found))
    measured = calibrate(points, views, mirror)
    seen = np.array([*range(17), *range(33, 75)])
    error = np.linalg.norm(measured.template - moved.template, axis=1)[seen]
    assert np.median(error) < 0.003
    assert measured.detector == "exact"
