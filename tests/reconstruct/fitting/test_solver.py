"""The solver against known heads: what it finds exactly, what it must keep, and what must not lead it astray."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from known_heads import FOCAL, firm, frame_times, known_head, known_problem, landmarks_of, state_of

from reconstruct.embedding import Embedding
from reconstruct.fitting.derivatives import FACING_MATRIX, Geometry
from reconstruct.fitting.objective import cost, priors_of, residuals
from reconstruct.fitting.problem import Known, Problem, State, make_problem
from reconstruct.fitting.solver import (
    Equations,
    MotionEquations,
    _step,
    _straightened,
    _trusted,
    motion_equations,
    place,
    solve_motion,
    solve_person,
    start_state,
)
from reconstruct.models.arkit import to_arkit
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import axis_angle_to_matrix
from schemas.config import FitConfig

Setting = tuple[Problem, State]
FEW_KEYS = FitConfig(key_frames=4)


@pytest.fixture(scope="module")
def embedding(embedding: Embedding) -> Embedding:
    """Of a detector that sees the surface points, which the clips here are made of."""
    return embedding.on_surface()


def known_of(truth: State) -> Known:
    return Known(truth.shape.numpy().astype(np.float32), FOCAL)


def solved(problem: Problem, known: Known | None = None) -> State:
    problem, state = solve_person(problem, start_state(problem, known), known)
    return solve_motion(problem, state)[0]


def value(problem: Problem, state: State) -> float:
    return cost(problem, Geometry(problem, state.shape), state, in_time=True)


def face_error_mm(problem: Problem, found: State, truth: State) -> torch.Tensor:
    """(T,) RMS distance of the landmarks at rest with their expressions."""
    places = []
    for state in (found, truth):
        geometry = Geometry(problem, state.shape)
        moved = torch.einsum("te,lce->tlc", state.motion[:, problem.columns.expression], geometry.expressions)
        places.append(geometry.rest + moved)
    return 1000 * (places[0] - places[1]).square().sum(-1).mean(1).sqrt()


@pytest.fixture(scope="module")
def person(open_head: HeadModel, embedding: Embedding) -> tuple[Problem, State, State]:
    """A short clip with a known person, its truth and its solution."""
    _, truth = known_problem(open_head, embedding, 1)
    problem, truth = known_problem(open_head, embedding, 14, FEW_KEYS, known_of(truth), noise_px=1)
    return problem, truth, solved(problem, known_of(truth))


def test_a_rigid_head_is_placed(open_head: HeadModel, embedding: Embedding) -> None:
    problem, truth = known_problem(open_head, embedding, 5, noise_px=0)
    columns, motion = problem.columns, truth.motion.clone()
    motion[:, : columns.rotation.start] = 0
    still = State(truth.shape, truth.log_focal, motion)
    exact = Geometry(problem, still.shape).at(still, slice(0, 5), derive=False).residual
    seen = problem.observed + exact * problem.scale_px[:, None, None]
    problem = dataclasses.replace(problem, observed=seen)
    lost = State(truth.shape, truth.log_focal, torch.zeros_like(motion))
    found = place(problem, lost).motion
    turn = axis_angle_to_matrix(found[:, columns.rotation]) - axis_angle_to_matrix(motion[:, columns.rotation])
    assert float(turn.abs().max()) < 1e-4
    torch.testing.assert_close(found[:, columns.translation], motion[:, columns.translation], rtol=0, atol=1e-4)
    assert not lost.motion.any()


def test_the_start_is_known_or_the_mean_head(open_head: HeadModel, embedding: Embedding) -> None:
    problem, truth = known_problem(open_head, embedding, 3)
    start = start_state(problem)
    assert not start.shape.any()
    assert not start.motion[:, : problem.columns.rotation.start].any()
    assert (start.motion[:, problem.columns.translation][:, 2] > 0.3).all()
    assert float(start.log_focal.exp()) == pytest.approx(problem.focal_guess)
    known = known_of(truth)
    same, _ = known_problem(open_head, embedding, 3, known=known)
    start = start_state(same, known)
    assert known.shape is not None
    np.testing.assert_array_equal(start.shape.numpy(), known.shape)
    assert float(start.log_focal.exp()) == pytest.approx(FOCAL)


def test_exact_landmarks_of_a_known_person(open_head: HeadModel, embedding: Embedding) -> None:
    _, truth = known_problem(open_head, embedding, 1)
    problem, truth = known_problem(open_head, embedding, 10, FEW_KEYS, known_of(truth), noise_px=0)
    found = solved(problem, known_of(truth))
    assert float(face_error_mm(problem, found, truth).max()) < 0.5
    assert float(residuals(Geometry(problem, found.shape), found).norm(dim=-1).mean()) < 1e-3
    columns = problem.columns
    for part, limit in ((columns.jaw, 0.01), (columns.left_eye, 0.01), (columns.rotation, 0.01)):
        assert float((found.motion - truth.motion)[:, part].abs().max()) < limit


def test_blend_shapes_begin_nearer_and_end_at_the_same(open_head: HeadModel, embedding: Embedding) -> None:
    """The truth's own weights as the start: a lower objective there, and the same solution in the end."""
    times_s = frame_times(24)
    truth = known_head(open_head, times_s, 1)
    track = landmarks_of(open_head, embedding, truth, times_s, noise_px=0.5)
    poses = (truth.jaw_pose, truth.left_eye_pose, truth.right_eye_pose)
    told = dataclasses.replace(track, blendshapes=to_arkit(open_head, truth.expression, *poses, clip=True))
    config = FitConfig(key_frames=4, iterations=30, tolerance=1e-5)
    problems = [make_problem(open_head, embedding, seen, np.arange(24), config) for seen in (track, told)]
    # of the same problem: what is learned of the landmarks' errors on the way is not part of the comparison
    found = [(value(problems[0], state), state) for state in map(solved, problems)]
    begun = [
        value(part, start_state(problem))
        for problem in problems
        for part in [dataclasses.replace(problems[0], start=problem.start)]
    ]
    assert begun[1] < begun[0]
    (least, without), (reached, with_start) = found
    assert reached == pytest.approx(least, rel=1e-3)
    moving = problems[0].columns.expression
    assert float((with_start.motion - without.motion)[:, moving].abs().mean()) < 0.005
    assert float(face_error_mm(problems[0], with_start, without).mean()) < 0.05


def test_winks_and_single_brows_are_possible(open_head: HeadModel, embedding: Embedding) -> None:
    """Coupled expressions follow the landmarks where these tell."""
    times_s = frame_times(12)
    truth = known_head(open_head, times_s, 1)
    closing, known = np.linspace(0, 1, 12), Known(truth.shape, FOCAL)
    for action in ("eyeBlink", "browOuterUp"):
        left, right = (open_head.expression_names.index(action + side) for side in ("Left", "Right"))
        truth.expression[:, left], truth.expression[:, right] = closing, 0
    track = landmarks_of(open_head, embedding, truth, times_s, noise_px=0.5)
    problem = make_problem(open_head, embedding, track, np.arange(12), FEW_KEYS, known)
    found = solved(problem, known).motion[:, torch.as_tensor(problem.mirrored)]
    names = [open_head.expression_names[problem.free[left]] for left in problem.mirrored[:, 0]]
    for action in ("eyeBlinkLeft", "browOuterUpLeft"):
        left, right = found[:, names.index(action)].T
        assert float(left[-1]) > 0.85
        assert float(right.max()) < 0.15


def test_what_is_known_is_kept(person: tuple[Problem, State, State]) -> None:
    _, truth, found = person
    torch.testing.assert_close(found.shape, truth.shape.float().double(), rtol=0, atol=1e-7)
    assert float(found.log_focal.exp()) == pytest.approx(FOCAL, rel=1e-9)


def test_a_known_shape_with_an_unknown_camera(open_head: HeadModel, embedding: Embedding) -> None:
    _, truth = known_problem(open_head, embedding, 1)
    known = Known(truth.shape.numpy().astype(np.float32))
    problem, truth = known_problem(open_head, embedding, 8, FEW_KEYS, known, noise_px=0)
    found = solved(problem, known)
    torch.testing.assert_close(found.shape, truth.shape.float().double(), rtol=0, atol=1e-7)
    assert float(found.log_focal.exp()) == pytest.approx(FOCAL, rel=0.02)
    assert problem.focal_guess != pytest.approx(FOCAL, rel=0.01)


def test_bounds_hold(person: tuple[Problem, State, State]) -> None:
    problem, _, found = person
    assert (found.motion >= problem.lower).all()
    assert (found.motion <= problem.upper).all()
    assert (found.motion == problem.lower).any()  # a bound was met


@pytest.mark.parametrize("in_time", [False, True])
def test_a_step_that_meets_a_bound_solves_for_the_rest(
    person: tuple[Problem, State, State], in_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unknown that would leave its bounds stops there; the others are those that fit best with it there."""
    monkeypatch.setattr("reconstruct.fitting.solver.STEP_TOLERANCE", 1e-9)
    problem, _, found = person
    random, motion = np.random.default_rng(1), torch.zeros_like(found.motion)
    frames, size = motion.shape
    root = torch.as_tensor(random.normal(size=(frames, size, size)))
    hessian = root @ root.transpose(1, 2) + size * torch.eye(size).double()
    gradient = torch.as_tensor(random.normal(size=(frames, size)))
    gradient[:, 0] = -10.0 * size  # upwards, at one bound in every frame
    border, corner = torch.as_tensor(random.normal(size=(frames, size, 3))), 50 * torch.eye(3).double()
    upper = torch.full_like(problem.upper, torch.inf)
    upper[0] = 0.5
    free = dataclasses.replace(problem, lower=-torch.full_like(upper, torch.inf), upper=upper)
    state = State(torch.zeros(2).double(), torch.tensor(0.0).double(), motion)
    equations = Equations(hessian, gradient)
    if not in_time:
        equations = Equations(hessian, gradient, border, corner, torch.ones(3).double())
    moved = _step(free, state, equations, 0.0, in_time)
    assert (moved.motion[:, 0] == 0.5).all()
    left = gradient + (hessian @ moved.motion[..., None])[..., 0]
    if in_time:
        left = left + priors_of(free).bend * free.bending.apply(moved.motion)
    else:
        shared = torch.cat([moved.shape, moved.log_focal[None]])
        left = left + border @ shared
        rest = 1 + corner @ shared + torch.einsum("tpq,tp->q", border, moved.motion)
        assert float(rest.abs().max()) < 1e-4
    assert float(left[:, 1:].abs().max()) < 1e-4
    assert (left[:, 0] < 0).all()  # pushed against the bound


def test_the_solution_is_a_minimum(person: tuple[Problem, State, State]) -> None:
    """No step back to the truth, to the start or anywhere near lowers the objective by more than the tolerance."""
    problem, truth, found = person
    problem, _ = solve_person(problem, start_state(problem, known_of(truth)), known_of(truth))
    least = value(problem, found)
    assert least < value(problem, truth)
    random = np.random.default_rng(0)
    for part in (truth.motion - found.motion, torch.as_tensor(random.normal(0, 0.02, found.motion.shape))):
        for step in (0.02, 0.2, -0.02):
            motion = torch.clamp(found.motion + step * part, problem.lower, problem.upper)
            other = dataclasses.replace(found, motion=motion)
            assert value(problem, other) > least * (1 - problem.config.tolerance)


def test_frames_beside_a_hole_are_not_disturbed(open_head: HeadModel, embedding: Embedding) -> None:
    """With the middle of the clip unseen, what remains is as near to the truth as with all of it."""
    times_s = frame_times(16)
    truth = known_head(open_head, times_s, 1)
    track = landmarks_of(open_head, embedding, truth, times_s, noise_px=0.5)
    known = Known(truth.shape, FOCAL)
    kept = np.r_[0:5, 10:16]
    errors = []
    for seen in (np.arange(16), kept):
        problem = make_problem(open_head, embedding, track, seen, FEW_KEYS, known)
        right = state_of(problem, truth)
        expected = State(right.shape, right.log_focal, right.motion[torch.as_tensor(seen)])
        errors.append(face_error_mm(problem, solved(problem, known), expected).numpy())
    whole, holed = errors[0][kept], errors[1]
    assert holed.max() < 1.5 * whole.max() + 0.1
    np.testing.assert_allclose(holed, whole, atol=0.35)


def test_any_clock(open_head: HeadModel, embedding: Embedding) -> None:
    """Frames at uneven times, and a cut to another pose in the middle of the clip."""
    random = np.random.default_rng(3)
    times_s = np.cumsum(random.uniform(0.02, 0.06, 14))
    times_s[7:] += 3.0
    truth = known_head(open_head, times_s, 1)
    known = Known(truth.shape, FOCAL)
    track = landmarks_of(open_head, embedding, truth, times_s)
    problem = make_problem(open_head, embedding, track, np.arange(14), FEW_KEYS, known)
    found = solved(problem, known)
    assert float(face_error_mm(problem, found, state_of(problem, truth)).max()) < 0.5


def test_a_cut_that_the_clock_does_not_show(open_head: HeadModel, embedding: Embedding) -> None:
    """Another pose and another face from one frame to the next: the prior over time must not tear it apart."""
    times_s = frame_times(12)
    jump = times_s.copy()
    jump[6:] += 5.0
    truth = known_head(open_head, jump, 1)
    known = Known(truth.shape, FOCAL)
    track = landmarks_of(open_head, embedding, truth, times_s)
    problem = make_problem(open_head, embedding, track, np.arange(12), FEW_KEYS, known)
    found = solved(problem, known)
    right = state_of(problem, truth)
    assert float((right.motion[6] - right.motion[5])[problem.columns.rotation].abs().max()) > 0.05
    assert float(face_error_mm(problem, found, right).max()) < 1.5
    turn = (found.motion - right.motion)[:, problem.columns.rotation]
    assert float(turn.abs().max()) < 0.02


def test_outliers_change_little(open_head: HeadModel, embedding: Embedding) -> None:
    """One landmark of ten is 50 px off, anew in every frame."""
    times_s = frame_times(10)
    truth = known_head(open_head, times_s, 1)
    known = Known(truth.shape, FOCAL)
    random = np.random.default_rng(4)
    errors = []
    for share in (0.0, 0.1):
        track = landmarks_of(open_head, embedding, truth, times_s, noise_px=0.5)
        lost = random.random(track.confidence.shape) < share
        angle = random.uniform(0, 2 * np.pi, int(lost.sum()))
        track.face_xy[lost] += 50 * np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
        problem = make_problem(open_head, embedding, track, np.arange(10), FEW_KEYS, known)
        errors.append(float(face_error_mm(problem, solved(problem, known), state_of(problem, truth)).mean()))
    assert errors[1] < errors[0] + 0.5


def test_time_steadies_what_noise_shakes(person: tuple[Problem, State, State]) -> None:
    problem, truth, found = person
    free = dataclasses.replace(problem, config=dataclasses.replace(problem.config, temporal_weight=0.0))
    alone = solved(free, known_of(truth))
    columns = problem.columns

    def shake(state: State) -> float:
        return float(torch.diff(state.motion[:, columns.expression], n=2, dim=0).square().mean().sqrt())

    assert shake(found) < 0.7 * shake(alone)
    assert float(face_error_mm(problem, found, truth).mean()) < float(face_error_mm(problem, alone, truth).mean())


def test_landmarks_without_lasting_errors(open_head: HeadModel, embedding: Embedding) -> None:
    """An embedding without spread, and no floor under it: all that errs is new in every frame, or nothing."""
    config = dataclasses.replace(FEW_KEYS, embedding_floor_m=0.0)
    problem, truth = known_problem(open_head, firm(embedding), 3, config, noise_px=0)
    found = solved(problem)
    assert float(residuals(Geometry(problem, found.shape), found).norm(dim=-1).mean()) < 2e-3
    assert torch.isfinite(truth.shape).all()


def test_the_curvature_is_that_of_the_solution(person: tuple[Problem, State, State]) -> None:
    problem, truth, _ = person
    problem, state = solve_person(problem, start_state(problem, known_of(truth)), known_of(truth))
    found, equations = solve_motion(problem, state)
    again = motion_equations(problem, found)
    torch.testing.assert_close(equations.hessian, again.hessian)
    torch.testing.assert_close(equations.gradient, again.gradient)
    in_time = again.gradient + priors_of(problem).bend * problem.bending.apply(found.motion)
    inside = (found.motion > problem.lower) & (found.motion < problem.upper)
    # what one more step would gain, as a fraction of the objective
    step = torch.linalg.solve(again.hessian, (in_time * inside)[..., None])[..., 0]
    assert float((in_time * inside * step).sum()) < 0.05 * value(problem, found)


def test_landmarks_that_no_frame_trusts_are_not_worked_on(person: tuple[Problem, State, State]) -> None:
    problem, _, found = person
    fewer = _trusted(problem)
    assert len(fewer.points.template) == int((problem.trust > 0).any(0).sum()) < len(problem.points.template)
    geometry = Geometry(problem, found.shape)
    assert cost(fewer, Geometry(fewer, found.shape), found, True) == pytest.approx(cost(problem, geometry, found, True))
    few = MotionEquations(fewer, Geometry(fewer, found.shape)).with_priors(found)
    whole = MotionEquations(problem, geometry).with_priors(found)
    torch.testing.assert_close(few.hessian, whole.hessian, rtol=1e-9, atol=1e-9 * float(whole.hessian.abs().max()))
    torch.testing.assert_close(few.gradient, whole.gradient, rtol=1e-9, atol=1e-9 * float(whole.gradient.abs().max()))


def test_a_straightened_step_keeps_a_head_in_its_place(person: tuple[Problem, State, State]) -> None:
    """A longer lens and a head as much further away, as far as a linear step knows: it stays as large as it is."""
    problem, truth, _ = person
    places, zoom = problem.columns.translation, 0.3
    geometry = Geometry(problem, truth.shape)
    middle = geometry.rest.mean(0)
    still = torch.zeros_like(truth.motion)
    still[:, places] = torch.tensor([0.05, 0.02, 0.9], dtype=torch.float64)
    before = State(truth.shape, truth.log_focal, still)
    world = axis_angle_to_matrix(still[:, problem.columns.rotation]) @ FACING_MATRIX
    start = world @ (middle - geometry.joints[0]) + geometry.joints[0] + still[:, places]
    errors = []
    for part in (1.0, 0.1):
        moved = still.clone()
        moved[:, places] += part * zoom * start * torch.tensor([0.0, 0.0, 1.0])
        trial = State(truth.shape, truth.log_focal + part * zoom, moved)
        straight = _straightened(geometry, before, geometry, trial)
        after = start + straight.motion[:, places] - still[:, places]
        pixels = [s.log_focal.exp() * at[:, :2] / at[:, 2:] for s, at in ((before, start), (straight, after))]
        torch.testing.assert_close(pixels[1], pixels[0], rtol=1e-9, atol=1e-9)
        errors.append(float((straight.motion - trial.motion).abs().max()))
    assert 0 < errors[1] < 0.02 * errors[0]  # of second order
