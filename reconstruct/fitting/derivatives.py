"""Where the landmarks project to, and how that changes with every unknown; analytic, checked against autograd."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from reconstruct.camera import FACING_CAMERA
from reconstruct.fitting.problem import Problem, State
from reconstruct.models.skinning import axis_angle_to_matrix

FACING = torch.as_tensor(FACING_CAMERA, dtype=torch.float64)
FACING_MATRIX = axis_angle_to_matrix(FACING)
RIGID = 13
"""Unknowns of a frame besides the expression."""


@dataclass(frozen=True)
class Derivatives:
    """Residuals of some frames and their derivatives, in units of the interocular distance."""

    residual: Tensor
    """(T, L, 2) projected minus observed."""
    by_rest: Tensor
    """(T, L, 2, 3) by a displacement of the landmark in the rest pose."""
    by_rigid: Tensor
    """(T, L, 2, 13) by jaw, eyes, rotation and translation."""
    by_followed: Tensor | None = None
    """(T, L, 2, 13) by displacements of root, jaw and eye joints in the rest pose, and by the log focal length."""
    geometry: Geometry | None = None

    @functools.cached_property
    def by_shared(self) -> Tensor | None:
        """(T, L, 2, S + 1) by shape and log focal length."""
        if self.by_followed is None or self.geometry is None:
            return None
        return by_shared(self.geometry, slice(None), self.by_rest, self.by_followed)


class Geometry:
    """The landmarks of a problem with one shape."""

    def __init__(self, problem: Problem, shape: Tensor) -> None:
        points = problem.points
        self.problem, self.points = problem, points
        self.dtype = points.template.dtype
        size = points.num_shape
        directions = points.shapedirs.reshape(len(points.template), 3, -1)
        self.identity = directions[..., :size]
        self.expressions = directions[..., size:][..., torch.as_tensor(problem.free)].contiguous()
        """(L, 3, E)"""
        shape = shape.to(self.dtype)
        self.rest = points.template + self.identity @ shape
        """(L, 3) without expression."""
        self._still = self.rest.T.reshape(1, -1)
        self._directions = self.expressions.permute(2, 1, 0).reshape(len(problem.free), -1)
        correctives = points.posedirs.reshape(len(points.template), 3, 4, 9)[:, :, 1:]
        self._correctives = correctives.permute(2, 3, 1, 0).reshape(27, -1)
        """(3 joints x 9, 3 L)"""
        self.joints = (points.joint_template.reshape(-1) + points.joint_dirs @ shape).reshape(5, 3)
        followed = points.joint_dirs.reshape(5, 3, size)[[0, 2, 3, 4]].reshape(12, size)  # the neck turns nothing
        self.followed = torch.zeros(13, size + 1, dtype=self.dtype)
        self.followed[:12, :size], self.followed[12, size] = followed, 1
        """(13, S + 1) what shape and log focal length do to that which `by_followed` is of."""

    def at(self, state: State, frames: slice, derive: bool = True, shared: bool = False) -> Derivatives:
        """Residuals of `frames` of a state, and what was asked for of their derivatives."""
        problem, points, dtype = self.problem, self.points, self.dtype
        columns = problem.columns
        motion = state.motion[frames].to(dtype)
        count, landmarks = len(motion), len(points.template)
        # here landmarks are the last axis: tiny matrices laid the other way are ten times as slow to multiply
        pose = torch.zeros(count, 4, 3, dtype=dtype)  # all four rotations at once: calls cost more than numbers
        pose[:, 0], pose[:, 3] = motion[:, columns.jaw], motion[:, columns.rotation]
        pose[:, 1, :2], pose[:, 2, :2] = motion[:, columns.left_eye], motion[:, columns.right_eye]
        matrices = axis_angle_to_matrix(pose)
        turns, facing = matrices[:, :3], FACING_MATRIX.to(dtype)
        eye = torch.eye(3, dtype=dtype)
        moved_by = torch.addmm(self._still, motion[:, columns.expression], self._directions)
        turning = (turns - eye).reshape(count, 3, 9)
        rest = (moved_by + turning.reshape(count, 27) @ self._correctives).reshape(count, 3, landmarks)
        weight = points.weights[:, 2:].T
        blended = (turning.transpose(1, 2) @ weight).reshape(count, 3, 3, landmarks)
        # x + sum_j w_j (R_j - I) (x - joint_j)
        pulled = torch.einsum("tjab,jb->taj", turns - eye, self.joints[2:])
        canonical = rest + (blended * rest[:, None]).sum(2) - pulled @ weight
        world = matrices[:, 3] @ facing
        about_root = canonical - self.joints[0][:, None]
        moved = world @ about_root + (self.joints[0] + motion[:, columns.translation])[..., None]
        focal = state.log_focal.exp().to(dtype)
        scale = problem.scale_px[frames][:, None, None]
        slope = moved[:, :2] / moved[:, 2:]  # (T, 2, L) x / z and y / z
        from_centre = focal * slope
        observed = problem.observed[frames].transpose(1, 2)
        residual = (from_centre + problem.principal_point[:, None] - observed) / scale
        if not derive:
            return Derivatives(_last(residual), residual.new_zeros(0), residual.new_zeros(0))
        per_depth = focal / moved[:, 2:] / scale  # (T, 1, L)

        def through_lens(of_point: Tensor) -> Tensor:
            """(T, 2, k, L) from derivatives (T, 3, k, L) of the points in camera space."""
            return per_depth[:, None] * (of_point[:, :2] - slope[:, :, None] * of_point[:, 2:])

        through_world = through_lens(world[..., None].expand(-1, -1, -1, landmarks))
        by_rest = through_world + (through_world[:, :, :, None] * blended[:, None]).sum(2)
        by_rigid = torch.zeros(count, 2, RIGID, landmarks, dtype=dtype)
        slopes = rotation_slopes(pose, matrices)
        place = 0
        for joint, size in enumerate((3, 2, 2)):
            turned = slopes[:, joint, :, :, :size]  # (T, 3, 3, p)
            arm = rest - self.joints[2 + joint][:, None]
            by_axis = turned.transpose(2, 3).reshape(count, 3 * size, 3)
            swing = weight[joint] * (by_axis @ arm).reshape(count, 3, size, landmarks)
            lids = turned.reshape(count, 9, size).transpose(1, 2) @ self._correctives[9 * joint : 9 * joint + 9]
            lids = lids.reshape(count, size, 3, landmarks).transpose(1, 2)
            part = by_rigid[:, :, place : place + size]
            for axis in range(3):
                part.addcmul_(through_world[:, :, axis, None], swing[:, axis, None])
                part.addcmul_(by_rest[:, :, axis, None], lids[:, axis, None])
            place += size
        turned = torch.einsum("tabp,bc->tapc", slopes[:, 3], facing)
        swing = (turned.reshape(count, 9, 3) @ about_root).reshape(count, 3, 3, landmarks)
        by_rigid[:, :, 7:10] = through_lens(swing)
        by_rigid[:, 0, 10] = by_rigid[:, 1, 11] = per_depth[:, 0]
        by_rigid[:, :, 12] = -per_depth * slope
        residual, by_rest, by_rigid = _last(residual), _last(by_rest), _last(by_rigid)
        if not shared:
            return Derivatives(residual, by_rest, by_rigid)
        # moving a joint moves what it turns: root, jaw and eyes follow the shape through their own directions
        by_followed = torch.empty(count, 2, 13, landmarks, dtype=dtype)
        by_followed[:, :, :3] = by_rigid[..., 10:13].movedim(1, -1) - through_world
        for joint in range(3):
            held = (turns[:, joint] - eye).transpose(1, 2)[:, None]  # (T, 1, 3, 3)
            by_followed[:, :, 3 * joint + 3 : 3 * joint + 6] = -weight[joint] * (held @ through_world)
        by_followed[:, :, 12] = from_centre / scale
        return Derivatives(residual, by_rest, by_rigid, _last(by_followed), self)


def _last(values: Tensor) -> Tensor:
    """(T, L, ...) view of values (T, ..., L)."""
    return values.movedim(-1, 1)


def by_shared(geometry: Geometry, chosen: slice | Tensor, by_rest: Tensor, by_followed: Tensor) -> Tensor:
    """(T, n, 2, S + 1) derivatives by shape and log focal length of `chosen` landmarks from (T, n, 2, 3 and 13)."""
    own = per_landmark(by_rest, geometry.identity[chosen])
    return by_followed @ geometry.followed + torch.nn.functional.pad(own, (0, 1))


def per_landmark(through: Tensor, directions: Tensor) -> Tensor:
    """(T, L, 2, k) product of (T, L, 2, n) with per-landmark directions (L, n, k)."""
    frames, landmarks = through.shape[:2]
    left = through.permute(1, 0, 2, 3).reshape(landmarks, 2 * frames, through.shape[-1])
    product = torch.bmm(left, directions.contiguous())
    return product.reshape(landmarks, frames, 2, directions.shape[-1]).permute(1, 0, 2, 3)


def rotation_slopes(rotation: Tensor, matrix: Tensor | None = None) -> Tensor:
    """(..., 3, 3, 3) derivative of the rotation matrix by each axis-angle component (last axis).

    Gallego and Yezzi 2015, equation 9; at zero it is the generator of each axis. `matrix` is that of the rotation,
    where it is known already.
    """
    matrix = axis_angle_to_matrix(rotation) if matrix is None else matrix
    identity = torch.eye(3, dtype=rotation.dtype)
    squared = (rotation * rotation).sum(-1)[..., None, None]
    # row i: (w_i w + w x (I - R) e_i) / |w|^2, the axis about which component i turns
    across = torch.linalg.cross(rotation[..., None, :].expand_as(matrix), (identity - matrix).transpose(-1, -2))
    axes = (rotation[..., :, None] * rotation[..., None, :] + across) / squared.clamp(min=1e-12)
    axes = torch.where(squared < 1e-8, identity, axes)
    x, y, z = axes.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*axes.shape[:-1], 3, 3)
    return torch.movedim(cross @ matrix[..., None, :, :], -3, -1)
