"""Heads whose every number is known, seen by an exact camera: what a fit of their landmarks must find again."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.camera import FACING_CAMERA, image_centre, project
from reconstruct.embedding import Embedding
from reconstruct.fitting.problem import Known, Problem, Slices, State, make_problem
from reconstruct.models.head_model import HeadModel
from reconstruct.models.rotations import matrix_to_axis_angle, unwrap_axis_angle
from reconstruct.models.skinning import axis_angle_to_matrix, prepare, skin
from schemas.config import FitConfig
from schemas.types import HeadTrack, LandmarkTrack

Float64 = NDArray[np.float64]
WIDTH, HEIGHT, FOCAL = 640, 480, 900.0
FACING = axis_angle_to_matrix(torch.as_tensor(FACING_CAMERA).double())


def frame_times(frames: int) -> Float64:
    """(T,) seconds at 25 frames a second."""
    return np.arange(frames) / 25


def known_head(model: HeadModel, times_s: Float64, seed: int) -> HeadTrack:
    """A random head that talks, turns and looks about smoothly at these times, in front of a camera of FOCAL."""
    random = np.random.default_rng(seed)
    frames, time = len(times_s), np.asarray(times_s)[:, None]

    def wave(count: int, size: float) -> Float64:
        rate, phase = random.uniform(0.3, 1.2, count), random.uniform(0, 6.28, count)
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
    turn = axis_angle_to_matrix(torch.as_tensor(wave(3, 0.2)))
    pose = unwrap_axis_angle(matrix_to_axis_angle((turn @ FACING).numpy()), near=FACING_CAMERA)
    jaw = np.concatenate([0.1 + wave(1, 0.1), np.zeros((frames, 2))], 1)
    gaze = np.concatenate([wave(2, 0.15), np.zeros((frames, 1))], 1)
    move = np.array([0, 0.21, 0.85]) + wave(3, 0.01)
    nothing = np.full(frames, np.nan, np.float32)
    return HeadTrack(
        head_model=model.name,
        model_sha256=model.sha256,
        shape=shape.astype(np.float32),
        expression=expression.astype(np.float32),
        global_pose=pose.astype(np.float32),
        neck_pose=np.zeros((frames, 3), np.float32),
        jaw_pose=jaw.astype(np.float32),
        left_eye_pose=gaze.astype(np.float32),
        right_eye_pose=gaze.astype(np.float32),
        translation=move.astype(np.float32),
        focal_px=FOCAL,
        principal_point=image_centre(WIDTH, HEIGHT),
        valid=np.ones(frames, np.bool_),
        residual_px=nothing,
        nme=nothing,
    )


def arguments(track: HeadTrack) -> list[Tensor]:
    """Arguments of `skin`, float64."""
    parts = (track.shape, track.expression, track.global_pose, track.neck_pose, track.jaw_pose)
    return [
        torch.as_tensor(np.asarray(part, dtype=np.float64))
        for part in (*parts, track.left_eye_pose, track.right_eye_pose, track.translation)
    ]


def landmarks_of(
    model: HeadModel,
    embedding: Embedding,
    truth: HeadTrack,
    times_s: Float64,
    noise_px: float = 0,
    noise_seed: int = 9,
) -> LandmarkTrack:
    """What an exact detector sees of a head, or one with independent Gaussian noise on every coordinate."""
    vertices = skin(prepare(model, dtype=torch.float64), *arguments(truth)).numpy()
    points = (embedding.barycentric[:, :, None] * vertices[:, embedding.vertices]).sum(2)
    centre = torch.as_tensor(truth.principal_point).double()
    pixels = project(torch.as_tensor(points), truth.focal_px, centre)[..., :2].numpy()
    pixels = pixels + noise_px * np.random.default_rng(noise_seed).normal(size=pixels.shape)
    return LandmarkTrack(
        pts_us=np.round(1e6 * np.asarray(times_s)).astype(np.int64),
        face_xy=pixels.astype(np.float32),
        confidence=np.ones(pixels.shape[:2], np.float32),
        valid=np.ones(len(pixels), np.bool_),
        width=WIDTH,
        height=HEIGHT,
        detector=embedding.detector,
    )


def firm(embedding: Embedding) -> Embedding:
    """The embedding as one whose points lie exactly where the detector means them."""
    return dataclasses.replace(embedding, spread_m=np.zeros_like(embedding.spread_m))


def known_problem(
    model: HeadModel,
    embedding: Embedding,
    frames: int = 6,
    config: FitConfig | None = None,
    known: Known | None = None,
    noise_px: float = 1,
) -> tuple[Problem, State]:
    """The problem of a known head and its true state."""
    times_s = frame_times(frames)
    truth = known_head(model, times_s, 1)
    track = landmarks_of(model, embedding, truth, times_s, noise_px)
    problem = make_problem(model, embedding, track, np.arange(frames), config or FitConfig(), known)
    return problem, state_of(problem, truth)


def state_of(problem: Problem, track: HeadTrack) -> State:
    """A head track as the unknowns of a problem of all its frames; its neck must be at rest."""
    columns = problem.columns
    shape, expression, pose, neck, jaw, left, right, move = arguments(track)
    assert not neck.any()
    motion = torch.zeros(len(pose), columns.total, dtype=torch.float64)
    motion[:, columns.expression] = expression[:, torch.as_tensor(problem.free)]
    motion[:, columns.jaw], motion[:, columns.translation] = jaw, move
    motion[:, columns.left_eye], motion[:, columns.right_eye] = left[:, :2], right[:, :2]
    away = axis_angle_to_matrix(pose) @ FACING.T
    motion[:, columns.rotation] = torch.as_tensor(matrix_to_axis_angle(away.numpy()))
    return State(shape, torch.tensor(float(np.log(track.focal_px)), dtype=torch.float64), motion)


def random_state(problem: Problem, seed: int, turn: float = 0.3) -> State:
    """Any state in front of the camera: expressions, jaw and eyes may pass their bounds; rotations of about `turn`."""
    random, columns = np.random.default_rng(seed), Slices(len(problem.free))
    motion = torch.as_tensor(random.normal(0, 0.3, (len(problem.observed), columns.total)))
    motion[:, columns.rotation] = torch.as_tensor(random.normal(0, turn, (len(motion), 3)))
    motion[:, columns.translation] = torch.as_tensor(random.normal([0.02, 0.19, 0.9], 0.02, (len(motion), 3)))
    shape = torch.as_tensor(random.normal(0, 0.8, problem.points.num_shape))
    return State(shape, torch.tensor(6.7, dtype=torch.float64), motion)
