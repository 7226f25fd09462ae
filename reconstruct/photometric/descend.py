"""Projected Gauss-Newton on landmarks and pixels: the person on key frames, then the motion of all frames."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.fitting.derivatives import FACING, Geometry
from reconstruct.fitting.objective import add_priors, blocks, coupling_cost, priors_of, robust_loss, robust_weight
from reconstruct.fitting.problem import Problem, State
from reconstruct.linear_solve import TimeSystem, solve_arrow
from reconstruct.models.skinning import axis_angle_to_matrix
from reconstruct.photometric.light import NUM_COEFFICIENTS
from reconstruct.photometric.terms import (
    Scene,
    Seen,
    albedo_of,
    geman_mcclure,
    linearise_tones,
    look,
    rest_normal_slopes,
    tones_of,
)

LIGHT_WEIGHT = 1e-3
"""Pull of the light's coefficients to zero: only enough to keep the equations regular."""
HELD_WEIGHT = 1e12
"""Holds a shape or focal length that is known where it is."""
DAMPING = 1e-3
MAX_TRIES = 4
TOLERANCE = 1e-3
"""A stage ends when an iteration lowers the objective by less than this fraction."""
TOGETHER_M = 0.012
"""Landmarks that near to each other are misplaced together."""
ON_EYE = 0.5
"""Skinning weight from which a landmark belongs to an eyeball."""


@dataclass(frozen=True)
class Unknowns:
    """What a step changes."""

    state: State
    light: Tensor
    """(9,) float32"""


@dataclass(frozen=True)
class Normals:
    """Normal equations of one step; the border and the corner belong to shape, log focal length and light."""

    hessian: Tensor
    """(T, P, P) float64, as all."""
    gradient: Tensor
    border: Tensor
    corner: Tensor
    corner_gradient: Tensor


def refine_person(scene: Scene, state: State, light: Tensor, keys: NDArray[np.int64]) -> tuple[State, Tensor]:
    """Shape, focal length and light, with the motion of the key frames; the frames between follow the keys' change."""
    chosen = torch.as_tensor(keys)
    part = scene.only(keys)
    unknowns = Unknowns(State(state.shape, state.log_focal, state.motion[chosen]), light)
    damping = DAMPING
    for _ in range(scene.config.iterations):
        seen = look(part, unknowns.state, slice(0, len(keys)))
        value = _person_cost(part, unknowns, seen)
        equations = _person_equations(part, unknowns, seen)
        for _ in range(MAX_TRIES):
            trial = _person_step(part.problem, unknowns, equations, damping)
            trial_value = _person_cost(part, trial, seen)
            if trial_value < value:
                break
            damping *= 10
        else:
            break
        unknowns, damping = trial, max(damping / 10, 1e-7)
        if value - trial_value < TOLERANCE * value:
            break
    found = unknowns.state
    change = (found.motion - state.motion[chosen]).numpy()
    frames = np.arange(len(state.motion))
    between = np.stack([np.interp(frames, keys, column) for column in change.T], axis=1)
    motion = torch.clamp(state.motion + torch.as_tensor(between), scene.problem.lower, scene.problem.upper)
    return State(found.shape, found.log_focal, motion), unknowns.light


def refine_motion(scene: Scene, state: State, light: Tensor, keys: NDArray[np.int64]) -> State:
    """The motion of all frames for one person, light and albedo, with landmarks freed of their lasting misplacement."""
    problem = _unbiased(scene, state, keys)
    scene = dataclasses.replace(scene, problem=problem)
    landmarks, points = Geometry(problem, state.shape), Geometry(scene.dense(), state.shape)
    slopes = rest_normal_slopes(scene.surface, state.shape)
    bend, damping = time_weights(scene), DAMPING
    for _ in range(max(1, scene.config.iterations // 2)):
        views = [look(scene, state, frames) for frames in blocks(len(state.motion))]
        tones = torch.cat([tones_of(scene, state, light, seen) for seen in views])
        usable = torch.cat([seen.usable for seen in views])
        albedo = albedo_of(tones, usable, scene.config.texture_scale)
        hessian = torch.zeros(len(state.motion), *[problem.columns.total] * 2, dtype=torch.float64)
        gradient = torch.zeros(hessian.shape[:2], dtype=torch.float64)
        for seen in views:
            part = seen.frames
            line = landmarks.at(state, part)
            by_motion = torch.cat(
                [torch.einsum("tlua,lae->tlue", line.by_rest, landmarks.expressions), line.by_rigid], dim=-1
            )
            weight = robust_weight(problem, line.residual, part)[..., None].expand_as(line.residual)
            _add(hessian[part], gradient[part], by_motion.flatten(1, 2), line.residual.flatten(1), weight.flatten(1))
            tone = linearise_tones(scene, points, state, light, seen, slopes, shared=False)
            residual = tone.value - albedo
            _add(hessian[part], gradient[part], tone.by_motion, residual, _texture_weight(scene, residual, seen))
        add_priors(problem, state.motion, hessian, gradient)
        gradient += bend * (problem.bending.apply(state.motion))
        value = _motion_cost(scene, landmarks, state, light, views, albedo)
        for _ in range(MAX_TRIES):
            trial = dataclasses.replace(
                state, motion=_motion_step(problem, state.motion, hessian, gradient, bend, damping)
            )
            trial_value = _motion_cost(scene, landmarks, trial, light, views, albedo)
            if trial_value < value:
                break
            damping *= 10
        else:
            break
        state, damping = trial, max(damping / 10, 1e-7)
        if value - trial_value < TOLERANCE * value:
            break
    return state


def time_weights(scene: Scene) -> Tensor:
    """(P,) weights of the second differences over time: those of the landmark fit, with a head that has inertia."""
    columns, bend = scene.problem.columns, priors_of(scene.problem).bend.clone()
    for part, weight in (
        (columns.rotation, scene.config.rotation_inertia),
        (columns.translation, scene.config.translation_inertia),
    ):
        bend[part] = bend[part].clamp(min=scene.inertia * weight)
    return bend


def _add(hessian: Tensor, gradient: Tensor, by: Tensor, residual: Tensor, weight: Tensor) -> None:
    """Add weighted squares of residual (T, k) with derivatives (T, k, P) and weights (T, k), in place."""
    weighted = (weight[..., None] * by).transpose(1, 2)
    hessian += weighted @ by
    gradient += (weighted @ residual[..., None])[..., 0]


def _texture_weight(scene: Scene, residual: Tensor, seen: Seen) -> Tensor:
    config = scene.config
    return config.texture_weight / scene.surface.count * seen.textured * geman_mcclure(residual, config.texture_scale)


def _shading_weight(scene: Scene, tones: Tensor, seen: Seen) -> Tensor:
    config = scene.config
    return config.shading_weight / scene.surface.count * seen.skin * geman_mcclure(tones, config.shading_scale)


def _robust_sum(residual: Tensor, weight: Tensor, scale: float, total: float) -> float:
    squared = residual * residual
    return total * float((weight * squared * scale**2 / (scale**2 + squared)).sum())


def _frame_cost(scene: Scene, landmarks: Geometry, state: State) -> float:
    """Landmarks and the priors of each frame."""
    problem, motion = scene.problem, state.motion
    priors = priors_of(problem)
    total = 0.0
    for frames in blocks(len(motion)):
        total += float(robust_loss(problem, landmarks.at(state, frames, derive=False).residual, frames))
    total += float((priors.pull * motion**2).sum())
    return total + coupling_cost(priors, motion)


def _motion_cost(
    scene: Scene, landmarks: Geometry, state: State, light: Tensor, views: list[Seen], albedo: Tensor
) -> float:
    config, count = scene.config, scene.surface.count
    total = _frame_cost(scene, landmarks, state)
    total += float((time_weights(scene) * state.motion * scene.problem.bending.apply(state.motion)).sum())
    for seen in views:
        residual = tones_of(scene, state, light, seen) - albedo
        total += _robust_sum(residual, seen.textured, config.texture_scale, config.texture_weight / count)
    return total


def _person_cost(scene: Scene, unknowns: Unknowns, seen: Seen) -> float:
    config, count, state = scene.config, scene.surface.count, unknowns.state
    tones = tones_of(scene, state, unknowns.light, seen)
    apart = tones - albedo_of(tones, seen.usable, config.texture_scale)
    total = _frame_cost(scene, Geometry(scene.problem, state.shape), state)
    total += _robust_sum(tones, seen.skin, config.shading_scale, config.shading_weight / count)
    total += _robust_sum(apart, seen.textured, config.texture_scale, config.texture_weight / count)
    prior, offset = _shared_prior(scene, unknowns)
    return total + float((prior * offset**2).sum())


def _shared_prior(scene: Scene, unknowns: Unknowns) -> tuple[Tensor, Tensor]:
    """Weights and offsets (S + 1 + 9,) of the pulls on shape, log focal length and light."""
    problem, state = scene.problem, unknowns.state
    count, size = len(state.motion), len(state.shape)
    prior = torch.full((size + 1 + NUM_COEFFICIENTS,), LIGHT_WEIGHT, dtype=torch.float64)
    prior[:size] = count * scene.config.shape_weight
    prior[size] = count * problem.config.focal_weight
    focal = (state.log_focal - np.log(problem.focal_guess))[None]
    offset = torch.cat([state.shape, focal, unknowns.light.double()])
    for known, part in ((problem.known_shape, slice(0, size)), (problem.known_focal, slice(size, size + 1))):
        if known:
            prior[part], offset[part] = HELD_WEIGHT, 0.0
    return prior, offset


def _person_equations(scene: Scene, unknowns: Unknowns, seen: Seen) -> Normals:
    problem, state, config = scene.problem, unknowns.state, scene.config
    landmarks, frames = Geometry(problem, state.shape), seen.frames
    line = landmarks.at(state, frames, shared=True)
    assert line.by_shared is not None
    by_motion = torch.cat(
        [torch.einsum("tlua,lae->tlue", line.by_rest, landmarks.expressions), line.by_rigid], dim=-1
    ).flatten(1, 2)
    unlit = line.by_shared.new_zeros(*line.by_shared.shape[:3], NUM_COEFFICIENTS)
    by_shared = torch.cat([line.by_shared, unlit], dim=-1).flatten(1, 2)
    weight = robust_weight(problem, line.residual, frames)[..., None].expand_as(line.residual).flatten(1)
    terms = [(by_motion, by_shared, line.residual.flatten(1), weight)]
    slopes = rest_normal_slopes(scene.surface, state.shape)
    points = Geometry(scene.dense(), state.shape)
    tone = linearise_tones(scene, points, state, unknowns.light, seen, slopes, shared=True)
    assert tone.by_shared is not None
    terms.append((tone.by_motion, tone.by_shared, tone.value, _shading_weight(scene, tone.value, seen)))
    apart = tone.value - albedo_of(tone.value, seen.usable, config.texture_scale)
    weight = _texture_weight(scene, apart, seen)
    # the albedo follows the shared unknowns: its mean over the frames is taken out of their derivatives
    share = weight / weight.sum(0).clamp(min=1e-9)
    centred = tone.by_shared - torch.einsum("tn,tnq->nq", share, tone.by_shared)
    terms.append((tone.by_motion, centred, apart, weight))
    prior, offset = _shared_prior(scene, unknowns)
    size = problem.columns.total
    hessian = torch.zeros(len(state.motion), size, size, dtype=torch.float64)
    gradient = torch.zeros(hessian.shape[:2], dtype=torch.float64)
    border = torch.zeros(len(state.motion), size, len(prior), dtype=torch.float64)
    corner, corner_gradient = torch.diag(prior), prior * offset
    for by_frame, by_all, residual, trust in terms:
        _add(hessian, gradient, by_frame, residual, trust)
        weighted = (trust[..., None] * by_all).transpose(1, 2)
        border += (weighted @ by_frame).transpose(1, 2)
        corner += (weighted @ by_all).sum(0)
        corner_gradient += (weighted @ residual[..., None])[..., 0].sum(0)
    add_priors(problem, state.motion, hessian, gradient)
    return Normals(hessian, gradient, border, corner, corner_gradient)


def _person_step(problem: Problem, unknowns: Unknowns, equations: Normals, damping: float) -> Unknowns:
    state, size = unknowns.state, len(unknowns.state.shape)
    held = _held(problem, state.motion, equations.gradient)
    # landmarks are not yet freed of their misplacement, which a new head would hand on to the gaze
    held[:, problem.columns.left_eye] = held[:, problem.columns.right_eye] = True
    corner = equations.corner.clone()
    corner.diagonal().mul_(1 + damping)
    change, shared = solve_arrow(
        _damped(equations.hessian, damping).numpy(),
        equations.gradient.numpy(),
        equations.border.numpy(),
        corner.numpy(),
        equations.corner_gradient.numpy(),
        held.numpy(),
    )
    moved = torch.clamp(state.motion - torch.as_tensor(change), problem.lower, problem.upper)
    step = torch.as_tensor(shared)
    return Unknowns(
        State(state.shape - step[:size], state.log_focal - step[size], moved), unknowns.light - step[size + 1 :].float()
    )


def _motion_step(
    problem: Problem, motion: Tensor, hessian: Tensor, gradient: Tensor, bend: Tensor, damping: float
) -> Tensor:
    held = _held(problem, motion, gradient)
    system = TimeSystem(_damped(hessian, damping), problem.bending, bend, held)
    return torch.clamp(motion - system.solve(gradient), problem.lower, problem.upper)


def _held(problem: Problem, motion: Tensor, gradient: Tensor) -> Tensor:
    """Unknowns at a bound that the step would leave."""
    return ((motion <= problem.lower) & (gradient > 0)) | ((motion >= problem.upper) & (gradient < 0))


def _damped(hessian: Tensor, damping: float) -> Tensor:
    result = hessian.clone()
    diagonal = result.diagonal(dim1=1, dim2=2)
    diagonal.add_(damping * diagonal + 1e-9)
    return result


def _unbiased(scene: Scene, state: State, keys: NDArray[np.int64]) -> Problem:
    """The problem with landmarks moved by their median misplacement in the key frames, which turns with the head.

    A detector puts a landmark on every person a little aside of the same surface point, in all frames alike. With the
    shape known from pixels, that would be taken for expression. Neighbours are moved by one distance, so that the
    openings of lips and lids and the place of the iris between the lids stay as detected; there landmarks are all
    that is seen, and they are trusted accordingly.
    """
    problem = scene.problem
    geometry = Geometry(problem, state.shape)
    residual = torch.cat([geometry.at(state, part, derive=False).residual for part in blocks(len(state.motion))])
    rotation = state.motion[:, problem.columns.rotation]
    turn = (axis_angle_to_matrix(rotation) @ axis_angle_to_matrix(FACING)).float()
    aside = torch.cat([residual, torch.zeros_like(residual[..., :1])], dim=-1)
    chosen = torch.as_tensor(keys)
    lasting = (aside @ turn)[chosen].median(0).values
    places = problem.points.template
    near = torch.exp(-0.5 * torch.cdist(places, places) ** 2 / TOGETHER_M**2)
    near = near * (problem.points.weights[:, 3:].sum(1) < ON_EYE)
    lasting = near @ lasting / near.sum(1, keepdim=True)
    shift = (lasting @ turn.transpose(1, 2))[..., :2]
    observed = problem.observed + shift * problem.scale_px[:, None, None]
    return dataclasses.replace(problem, observed=observed, trust=scene.landmark_gain * problem.trust)
