"""Robust Gauss-Newton for bodies: the person on key frames (block-arrow), then the motion of all frames at once.

Bounds are kept by projection: unknowns at a limit whose gradient points outwards are held for a step. Frames hang
together only through the weak prior over time, so each frame has its own damping and may refuse its part of a step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.body.fit_problem import Problem
from reconstruct.body.kinematics import LEFT_EYE, RIGHT_EYE, Posed, by_shape, differentiate, pose
from reconstruct.body.time_solve import solve_coupled
from reconstruct.linear_solve import solve_arrow

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
BLOCK: Final = 64
"""Frames worked on at a time, so that memory does not grow with the clip."""
FIRST_DAMPING: Final = 1e-3
LARGEST_DAMPING: Final = 1e6
TOLERANCE: Final = 2e-3
"""A stage ends when an iteration lowers the objective by less than this fraction."""
WIDE: Final = 4.0
"""Factor on the robust scale of the first iterations, which forgive a bad start."""
SHAPE_PRECISION: Final = 1.0
"""Identity coefficients are in deviations; the landmarks of all key frames err alike, so it counts for each of them."""
SLOWEST: Final = 1e-6
HEAD: Final = 15


@dataclass(frozen=True)
class Rows:
    """Residuals of some frames with their weights and derivatives."""

    pixels: Float64
    """(T, 75, 2) projected minus observed."""
    depth: Float64
    """(T, D)"""
    turn: Float64
    """(T, 3) axis-angle of the head against the face fit's."""
    place: Float64
    """(T, 3) of the eyes."""


def residuals(problem: Problem, posed: Posed) -> Rows:
    """What lacks between a pose and what was measured."""
    camera = problem.camera
    depth = np.maximum(posed.points[..., 2:], 0.05)
    pixels = camera.focal_px * posed.points[..., :2] / depth + camera.centre - problem.observed
    z = posed.points[..., 2]
    first, second = problem.pairs.T
    apart = posed.world[:, HEAD] @ np.swapaxes(problem.head.rotation, 1, 2)
    eyes = posed.joints[:, [LEFT_EYE, RIGHT_EYE]].mean(1)
    return Rows(pixels, z[:, first] - z[:, second] - problem.depth_m, _small_turn(apart), eyes - problem.head.eyes)


def _small_turn(rotation: Float64) -> Float64:
    """(T, 3) axis times sine of rotations near identity, with the angle's own length beyond a quarter turn."""
    vector = 0.5 * np.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        axis=1,
    )
    sine = np.linalg.norm(vector, axis=1)
    cosine = np.clip((np.trace(rotation, axis1=1, axis2=2) - 1) / 2, -1, 1)
    angle = np.arctan2(sine, cosine)
    return np.asarray(vector * (angle / np.maximum(sine, 1e-9))[:, None])


def robust_cost(problem: Problem, rows: Rows, wide: float) -> Float64:
    """(T,) Geman-McClure losses of the landmarks and depth cues, and the squares of the head's measurement."""
    scale = (wide * problem.config.robust_scale) ** 2
    pixels = problem.precision * (rows.pixels**2).sum(2)
    depth = problem.depth_precision * rows.depth**2
    total = (scale * pixels / (scale + pixels)).sum(1) + (scale * depth / (scale + depth)).sum(1)
    total += problem.head_precision[:, 0] * (rows.turn**2).sum(1)
    return np.asarray(total + (problem.head_precision[:, 1:] * rows.place**2).sum(1))


def prior_cost(problem: Problem, motion: Float64) -> Float64:
    """(T,) of the pose."""
    away = motion - problem.skeleton.articulation.array("rest")
    return np.asarray(((away @ problem.prior) * away).sum(1))


def normal_equations(
    problem: Problem, shape: Float64, motion: Float64, wide: float, shared: bool = False
) -> tuple[Float64, Float64, Float64 | None, Float64 | None, Float64 | None]:
    """Hessian (T, P, P) and gradient (T, P) of the motion, priors included; with `shared` also border (T, P, S),
    corner (S, S) and gradient (S,) of the identity, without its prior.
    """
    skeleton, camera = problem.skeleton, problem.camera
    posed = pose(skeleton, shape, motion)
    rows = residuals(problem, posed)
    found = differentiate(skeleton, posed, motion)
    columns, eyes = found.points, found.eyes
    head = found.head
    if shared:
        by_identity, eyes_by_identity = by_shape(skeleton, posed)
        columns = np.concatenate([columns, by_identity], axis=1)
        eyes = np.concatenate([eyes, eyes_by_identity], axis=1)
        head = np.concatenate([head, np.zeros((len(head), skeleton.num_shape, 3))], axis=1)
    scale = (wide * problem.config.robust_scale) ** 2
    squared = problem.precision * (rows.pixels**2).sum(2)
    weight = np.sqrt(problem.precision) * scale / (scale + squared)
    z = np.maximum(posed.points[..., 2], 0.05)
    over = camera.focal_px / z
    slope = posed.points[..., :2] / z[..., None]
    jacobian = columns[..., :2] - columns[..., 2:] * slope[:, None]
    jacobian *= (over * weight)[:, None, :, None]
    squared = problem.depth_precision * rows.depth**2
    depth_weight = np.sqrt(problem.depth_precision) * scale / (scale + squared)
    first, second = problem.pairs.T
    depth = (columns[:, :, first, 2] - columns[:, :, second, 2]) * depth_weight[:, None]
    turn_weight = np.sqrt(problem.head_precision[:, :1])
    place_weight = np.sqrt(problem.head_precision[:, 1:])
    frames, count = columns.shape[:2]
    derivative = np.concatenate(
        [jacobian.reshape(frames, count, -1), depth, head * turn_weight[:, None], eyes * place_weight[:, None]], axis=2
    )
    values = np.concatenate(
        [
            (rows.pixels * weight[..., None]).reshape(frames, -1),
            rows.depth * depth_weight,
            rows.turn * turn_weight,
            rows.place * place_weight,
        ],
        axis=1,
    )
    whole = derivative @ np.swapaxes(derivative, 1, 2)
    slopes = (derivative @ values[..., None])[..., 0]
    moving = motion.shape[1]
    away = motion - skeleton.articulation.array("rest")
    hessian = whole[:, :moving, :moving] + problem.prior
    gradient = slopes[:, :moving] + away @ problem.prior
    if not shared:
        return hessian, gradient, None, None, None
    return hessian, gradient, whole[:, :moving, moving:], whole[:, moving:, moving:].sum(0), slopes[:, moving:].sum(0)


def held_unknowns(problem: Problem, motion: Float64, gradient: Float64) -> Bool:
    """(T, P) unknowns at a limit that a step would leave."""
    parts = problem.skeleton.articulation
    low, high = parts.array("low"), parts.array("high")
    return ((motion <= low + 1e-9) & (gradient > 0)) | ((motion >= high - 1e-9) & (gradient < 0))


def solve_person(problem: Problem, motion: Float64) -> tuple[Float64, Float64]:
    """Identity (S,) and the motion of the key frames `problem`, found together."""
    shape = np.zeros(problem.skeleton.num_shape)
    parts = problem.skeleton.articulation
    low, high = parts.array("low"), parts.array("high")
    prior = SHAPE_PRECISION * problem.frames

    def cost_of(shape: Float64, motion: Float64, wide: float) -> float:
        rows = residuals(problem, pose(problem.skeleton, shape, motion))
        own = robust_cost(problem, rows, wide) + prior_cost(problem, motion)
        return float(own.sum() + prior * (shape**2).sum())

    damping, wide = FIRST_DAMPING, WIDE
    cost = cost_of(shape, motion, wide)
    for iteration in range(2 * problem.config.iterations):
        hessian, gradient, border, corner, slope = normal_equations(problem, shape, motion, wide, shared=True)
        assert border is not None
        assert corner is not None
        assert slope is not None
        held = held_unknowns(problem, motion, gradient)
        rank = np.arange(hessian.shape[1])
        while damping < LARGEST_DAMPING:
            firm = hessian.copy()
            firm[:, rank, rank] += damping * hessian[:, rank, rank] + SLOWEST
            filled = corner + prior * np.eye(len(corner)) + damping * np.diag(np.diag(corner))
            step, move = solve_arrow(firm, -gradient, border, filled, -(slope + prior * shape), held)
            new_motion, new_shape = np.clip(motion + step, low, high), shape + move
            new_cost = cost_of(new_shape, new_motion, wide)
            if new_cost < cost:
                break
            damping *= 10
        else:
            break
        done = cost - new_cost < TOLERANCE * cost
        motion, shape, cost, damping = new_motion, new_shape, new_cost, max(damping / 10, 1e-9)
        if wide > 1 and (done or iteration >= problem.config.iterations // 2):
            wide = max(wide / 2, 1.0)
            cost = cost_of(shape, motion, wide)
        elif done:
            break
    return shape, motion


def solve_motion(problem: Problem, shape: Float64, motion: Float64) -> Float64:
    """(T, P) motion of all frames for a known person, with the prior over time."""
    parts = problem.skeleton.articulation
    low, high = parts.array("low"), parts.array("high")
    damping = np.full(problem.frames, FIRST_DAMPING)
    wide = WIDE
    cost = _costs(problem, shape, motion, wide)
    for iteration in range(2 * problem.config.iterations):
        hessian, gradient = _equations(problem, shape, motion, wide)
        bent = problem.bending.apply(torch.as_tensor(motion)).numpy() * problem.bend
        gradient = gradient + bent
        held = held_unknowns(problem, motion, gradient)
        rank = np.arange(hessian.shape[1])
        hessian[:, rank, rank] += damping[:, None] * hessian[:, rank, rank] + SLOWEST
        step = solve_coupled(hessian, problem.bending, problem.bend, held, -gradient)
        new = np.clip(motion + step, low, high)
        new_cost = _costs(problem, shape, new, wide)
        if new_cost.sum() >= cost.sum():  # take only what helps each frame, with its share of the bending
            refused = new_cost > cost
            new[refused] = motion[refused]
            new_cost = _costs(problem, shape, new, wide)
            damping = np.where(refused, damping * 10, damping)
            if new_cost.sum() >= cost.sum():
                damping = damping * 10
                if damping.min() > LARGEST_DAMPING:
                    break
                continue
        else:
            damping = np.where(new_cost > cost, damping * 4, np.maximum(damping / 5, 1e-7))
        done = cost.sum() - new_cost.sum() < TOLERANCE * cost.sum()
        motion, cost = new, new_cost
        if wide > 1 and (done or iteration >= problem.config.iterations // 2):
            wide = max(wide / 2, 1.0)
            cost = _costs(problem, shape, motion, wide)
        elif done:
            break
    return motion


def _equations(problem: Problem, shape: Float64, motion: Float64, wide: float) -> tuple[Float64, Float64]:
    parts = []
    for start in range(0, problem.frames, BLOCK):
        rows = np.arange(start, min(start + BLOCK, problem.frames))
        parts.append(normal_equations(problem.part(rows), shape, motion[rows], wide)[:2])
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _costs(problem: Problem, shape: Float64, motion: Float64, wide: float) -> Float64:
    """(T,) objective of each frame with its share of the prior over time; the sum is the whole objective."""
    own = robust_cost(problem, residuals(problem, pose(problem.skeleton, shape, motion)), wide)
    own = own + prior_cost(problem, motion)
    bent = problem.bending.apply(torch.as_tensor(motion)).numpy()
    return np.asarray(own + (problem.bend * motion * bent).sum(1))
