"""The photometric stage: from a landmark fit and the clip's pictures to a refined fit, and what it changed.

Two stages, like the landmark fit: shape, focal length and light with the motion of key frames (landmarks, shape from
shading, one albedo per surface point over all key frames), then the motion of all frames against that albedo. Both are
projected Gauss-Newton in the logarithm of linear light; no gradient flows through a rasteriser, which only tells what
hides what. Ideas: direct bundle adjustment (Delaunoy and Pollefeys 2014), shading with spherical harmonics as in face
tracking (Thies et al. 2016, Garrido et al. 2016).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.embedding import Embedding
from reconstruct.fit import to_track
from reconstruct.fitting.derivatives import FACING
from reconstruct.fitting.objective import blocks
from reconstruct.fitting.problem import Known, Problem, State, make_problem
from reconstruct.fitting.solver import motion_equations
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import axis_angle_to_matrix
from reconstruct.photometric.descend import refine_motion, refine_person
from reconstruct.photometric.light import NUM_COEFFICIENTS, fit_light, log_shading
from reconstruct.photometric.pictures import GAMMA, cut_squares
from reconstruct.photometric.surface import LEFT_OUT, make_surface
from reconstruct.photometric.terms import Scene, albedo_of, geman_mcclure, look, measured
from reconstruct.raster import make_rasterizer
from schemas.config import FitConfig
from schemas.errors import TalksetError
from schemas.types import Float32, HeadTrack, LandmarkTrack

USUAL_STEP_S = 0.04
MIN_POINTS = 100
"""Compared points that a clip must show on average to be refined."""


@dataclass(frozen=True)
class PhotometricReport:
    """What the stage did."""

    refined: bool
    """False when the pixels told nothing and the landmark fit was kept."""
    psnr_before: Float32
    """(T,) dB of 8-bit luminance at the surface points of the face, of the clip's albedo lit by its light; NaN where
    not valid."""
    psnr_after: Float32
    light: Float32
    """(9,) spherical-harmonics coefficients in camera space; mean skin has albedo one."""
    albedo: Float32
    """(n,) of the compared vertices, relative to the skin's."""
    vertices: NDArray[np.int64]
    """(n,) ids of the compared vertices."""


def refine_clip(
    model: HeadModel,
    embedding: Embedding,
    track: LandmarkTrack,
    head: HeadTrack,
    pictures: Iterable[NDArray[np.uint8]],
    config: FitConfig,
    known: Known | None = None,
) -> tuple[HeadTrack, PhotometricReport]:
    """Refine the landmark fit of one clip with its pixels.

    Args: head: result of `fit_clip` for `track`; pictures: every frame of the clip, (H, W, 3) sRGB, in order, also
    those that are not valid; known: as for `fit_clip`. `residual_px` and `nme` of the result stay landmark errors.
    Raises TalksetError: corrupt_data when the pictures are not those of the track or the head is of another model,
    fit_failed when the solution is not finite.
    """
    if head.model_sha256 != model.sha256 or len(head.valid) != len(track.valid):
        raise TalksetError("corrupt_data", "the head track is not a fit of these landmarks", "Fit the clip again")
    seen = np.flatnonzero(track.valid & head.valid)
    settings = config.photometric
    whole = make_problem(model, embedding, track, seen, config, known)
    problem = whole.single()
    squares = cut_squares(pictures, track, seen, settings.size_px)
    step_s = float(np.median(np.diff(track.pts_us[seen]))) / 1e6 if len(seen) > 1 else USUAL_STEP_S
    inertia = (USUAL_STEP_S / step_s) ** 4  # second differences grow with the square of the step, their squares again
    gain = _landmark_gain(model, embedding, settings.unseen_landmark_gain)
    scene = Scene(problem, make_surface(model), squares, make_rasterizer(settings.rasterizer), gain, inertia, settings)
    start = state_of(problem, head, seen)
    keys = np.unique(np.linspace(0, len(seen) - 1, min(len(seen), settings.key_frames)).round().astype(int))
    light = _first_light(scene.only(keys), State(start.shape, start.log_focal, start.motion[torch.as_tensor(keys)]))
    if light is None:
        nothing = np.full(len(track.valid), np.nan, dtype=np.float32)
        compared = scene.surface.corners.vertex_ids
        albedo = np.full(len(compared), np.nan, dtype=np.float32)
        return head, PhotometricReport(
            False, nothing, nothing, np.full(NUM_COEFFICIENTS, np.nan, np.float32), albedo, compared
        )
    before, _ = _agreement(scene, start, light)
    state, light = refine_person(scene, start, light, keys)
    state = refine_motion(scene, state, light, keys)
    if not bool(torch.isfinite(state.motion).all() and torch.isfinite(state.shape).all()):
        raise TalksetError("fit_failed", "the photometric refinement diverged", "Report the clip, or switch it off")
    after, albedo_log = _agreement(scene, state, light)

    def spread(values: Tensor) -> Float32:
        whole = np.full((len(track.valid), *values.shape[1:]), np.nan, dtype=np.float32)
        whole[seen] = values.numpy()
        return whole

    return to_track(model, whole, state, motion_equations(whole, state), track, seen), PhotometricReport(
        refined=True,
        psnr_before=spread(before),
        psnr_after=spread(after),
        light=light.numpy().astype(np.float32),
        albedo=albedo_log.exp().numpy(),
        vertices=scene.surface.corners.vertex_ids,
    )


def _landmark_gain(model: HeadModel, embedding: Embedding, gain: float) -> Tensor:
    """(L,) `gain` for landmarks on lips, lids and eyeballs, which pixels are not read at, and one elsewhere."""
    unread = [model.regions[name] for name in (*LEFT_OUT, "lips") if name in model.regions]
    on_unread = np.isin(embedding.vertices, np.concatenate([np.zeros(0, np.int32), *unread])).any(1)
    return torch.as_tensor(np.where(on_unread, gain, 1.0), dtype=torch.float32)


def state_of(problem: Problem, head: HeadTrack, seen: NDArray[np.int64]) -> State:
    """The unknowns of a fitted head in the frames `seen`; a turned neck becomes a turn and shift of the whole head."""
    columns = problem.columns

    def pick(values: Float32) -> Tensor:
        return torch.as_tensor(values[seen], dtype=torch.float64)

    motion = torch.zeros(len(seen), columns.total, dtype=torch.float64)
    motion[:, columns.expression] = pick(head.expression)[:, torch.as_tensor(problem.free)]
    motion[:, columns.jaw] = pick(head.jaw_pose)
    motion[:, columns.left_eye] = pick(head.left_eye_pose)[:, :2]
    motion[:, columns.right_eye] = pick(head.right_eye_pose)[:, :2]
    shape = torch.as_tensor(head.shape, dtype=torch.float64)
    root, neck = axis_angle_to_matrix(pick(head.global_pose)), axis_angle_to_matrix(pick(head.neck_pose))
    motion[:, columns.rotation] = _rotvec(root @ neck @ axis_angle_to_matrix(FACING).T)
    points = problem.points
    joints = (points.joint_template.reshape(-1).double() + points.joint_dirs.double() @ shape).reshape(5, 3)
    lever = joints[1] - joints[0]
    motion[:, columns.translation] = pick(head.translation) + (root @ (lever - neck @ lever)[..., None])[..., 0]
    return State(shape, torch.tensor(float(np.log(head.focal_px)), dtype=torch.float64), motion)


def _rotvec(rotation: Tensor) -> Tensor:
    return torch.as_tensor(roma.rotmat_to_rotvec(rotation))


def _first_light(scene: Scene, state: State) -> Tensor | None:
    """(9,) light that explains the skin of the landmark fit; None when there is too little skin or no contrast."""
    bright, normals, weight = [], [], []
    for frames in blocks(len(state.motion)):
        seen = look(scene, state, frames)
        tone, normal = measured(scene, state, seen)
        bright.append(tone)
        normals.append(normal)
        weight.append(seen.skin)
    value, direction, trust = torch.cat(bright), torch.cat(normals), torch.cat(weight)
    used = trust > 0.05
    if float(used.sum()) < MIN_POINTS * len(state.motion) or float(value[used].std()) < scene.config.min_contrast:
        return None
    light = fit_light(direction[used], value[used].exp(), trust[used])
    for _ in range(3):
        residual = value[used] - log_shading(direction[used], light)[0]
        kept = trust[used] * geman_mcclure(residual, 2 * scene.config.shading_scale)
        light = fit_light(direction[used], value[used].exp(), kept)
    return light


def _agreement(scene: Scene, state: State, light: Tensor) -> tuple[Tensor, Tensor]:
    """PSNR (T,) of each frame against the clip's own albedo under its light, and that log albedo (n,)."""
    parts = []
    for frames in blocks(len(state.motion)):
        seen = look(scene, state, frames)
        bright, normals = measured(scene, state, seen)
        parts.append((bright, log_shading(normals, light)[0], seen.usable))
    bright, shading, usable = (torch.cat(values) for values in zip(*parts, strict=True))
    albedo = albedo_of(bright - shading, usable, scene.config.texture_scale)
    difference = (albedo + shading).exp().clamp(0, 1) ** (1 / GAMMA) - bright.exp().clamp(0, 1) ** (1 / GAMMA)
    squared = (usable * difference**2).sum(1) / usable.sum(1).clamp(min=1)
    return -10 * squared.clamp(min=1e-10).log10(), albedo
