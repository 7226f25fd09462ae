"""A fit as annotators take it: angles, gaze, lids and wrists against what is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.performance import part_of
from pipelines.performance import hands_of, performance_of
from reconstruct.body.points import points_of
from reconstruct.landmarks.lids import lid_openings
from reconstruct.landmarks.topology import topology_of
from reconstruct.models.arkit import ARKIT_NAMES
from reconstruct.models.body_model import BODY, joint
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_body
from schemas.types import BodyTrack, LandmarkTrack
from synthetic.body_motion import make_scene
from synthetic.known_truth import turned
from synthetic.make import perform
from synthetic.talker import random_talker

DETECTOR = "mediapipe 0.10.21"


def landmarks(points: np.ndarray) -> LandmarkTrack:  # type: ignore[type-arg]
    count = len(points)
    valid = np.isfinite(points).all((1, 2))
    pts = np.arange(count, dtype=np.int64) * 40_000
    return LandmarkTrack(pts, points.astype(np.float32), np.ones((count, 478), np.float32), valid, 64, 64, DETECTOR)


def test_head_angles_and_gaze_are_those_that_were_made(open_head: HeadModel) -> None:
    truth, _ = perform(random_talker(2, 64, 64), open_head)
    count = len(truth.pts_us)
    angles = np.radians(np.linspace([-20, -8, -4], [15, 6, 5], count))
    ahead = np.zeros((count, 3), np.float32)
    head = turned(dataclasses.replace(truth.track, left_eye_pose=ahead, right_eye_pose=ahead), angles)
    place = np.array([0.0, 0.0, 1.0], np.float32)
    head = dataclasses.replace(head, translation=np.broadcast_to(place, (count, 3)).copy())
    found = performance_of(open_head, head, landmarks(np.full((count, 478, 2), np.nan)), count * 40_000)
    assert found.head == pytest.approx(angles, abs=1e-4)
    gaze = found.gaze
    assert gaze is not None
    facing = Rotation.from_euler("YXZ", angles).apply([0.0, 0.0, 1.0])
    assert gaze[:, 0] == pytest.approx(np.arctan2(facing[:, 0], facing[:, 2]), abs=1e-3)
    assert gaze[:, 1] == pytest.approx(-np.arcsin(facing[:, 1]), abs=1e-3)
    assert found.names == ARKIT_NAMES


def test_frames_without_a_face_are_nan_everywhere(open_head: HeadModel) -> None:
    truth, _ = perform(random_talker(2, 64, 64), open_head)
    valid = np.ones(len(truth.pts_us), np.bool_)
    valid[3:7] = False
    holed = dataclasses.replace(
        truth.track,
        valid=valid,
        global_pose=np.where(valid[:, None], truth.track.global_pose, np.nan).astype(np.float32),
    )
    found = performance_of(open_head, holed, landmarks(np.full((len(valid), 478, 2), np.nan)), 10_000_000)
    assert found.head is not None
    assert found.gaze is not None
    assert found.weights is not None
    for values in (found.head, found.gaze, found.weights):
        assert np.isnan(values[~valid]).all()
        assert np.isfinite(values[valid]).all()


def test_lids_are_measured_across_the_eye_whatever_the_roll_and_scale() -> None:
    topology = topology_of(DETECTOR)
    points = np.zeros((3, 478, 2))
    for name, x in (("left", 40.0), ("right", 10.0)):
        for lid, y in (("upper", 18.0), ("lower", 21.0)):
            points[:, list(getattr(topology, f"{name}_eye_{lid}"))] = [x + 5, y]
        points[:, getattr(topology, f"{name}_eye_outer")] = [x, 20]
        points[:, getattr(topology, f"{name}_eye_inner")] = [x + 10, 20]
    turn = Rotation.from_euler("z", 30, degrees=True).as_matrix()[:2, :2]
    points[1] = 3 * points[1] @ turn.T + 7
    points[2] = np.nan
    found = lid_openings(landmarks(points))
    assert found[0] == pytest.approx([0.3, 0.3], abs=1e-5)
    assert found[1] == pytest.approx([0.3, 0.3], abs=1e-5)
    assert np.isnan(found[2]).all()


def test_wrists_are_where_the_skeleton_has_them() -> None:
    model = load_body()
    scene = make_scene(model, points_of(model), seed=5, seconds=0.6)
    poses, place = scene.vertices_motion()
    flat = poses.reshape(len(poses), -1).astype(np.float32)
    joint_valid = np.ones((len(poses), 55), np.bool_)
    joint_valid[2, joint("left_elbow")] = False
    track = BodyTrack(
        body_model=model.name,
        body_model_sha256=model.sha256,
        betas=scene.betas.astype(np.float32),
        body_pose=flat[:, 3 * BODY.start : 3 * BODY.stop],
        left_hand_pose=flat[:, 75:120],
        right_hand_pose=flat[:, 120:165],
        body_global_pose=flat[:, :3],
        body_translation=place.astype(np.float32),
        body_valid=np.ones(len(poses), np.bool_),
        body_joint_valid=joint_valid,
        body_residual_px=np.zeros(len(poses), np.float32),
        focal_px=scene.camera.focal_px,
        principal_point=scene.camera.centre.astype(np.float32),
    )
    hands = hands_of(model, track)
    posed = scene.posed.joints
    middle = posed[:, [joint("left_shoulder"), joint("right_shoulder")]].mean(1)
    for side, name in enumerate(("left_wrist", "right_wrist")):
        known = np.linalg.norm(posed[:, joint(name)] - middle, axis=1)
        seen = hands.seen[:, side]
        assert np.linalg.norm(hands.wrists_m[seen, side], axis=1) == pytest.approx(known[seen], abs=1e-3)
    assert not hands.seen[2, 0]
    assert hands.seen.sum() == 2 * len(poses) - 1
    assert (hands.wrists_m[..., 2] > 0).all(where=hands.seen)  # gestures are made before the body


def test_a_part_keeps_its_words_and_its_clock(open_head: HeadModel) -> None:
    truth, speech = perform(random_talker(2, 64, 64), open_head)
    count = len(truth.pts_us)
    nothing = landmarks(np.full((count, 478, 2), np.nan))
    whole = performance_of(open_head, truth.track, nothing, count * 40_000, speech.samples, truth.speech)
    part = part_of(whole, 400_000, 1_200_000)
    assert part.duration_us == 800_000
    assert len(part.pts_us) == 20
    assert part.pts_us[0] == 0
    assert part.samples is not None
    assert len(part.samples) == 12_800
    inside = [word for word in truth.speech.words if word.start_us >= 400_000 and word.end_us <= 1_200_000]
    assert [word.start_us for word in part.words] == [word.start_us - 400_000 for word in inside]
