"""What is told of the landmarks' errors, against errors that were put in; and the layout of the unknowns."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from known_heads import arguments, firm, frame_times, known_head, known_problem, landmarks_of
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.camera import default_focal
from reconstruct.embedding import Embedding
from reconstruct.fitting.problem import (
    LEAST_NOISE,
    Known,
    Problem,
    Slices,
    facing_pairs,
    held_out_landmarks,
    make_problem,
    passing_noise,
)
from reconstruct.landmark_points import landmark_points
from reconstruct.landmarks.topology import IBUG_68, MEDIAPIPE, Topology
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, prepare, skin
from schemas.config import FitConfig
from schemas.types import LandmarkTrack


def smooth(frames: int, seed: int = 0, count: int = 200) -> tuple[Tensor, Tensor]:
    """Landmarks (T, L, 2) of a head that moves as heads do, in interocular distances, and their places (L, 3)."""
    random = np.random.default_rng(seed)
    places = random.normal(0, 0.05, (count, 3))
    time = frame_times(frames)
    turn = 0.3 * np.sin(2 * np.pi * 0.5 * time)[:, None]
    across = places[:, 0] * np.cos(turn) + places[:, 2] * np.sin(turn) + 0.3 * np.sin(2 * time)[:, None]
    up = places[:, 1] + 0.001 * np.sin(2 * np.pi * 3 * time)[:, None] * (places[:, 1] < 0)
    return torch.as_tensor(np.stack([across, up], axis=-1) / 0.09), torch.as_tensor(places)


@pytest.mark.parametrize("level", [0.005, 0.01, 0.03])
@pytest.mark.parametrize("frames", [30, 120])
def test_white_noise_is_measured(frames: int, level: float) -> None:
    landmarks, places = smooth(frames)
    noise = torch.as_tensor(np.random.default_rng(1).normal(0, level, landmarks.shape))
    alone, together = passing_noise(landmarks + noise, places, frame_times(frames))
    assert np.sqrt(alone) == pytest.approx(level, rel=0.2)
    assert together < 3 * alone


def test_neighbours_that_err_together_count_more() -> None:
    landmarks, places = smooth(100)
    random = np.random.default_rng(2)
    waves = random.normal(size=(8, 3)) / 0.05
    patterns = np.sin(places.numpy() @ waves.T + random.uniform(0, 6, 8)) / 2  # (L, 8) smooth over the face
    together = torch.as_tensor(np.einsum("lk,tkc->tlc", patterns, random.normal(0, 0.01, (100, 8, 2))))
    alone = torch.as_tensor(random.normal(0, float(together.std()), together.shape))
    times_s = frame_times(100)
    (scatter, common), (alone_scatter, alone_common) = (
        passing_noise(landmarks + noise, places, times_s) for noise in (together, alone)
    )
    assert scatter == pytest.approx(alone_scatter, rel=0.5)
    assert common > 5 * scatter
    assert common > 3 * alone_common


def test_exact_landmarks_have_no_noise_and_short_clips_tell_none() -> None:
    landmarks, places = smooth(60)
    assert np.sqrt(passing_noise(landmarks, places, frame_times(60))[0]) < 5e-4
    still = landmarks[:1].expand(60, -1, -1)
    assert passing_noise(still, places, frame_times(60)) == (0, 0)
    noisy = landmarks + torch.as_tensor(np.random.default_rng(3).normal(0, 0.01, landmarks.shape))
    assert passing_noise(noisy[:7], places, frame_times(7)) == (0, 0)
    assert min(passing_noise(noisy[:8], places, frame_times(8))) > 0


def test_what_a_frame_shares_is_no_noise() -> None:
    """A head that shakes, or a camera, moves all landmarks alike."""
    landmarks, places = smooth(60)
    shake = torch.as_tensor(np.random.default_rng(4).normal(0, 0.1, (60, 1, 2)))
    shaken = passing_noise(landmarks + shake, places, frame_times(60))
    np.testing.assert_allclose(shaken, passing_noise(landmarks, places, frame_times(60)), rtol=1e-6)


def test_jumps_across_holes_are_no_noise() -> None:
    landmarks, places = smooth(60)
    landmarks, times_s = landmarks.clone(), frame_times(60)
    for first in range(10, 60, 10):
        landmarks[first:] += 0.2 * torch.as_tensor(np.random.default_rng(first).normal(size=landmarks.shape[1:]))
        times_s[first:] += 0.5
    assert np.sqrt(passing_noise(landmarks, places, times_s)[0]) < 1e-3


@pytest.mark.parametrize("noise_px", [1.0, 2.0])
def test_precision_is_that_of_the_noise(open_head: HeadModel, embedding: Embedding, noise_px: float) -> None:
    """With landmarks that mean the model's points exactly, all their variance is the noise of the frames."""
    config = FitConfig(embedding_floor_m=0, hold_out=0)
    problem, _ = known_problem(open_head, firm(embedding), 40, config, noise_px=noise_px)
    stated_px = (problem.precision**-0.5 * problem.scale_px[:, None]).median()
    assert float(stated_px) == pytest.approx(noise_px, rel=0.2)
    assert problem.time_prior == pytest.approx(1)
    assert problem.shared_prior == pytest.approx(1)


def test_lasting_errors_weigh_less_but_for_the_person(open_head: HeadModel, embedding: Embedding) -> None:
    exact, _ = known_problem(open_head, firm(embedding), 12, FitConfig(embedding_floor_m=0), noise_px=0)
    usual, _ = known_problem(open_head, embedding, 12, FitConfig(), noise_px=0)
    assert exact.passing >= LEAST_NOISE**2
    used = usual.precision > 0
    assert (usual.precision[used] < exact.precision[used]).all()
    assert 1 < usual.shared_prior <= 12
    assert usual.time_prior < exact.time_prior
    rank = np.argsort(embedding.spread_m)
    landmarks = rank[used[0].numpy()[rank]]
    assert (np.diff(usual.precision[0, torch.as_tensor(landmarks)].numpy()) <= 1e-9).all()


@pytest.mark.parametrize("topology", [MEDIAPIPE, IBUG_68])
@pytest.mark.parametrize("every", [2, 8, 13])
def test_no_rim_is_held_out(topology: Topology, every: int) -> None:
    held_out = held_out_landmarks(topology, every)
    rims = (topology.left_eye_upper, topology.left_eye_lower, topology.right_eye_upper, topology.right_eye_lower)
    for kept in (*rims, topology.lips_inner, topology.lips_outer, topology.outer_eye_corners, topology.eyeball_points):
        assert not np.isin(kept, held_out).any()
    assert len(held_out) > 0
    assert np.isin(held_out, topology.face).all()
    assert len(held_out) <= len(topology.face) / every + 1


@pytest.mark.parametrize("every", [0, -1])
def test_nothing_is_held_out_when_not_asked(every: int) -> None:
    assert held_out_landmarks(MEDIAPIPE, every).size == 0


@pytest.mark.parametrize("topology", [MEDIAPIPE, IBUG_68])
def test_landmarks_face_each_other(topology: Topology) -> None:
    """Every point of a lid between the corners, once; mirrored pairs are pairs."""
    everything = np.arange(topology.num_points)
    pairs = facing_pairs(topology, everything)
    assert len(np.unique(pairs)) == pairs.size
    for upper, lower in (
        (topology.left_eye_upper, topology.left_eye_lower),
        (topology.right_eye_upper, topology.right_eye_lower),
    ):
        assert np.isin(upper[1:-1], pairs[:, 0]).all()
        assert np.isin(lower[1:-1], pairs[:, 1]).all()
        assert not np.isin(upper[[0, -1]], pairs).any()
    assert sorted(topology.mirror[pairs].tolist()) == sorted(pairs.tolist())
    lost = topology.left_eye_upper[1]
    fewer = facing_pairs(topology, np.setdiff1d(everything, lost))
    assert len(fewer) == len(pairs) - 1
    assert lost not in fewer
    assert facing_pairs(topology, topology.left_eye_upper).shape == (0, 2)


def test_landmarks_that_face_each_other_are_near(open_head: HeadModel, embedding: Embedding) -> None:
    places = landmark_points(open_head, embedding, torch.float64).template
    pairs = torch.as_tensor(facing_pairs(MEDIAPIPE, np.arange(478)))
    across = (places[pairs[:, 0]] - places[pairs[:, 1]]).abs()
    assert float(across[:, 0].max()) < 0.004  # above each other
    assert float(across.norm(dim=1).max()) < 0.02
    assert (places[pairs[:, 0], 1] >= places[pairs[:, 1], 1] - 1e-3).all()  # the upper first


def track_of(model: HeadModel, embedding: Embedding, frames: int = 6) -> LandmarkTrack:
    times_s = frame_times(frames)
    return landmarks_of(model, embedding, known_head(model, times_s, 1), times_s)


def test_landmarks_that_do_not_count(open_head: HeadModel, embedding: Embedding) -> None:
    samples = embedding.samples.copy()
    samples[[5, 10, 470]] = 0
    spread = embedding.spread_m.copy()
    spread[samples == 0] = np.inf
    partial = dataclasses.replace(embedding, samples=samples, spread_m=spread)
    problem = make_problem(open_head, partial, track_of(open_head, embedding), np.arange(6), FitConfig())
    zero = np.flatnonzero((problem.precision == 0).all(0).numpy())
    held_out = held_out_landmarks(MEDIAPIPE, FitConfig().hold_out)
    np.testing.assert_array_equal(zero, np.union1d(held_out, [5, 10, 470]))
    assert torch.isfinite(problem.precision).all()
    assert float(problem.precision.max()) < 1e6
    assert not np.isin([5, 10, 470], problem.face).any()
    np.testing.assert_array_equal(problem.held_out, np.setdiff1d(held_out, [5, 10, 470]))
    assert np.isin(problem.held_out, problem.face).all()
    np.testing.assert_array_equal(np.sort([*problem.face.tolist(), 5, 10]), MEDIAPIPE.face)


def test_half_the_confidence_is_half_the_precision(open_head: HeadModel, embedding: Embedding) -> None:
    track, frames = track_of(open_head, embedding), np.arange(6)
    usual = make_problem(open_head, embedding, track, frames, FitConfig())
    track.confidence[2:4, 100:200] = 0.5
    track.confidence[5, 300] = 0
    doubted = make_problem(open_head, embedding, track, frames, FitConfig())
    expected = usual.precision.clone()
    expected[2:4, 100:200] /= 2
    expected[5, 300] = 0
    torch.testing.assert_close(doubted.precision, expected)


def test_only_the_frames_that_are_seen_are_taken(open_head: HeadModel, embedding: Embedding) -> None:
    track = track_of(open_head, embedding, 9)
    seen = np.array([0, 1, 4, 5, 6, 8])
    track.face_xy[[2, 3, 7]] = np.nan
    track.confidence[[2, 3, 7]] = np.nan
    problem = make_problem(open_head, embedding, track, seen, FitConfig())
    assert len(problem.observed) == len(problem.eye_px) == len(problem.scale_px) == len(problem.bending.bands[0]) == 6
    assert torch.isfinite(problem.observed).all()
    np.testing.assert_allclose(problem.eye_px.numpy(), MEDIAPIPE.interocular(track.face_xy[seen]), rtol=1e-5)


def test_a_turned_head_keeps_its_weight(open_head: HeadModel, embedding: Embedding) -> None:
    """A profile brings the eye corners together in the picture: its residuals must not count for more than others."""
    track = track_of(open_head, embedding, 6)
    corners = MEDIAPIPE.outer_eye_corners
    track.face_xy[3, corners[1]] = track.face_xy[3, corners[0]] + 1
    problem = make_problem(open_head, embedding, track, np.arange(6), FitConfig())
    assert float(problem.eye_px[3]) < 2
    assert float(problem.scale_px[3]) > 0.6 * float(problem.scale_px.median())


def test_columns_are_laid_out_without_gaps() -> None:
    columns = Slices(41)
    parts = [
        columns.expression,
        columns.jaw,
        columns.left_eye,
        columns.right_eye,
        columns.rotation,
        columns.translation,
    ]
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(columns.total))
    assert [part.stop - part.start for part in parts] == [41, 3, 2, 2, 3, 3]


def test_bounds_are_the_models(open_head: HeadModel, embedding: Embedding) -> None:
    problem, _ = known_problem(open_head, embedding)
    columns = problem.columns
    names = [open_head.expression_names[index] for index in problem.free]
    assert set(names) == set(open_head.expression_names) - set(open_head.fixed_expressions)
    for column, index in enumerate(problem.free):
        assert float(problem.lower[column]) == open_head.expression_bounds[index, 0]
        assert float(problem.upper[column]) == open_head.expression_bounds[index, 1]
    np.testing.assert_array_equal(problem.upper[columns.jaw].numpy(), open_head.pose_bounds[2, :, 1])
    np.testing.assert_array_equal(problem.lower[columns.left_eye].numpy(), open_head.pose_bounds[3, :2, 0])
    np.testing.assert_array_equal(problem.upper[columns.right_eye].numpy(), open_head.pose_bounds[4, :2, 1])
    for part in (columns.rotation, columns.translation):
        assert torch.isinf(problem.lower[part]).all()
        assert torch.isinf(problem.upper[part]).all()


def test_what_is_known_of_the_person(open_head: HeadModel, embedding: Embedding) -> None:
    shape = np.zeros(open_head.num_shape, np.float32)
    for config, known, focal, flags in (
        (FitConfig(), None, default_focal(640, 480), (False, False)),
        (FitConfig(focal_px=700.0), None, 700.0, (False, True)),
        (FitConfig(), Known(shape), default_focal(640, 480), (True, False)),
        (FitConfig(), Known(shape, 800.0), 800.0, (True, True)),
    ):
        problem, _ = known_problem(open_head, embedding, 2, config, known)
        assert problem.focal_guess == focal
        assert (problem.known_shape, problem.known_focal) == flags


def posed_points(points: SkinningModel) -> Tensor:
    """(1, L, 3) landmarks of some shape, expression and pose."""
    shape = torch.full((points.num_shape,), 0.5).double()
    expression = torch.full((1, points.shapedirs.shape[1] - points.num_shape), 0.3).double()
    turn, zero = torch.full((1, 3), 0.2).double(), torch.zeros(1, 3).double()
    return skin(points, shape, expression, turn, turn, turn, turn, turn, zero)


def assert_part(whole: Problem, part: Problem, frames: list[int], landmarks: NDArray[np.int64]) -> None:
    used = torch.as_tensor(landmarks)
    torch.testing.assert_close(posed_points(part.points), posed_points(whole.points)[:, used])
    torch.testing.assert_close(part.observed, whole.observed[frames][:, used])
    torch.testing.assert_close(part.scale_px, whole.scale_px[frames])
    torch.testing.assert_close(part.eye_px, whole.eye_px[frames])
    assert part.points.vertex_ids.tolist() == landmarks.tolist()
    kept = [pair for pair in whole.pairs.tolist() if np.isin(pair, landmarks).all()]
    assert landmarks[part.pairs].reshape(-1, 2).tolist() == kept


def test_a_part_of_a_problem(open_head: HeadModel, embedding: Embedding) -> None:
    whole, _ = known_problem(open_head, embedding, 12)
    every = np.arange(len(embedding.samples))
    frames = [0, 5, 11]
    part = whole.part(np.array(frames))
    assert_part(whole, part, frames, every)
    torch.testing.assert_close(part.precision, whole.precision[frames])
    assert 1 <= part.shared_prior <= whole.shared_prior
    fewer = whole.part(np.array(frames), every[::4])
    assert_part(whole, fewer, frames, every[::4])
    ratio = len(every) / len(every[::4])
    torch.testing.assert_close(fewer.precision, ratio * whole.precision[frames][:, ::4])


def test_key_frames_spread_over_the_clip(open_head: HeadModel, embedding: Embedding) -> None:
    whole, _ = known_problem(open_head, embedding, 40)
    keys = whole.key_frames()
    assert len(keys) == whole.config.key_frames
    assert (keys[0], keys[-1]) == (0, 39)
    assert np.ptp(np.diff(keys)) <= 1
    assert whole.part(np.arange(3)).key_frames().tolist() == [0, 1, 2]
    assert whole.part(np.arange(1)).key_frames().tolist() == [0]


def test_single_is_the_same_problem_in_float32(open_head: HeadModel, embedding: Embedding) -> None:
    whole, _ = known_problem(open_head, embedding)
    single = whole.single()
    for name in ("observed", "scale_px", "eye_px", "precision", "principal_point"):
        exact, rounded = getattr(whole, name), getattr(single, name)
        assert rounded.dtype == torch.float32, name
        torch.testing.assert_close(rounded.double(), exact, rtol=1e-6, atol=0)
    assert {single.points.template.dtype, single.points.posedirs.dtype, single.points.joint_dirs.dtype} == {
        torch.float32
    }
    assert single.points.parents == whole.points.parents
    assert single.lower.dtype == torch.float64


def test_landmarks_as_vertices_equal_the_surface_points(open_head: HeadModel, embedding: Embedding) -> None:
    times_s = frame_times(10)
    posed = arguments(known_head(open_head, times_s, 2))
    vertices = skin(prepare(open_head, dtype=torch.float64), *posed).numpy()
    exact = (embedding.barycentric[:, :, None] * vertices[:, embedding.vertices]).sum(2)
    carried = skin(landmark_points(open_head, embedding.on_surface(), torch.float64), *posed).numpy()
    distance = np.linalg.norm(exact - carried, axis=-1)
    assert distance.mean() < 1e-5
    assert distance.max() < 3e-4  # lips, where the jaw's weight changes within a triangle
