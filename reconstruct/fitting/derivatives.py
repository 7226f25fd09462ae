"""Where the landmarks project to, and how that changes with every unknown; analytic, checked against autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from reconstruct.camera import FACING_CAMERA, project
from reconstruct.fitting.problem import Problem, State
from reconstruct.models.skinning import axis_angle_to_matrix

FACING = torch.as_tensor(FACING_CAMERA, dtype=torch.float64)
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
    by_shared: Tensor | None = None
    """(T, L, 2, S + 1) by shape and log focal length."""


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
        self.correctives = points.posedirs.reshape(len(points.template), 3, 4, 3, 3)[:, :, 1:]
        shape = shape.to(self.dtype)
        self.rest = points.template + self.identity @ shape
        """(L, 3) without expression."""
        self.joints = (points.joint_template.reshape(-1) + points.joint_dirs @ shape).reshape(5, 3)

    def at(self, state: State, frames: slice, derive: bool = True, shared: bool = False) -> Derivatives:
        """Residuals of `frames` of a state, and what was asked for of their derivatives."""
        problem, points, dtype = self.problem, self.points, self.dtype
        columns = problem.columns
        motion = state.motion[frames].to(dtype)
        count, landmarks = len(motion), len(points.template)
        pose = torch.zeros(count, 3, 3, dtype=dtype)
        pose[:, 0] = motion[:, columns.jaw]
        pose[:, 1, :2], pose[:, 2, :2] = motion[:, columns.left_eye], motion[:, columns.right_eye]
        turns = axis_angle_to_matrix(pose)
        eye = torch.eye(3, dtype=dtype)
        moved_by = torch.addmm(
            self.rest.reshape(1, -1), motion[:, columns.expression], self.expressions.reshape(3 * landmarks, -1).T
        )
        feature = (turns - eye).reshape(count, 27)
        rest = (moved_by + feature @ self.correctives.reshape(3 * landmarks, 27).T).reshape(count, landmarks, 3)
        weight = points.weights[:, 2:]
        blended = (weight @ (turns - eye).reshape(count, 3, 9)).reshape(count, landmarks, 3, 3)
        # x + sum_j w_j (R_j - I) (x - joint_j)
        pulled = torch.einsum("tjab,jb->tja", turns - eye, self.joints[2:])
        canonical = rest + (blended @ rest[..., None])[..., 0] - weight @ pulled
        facing = axis_angle_to_matrix(FACING.to(dtype))
        rotation = axis_angle_to_matrix(motion[:, columns.rotation])
        world = rotation @ facing
        about_root = canonical - self.joints[0]
        moved = about_root @ world.transpose(1, 2) + (self.joints[0] + motion[:, columns.translation])[:, None]
        focal = state.log_focal.exp().to(dtype)
        scale = problem.scale_px[frames]
        pixels = project(moved, focal, problem.principal_point)[..., :2]
        residual = (pixels - problem.observed[frames]) / scale[:, None, None]
        if not derive:
            return Derivatives(residual, residual.new_zeros(0), residual.new_zeros(0))
        lens = torch.zeros(count, landmarks, 2, 3, dtype=dtype)
        per_depth = focal / moved[..., 2] / scale[:, None]
        lens[..., 0, 0] = lens[..., 1, 1] = per_depth
        lens[..., :, 2] = -per_depth[..., None] * moved[..., :2] / moved[..., 2:]
        through_world = lens @ world[:, None]
        by_rest = through_world + through_world @ blended
        by_rigid = torch.empty(count, landmarks, 2, RIGID, dtype=dtype)
        slopes = rotation_slopes(pose)
        place = 0
        for joint, size in enumerate((3, 2, 2)):
            turned = slopes[:, joint, :, :, :size]  # (T, 3, 3, p)
            arm = rest - self.joints[2 + joint]
            swing = weight[:, joint, None, None] * torch.einsum("tabp,tlb->tlap", turned, arm)
            lids = torch.einsum("lcab,tabp->tlcp", self.correctives[:, :, joint], turned)
            by_rigid[..., place : place + size] = through_world @ swing + by_rest @ lids
            place += size
        turned = torch.einsum("tabp,bc->tacp", rotation_slopes(motion[:, columns.rotation]), facing)
        by_rigid[..., 7:10] = lens @ torch.einsum("tacp,tlc->tlap", turned, about_root)
        by_rigid[..., 10:13] = lens
        if not shared:
            return Derivatives(residual, by_rest, by_rigid)
        size = points.num_shape
        by_shared = torch.empty(count, landmarks, 2, size + 1, dtype=dtype)
        # moving a joint moves what it turns: root, jaw and eyes follow the shape through their own directions
        levers = [by_rest, lens - through_world]
        for joint in range(3):
            levers.append(-through_world @ (weight[:, joint, None, None] * (turns[:, None, joint] - eye)))
        followed = points.joint_dirs.reshape(5, 3, size)[[0, 2, 3, 4]].reshape(1, 12, size).expand(landmarks, -1, -1)
        directions = torch.cat([self.identity, followed], dim=1)
        by_shared[..., :size] = per_landmark(torch.cat(levers, dim=-1), directions)
        by_shared[..., size] = (pixels - problem.principal_point) / scale[:, None, None]
        return Derivatives(residual, by_rest, by_rigid, by_shared)


def per_landmark(through: Tensor, directions: Tensor) -> Tensor:
    """(T, L, 2, k) product of (T, L, 2, n) with per-landmark directions (L, n, k)."""
    frames, landmarks = through.shape[:2]
    left = through.permute(1, 0, 2, 3).reshape(landmarks, 2 * frames, -1)
    product = torch.bmm(left, directions.contiguous())
    return product.reshape(landmarks, frames, 2, -1).permute(1, 0, 2, 3)


def rotation_slopes(rotation: Tensor) -> Tensor:
    """(..., 3, 3, 3) derivative of the rotation matrix by each axis-angle component (last axis).

    Gallego and Yezzi 2015, equation 9; at zero it is the generator of each axis.
    """
    matrix = axis_angle_to_matrix(rotation)
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
