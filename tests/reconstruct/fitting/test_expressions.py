"""Pairs of expressions by their names, and the start that a detector's blend shapes give."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from known_heads import frame_times, known_head, known_problem, landmarks_of, state_of

from reconstruct.embedding import Embedding
from reconstruct.fitting.expressions import TOGETHER, mirrored, of_blendshapes, speaks_arkit
from reconstruct.fitting.problem import Problem, State, make_problem
from reconstruct.models.arkit import ARKIT_NAMES, to_arkit
from reconstruct.models.head_model import HeadModel
from schemas.config import FitConfig
from schemas.types import LandmarkTrack


@pytest.fixture(scope="module")
def embedding(embedding: Embedding) -> Embedding:
    """Of a detector that sees the surface points, which the clips here are made of."""
    return embedding.on_surface()


def renamed(model: HeadModel) -> HeadModel:
    """The model with expressions of a statistical model's names."""
    names = tuple(f"expression_{number}" for number in range(model.num_expression))
    return dataclasses.replace(model, expression_names=names, fixed_expressions=())


def seen_by_tasks(model: HeadModel, embedding: Embedding, frames: int) -> tuple[LandmarkTrack, State, Problem]:
    """A track with the true blend shapes, the truth, and the problem of the track."""
    times_s = frame_times(frames)
    truth = known_head(model, times_s, 1)
    weights = to_arkit(model, truth.expression, truth.jaw_pose, truth.left_eye_pose, truth.right_eye_pose, clip=True)
    track = dataclasses.replace(landmarks_of(model, embedding, truth, times_s, 1), blendshapes=weights)
    problem = make_problem(model, embedding, track, np.arange(frames), FitConfig())
    return track, state_of(problem, truth), problem


def test_pairs_are_the_two_sides_of_one_action() -> None:
    pairs, firmly = mirrored(ARKIT_NAMES)
    found = {
        (ARKIT_NAMES[left], ARKIT_NAMES[right]): weight for (left, right), weight in zip(pairs, firmly, strict=True)
    }
    assert found == {(action + "Left", action + "Right"): weight for action, weight in TOGETHER.items()}
    assert found["eyeBlinkLeft", "eyeBlinkRight"] == max(found.values())
    assert not any("mouth" in left or "Look" in left for left, _ in found)


def test_names_without_sides_have_no_pairs() -> None:
    for names in (["expression_0", "expression_1"], ["eyeBlinkLeft", "browDownRight"], []):
        pairs, firmly = mirrored(names)
        assert pairs.shape == (0, 2)
        assert firmly.shape == (0,)


def test_blend_shapes_are_the_start(open_head: HeadModel, embedding: Embedding) -> None:
    _, truth, problem = seen_by_tasks(open_head, embedding, 5)
    told = slice(0, problem.columns.rotation.start)
    inside = truth.motion.clamp(problem.lower, problem.upper)[:, told]
    jaw = problem.columns.jaw.start
    inside[:, jaw] = inside[:, jaw].clamp(min=0)  # a blend shape cannot press the lips' jaw shut
    np.testing.assert_allclose(problem.start[:, told], inside, atol=1e-6)
    assert not problem.start[:, problem.columns.rotation.start :].any()
    part = problem.part(np.array([1, 4]))
    np.testing.assert_array_equal(part.start, problem.start[[1, 4]])


def test_a_start_is_within_the_bounds(open_head: HeadModel, embedding: Embedding) -> None:
    track, _, problem = seen_by_tasks(open_head, embedding, 3)
    wild = dataclasses.replace(track, blendshapes=np.full((3, 52), 7, np.float32))
    start = make_problem(open_head, embedding, wild, np.arange(3), FitConfig()).start
    assert (start >= problem.lower).all()
    assert (start <= problem.upper).all()


def test_frames_without_blend_shapes_start_at_rest(open_head: HeadModel, embedding: Embedding) -> None:
    track, _, problem = seen_by_tasks(open_head, embedding, 3)
    assert track.blendshapes is not None
    some = track.blendshapes.copy()
    some[1] = np.nan
    start = make_problem(
        open_head, embedding, dataclasses.replace(track, blendshapes=some), np.arange(3), FitConfig()
    ).start
    assert not start[1].any()
    np.testing.assert_array_equal(start[[0, 2]], problem.start[[0, 2]])
    assert not known_problem(open_head, embedding, 2)[0].start.any()


def test_models_of_other_names_ignore_them(open_head: HeadModel, embedding: Embedding) -> None:
    other = renamed(open_head)
    assert speaks_arkit(open_head)
    assert not speaks_arkit(other)
    track, _, _ = seen_by_tasks(open_head, embedding, 3)
    problem = make_problem(other, embedding, track, np.arange(3), FitConfig())
    assert not problem.start.any()
    assert problem.mirrored.shape == (0, 2)


def test_weights_by_name(open_head: HeadModel) -> None:
    weights = np.zeros((1, 52), np.float32)
    weights[0, ARKIT_NAMES.index("mouthSmileLeft")] = 0.25
    weights[0, ARKIT_NAMES.index("jawOpen")] = 0.5
    found = of_blendshapes(open_head, weights)
    assert found["expression"][0].nonzero()[0].tolist() == [open_head.expression_names.index("mouthSmileLeft")]
    assert found["jaw_pose"][0, 0] > 0.1
