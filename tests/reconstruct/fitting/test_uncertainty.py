"""The stated uncertainty against the errors of fits to noisy landmarks, and what it must grow with."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from known_heads import firm, frame_times, known_head, known_problem, landmarks_of
from torch import Tensor

from reconstruct.embedding import Embedding
from reconstruct.fit import fit_clip
from reconstruct.fitting.derivatives import Geometry
from reconstruct.fitting.problem import Known, Problem, State
from reconstruct.fitting.solver import motion_equations, person_equations
from reconstruct.fitting.uncertainty import _patches, at_limit, person_information, uncertainty_mm
from reconstruct.models.head_model import HeadModel
from schemas.config import FitConfig
from synthetic.evaluate import similarity
from synthetic.known_truth import model_clip

Setting = tuple[Problem, State]


@pytest.fixture(scope="module")
def embedding(embedding: Embedding) -> Embedding:
    """Of a detector that sees the surface points, which the clips here are made of."""
    return embedding.on_surface()


@pytest.fixture(scope="module")
def posed(open_head: HeadModel, embedding: Embedding) -> Setting:
    return known_problem(open_head, embedding, 8)


def stated(problem: Problem, state: State) -> Tensor:
    return uncertainty_mm(problem, Geometry(problem, state.shape), state, motion_equations(problem, state))


def with_known_shape(problem: Problem) -> Problem:
    return dataclasses.replace(problem, known_shape=True, known_focal=True)


def test_it_is_one_positive_number_a_frame(posed: Setting) -> None:
    problem, state = posed
    found = stated(problem, state)
    assert found.shape == (8,)
    assert torch.isfinite(found).all()
    assert (found > 0).all()


def test_it_grows_without_landmarks(open_head: HeadModel, embedding: Embedding) -> None:
    """Where landmarks err for themselves: those that err together with their neighbours tell no more than these."""
    problem, state = known_problem(open_head, firm(embedding), 8, FitConfig(embedding_floor_m=1e-5))
    fewer = dataclasses.replace(problem, trust=problem.trust.clone())
    fewer.trust[3, ::2] = 0
    usual, found = stated(with_known_shape(problem), state), stated(with_known_shape(fewer), state)
    assert float(found[3]) > 1.05 * float(usual[3])
    others = [frame for frame in range(8) if frame != 3]
    torch.testing.assert_close(found[others], usual[others], rtol=0.02, atol=0)


def test_neighbours_that_err_together_are_no_loss(posed: Setting) -> None:
    problem, state = posed
    fewer = dataclasses.replace(problem, trust=problem.trust.clone())
    fewer.trust[4, ::2] = 0  # a key frame that is followed
    usual, found = stated(with_known_shape(problem), state), stated(with_known_shape(fewer), state)
    assert float(found[4]) == pytest.approx(float(usual[4]), rel=0.05)


@pytest.mark.parametrize("together", [8, 12, 40])
def test_patches_make_as_many_landmarks_err_together(posed: Setting, together: float) -> None:
    places = posed[0].points.template
    patches = _patches(places, together)
    correlation = patches @ patches.T
    torch.testing.assert_close(correlation.diagonal(), torch.ones(len(places)).double())
    assert float(correlation.sum(1).mean()) == pytest.approx(together, rel=0.1)
    apart = torch.cdist(places, places) > 0.08
    assert float(correlation[apart].mean()) < 0.2 * float(correlation[~apart].mean())


def test_lasting_errors_do_not_average_out(open_head: HeadModel, embedding: Embedding) -> None:
    """Of an unknown person: more key frames lower what passing errors leave of the face, not what lasting ones do."""
    ratios = []
    for exact in (firm(embedding), dataclasses.replace(embedding, spread_m=np.full_like(embedding.spread_m, 0.004))):
        found = []
        for keys in (3, 12):
            config = FitConfig(embedding_floor_m=1e-5, key_frames=keys, temporal_weight=0)
            found.append(float(stated(*known_problem(open_head, exact, 24, config)).mean()))
        ratios.append(found[1] / found[0])
    assert ratios[0] < 0.6
    assert 0.9 < ratios[1] < 1.1


def test_time_averages_what_is_new_in_every_frame(open_head: HeadModel, embedding: Embedding) -> None:
    found = []
    for weight in (0.0, 150.0):
        config = FitConfig(embedding_floor_m=1e-5, temporal_weight=weight)
        problem, state = known_problem(open_head, firm(embedding), 24, config)
        found.append(stated(with_known_shape(problem), state))
    assert (found[1] < 0.9 * found[0]).all()
    assert (found[1] > 0.3 * found[0]).all()


def test_what_is_known_of_the_person_is_sure(posed: Setting) -> None:
    """Where nothing pulls to rest, a frame of a known person errs by its own landmarks alone."""
    problem, state = posed
    config = dataclasses.replace(problem.config, shape_weight=1e3)
    known = with_known_shape(problem)
    torch.testing.assert_close(
        stated(known, state), stated(dataclasses.replace(known, config=config), state), rtol=1e-6, atol=0
    )


def test_it_grows_with_doubt_in_the_landmarks(posed: Setting) -> None:
    problem, state = posed
    doubted = dataclasses.replace(problem, trust=problem.trust.clone())
    doubted.trust[3] /= 9
    usual, found = stated(with_known_shape(problem), state), stated(with_known_shape(doubted), state)
    assert 1.2 < float(found[3] / usual[3]) < 3.001  # thrice where nothing but the landmarks told anything


def test_it_grows_for_a_half_of_the_face_turned_away(
    open_head: HeadModel, embedding: Embedding, posed: Setting
) -> None:
    problem, state = posed
    places = problem.points.template
    hidden = dataclasses.replace(problem, trust=problem.trust.clone())
    hidden.trust[5, places[:, 0] > 0] = 0  # the subject's left
    usual, found = stated(with_known_shape(problem), state), stated(with_known_shape(hidden), state)
    thinned = dataclasses.replace(problem, trust=problem.trust.clone())
    thinned.trust[5, ::2] = 0
    assert float(found[5]) > 1.2 * float(usual[5])
    assert float(found[5]) > 1.1 * float(stated(with_known_shape(thinned), state)[5])  # as many landmarks, spread


def test_an_unknown_person_is_less_certain(posed: Setting) -> None:
    problem, state = posed
    assert (stated(problem, state) > 1.1 * stated(with_known_shape(problem), state)).all()


def test_more_frames_tell_more_of_the_person(open_head: HeadModel, embedding: Embedding) -> None:
    """Landmarks that err anew in every frame average out."""
    config = FitConfig(embedding_floor_m=0)
    problem, state = known_problem(open_head, firm(embedding), 12, config)
    alone = problem.part(np.array([0]))
    one = State(state.shape, state.log_focal, state.motion[:1])
    few, many = (
        torch.linalg.eigvalsh(person_information(person_equations(part, Geometry(part, found.shape), found)))
        for part, found in ((alone, one), (problem, state))
    )
    assert (many > few * 0.999).all()
    assert float(many.log().mean() - few.log().mean()) > 0.3


def test_information_is_that_of_the_dense_matrix(open_head: HeadModel, embedding: Embedding) -> None:
    """The inverse of the whole normal matrix, its part of shape and focal length."""
    problem, state = known_problem(open_head, firm(embedding), 5, FitConfig(embedding_floor_m=1e-6))
    part = problem.part(np.array([0, 4]))
    chosen = State(state.shape, state.log_focal, state.motion[[0, 4]])
    equations = person_equations(part, Geometry(part, state.shape), chosen)
    assert equations.border is not None
    assert equations.corner is not None
    motion = torch.block_diag(*equations.hessian)  # type: ignore[no-untyped-call]
    border = equations.border.flatten(0, 1)
    whole = torch.cat([torch.cat([motion, border], 1), torch.cat([border.T, equations.corner], 1)])
    size = len(motion)
    covariance = torch.linalg.inv(whole)[size:, size:]
    found = torch.linalg.inv(person_information(equations))
    torch.testing.assert_close(found, covariance, rtol=0, atol=1e-5 * float(covariance.abs().max()))


def test_stated_and_actual_errors_agree(open_head: HeadModel, embedding: Embedding) -> None:
    """White noise of 1 px on a known person: the RMS error of the face at rest over several draws."""
    frames, times_s = 8, frame_times(8)
    truth = known_head(open_head, times_s, 2)
    random = np.random.default_rng(5)
    free = [i for i, name in enumerate(open_head.expression_names) if name not in open_head.fixed_expressions]
    expression = np.zeros_like(truth.expression)
    expression[:, free] = random.uniform(0.25, 0.6, (1, len(free)))  # away from the bounds, which help
    truth = dataclasses.replace(truth, expression=expression)
    config = FitConfig(embedding_floor_m=1e-5, temporal_weight=0, key_frames=2)
    exact = firm(embedding)
    corners = (open_head.expression[embedding.vertices] * embedding.barycentric[:, :, None, None]).sum(1)
    squared, variances = [], []
    for seed in range(3):
        track = landmarks_of(open_head, embedding, truth, times_s, noise_px=1, noise_seed=seed)
        head = fit_clip(open_head, exact, track, config, Known(truth.shape, truth.focal_px))
        offsets = np.einsum("lce,te->tlc", corners, head.expression - truth.expression)
        squared.append((offsets**2).sum(2).mean())
        assert head.uncertainty_mm is not None
        assert head.uncertainty_mm.shape == (frames,)
        variances.append((head.uncertainty_mm**2).mean())
    actual = 1000 * np.sqrt(np.mean(squared))
    assert 0.7 < actual / np.sqrt(np.mean(variances)) < 1.4


def test_stated_and_actual_errors_of_an_unknown_person(open_head: HeadModel, embedding: Embedding) -> None:
    """White noise of 1 px, unknown camera: RMS error of the landmarks' points at rest after a similarity."""
    squared, variances = [], []
    corners = open_head.shapedirs[embedding.vertices]
    directions = (corners * embedding.barycentric[:, :, None, None]).sum(1)
    middle = (open_head.v_template[embedding.vertices] * embedding.barycentric[:, :, None]).sum(1)
    for seed in (100, 101):
        clip = model_clip(open_head, embedding, seed, 40, 1.0)
        head = fit_clip(open_head, embedding, clip.landmarks, FitConfig())
        places = []
        for track in (head, clip.truth):
            codes = np.concatenate([np.broadcast_to(track.shape, (40, len(track.shape))), track.expression], axis=1)
            places.append(middle + np.einsum("lcd,td->tlc", directions, codes.astype(np.float64)))
        scale, rotation, offset = similarity(*places)
        aligned = scale[:, None, None] * places[0] @ rotation.transpose(0, 2, 1) + offset[:, None]
        squared.append(((aligned - places[1]) ** 2).sum(2).mean())
        assert head.uncertainty_mm is not None
        variances.append((head.uncertainty_mm.astype(np.float64) ** 2).mean())
    actual = 1000 * np.sqrt(np.mean(squared))
    assert 0.7 < actual / np.sqrt(np.mean(variances)) < 1.4


def test_limits_that_are_reached(posed: Setting) -> None:
    problem, state = posed
    columns = problem.columns
    middle = torch.where(torch.isfinite(problem.lower), (problem.lower + problem.upper) / 2, 0.3)
    motion = middle.expand(len(state.motion), -1).clone()
    motion[1, 0] = problem.upper[0]
    motion[2, 0] = problem.lower[0]  # an expression at rest
    motion[3, columns.jaw.start] = problem.lower[columns.jaw.start]
    motion[4, columns.jaw] = problem.upper[columns.jaw]
    motion[5, columns.left_eye.start + 1] = problem.lower[columns.left_eye.start + 1]
    motion[6, columns.translation] = 100.0
    found = at_limit(problem, dataclasses.replace(state, motion=motion))
    assert found.tolist() == [0, 1, 0, 1, 3, 1, 0, 0]


def test_two_sided_expressions_have_two_limits_and_fixed_ones_none(posed: Setting) -> None:
    problem, state = posed
    lower, upper = problem.lower.clone(), problem.upper.clone()
    lower[0], lower[1], upper[1] = -1.0, 0.5, 0.5
    motion = torch.full_like(state.motion, 0.01)
    motion[:, 0], motion[:, 1] = -1.0, 0.5
    changed = dataclasses.replace(problem, lower=lower, upper=upper)
    assert at_limit(changed, dataclasses.replace(state, motion=motion)).tolist() == [1] * 8
