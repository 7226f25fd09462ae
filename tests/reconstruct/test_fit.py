"""The clip fit against known truth: exact and noisy landmarks of posed heads, holes, outliers, short clips."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from known_heads import FACING, FOCAL, frame_times, known_head, landmarks_of
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.camera import FACING_CAMERA, image_centre, project
from reconstruct.embedding import Embedding
from reconstruct.fit import fit_clip
from reconstruct.fitting.problem import Known
from reconstruct.landmarks.topology import MEDIAPIPE
from reconstruct.models.head_model import HeadModel
from reconstruct.models.rotations import matrix_to_axis_angle, unwrap_axis_angle
from reconstruct.models.skinning import axis_angle_to_matrix
from schemas.config import FitConfig
from schemas.errors import TalksetError
from schemas.types import HeadTrack, LandmarkTrack
from synthetic.evaluate import compare, track_vertices
from synthetic.known_truth import KnownClip, model_clip

PER_FRAME = (
    "expression",
    "global_pose",
    "neck_pose",
    "jaw_pose",
    "left_eye_pose",
    "right_eye_pose",
    "translation",
    "residual_px",
    "nme",
    "held_out_nme",
    "uncertainty_mm",
    "at_limit",
)
# fmt: off
IBUG_AMONG_MEDIAPIPE = (
    162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389,
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
)
# fmt: on


def seen_head(
    model: HeadModel, embedding: Embedding, frames: int, seed: int, noise_px: float = 0
) -> tuple[HeadTrack, LandmarkTrack]:
    times_s = frame_times(frames)
    truth = known_head(model, times_s, seed)
    return truth, landmarks_of(model, embedding, truth, times_s, noise_px)


@pytest.fixture(scope="module")
def embedding(embedding: Embedding) -> Embedding:
    """Of a detector that sees the surface points, which the clips here are made of."""
    return embedding.on_surface()


@pytest.fixture(scope="module")
def clip(open_head: HeadModel, embedding: Embedding) -> KnownClip:
    """A head of the model that speaks, turns by up to 25 degrees, looks about and blinks; its landmarks are exact."""
    return model_clip(open_head, embedding, 0, frames=40)


@pytest.fixture(scope="module")
def fitted(open_head: HeadModel, embedding: Embedding, clip: KnownClip) -> HeadTrack:
    return fit_clip(open_head, embedding, clip.landmarks, FitConfig())


def test_exact_landmarks_of_an_unknown_camera(open_head: HeadModel, clip: KnownClip, fitted: HeadTrack) -> None:
    assert fitted.valid.all()
    errors = compare(clip.truth, fitted, open_head)
    assert errors.vertex_mm < 0.4
    assert errors.jaw_deg < 1
    assert errors.gaze_deg < 2
    assert errors.head_deg < 0.5
    assert errors.lips_mm < 0.3
    assert errors.lids_mm < 0.3
    assert float(fitted.nme.mean()) < 0.004
    assert fitted.focal_px == pytest.approx(clip.truth.focal_px, rel=0.1)


def test_another_head_in_other_poses(open_head: HeadModel, embedding: Embedding) -> None:
    truth, track = seen_head(open_head, embedding, 12, 0)
    errors = compare(truth, fit_clip(open_head, embedding, track, FitConfig(key_frames=6)), open_head)
    assert errors.vertex_mm < 0.4
    assert errors.jaw_deg < 1
    assert errors.gaze_deg < 2
    assert errors.head_deg < 0.5


def test_the_shape_of_the_result(open_head: HeadModel, clip: KnownClip, fitted: HeadTrack) -> None:
    frames = len(clip.landmarks.valid)
    assert fitted.shape.shape == (open_head.num_shape,)
    assert fitted.expression.shape == (frames, open_head.num_expression)
    assert (fitted.head_model, fitted.model_sha256) == (open_head.name, open_head.sha256)
    np.testing.assert_array_equal(fitted.principal_point, image_centre(640, 480))
    for name in PER_FRAME:
        values = getattr(fitted, name)
        assert len(values) == frames, name
        assert values.dtype == np.float32, name
        assert np.isfinite(values).all(), name


def test_residuals_are_those_of_the_result(
    open_head: HeadModel, embedding: Embedding, clip: KnownClip, fitted: HeadTrack
) -> None:
    """The track alone, neck and all, projects to within the stated residual."""
    frames = len(fitted.valid)
    corners, local = np.unique(embedding.vertices, return_inverse=True)
    vertices = track_vertices(open_head, fitted, np.arange(frames), corners, True)
    points = (embedding.barycentric[None, :, :, None] * vertices[:, local.reshape(-1, 3)]).sum(2)
    centre = torch.as_tensor(fitted.principal_point).double()
    pixels = project(torch.as_tensor(points), fitted.focal_px, centre)[..., :2].numpy()
    error_px = np.linalg.norm(pixels - clip.landmarks.face_xy, axis=-1)
    skin = np.setdiff1d(MEDIAPIPE.face, MEDIAPIPE.contour)  # the lower contour hangs partly on the body
    assert abs(error_px[:, skin].mean() - fitted.residual_px.mean()) < 0.1
    np.testing.assert_allclose(
        fitted.residual_px / fitted.nme, MEDIAPIPE.interocular(clip.landmarks.face_xy), rtol=1e-4
    )
    assert fitted.held_out_nme is not None
    assert float(fitted.nme.mean()) / 3 < float(fitted.held_out_nme.mean()) < 0.006


def test_noise_and_outliers_are_withstood(open_head: HeadModel, embedding: Embedding) -> None:
    truth, track = seen_head(open_head, embedding, 20, 3, noise_px=0.7)
    track.face_xy[5:8, 60:90] += 40  # a hand over the cheek
    head = fit_clip(open_head, embedding, track, FitConfig(key_frames=6))
    errors = compare(truth, head, open_head)
    assert errors.vertex_mm < 0.9
    assert errors.jitter_canonical_mm < 2 * errors.jitter_canonical_truth_mm + 0.1


def test_frames_without_a_face_are_not_invented(open_head: HeadModel, embedding: Embedding) -> None:
    truth, track = seen_head(open_head, embedding, 20, 4)
    track.valid[[0, 7, 8, 9]] = False
    track.face_xy[~track.valid] = np.nan
    track.confidence[~track.valid] = np.nan
    head = fit_clip(open_head, embedding, track, FitConfig(key_frames=6))
    assert (head.valid == track.valid).all()
    for name in PER_FRAME:
        values = getattr(head, name)
        assert np.isnan(values[~track.valid]).all(), name
        assert np.isfinite(values[track.valid]).all(), name
    errors = compare(truth, head, open_head)
    assert errors.frames == 16
    assert errors.vertex_mm < 0.4
    beside = dataclasses.replace(truth, valid=np.isin(np.arange(20), [1, 6, 10]))
    assert compare(beside, head, open_head).vertex_mm < 0.5


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_clips(open_head: HeadModel, embedding: Embedding, frames: int) -> None:
    truth, track = seen_head(open_head, embedding, frames, 5)
    head = fit_clip(open_head, embedding, track, FitConfig())
    assert head.expression.shape == (frames, 52)
    assert float(head.nme.mean()) < 0.01
    assert compare(truth, head, open_head).vertex_mm < 1
    if frames < 3:
        assert not head.neck_pose.any()


def test_a_detector_with_few_landmarks(open_head: HeadModel, embedding: Embedding) -> None:
    """The 68 points of iBUG, by the nearest of MediaPipe's: no irises, and too few for a coarse part of them."""
    chosen = np.array(IBUG_AMONG_MEDIAPIPE)
    arrays = ("vertices", "barycentric", "spread_m", "samples", "offset_m", "response")
    few = dataclasses.replace(
        embedding, detector="face-alignment 1.0", **{name: getattr(embedding, name)[chosen] for name in arrays}
    )
    truth, track = seen_head(open_head, few, 6, 4)
    head = fit_clip(open_head, few, track, FitConfig(key_frames=4))
    errors = compare(truth, head, open_head)
    assert float(head.nme.mean()) < 0.004
    assert errors.vertex_mm < 1.5
    assert errors.head_deg < 1.5


def test_bounds_hold_and_joints_own_their_motion(open_head: HeadModel, embedding: Embedding) -> None:
    _, track = seen_head(open_head, embedding, 12, 6, noise_px=2)
    head = fit_clip(open_head, embedding, track, FitConfig(key_frames=4))
    low, high = open_head.expression_bounds.T
    assert (head.expression >= low - 1e-6).all()
    assert (head.expression <= high + 1e-6).all()
    fixed = [open_head.expression_names.index(name) for name in open_head.fixed_expressions]
    assert (head.expression[:, fixed] == 0).all()
    for joint, pose in enumerate((head.neck_pose, head.jaw_pose, head.left_eye_pose, head.right_eye_pose), start=1):
        assert (pose >= open_head.pose_bounds[joint, :, 0] - 1e-6).all()
        assert (pose <= open_head.pose_bounds[joint, :, 1] + 1e-6).all()
    assert not head.left_eye_pose[:, 2].any()


def test_the_neck_only_divides_the_rotation(open_head: HeadModel, embedding: Embedding) -> None:
    truth, track = seen_head(open_head, embedding, 12, 7)
    config, known = FitConfig(key_frames=2), Known(truth.shape, FOCAL)
    shared = fit_clip(open_head, embedding, track, dataclasses.replace(config, neck_after_s=1.0), known)
    alone = fit_clip(open_head, embedding, track, config, known)
    assert not alone.neck_pose.any()
    assert np.abs(shared.neck_pose).max() > 0.01
    head, root, neck = (
        Rotation.from_rotvec(pose.astype(np.float64))
        for pose in (alone.global_pose, shared.global_pose, shared.neck_pose)
    )
    assert float((head.inv() * (root * neck)).magnitude().max()) < 1e-6
    for name in ("shape", "expression", "jaw_pose", "residual_px", "uncertainty_mm"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(alone, name))


def test_same_input_same_bytes(open_head: HeadModel, embedding: Embedding) -> None:
    _, track = seen_head(open_head, embedding, 9, 7, noise_px=1)
    first, second = (fit_clip(open_head, embedding, track, FitConfig(key_frames=3)) for _ in range(2))
    for name, value in vars(first).items():
        if isinstance(value, np.ndarray):
            assert value.tobytes() == getattr(second, name).tobytes(), name
        else:
            assert value == getattr(second, name), name


def test_a_known_focal_length_is_kept(open_head: HeadModel, embedding: Embedding) -> None:
    _, track = seen_head(open_head, embedding, 3, 8)
    config = FitConfig(key_frames=3, focal_px=1000.0)
    assert fit_clip(open_head, embedding, track, config).focal_px == pytest.approx(1000, rel=1e-6)


def test_a_known_person_is_kept(open_head: HeadModel, embedding: Embedding) -> None:
    """As when one shape serves all clips of a speaker; the detector's focal length may be known or not."""
    truth, track = seen_head(open_head, embedding, 6, 8, noise_px=1)
    config = FitConfig(key_frames=4)
    person = fit_clip(open_head, embedding, track, config, Known(truth.shape, FOCAL))
    np.testing.assert_allclose(person.shape, truth.shape, rtol=0, atol=1e-6)
    assert person.focal_px == pytest.approx(FOCAL, rel=1e-6)
    shape = fit_clip(open_head, embedding, track, config, Known(truth.shape))
    np.testing.assert_allclose(shape.shape, truth.shape, rtol=0, atol=1e-6)
    assert shape.focal_px == pytest.approx(FOCAL, rel=0.1)


def test_nothing_held_out_is_not_measured(open_head: HeadModel, embedding: Embedding) -> None:
    truth, track = seen_head(open_head, embedding, 2, 1)
    head = fit_clip(open_head, embedding, track, FitConfig(hold_out=0), Known(truth.shape, FOCAL))
    assert head.held_out_nme is not None
    assert np.isnan(head.held_out_nme).all()
    assert np.isfinite(head.nme).all()


def test_axis_angle_has_no_jumps() -> None:
    angle = np.linspace(-0.4, 0.4, 60)
    turn = axis_angle_to_matrix(torch.as_tensor(np.stack([angle, angle, 0 * angle], 1)))
    wrapped: NDArray[np.float64] = matrix_to_axis_angle((turn @ FACING).numpy())
    smooth = unwrap_axis_angle(wrapped, near=FACING_CAMERA)
    assert np.abs(np.diff(wrapped, axis=0)).max() > 1  # the jump is there to be removed
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.1
    again = axis_angle_to_matrix(torch.as_tensor(smooth))
    torch.testing.assert_close(again, turn @ FACING, atol=1e-7, rtol=0)


def test_the_pose_of_a_fit_has_no_jumps(fitted: HeadTrack) -> None:
    assert np.abs(np.diff(fitted.global_pose, axis=0)).max() < 0.3


def test_an_empty_clip_and_a_foreign_embedding_are_refused(open_head: HeadModel, embedding: Embedding) -> None:
    _, track = seen_head(open_head, embedding, 2, 1)
    with pytest.raises(TalksetError, match="is not of"):
        fit_clip(open_head, dataclasses.replace(embedding, model_sha256="0"), track, FitConfig())
    fewer = dataclasses.replace(track, face_xy=track.face_xy[:, :-1], confidence=track.confidence[:, :-1])
    with pytest.raises(TalksetError, match="477 landmarks, the embedding has 478"):
        fit_clip(open_head, embedding, fewer, FitConfig())
    track.valid[:] = False
    with pytest.raises(TalksetError) as caught:
        fit_clip(open_head, embedding, track, FitConfig())
    assert caught.value.reason == "face_lost"
