"""Animated bodies: the same seed gives the same scene, poses keep their limits, and a perfect fit has no error."""

from __future__ import annotations

import numpy as np
import pytest

from reconstruct.body.articulation import articulation_of
from reconstruct.body.points import points_of
from reconstruct.camera import FACING_CAMERA
from reconstruct.models.body_model import BODY, BodyModel, joint
from reconstruct.models.registry import load_body
from schemas.types import BodyTrack
from synthetic.body_evaluate import body_errors, rotation_errors
from synthetic.body_motion import BodyScene, make_scene, seen_by_exact_detectors


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body()


@pytest.fixture(scope="module")
def scene(body: BodyModel) -> BodyScene:
    return make_scene(body, points_of(body), seed=3, seconds=1.0)


def perfect(scene: BodyScene) -> BodyTrack:
    """The truth as a track."""
    poses, place = scene.vertices_motion()
    count = len(poses)
    flat = poses.reshape(count, -1).astype(np.float32)
    return BodyTrack(
        body_model=scene.model.name,
        body_model_sha256=scene.model.sha256,
        betas=scene.betas.astype(np.float32),
        body_pose=flat[:, 3 * BODY.start : 3 * BODY.stop],
        left_hand_pose=flat[:, 75:120],
        right_hand_pose=flat[:, 120:165],
        body_global_pose=flat[:, :3],
        body_translation=place.astype(np.float32),
        body_valid=np.ones(count, bool),
        body_joint_valid=np.ones((count, 55), bool),
        body_residual_px=np.zeros(count, np.float32),
        focal_px=scene.camera.focal_px,
        principal_point=scene.camera.centre.astype(np.float32),
    )


def test_a_seed_is_a_scene(body: BodyModel, scene: BodyScene) -> None:
    again = make_scene(body, points_of(body), seed=3, seconds=1.0)
    assert (again.motion == scene.motion).all()
    assert not np.allclose(make_scene(body, points_of(body), seed=4, seconds=1.0).betas, scene.betas)
    assert len(scene.pts_us) == 25


def test_motion_keeps_the_limits_and_moves_smoothly(body: BodyModel, scene: BodyScene) -> None:
    parts = articulation_of(body)
    assert parts.inside(scene.motion).all()
    wrists = scene.posed.joints[:, [joint("left_wrist"), joint("right_wrist")]]
    assert np.linalg.norm(np.diff(wrists, axis=0), axis=2).max() < 0.12
    assert np.ptp(wrists, axis=0).max() > 0.05


def test_the_body_faces_the_camera_from_head_to_waist(scene: BodyScene) -> None:
    poses, _ = scene.vertices_motion()
    turn = np.linalg.norm(poses[:, 0]) / np.linalg.norm(FACING_CAMERA) / np.sqrt(len(poses))
    assert turn == pytest.approx(1, abs=0.1)
    seen = seen_by_exact_detectors(scene)
    assert (seen.pose_xyc[:, [0, 11, 12], 2] == 1).all()
    assert (seen.pose_xyc[:, 25:33, 2] == 0).all()  # no knees
    assert (seen.pose_xyc[:, 11, 0] > seen.pose_xyc[:, 12, 0]).all()  # its left is at the picture's right


def test_noise_and_missing_depth_are_as_asked(scene: BodyScene) -> None:
    exact, noisy = seen_by_exact_detectors(scene), seen_by_exact_detectors(scene, noise_px=2, with_depth=False)
    difference = (noisy.pose_xyc - exact.pose_xyc)[..., :2]
    assert np.std(difference) == pytest.approx(2, rel=0.1)
    assert np.isnan(noisy.pose_world).all()


def test_the_truth_has_no_error(scene: BodyScene) -> None:
    errors = body_errors(scene, perfect(scene))
    assert errors["upper_mm"] < 0.01
    assert errors["hands_mm"] < 0.01
    assert errors["elbow_deg"] < 0.01
    assert errors["jitter_ratio"] == pytest.approx(1, abs=1e-3)
    assert max(rotation_errors(scene, perfect(scene)).values()) < 0.01
