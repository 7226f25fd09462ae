"""How well the landmarks determine a fit: what their errors and the priors make of the face, and limits reached."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.fitting.derivatives import RIGID, Geometry
from reconstruct.fitting.objective import add_priors, gap_weight, priors_of, robust_weight
from reconstruct.fitting.problem import Problem, State
from reconstruct.fitting.solver import Equations, person_equations, person_prior

KEY_STEP = 2
"""Every so many key frames are followed; it is half of the time of the whole."""
CENTRE_STEP = 6
"""Every so many landmarks are the middle of a patch that errs together."""
WIDTHS_M = (0.0005, 0.2)
"""Least and most width of a patch."""
FOCAL_SPREAD = 0.3
"""Standard deviation of the log focal length of cameras about the ordinary one."""
FREQUENCIES = 8
"""At which the smoothing over time is averaged."""


def uncertainty_mm(problem: Problem, geometry: Geometry, state: State, equations: Equations) -> Tensor:
    """(T,) RMS standard deviation in millimetres of the face points in the rest pose, from shape and expression.

    Near its solution the fit is linear: with H the Hessian, an error that pushes the gradient by n moves the solution
    by H^-1 n, whatever the weights in H were meant to be; unknowns at a bound stay there. Three kinds of error are
    followed through the key frames. What is wrong about landmarks for the whole clip pushes all frames alike, in
    patches of the skin of `landmark_correlation` landmarks. What is new in every frame pushes each for itself, and the
    prior over time averages it. And the priors pull to the mean head at rest, from where heads are as far as the model
    says and expressions as far as those found. Expressions follow the shape: what both have wrong partly cancels.
    The other frames have the key frames' ratio of this to what their own landmarks tell alone, each for itself.

    Against truths, actual over stated error as RMS over clips: 1.03 with white noise (1.44 over all vertices of the
    face, of which some are far from any landmark), 0.72 with MediaPipe on clear pictures, and 1.25 on difficult ones
    (heads turned by 45 degrees, covered, blurred), where a detector errs more than where it was measured. Noise that
    hides lasting errors makes it too small: 2.1 in low light. Landmarks without any error are not believed to be: 0.2
    and less. Within a clip it tells little of which frames are worse. `equations` are those of the motion at the state,
    with priors.
    """
    moving = geometry.expressions.shape[2]
    of_motion = torch.linalg.inv(_firm(equations.hessian))[:, :moving, :moving]
    directions = _without_similarity(geometry.rest, torch.cat([geometry.expressions, geometry.identity], dim=2))
    gram = directions.T @ directions
    own = (of_motion * gram[:moving, :moving]).sum((1, 2))
    keys = problem.key_frames()[::KEY_STEP]
    ratio = (_key_variance(problem, state, gram, keys) / own[torch.as_tensor(keys)]).numpy()
    variance = own * torch.as_tensor(np.interp(np.arange(len(own)), keys, ratio))
    return torch.as_tensor(1000 * (variance / len(geometry.rest)).sqrt())


def _key_variance(problem: Problem, state: State, gram: Tensor, keys: NDArray[np.int64]) -> Tensor:
    """(K,) sum of the variances of the face points' coordinates in some of the key frames, square metres.

    Args: gram (E + S, E + S) products of the face's directions by expressions and shape.
    """
    part = problem.part(keys)
    part = part.single() if problem.rounds else part
    chosen = State(state.shape, state.log_focal, state.motion[torch.as_tensor(keys)])
    geometry, count = Geometry(part, state.shape), len(keys)
    equations = person_equations(part, geometry, chosen)
    free = ((chosen.motion > part.lower + 1e-6) & (chosen.motion < part.upper - 1e-6)).double()
    response = _Response.of(_held(equations, free), gram)
    lasting, passing = _prior_pushes(part, state, problem)
    lasting = torch.cat([lasting.expand(count, -1, -1), _landmark_pushes(part, geometry, chosen)], dim=2)
    new = part.time_prior * _told(part, equations)
    motion = free.shape[1]
    new[:, :motion, :motion] += torch.diag(passing)
    lasting[:, :motion] *= free[:, :, None]
    new[:, :motion] *= free[:, :, None]
    new[:, :, :motion] *= free[:, None, :]
    left = _left_in_time(problem, response, new[:, :motion, :motion])
    # the person was found from all key frames
    return response.of_lasting(lasting) + response.of_passing(new, left, count / len(problem.key_frames()))


@dataclass(frozen=True)
class _Response:
    """How pushes of the gradient of key frames and person move the face points."""

    hessian: Tensor
    """(K, P, P) blocks of the frames."""
    solved: Tensor
    """(K, P, P) their inverses."""
    followed: Tensor
    """(K, P, Q) what a frame's motion takes back of a change of the person."""
    person: Tensor
    """(Q, Q) inverse of what is told of the person when all else is free."""
    gram: Tensor
    """(E + S, E + S) products of the directions of expressions and shape."""

    @classmethod
    def of(cls, equations: Equations, gram: Tensor) -> _Response:
        """From the equations of key frames and person."""
        assert equations.border is not None
        solved = torch.linalg.inv(_firm(equations.hessian))
        person = torch.linalg.inv(person_information(equations))
        return cls(equations.hessian, solved, solved @ equations.border, person, gram)

    @property
    def moving(self) -> int:
        """E."""
        return len(self.gram) - len(self.person) + 1

    def of_lasting(self, pushes: Tensor) -> Tensor:
        """(K,) by n pushes of variance one, each (K, P + Q, n) in all frames together."""
        size = self.solved.shape[1]
        by_person = (pushes[:, size:] - self.followed.transpose(1, 2) @ pushes[:, :size]).sum(0)
        shared = self.person @ by_person
        motion = self.solved[:, : self.moving] @ pushes[:, :size] - self.followed[:, : self.moving] @ shared
        both = torch.cat([motion, shared[:-1].expand(len(motion), -1, -1)], dim=1).float()
        return (both * (self.gram.float() @ both)).sum((1, 2)).double()

    def of_passing(self, covariance: Tensor, left: Tensor, share: float) -> Tensor:
        """(K,) by pushes of each frame for itself, (K, P + Q, P + Q).

        Of their variance `left` (K,) stays in the motion, and `share` in the person.
        """
        size, moving = self.solved.shape[1], self.moving
        follows = self.followed.transpose(1, 2)
        across = follows @ covariance[:, :size, size:]
        by_person = covariance[:, size:, size:] - across - across.transpose(1, 2)
        by_person = (by_person + follows @ covariance[:, :size, :size] @ self.followed).sum(0)
        person = share * self.person @ by_person @ self.person
        unit = torch.eye(len(person), dtype=torch.float64)[:-1].expand(len(covariance), -1, -1)
        face = torch.cat([-self.followed[:, :moving], unit], dim=1)
        shared = ((self.gram @ face) * (face @ person)).sum((1, 2))
        return shared + left * self.of_motion(self.solved, covariance[:, :size, :size])

    def of_motion(self, solved: Tensor, covariance: Tensor) -> Tensor:
        """(N,) by pushes of the motion alone, their covariance (P, P) or (N, P, P), with inverse blocks (N, P, P)."""
        rows, moving = solved[:, : self.moving], self.moving
        return ((rows @ covariance @ rows.transpose(1, 2)) * self.gram[:moving, :moving]).sum((1, 2))


def _held(equations: Equations, free: Tensor) -> Equations:
    """Equations in which unknowns of the motion that are not `free` (K, P), ones and zeros, do not move."""
    assert equations.border is not None
    hessian = equations.hessian * free[:, :, None] * free[:, None, :]
    hessian.diagonal(dim1=1, dim2=2).add_(1 - free)
    return dataclasses.replace(equations, hessian=hessian, border=equations.border * free[:, :, None])


def _told(problem: Problem, equations: Equations) -> Tensor:
    """(K, P + Q, P + Q) normal equations of each key frame without priors: the covariance of what errors that are as
    stated push the gradient by. Of the corner all frames have an equal part.
    """
    assert equations.border is not None
    assert equations.corner is not None
    count = len(equations.hessian)
    hessian = equations.hessian.clone()
    pull = torch.zeros_like(hessian)
    add_priors(problem, torch.zeros_like(equations.gradient), pull, torch.zeros_like(equations.gradient))
    corner = (equations.corner - torch.diag(person_prior(problem))) / count
    lower = torch.cat([equations.border.transpose(1, 2), corner.expand(count, -1, -1)], dim=2)
    return torch.cat([torch.cat([hessian - pull, equations.border], dim=2), lower], dim=1)


def _prior_pushes(part: Problem, state: State, problem: Problem) -> tuple[Tensor, Tensor]:
    """What the priors push by when the truth is as far from them as usual, of all key frames together and new in each.

    The first are (P + Q, n) pushes of each of the frames of `part`, the second variances (P,).
    """
    moving = problem.columns.expressions
    found = state.motion[:, problem.columns.expression]
    steady, changing = float((found.mean(0) ** 2).mean()), float(found.var(0, unbiased=False).mean())
    pull = priors_of(problem).pull.clone()
    pull[moving:] = 0
    spread = torch.ones(len(state.shape) + 1, dtype=torch.float64)
    spread[-1] = FOCAL_SPREAD
    if problem.known_shape:
        spread[:-1] = 0
    if problem.known_focal:
        spread[-1] = 0
    of_person = person_prior(part) * spread / len(part.observed)
    pushes = torch.zeros(len(pull) + len(of_person), moving + len(of_person), dtype=torch.float64)
    pushes[:moving, :moving] = steady**0.5 * torch.diag(pull[:moving])
    pushes[len(pull) :, moving:] = torch.diag(of_person)
    return pushes, changing * pull**2


def _left_in_time(problem: Problem, response: _Response, pushes: Tensor) -> Tensor:
    """(K,) part of the variance by passing errors, (K, P, P) their `pushes`, that the average over time leaves.

    Of clips whose frames are all like a key frame: second differences are diagonal over the frequencies of a cosine
    transform.
    """
    frames, bend = len(problem.observed), priors_of(problem).bend
    alone = response.of_motion(response.solved, pushes)
    if frames < 3 or not bool((bend > 0).any()):
        return torch.ones_like(alone)
    count = min(frames, FREQUENCIES)
    steps = torch.arange(count).double() / count
    angles, shares = torch.pi * steps, torch.full_like(steps, 1 / count)
    if frames > count:  # most of what is left is slow: nodes of a square
        steps = steps + 0.5 / count
        angles, shares = torch.pi * steps**2, 2 * steps / count
    averaged = torch.zeros_like(alone)
    for stiff, share in zip((2 - 2 * torch.cos(angles)) ** 2, shares, strict=True):
        hessian = _firm(response.hessian + torch.diag(stiff * bend))
        averaged += share * response.of_motion(torch.linalg.inv(hessian), pushes)
    return averaged / alone.clamp(min=1e-300)


def _landmark_pushes(problem: Problem, geometry: Geometry, state: State) -> Tensor:
    """(K, P + Q, n) what errors of the landmarks that last push the gradient by, of n patches with variance one."""
    count = len(state.motion)
    frames, moving = slice(0, count), problem.columns.expressions
    line = geometry.at(state, frames, shared=True)
    assert line.by_followed is not None
    # landmarks last, as the derivatives lie in memory; by places of expressions and shape, then by the few others
    rest = line.by_rest.movedim(1, -1)
    along = torch.cat([geometry.expressions, geometry.identity], dim=2).permute(1, 2, 0).contiguous()
    own = rest[:, :, 0, None] * along[0]
    for axis in (1, 2):
        own.addcmul_(rest[:, :, axis, None], along[axis])
    rows = torch.cat([own, line.by_rigid.movedim(1, -1), line.by_followed.movedim(1, -1)], dim=2)
    weight = robust_weight(problem, line.residual, frames)
    pushes = weight[:, None, None] * rows
    first, second = (torch.as_tensor(side) for side in problem.pairs.T)
    across = gap_weight(problem, line.residual, frames)[:, None, None] * (rows[..., first] - rows[..., second])
    pushes.index_add_(3, first, across).index_add_(3, second, across, alpha=-1)
    together = problem.config.landmark_correlation
    placed = (problem.lasting / together).sqrt() * problem.trust.clamp(min=1e-12).rsqrt() * (problem.trust > 0)
    by_patch = (placed[:, None, None] * pushes) @ _patches(problem.points.template, together).to(pushes)
    by_patch = by_patch.transpose(1, 2).flatten(2)  # (K, E + S + 26, n)
    few = moving + len(state.shape)
    expressions, shape = by_patch[:, :moving], by_patch[:, moving:few]
    rigid, followed = by_patch[:, few : few + RIGID], by_patch[:, few + RIGID :]
    shared = geometry.followed.T @ followed
    shared[:, :-1] += shape
    return torch.cat([expressions, rigid, shared], dim=1).double()


def _patches(places: Tensor, together: float) -> Tensor:
    """(L, m) by which landmarks at `places` (L, 3) err with m independent patches: variance one, `together` at a time.

    The width of the patches is that at which the mean row sum of the correlations is `together`.
    """
    return _patches_of(places.double().numpy().tobytes(), together)


@functools.lru_cache(maxsize=2)
def _patches_of(places: bytes, together: float) -> Tensor:
    """The same, made once for all clips of a run; `places` as the bytes of float64."""
    points = torch.as_tensor(np.frombuffer(places).reshape(-1, 3).copy())
    distance = torch.cdist(points, points[::CENTRE_STEP])
    low, high = WIDTHS_M
    for _ in range(20):
        width = (low * high) ** 0.5
        patches = torch.softmax(-((distance / width) ** 2), dim=1)
        patches = torch.where(patches > 1e-4, patches, 0.0)  # far ones only make the products slow
        patches = patches / patches.norm(dim=1, keepdim=True)
        found = float((patches.sum(0) ** 2).sum()) / len(points)
        low, high = (width, high) if found < together else (low, width)
    return patches


def _firm(hessian: Tensor) -> Tensor:
    """The blocks (..., P, P) with what a step adds: nothing tells where a head is whose landmarks are all wrong."""
    return hessian + 1e-9 * torch.eye(hessian.shape[-1], dtype=torch.float64)


def _without_similarity(rest: Tensor, directions: Tensor) -> Tensor:
    """(3 L, k) directions (L, 3, k) without what moves, turns or scales all points: the head's place tells no shape."""
    points = rest.double() - rest.double().mean(0)
    axes = torch.eye(3, dtype=torch.float64)
    turns = [torch.linalg.cross(axis.expand_as(points), points) for axis in axes]
    moves = [axis.expand_as(points) for axis in axes]
    basis = torch.linalg.qr(torch.stack([*moves, *turns, points], dim=-1).reshape(-1, 7)).Q
    flat = directions.reshape(len(basis), -1).double()
    return torch.as_tensor(flat - basis @ (basis.T @ flat))


def person_information(equations: Equations) -> Tensor:
    """(S + 1, S + 1) what key frames and priors tell of shape and log focal length when the motion is free.

    The Schur complement of their equations.
    """
    assert equations.border is not None
    assert equations.corner is not None
    solved = torch.linalg.solve(_firm(equations.hessian), equations.border)
    return equations.corner - torch.einsum("tpq,tpr->qr", equations.border, solved)


def at_limit(problem: Problem, state: State) -> Tensor:
    """(T,) number of unknowns at a limit of the model: expressions at their highest, jaw and eyes at either end."""
    columns, motion = problem.columns, state.motion
    high = motion >= problem.upper - 1e-6
    low = (motion <= problem.lower + 1e-6) & (problem.lower < 0)  # the zero of a one-sided expression is its rest
    fixed = problem.lower == problem.upper
    return ((high | low) & ~fixed)[:, : columns.rotation.start].sum(1).double()
