"""Photometric residuals of surface points and their derivatives: what pixels say about shape, motion, light and focus.

Each surface point carries a colour of its own. In the logarithm of linear light its pixel is log albedo plus log
shading, so that one residual per point and frame, `tone = log pixel - log shading`, is the measured log albedo. Two
things are asked of it: that it is the same in all frames (direct alignment, "texture"), and that it differs little from
the skin around it ("shading", which gives the shape from shading).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.camera import project
from reconstruct.fitting.derivatives import FACING, Geometry, rotation_slopes
from reconstruct.fitting.problem import Problem, State
from reconstruct.models.skinning import axis_angle_to_matrix, skin
from reconstruct.photometric.light import NUM_COEFFICIENTS, log_shading
from reconstruct.photometric.pictures import Squares, chroma, log_light, sample
from reconstruct.photometric.surface import Surface, normal_slopes, normals_of, visible
from reconstruct.raster import Rasterizer
from schemas.config import PhotometricConfig


@dataclass(frozen=True)
class Scene:
    """Everything that stays the same while some frames of a clip are refined."""

    problem: Problem
    """The landmark problem of the T frames, float32."""
    surface: Surface
    squares: Squares
    """Of the same T frames."""
    rasterizer: Rasterizer
    landmark_gain: Tensor
    """(L,) factor on the landmarks' precision once their lasting misplacement is known."""
    inertia: float
    """Factor on the weights of the head's inertia: they are given for 25 frames a second."""
    config: PhotometricConfig

    def only(self, frames: NDArray[np.int64]) -> Scene:
        """The scene of some frames."""
        return dataclasses.replace(self, problem=self.problem.part(frames), squares=self.squares.only(frames))

    def dense(self) -> Problem:
        """The problem with the compared vertices as landmarks at pixel (0, 0): its residuals are source pixels."""
        count, points = len(self.problem.observed), self.surface.corners
        return dataclasses.replace(
            self.problem, points=points, observed=torch.zeros(count, 1, 2), scale_px=torch.ones(count)
        )


@dataclass(frozen=True)
class Seen:
    """What a block of frames shows of the surface, held fixed within one step."""

    frames: slice
    planes: Tensor
    """(T, 3, size, size) log luminance and its slopes."""
    usable: Tensor
    """(T, n) 0 or 1: visible and turned to the camera."""
    textured: Tensor
    """(T, n) 0 or 1: usable and not of the lips, whose rim covers and uncovers the mouth."""
    skin: Tensor
    """(T, n) 0..1: usable, turned to the camera and of the colour of skin."""


@dataclass(frozen=True)
class Tones:
    """Measured log albedo and its derivatives."""

    value: Tensor
    """(T, n)"""
    by_motion: Tensor
    """(T, n, P)"""
    by_shared: Tensor | None
    """(T, n, S + 1 + 9) shape, log focal length, light."""


def geman_mcclure(residual: Tensor, scale: float) -> Tensor:
    """Weight of iteratively reweighted least squares."""
    return (scale**2 / (scale**2 + residual**2)) ** 2


def look(scene: Scene, state: State, frames: slice) -> Seen:
    """What the frames show, at the present state."""
    surface, size = scene.surface, scene.squares.size
    vertices = skin(surface.mesh, state.shape.float(), *pose_arguments(scene.problem, state.motion[frames].float()))
    pixels = project(vertices, state.log_focal.exp().float(), scene.problem.principal_point)
    places = _to_square(scene.squares, frames, pixels[..., :2])
    on_square = torch.cat([places, pixels[..., 2:]], dim=-1)
    compared = torch.as_tensor(surface.corners.vertex_ids)
    shown = visible(scene.rasterizer, on_square, surface.mesh_faces, compared, size)
    normals = normals_of(surface, vertices[:, torch.as_tensor(surface.ring.vertex_ids)])
    facing = -(normals * torch.nn.functional.normalize(vertices[:, compared], dim=-1)).sum(-1)
    source = pixels[:, compared, :2]
    inside = ((source > 0) & (source < 2 * scene.problem.principal_point)).all(-1)
    usable = (shown & inside & (facing > scene.config.min_facing)).float()
    pictures = scene.squares.pixels[frames]
    hue = sample(chroma(pictures, scene.config.blur_px), places[:, compared])
    plain = (usable > 0) & ~surface.lips
    middle = hue[plain].median(0).values if bool(plain.any()) else hue.new_zeros(2)
    like_skin = geman_mcclure((hue - middle).norm(dim=-1), scene.config.chroma_scale)
    weight = usable * facing * like_skin * plain
    return Seen(frames, log_light(pictures, scene.config.blur_px), usable, usable * ~surface.lips, weight)


def pose_arguments(problem: Problem, motion: Tensor) -> tuple[Tensor, ...]:
    """Arguments of `skin` after the shape: expression, global, neck, jaw, left eye, right eye, translation."""
    frames, columns = len(motion), problem.columns
    expression = torch.zeros(frames, problem.points.shapedirs.shape[1] - problem.points.num_shape, dtype=motion.dtype)
    expression[:, torch.as_tensor(problem.free)] = motion[:, columns.expression]
    turn = axis_angle_to_matrix(motion[:, columns.rotation]) @ axis_angle_to_matrix(FACING.to(motion.dtype))
    eyes = torch.zeros(2, frames, 3, dtype=motion.dtype)
    eyes[0, :, :2], eyes[1, :, :2] = motion[:, columns.left_eye], motion[:, columns.right_eye]
    neck = torch.zeros(frames, 3, dtype=motion.dtype)
    pose = torch.as_tensor(roma.rotmat_to_rotvec(turn))
    return expression, pose, neck, motion[:, columns.jaw], eyes[0], eyes[1], motion[:, columns.translation]


def _to_square(squares: Squares, frames: slice, pixels: Tensor) -> Tensor:
    """Source pixels (T, k, 2) to crop pixels."""
    return (pixels - squares.corner[frames][:, None]) * squares.scale


def _placed_points(scene: Scene, state: State, frames: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Compared points (T, n, 3), their normals (T, n, 3), and the head's rotation (T, 3, 3), camera space."""
    arguments = pose_arguments(scene.problem, state.motion[frames].float())
    ring = skin(scene.surface.ring, state.shape.float(), *arguments)
    return ring[:, : scene.surface.count], normals_of(scene.surface, ring), axis_angle_to_matrix(arguments[1])


def measured(scene: Scene, state: State, seen: Seen) -> tuple[Tensor, Tensor]:
    """Log luminance of every point in every frame (T, n), and the normals (T, n, 3) there."""
    points, normals, _ = _placed_points(scene, state, seen.frames)
    pixels = project(points, state.log_focal.exp().float(), scene.problem.principal_point)[..., :2]
    places = _to_square(scene.squares, seen.frames, pixels)
    return sample(seen.planes[:, :1], places)[..., 0], normals


def tones_of(scene: Scene, state: State, light: Tensor, seen: Seen) -> Tensor:
    """(T, n) measured log albedo."""
    bright, normals = measured(scene, state, seen)
    return bright - log_shading(normals, light)[0]


def linearise_tones(
    scene: Scene, geometry: Geometry, state: State, light: Tensor, seen: Seen, slopes: Tensor, *, shared: bool
) -> Tones:
    """Measured log albedo with derivatives.

    Args: geometry: of `scene.dense()`; slopes (n, 3, S + E) from `rest_normal_slopes`. Normals follow shape, expression
    and the head's rotation, exactly so for a face at rest; how an opened jaw turns them is left out of the derivative
    (not of the value).
    """
    problem, frames = scene.problem, seen.frames
    columns, size = problem.columns, scene.surface.ring.num_shape
    _, normals, turn = _placed_points(scene, state, frames)
    line = geometry.at(state, frames, shared=shared)
    values = sample(seen.planes, _to_square(scene.squares, frames, line.residual))
    across = (values[..., 1:] * scene.squares.scale)[..., None, :]
    shading, by_normal, by_light = log_shading(normals, light)
    by_place = (across @ line.by_rest)[..., 0, :].transpose(0, 1)  # (n, T, 3)
    canonical = (by_normal @ turn).transpose(0, 1)
    count = columns.expressions
    by_motion = torch.empty(*normals.shape[:2], columns.total)
    turned = slopes[..., size:][..., torch.as_tensor(problem.free)]
    by_motion[..., :count] = (by_place @ geometry.expressions - canonical @ turned).transpose(0, 1)
    by_motion[..., count:] = (across @ line.by_rigid)[..., 0, :]
    facing = axis_angle_to_matrix(FACING.float())
    turning = torch.einsum("tabp,bc->tacp", rotation_slopes(state.motion[frames][:, columns.rotation].float()), facing)
    by_motion[..., columns.rotation] -= torch.einsum("tna,tacp,tnc->tnp", by_normal, turning, normals @ turn)
    if line.by_shared is None:
        return Tones(values[..., 0] - shading, by_motion, None)
    by_shared = torch.empty(*by_motion.shape[:2], size + 1 + NUM_COEFFICIENTS)
    by_shared[..., : size + 1] = (across @ line.by_shared)[..., 0, :]
    by_shared[..., :size] -= (canonical @ slopes[..., :size]).transpose(0, 1)
    by_shared[..., size + 1 :] = -by_light
    return Tones(values[..., 0] - shading, by_motion, by_shared)


def rest_normal_slopes(surface: Surface, shape: Tensor) -> Tensor:
    """(n, 3, S + E) derivative of the normals of the face at rest by shape and expression, model space."""
    ring = surface.ring
    directions = ring.shapedirs.reshape(len(ring.template), 3, -1)
    return normal_slopes(surface, ring.template + directions[..., : ring.num_shape] @ shape.float(), directions)


def albedo_of(tones: Tensor, usable: Tensor, scale: float) -> Tensor:
    """(n,) log albedo of each point: the robust mean over frames of tones (T, n), started at the median."""
    mean = torch.nan_to_num(torch.where(usable > 0, tones, torch.nan).nanmedian(0).values)
    for _ in range(2):
        weight = usable * geman_mcclure(tones - mean, scale)
        total = weight.sum(0)
        mean = torch.where(total > 1e-6, (weight * tones).sum(0) / total.clamp(min=1e-6), mean)
    return mean
