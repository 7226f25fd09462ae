"""The clip fit against known truth: exact and noisy landmarks of posed heads, holes, outliers, short clips."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reconstruct import fit as fitting
from reconstruct.camera import FACING_CAMERA, image_centre, project
from reconstruct.embedding import Embedding
from reconstruct.fit import Slices, State, fit_clip, landmark_points
from reconstruct.models.head_model import HeadModel
from reconstruct.models.rotations import unwrap_axis_angle
from reconstruct.models.skinning import axis_angle_to_matrix, prepare, skin
from schemas.config import FitConfig
from schemas.errors import TalksetError
from schemas.types import HeadTrack, LandmarkTrack

WIDTH, HEIGHT, FOCAL = 640, 480, 900.0


def truth_arguments(model: HeadModel, frames: int, seed: int) -> list[torch.Tensor]:
    """Arguments of `skin`: a random head that talks, turns and looks about smoothly."""
    random = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 25

    def wave(count: int, size: float) -> NDArray[np.float64]:
        rate, phase = random.uniform(0.5, 2.5, count), random.uniform(0, 6.28, count)
        return np.asarray(size * np.sin(2 * np.pi * rate * time + phase))

    shape = np.zeros(model.num_shape)
    shape[:40] = random.normal(0, 0.7, 40)
    expression = np.zeros((frames, model.num_expression))
    for name, size in (("mouthSmile", 0.4), ("browDown", 0.4), ("eyeBlink", 0.5)):
        values = np.clip(wave(1, size), 0, 1)
        for side in ("Left", "Right"):
            expression[:, [model.expression_names.index(name + side)]] = values
    for name, size in (("mouthPucker", 0.5), ("mouthFunnel", 0.4), ("browInnerUp", 0.5)):
        expression[:, [model.expression_names.index(name)]] = np.clip(wave(1, size), 0, 1)
    facing = axis_angle_to_matrix(torch.as_tensor(FACING_CAMERA).double())
    turn = axis_angle_to_matrix(torch.as_tensor(wave(3, 0.2)))
    pose = fitting.matrix_to_axis_angle(turn @ facing).numpy()
    jaw = np.concatenate([0.1 + wave(1, 0.1), np.zeros((frames, 2))], 1)
    gaze = np.concatenate([wave(2, 0.15), np.zeros((frames, 1))], 1)
    translation = np.array([0, 0.21, 0.85]) + wave(3, 0.01)
    arrays = [shape, expression, pose, np.zeros((frames, 3)), jaw, gaze, gaze, translation]
    return [torch.as_tensor(array) for array in arrays]


def observe(
    model: HeadModel, embedding: Embedding, arguments: list[torch.Tensor], noise_px: float = 0
) -> LandmarkTrack:
    vertices = skin(prepare(model, dtype=torch.float64), *arguments).numpy()
    points = (embedding.barycentric[:, :, None] * vertices[:, embedding.vertices]).sum(2)
    pixels = project(torch.as_tensor(points), FOCAL, torch.as_tensor(image_centre(WIDTH, HEIGHT)))[..., :2].numpy()
    pixels = pixels + noise_px * np.random.default_rng(9).normal(size=pixels.shape)
    frames = len(pixels)
    clock = np.arange(frames, dtype=np.int64) * 40_000
    return LandmarkTrack(clock, pixels.astype(np.float32), np.ones(frames, bool), WIDTH, HEIGHT, embedding.detector)


def face_error_mm(model: HeadModel, head: HeadTrack, arguments: list[torch.Tensor]) -> float:
    """Mean face vertex distance after similarity alignment of each frame."""
    skinning = prepare(model, model.regions["face"].astype(np.int64), dtype=torch.float64)
    fitted = skin(
        skinning,
        *(
            torch.as_tensor(np.asarray(value, dtype=np.float64))
            for value in (
                head.shape,
                head.expression,
                head.global_pose,
                head.neck_pose,
                head.jaw_pose,
                head.left_eye_pose,
                head.right_eye_pose,
                head.translation,
            )
        ),
    ).numpy()
    truth = skin(skinning, *arguments).numpy()
    errors = []
    for a, b in zip(fitted, truth, strict=True):
        a, b = a - a.mean(0), b - b.mean(0)
        u, s, vt = np.linalg.svd(a.T @ b)
        errors.append(np.linalg.norm(a @ u @ vt * (s.sum() / (a**2).sum()) - b, axis=1).mean())
    return 1000 * float(np.mean(errors))


@pytest.mark.parametrize("seed", [0, 1])
def test_exact_landmarks_of_an_unknown_camera(open_head: HeadModel, embedding: Embedding, seed: int) -> None:
    arguments = truth_arguments(open_head, 30, seed)
    head = fit_clip(open_head, embedding, observe(open_head, embedding, arguments), FitConfig())
    assert head.valid.all()
    assert float(head.nme.mean()) < 0.004
    assert face_error_mm(open_head, head, arguments) < 1.2
    jaw = head.jaw_pose[:, 0] - arguments[4][:, 0].numpy()
    assert np.degrees(np.abs(jaw)).mean() < 2.0
    gaze = head.left_eye_pose[:, :2] - arguments[5][:, :2].numpy()
    assert np.degrees(np.abs(gaze)).mean() < 4.0
    turned = axis_angle_to_matrix(torch.as_tensor(head.global_pose)).double()
    true_turn = axis_angle_to_matrix(arguments[2])
    relative = turned.transpose(1, 2) @ true_turn
    angle = torch.arccos(((relative.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    assert np.degrees(float(angle.mean())) < 2.0


def test_noise_and_outliers_are_withstood(open_head: HeadModel, embedding: Embedding) -> None:
    arguments = truth_arguments(open_head, 30, 3)
    track = observe(open_head, embedding, arguments, noise_px=0.7)
    track.face_xy[5:8, 60:90] += 40  # a hand over the cheek
    head = fit_clip(open_head, embedding, track, FitConfig())
    assert face_error_mm(open_head, head, arguments) < 1.8


def test_frames_without_a_face_are_not_invented(open_head: HeadModel, embedding: Embedding) -> None:
    track = observe(open_head, embedding, truth_arguments(open_head, 20, 4))
    track.valid[[0, 7, 8, 9]] = False
    track.face_xy[~track.valid] = np.nan
    head = fit_clip(open_head, embedding, track, FitConfig())
    assert (head.valid == track.valid).all()
    for values in (head.expression, head.global_pose, head.jaw_pose, head.translation, head.residual_px, head.nme):
        assert np.isnan(values[~track.valid]).all()
        assert np.isfinite(values[track.valid]).all()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_very_short_clips(open_head: HeadModel, embedding: Embedding, frames: int) -> None:
    track = observe(open_head, embedding, truth_arguments(open_head, frames, 5))
    head = fit_clip(open_head, embedding, track, FitConfig())
    assert head.expression.shape == (frames, 52)
    assert float(head.nme.mean()) < 0.01


def test_bounds_hold_and_joints_own_their_motion(open_head: HeadModel, embedding: Embedding) -> None:
    track = observe(open_head, embedding, truth_arguments(open_head, 12, 6), noise_px=2)
    head = fit_clip(open_head, embedding, track, FitConfig())
    low, high = open_head.expression_bounds.T
    assert (head.expression >= low - 1e-6).all()
    assert (head.expression <= high + 1e-6).all()
    fixed = [open_head.expression_names.index(name) for name in open_head.fixed_expressions]
    assert (head.expression[:, fixed] == 0).all()
    assert (head.jaw_pose >= open_head.pose_bounds[2, :, 0] - 1e-6).all()
    assert (head.jaw_pose <= open_head.pose_bounds[2, :, 1] + 1e-6).all()


def test_same_input_same_bytes(open_head: HeadModel, embedding: Embedding) -> None:
    track = observe(open_head, embedding, truth_arguments(open_head, 6, 7), noise_px=1)
    first, second = (fit_clip(open_head, embedding, track, FitConfig()) for _ in range(2))
    for name, value in vars(first).items():
        if isinstance(value, np.ndarray):
            assert value.tobytes() == getattr(second, name).tobytes(), name


def test_a_known_focal_length_is_kept(open_head: HeadModel, embedding: Embedding) -> None:
    track = observe(open_head, embedding, truth_arguments(open_head, 6, 8))
    assert fit_clip(open_head, embedding, track, FitConfig(focal_px=FOCAL)).focal_px == pytest.approx(FOCAL, rel=1e-4)


def test_derivatives_equal_differences(open_head: HeadModel, embedding: Embedding) -> None:
    track = observe(open_head, embedding, truth_arguments(open_head, 2, 1), noise_px=1)
    problem = fitting._pose_problem(open_head, embedding, track, np.arange(2), FitConfig())
    columns = Slices(len(problem.free))
    random = np.random.default_rng(0)
    motion = fitting._initial_state(problem, columns).motion
    motion[:, columns.expression] = torch.as_tensor(random.uniform(0, 0.5, (2, columns.expressions)))
    motion[:, columns.jaw] = torch.tensor([0.2, 0.05, 0.03]).double()
    motion[:, columns.left_eye] = torch.tensor([0.2, -0.1]).double()
    state = State(torch.as_tensor(random.normal(0, 0.5, open_head.num_shape)), torch.tensor(6.7).double(), motion)
    everything = slice(None)
    line = fitting._linearise(problem, columns, state, everything, shared=True)
    assert line.by_shared is not None
    step = 1e-3
    for column in (0, 7, 20, *range(columns.expressions, columns.total)):
        change = torch.zeros(columns.total).double()
        change[column] = step
        ahead = fitting._residual(problem, columns, dataclasses.replace(state, motion=motion + change), everything)
        behind = fitting._residual(problem, columns, dataclasses.replace(state, motion=motion - change), everything)
        torch.testing.assert_close(line.by_motion[..., column], (ahead - behind) / (2 * step), atol=2e-3, rtol=1e-3)
    for column in (0, 9, open_head.num_shape):
        change = torch.zeros(open_head.num_shape + 1).double()
        change[column] = step
        sides = [
            fitting._residual(
                problem,
                columns,
                State(state.shape + sign * change[:-1], state.log_focal + sign * change[-1], motion),
                everything,
            )
            for sign in (1, -1)
        ]
        torch.testing.assert_close(
            line.by_shared[..., column], (sides[0] - sides[1]) / (2 * step), atol=2e-3, rtol=1e-3
        )


def test_landmarks_as_vertices_equal_the_surface_points(open_head: HeadModel, embedding: Embedding) -> None:
    arguments = truth_arguments(open_head, 10, 2)
    vertices = skin(prepare(open_head, dtype=torch.float64), *arguments).numpy()
    exact = (embedding.barycentric[:, :, None] * vertices[:, embedding.vertices]).sum(2)
    carried = skin(landmark_points(open_head, embedding, torch.float64), *arguments).numpy()
    distance = np.linalg.norm(exact - carried, axis=-1)
    assert distance.mean() < 1e-5
    assert distance.max() < 3e-4  # lips, where the jaw's weight changes within a triangle


def test_axis_angle_has_no_jumps() -> None:
    angle = np.linspace(-0.4, 0.4, 60)
    turn = axis_angle_to_matrix(torch.as_tensor(np.stack([angle, angle, 0 * angle], 1)))
    facing = axis_angle_to_matrix(torch.as_tensor(FACING_CAMERA).double())
    wrapped = fitting.matrix_to_axis_angle(turn @ facing).numpy()
    smooth = unwrap_axis_angle(wrapped, near=FACING_CAMERA)
    assert np.abs(np.diff(wrapped, axis=0)).max() > 1  # the jump is there to be removed
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.1
    again = axis_angle_to_matrix(torch.as_tensor(smooth))
    torch.testing.assert_close(again, turn @ facing, atol=1e-7, rtol=0)


def test_an_empty_clip_and_a_foreign_embedding_are_refused(open_head: HeadModel, embedding: Embedding) -> None:
    track = observe(open_head, embedding, truth_arguments(open_head, 2, 1))
    with pytest.raises(TalksetError, match="is not of"):
        fit_clip(open_head, dataclasses.replace(embedding, model_sha256="0"), track, FitConfig())
    track.valid[:] = False
    with pytest.raises(TalksetError) as caught:
        fit_clip(open_head, embedding, track, FitConfig())
    assert caught.value.reason == "face_lost"
