"""One person over many clips: what each clip tells of shape and focal length, and what they say together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.embedding import Embedding
from reconstruct.fitting.derivatives import Geometry
from reconstruct.fitting.problem import Known, Problem, State, make_problem
from reconstruct.fitting.solver import KNOWN_WEIGHT, person_equations, solve_person, start_state
from reconstruct.models.head_model import HeadModel
from schemas.config import FitConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import LandmarkTrack

Float64 = NDArray[np.float64]
FLOOR = 1e-9
"""Added to the diagonal of a frame: nothing tells its place when the robust loss takes all its landmarks for wrong."""


@dataclass(frozen=True)
class Evidence:
    """What the landmarks of one clip tell of the person in it: a quadratic around what its own fit found."""

    clip_id: str
    shape: Float64
    """(S,) of the clip's own fit, prior included."""
    log_focal: float
    """Of the clip's own fit; natural logarithm of pixels."""
    information: Float64
    """(S + 1, S + 1) of shape and log focal length when the motion is free, without their prior."""
    prior_frames: float
    """How many frames' worth of prior the clip's own fit had."""


def clip_evidence(
    model: HeadModel, embedding: Embedding, track: LandmarkTrack, config: FitConfig, clip_id: str = ""
) -> Evidence:
    """Shape and focal length of one clip with what its key frames tell of them.

    Args: as for `fit_clip`; only the key frames are fitted. Raises TalksetError face_lost when no frame is valid,
    fit_failed when the solution is not finite, corrupt_data when the embedding has other landmarks than the track.
    """
    given, embedded = track.face_xy.shape[1], len(embedding.vertices)
    if given != embedded:
        message = f"{track.detector} gave {given} landmarks, the embedding has {embedded}"
        raise TalksetError("corrupt_data", message, "Use the embedding of the detector that found the landmarks")
    seen = np.flatnonzero(track.valid)
    if len(seen) == 0:
        raise TalksetError("face_lost", "no frame of the clip shows a face")
    problem = make_problem(model, embedding, track, seen, config)
    problem, state = solve_person(problem, start_state(problem))
    keys = problem.key_frames()
    part = problem.part(keys)
    information, slope = _information(part, State(state.shape, state.log_focal, state.motion[torch.as_tensor(keys)]))
    found = np.append(state.shape.numpy(), float(state.log_focal))
    weight = _prior(part.shared_prior, len(state.shape), config)
    pull = weight * (found - np.append(np.zeros(len(state.shape)), np.log(problem.focal_guess)))
    # the fit stops when a step gains little: a last whole one brings it to the minimum that the quadratic stands for
    optimum = found - np.linalg.solve(information + np.diag(weight), slope + pull)
    if not (np.isfinite(information).all() and np.isfinite(optimum).all()):
        raise TalksetError("fit_failed", "the fit diverged", "Report the clip; its landmarks may be degenerate")
    return Evidence(
        clip_id=clip_id,
        shape=optimum[:-1],
        log_focal=float(optimum[-1]),
        information=information,
        prior_frames=part.shared_prior,
    )


def fuse(evidence: Sequence[Evidence], focal_groups: Mapping[str, str], config: FitConfig) -> dict[str, Known]:
    """One shape of all clips, and one focal length of the clips in each focal group; by clip id.

    The minimum of the sum of the clips' quadratics. Each comes with the prior of its own fit, which weighs as many
    frames as err alike: landmarks that are misplaced on a person are misplaced in each of the person's clips, so the
    prior that guards against them must not be outvoted by more clips (measured; one prior for all is less accurate).
    The result does not depend on the order of the clips; one clip alone keeps its own shape.
    Args: focal_groups: clip id -> name of its group. Raises UsageError without clips.
    """
    clips = _sorted(evidence)
    if len(clips) == 1:
        return {clips[0].clip_id: _known(clips[0].shape, clips[0].log_focal, config)}
    size = len(clips[0].shape)
    matrix, right = np.zeros((size, size)), np.zeros(size)
    groups: dict[str, list[Evidence]] = {}
    for clip in clips:
        groups.setdefault(focal_groups[clip.clip_id], []).append(clip)
    lenses: dict[str, tuple[Float64, float]] = {}
    for name, members in sorted(groups.items()):
        whole, pushed = _sum(members, config)
        # the focal length follows the shape: taken out of the system here, found again below
        slope, offset = whole[-1, :-1] / whole[-1, -1], pushed[-1] / whole[-1, -1]
        matrix += whole[:-1, :-1] - np.outer(whole[:-1, -1], slope)
        right += pushed[:-1] - whole[:-1, -1] * offset
        lenses[name] = slope, float(offset)
    shape = np.linalg.solve(matrix, right)
    known = {name: _known(shape, offset - float(slope @ shape), config) for name, (slope, offset) in lenses.items()}
    return {clip.clip_id: known[focal_groups[clip.clip_id]] for clip in clips}


def fuse_focal(evidence: Sequence[Evidence], config: FitConfig) -> dict[str, Known]:
    """One focal length of all clips, each with its own shape, which is the best one for it; by clip id.

    Raises UsageError without clips.
    """
    clips = _sorted(evidence)
    if len(clips) == 1:
        return {clips[0].clip_id: _known(clips[0].shape, clips[0].log_focal, config)}
    precision, right = 0.0, 0.0
    shapes: list[tuple[Float64, Float64]] = []
    for clip in clips:
        whole, pushed = _sum([clip], config)
        solved = np.linalg.solve(whole[:-1, :-1], np.stack([pushed[:-1], whole[:-1, -1]], axis=1))
        shapes.append((solved[:, 0], solved[:, 1]))
        precision += float(whole[-1, -1] - whole[-1, :-1] @ solved[:, 1])
        right += float(pushed[-1] - whole[-1, :-1] @ solved[:, 0])
    log_focal = right / precision
    return {
        clip.clip_id: _known(at_zero - log_focal * slope, log_focal, config)
        for clip, (at_zero, slope) in zip(clips, shapes, strict=True)
    }


def _sorted(evidence: Sequence[Evidence]) -> list[Evidence]:
    """By clip id: sums of floats depend on their order."""
    if not evidence:
        raise UsageError("there is no clip to find a person in", "Give the evidence of at least one clip")
    return sorted(evidence, key=lambda clip: clip.clip_id)


def _sum(clips: Sequence[Evidence], config: FitConfig) -> tuple[Float64, Float64]:
    """Normal equations (S + 1, S + 1) and (S + 1,) of clips that share shape and focal length."""
    size = len(clips[0].shape)
    matrix, right = np.zeros((size + 1, size + 1)), np.zeros(size + 1)
    for clip in clips:
        whole = clip.information + np.diag(_prior(clip.prior_frames, size, config))
        matrix += whole
        right += whole @ np.append(clip.shape, clip.log_focal)
    return matrix, right


def _prior(frames: float, size: int, config: FitConfig) -> Float64:
    """(S + 1,) weights of the prior of so many frames; a focal length that is given is kept."""
    weight = np.full(size + 1, frames * config.shape_weight)
    weight[-1] = KNOWN_WEIGHT if config.focal_px is not None else frames * config.focal_weight
    return weight


def _known(shape: Float64, log_focal: float, config: FitConfig) -> Known:
    return Known(np.asarray(shape, dtype=np.float32), config.focal_px or float(np.exp(log_focal)))


def _information(part: Problem, state: State) -> tuple[Float64, Float64]:
    """What key frames tell of shape and log focal length without their priors, when all else follows.

    The second derivative (S + 1, S + 1) of the landmarks' objective, a Schur complement, and its slope (S + 1,) at the
    state. Unknowns that their bounds hold do not follow.
    """
    plain = dataclasses.replace(part.config, shape_weight=0.0, focal_weight=0.0)
    part = dataclasses.replace(part, config=plain, known_shape=False, known_focal=False)
    equations = person_equations(part, Geometry(part, state.shape), state)
    assert equations.border is not None
    assert equations.corner is not None
    assert equations.corner_gradient is not None
    hessian, gradient = equations.hessian, equations.gradient  # with the priors of a frame
    hessian.diagonal(dim1=1, dim2=2).add_(FLOOR)
    held = ((state.motion <= part.lower) & (gradient > 0)) | ((state.motion >= part.upper) & (gradient < 0))
    free = (~held).to(hessian.dtype)
    hessian = hessian * free[:, :, None] * free[:, None, :] + torch.diag_embed(1 - free)
    border = equations.border * free[:, :, None]
    solved = torch.linalg.solve(hessian, torch.cat([border, (free * gradient)[..., None]], dim=2))
    information = equations.corner - torch.einsum("tpq,tpr->qr", border, solved[..., :-1])
    slope = equations.corner_gradient - torch.einsum("tpq,tp->q", border, solved[..., -1])
    return ((information + information.T) / 2).numpy(), slope.numpy()
