"""Fits a head model to the landmarks of a whole clip.

Shape and focal length are shared by the clip; expression, jaw, gaze, head rotation and translation move per frame. The
problem is a robust non-linear least squares, solved by projected Gauss-Newton on the sparse landmark points: first
shape, focal length and motion together on key frames spread over the clip (Schur complement over the shared unknowns),
then the motion of all frames at once with a second-order temporal prior (block-tridiagonal Cholesky).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from reconstruct.camera import FACING_CAMERA, default_focal, image_centre, project
from reconstruct.embedding import Embedding
from reconstruct.landmarks.topology import FACE, LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from reconstruct.linear_solve import solve_arrow, solve_time
from reconstruct.models.head_model import HeadModel
from reconstruct.models.rotations import unwrap_axis_angle
from reconstruct.models.skinning import SkinningModel, axis_angle_to_matrix, prepare, skin
from schemas.config import FitConfig
from schemas.errors import TalksetError
from schemas.types import HeadTrack, LandmarkTrack

Float64 = NDArray[np.float64]
BOUND_PASSES = 2
"""Times unknowns that a step would carry over a bound are put on it and the rest solved again."""
KNOWN_FOCAL_WEIGHT = 1e9
MAX_TRIES = 3
"""Times a step is shortened before the stage counts as converged."""
FACING = torch.as_tensor(FACING_CAMERA, dtype=torch.float64)


@dataclass(frozen=True)
class Problem:
    """A clip's data and the model's landmark points; float32, whose rounding is far below the detector's noise."""

    points: SkinningModel
    """The L landmarks as vertices of their own."""
    observed: Tensor
    """(T, L, 2) pixels."""
    scale_px: Tensor
    """(T,) outer eye corner distance."""
    point_weight: Tensor
    """(L,) trust in each landmark, mean 1."""
    smooth: Tensor
    """(T, T) float64, D^T D of the second differences D over time."""
    free: NDArray[np.int64]
    """Expression components that move."""
    lower: Tensor
    """(P,) bounds of the per-frame unknowns."""
    upper: Tensor
    principal_point: Tensor
    config: FitConfig
    focal_guess: float


@dataclass(frozen=True)
class State:
    """The unknowns, float64: shared shape (S,), log focal length, and rows of motion (T, P), P as in `Slices`."""

    shape: Tensor
    log_focal: Tensor
    motion: Tensor


@dataclass(frozen=True)
class Slices:
    """Columns of a motion row: expression, jaw (3), two eyes (pitch, yaw), rotation from facing (3), translation."""

    expressions: int

    @property
    def total(self) -> int:
        """P."""
        return self.expressions + 13

    @property
    def expression(self) -> slice:
        """Free expression coefficients."""
        return slice(0, self.expressions)

    @property
    def jaw(self) -> slice:
        """Axis-angle, radians."""
        return slice(self.expressions, self.expressions + 3)

    @property
    def left_eye(self) -> slice:
        """Pitch and yaw, radians."""
        return slice(self.expressions + 3, self.expressions + 5)

    @property
    def right_eye(self) -> slice:
        """Pitch and yaw, radians."""
        return slice(self.expressions + 5, self.expressions + 7)

    @property
    def rotation(self) -> slice:
        """Axis-angle away from a face that looks at the camera, camera space, radians."""
        return slice(self.expressions + 7, self.expressions + 10)

    @property
    def translation(self) -> slice:
        """Metres."""
        return slice(self.expressions + 10, self.expressions + 13)


def landmark_points(model: HeadModel, embedding: Embedding, dtype: torch.dtype = torch.float32) -> SkinningModel:
    """The landmarks as vertices of their own: every linear part of the model carried to the barycentric point.

    Skinning weights are interpolated before instead of after the rotation; the difference to the exact surface point is
    below a hundredth of a millimetre on average and at most 0.3 mm on the lips (tested).
    """
    unique, index = np.unique(embedding.vertices, return_inverse=True)
    corners = prepare(model, unique, dtype=dtype)
    corner = torch.as_tensor(index.reshape(embedding.vertices.shape))
    weights = torch.as_tensor(embedding.barycentric, dtype=dtype)

    def carry(values: Tensor) -> Tensor:
        return torch.as_tensor((weights.reshape(*weights.shape, *[1] * (values.dim() - 1)) * values[corner]).sum(1))

    count = len(embedding.vertices)
    return SkinningModel(
        template=carry(corners.template),
        shapedirs=carry(corners.shapedirs.reshape(len(unique), 3, -1)).reshape(3 * count, -1),
        posedirs=carry(corners.posedirs.reshape(len(unique), 3, -1)).reshape(3 * count, -1),
        weights=carry(corners.weights),
        joint_template=corners.joint_template,
        joint_dirs=corners.joint_dirs,
        parents=corners.parents,
        num_shape=corners.num_shape,
        vertex_ids=np.arange(count),
    )


def fit_clip(model: HeadModel, embedding: Embedding, track: LandmarkTrack, config: FitConfig) -> HeadTrack:
    """Fit a head to the landmarks of one clip.

    Args: track: (T, L, 2) source pixels with a validity mask; frames that are not valid stay NaN in every per-frame
    output. Raises TalksetError: face_lost when no frame is valid, fit_failed when the solution is not finite,
    corrupt_data when the embedding belongs to another model.
    """
    if embedding.model_sha256 != model.sha256:
        raise TalksetError(
            "corrupt_data", f"the landmark embedding is not of {model.name}", "Delete the cached embedding"
        )
    seen = np.flatnonzero(track.valid)
    if len(seen) == 0:
        raise TalksetError("face_lost", "no frame of the clip shows a face")
    problem = _pose_problem(model, embedding, track, seen, config)
    columns = Slices(len(problem.free))
    keys = np.unique(np.linspace(0, len(seen) - 1, min(len(seen), config.key_frames)).round().astype(int))
    state = _initial_state(problem, columns)
    state = _solve(problem, columns, state, keys)
    state = _solve(problem, columns, state, None)
    if not bool(torch.isfinite(state.motion).all() and torch.isfinite(state.shape).all()):
        raise TalksetError("fit_failed", "the fit diverged", "Report the clip; its landmarks may be degenerate")
    return _result(model, problem, columns, state, track, seen)


def _pose_problem(
    model: HeadModel, embedding: Embedding, track: LandmarkTrack, seen: NDArray[np.int64], config: FitConfig
) -> Problem:
    free = np.array([i for i, name in enumerate(model.expression_names) if name not in model.fixed_expressions])
    columns = Slices(len(free))
    lower = torch.full((columns.total,), -torch.inf, dtype=torch.float64)
    upper = -lower.clone()
    bounds = torch.as_tensor(model.expression_bounds[free], dtype=torch.float64)
    pose = torch.as_tensor(model.pose_bounds, dtype=torch.float64)
    for part, limits in (
        (columns.expression, bounds),
        (columns.jaw, pose[2]),
        (columns.left_eye, pose[3, :2]),
        (columns.right_eye, pose[4, :2]),
    ):
        lower[part], upper[part] = limits.T
    observed = torch.as_tensor(track.face_xy[seen], dtype=torch.float32)
    scale = _interocular(observed)
    # a turned head shortens the distance between its eyes; the clip's own scale keeps the weights of frames comparable
    scale = torch.maximum(scale, 0.7 * scale.median()).clamp(min=1.0)
    looseness = torch.as_tensor(embedding.spread_m)
    weight = 1 / (looseness**2 + config.embedding_floor_m**2)
    bends = _second_differences(track.pts_us[seen] / 1e6)
    return Problem(
        points=landmark_points(model, embedding),
        observed=observed,
        scale_px=scale,
        point_weight=weight / weight.mean(),
        smooth=torch.as_tensor((bends.T @ bends).toarray()),
        free=free,
        lower=lower,
        upper=upper,
        principal_point=torch.as_tensor(image_centre(track.width, track.height)),
        config=config,
        focal_guess=config.focal_px or default_focal(track.width, track.height),
    )


def _interocular(points: Tensor) -> Tensor:
    """(T,) distance of the outer eye corners in pixels."""
    between = points[:, LEFT_EYE_OUTER] - points[:, RIGHT_EYE_OUTER]
    return torch.as_tensor(between.norm(dim=-1))


def _initial_state(problem: Problem, columns: Slices) -> State:
    """Mean head without expression, placed in every frame by perspective-n-point."""
    shape = torch.zeros(problem.points.num_shape, dtype=torch.float64)
    focal = torch.tensor(float(np.log(problem.focal_guess)), dtype=torch.float64)
    state = State(shape, focal, torch.zeros(len(problem.observed), columns.total, dtype=torch.float64))
    return _placed(problem, columns, state)


def _placed(problem: Problem, columns: Slices, state: State) -> State:
    """The state with rotation and translation of each frame from perspective-n-point on the shape at rest."""
    points, motion = problem.points, state.motion.clone()
    identity = points.shapedirs.reshape(len(points.template), 3, -1)[..., : points.num_shape]
    shape = state.shape.float()
    rest = (points.template + identity @ shape).double().numpy()
    root = (points.joint_template + (points.joint_dirs @ shape).reshape(5, 3))[0].double().numpy()
    focal, centre = float(state.log_focal.exp()), problem.principal_point.numpy()
    camera = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1]])
    back = axis_angle_to_matrix(FACING).numpy().T
    for index, picture in enumerate(problem.observed.double().numpy()):
        found, rotation, offset = cv2.solvePnP(rest, picture, camera, None, flags=cv2.SOLVEPNP_SQPNP)
        if not found:
            raise TalksetError("fit_failed", f"the head could not be placed in valid frame {index}")
        turn = cv2.Rodrigues(rotation)[0]
        motion[index, columns.rotation] = torch.as_tensor(cv2.Rodrigues(turn @ back)[0][:, 0])
        motion[index, columns.translation] = torch.as_tensor(offset[:, 0] + turn @ root - root)
    return State(state.shape, state.log_focal, motion)


@dataclass(frozen=True)
class Linearised:
    """Residuals and their derivatives at one state."""

    residual: Tensor
    """(T, L, 2) in units of the interocular distance."""
    by_motion: Tensor
    """(T, L, 2, P)"""
    by_shared: Tensor | None
    """(T, L, 2, S + 1) shape and log focal length."""


def _residual(problem: Problem, columns: Slices, state: State, frames: NDArray[np.int64] | slice) -> Tensor:
    """(T, L, 2) projected minus observed, in units of the interocular distance."""
    motion = state.motion[frames].float()
    moved = skin(problem.points, state.shape.float(), *_pose_arguments(problem, columns, motion))
    pixels = project(moved, state.log_focal.exp().float(), problem.principal_point)[..., :2]
    return (pixels - problem.observed[frames]) / problem.scale_px[frames][:, None, None]


def _pose_arguments(problem: Problem, columns: Slices, motion: Tensor) -> tuple[Tensor, ...]:
    """Arguments of `skin` after the shape: expression, global, neck, jaw, left eye, right eye, translation."""
    frames = len(motion)
    names = problem.points.shapedirs.shape[1] - problem.points.num_shape
    expression = torch.zeros(frames, names, dtype=motion.dtype)
    expression[:, torch.as_tensor(problem.free)] = motion[:, columns.expression]
    turn = axis_angle_to_matrix(motion[:, columns.rotation]) @ axis_angle_to_matrix(FACING.to(motion.dtype))
    eyes = torch.zeros(2, frames, 3, dtype=motion.dtype)
    eyes[0, :, :2], eyes[1, :, :2] = motion[:, columns.left_eye], motion[:, columns.right_eye]
    neck = torch.zeros(frames, 3, dtype=motion.dtype)
    pose = matrix_to_axis_angle(turn)
    return expression, pose, neck, motion[:, columns.jaw], eyes[0], eyes[1], motion[:, columns.translation]


def matrix_to_axis_angle(rotation: Tensor) -> Tensor:
    """(..., 3, 3) to (..., 3) axis-angle with angle in [0, pi], exact near both ends (through the quaternion)."""
    import roma

    return torch.as_tensor(roma.rotmat_to_rotvec(rotation))


def _linearise(
    problem: Problem, columns: Slices, state: State, frames: NDArray[np.int64] | slice, shared: bool
) -> Linearised:
    """Residuals and analytic derivatives; checked against automatic differentiation by the tests."""
    points, motion, shape = problem.points, state.motion[frames].float(), state.shape.float()
    count, landmarks = len(motion), len(points.template)
    size = points.num_shape
    directions = points.shapedirs.reshape(landmarks, 3, -1)
    identity, expression_dirs = directions[..., :size], directions[..., size:][..., torch.as_tensor(problem.free)]
    correctives = points.posedirs.reshape(landmarks, 3, 4, 3, 3)[:, :, 1:]
    joints = (points.joint_template.reshape(-1) + points.joint_dirs @ shape).reshape(5, 3)
    pose = torch.zeros(count, 3, 3, dtype=motion.dtype)
    pose[:, 0] = motion[:, columns.jaw]
    pose[:, 1, :2], pose[:, 2, :2] = motion[:, columns.left_eye], motion[:, columns.right_eye]
    turns = axis_angle_to_matrix(pose)
    turn_slopes = _rotation_slopes(pose)
    eye = torch.eye(3, dtype=motion.dtype)
    rest = points.template + identity @ shape
    rest = rest + torch.einsum("lce,te->tlc", expression_dirs, motion[:, columns.expression])
    rest = rest + torch.einsum("lcjab,tjab->tlc", correctives, turns - eye)
    weight = points.weights[:, 2:]
    blended = eye + torch.einsum("lj,tjab->tlab", weight, turns - eye)
    arm = rest[:, :, None] - joints[2:]  # (T, L, 3 joints, 3)
    canonical = rest + torch.einsum("lj,tjab,tljb->tla", weight, turns - eye, arm)
    rotation = axis_angle_to_matrix(motion[:, columns.rotation])
    facing = axis_angle_to_matrix(FACING.float())
    world = rotation @ facing
    about_root = canonical - joints[0]
    moved = about_root @ world.transpose(1, 2) + (joints[0] + motion[:, columns.translation])[:, None]
    focal = state.log_focal.exp().float()
    scale = problem.scale_px[frames]
    pixels = project(moved, focal, problem.principal_point)[..., :2]
    residual = (pixels - problem.observed[frames]) / scale[:, None, None]

    lens = torch.zeros(count, landmarks, 2, 3, dtype=motion.dtype)
    per_depth = focal / moved[..., 2] / scale[:, None]
    lens[..., 0, 0] = lens[..., 1, 1] = per_depth
    lens[..., :, 2] = -per_depth[..., None] * moved[..., :2] / moved[..., 2:]
    through_world = lens @ world[:, None]
    through_blend = through_world @ blended
    by_motion = torch.empty(count, landmarks, 2, columns.total, dtype=motion.dtype)
    by_motion[..., columns.expression] = _per_landmark(through_blend, expression_dirs)
    parts = (columns.jaw, columns.left_eye, columns.right_eye)
    for joint, part in enumerate(parts):
        slopes = turn_slopes[:, joint, :, :, : part.stop - part.start]  # (T, 3, 3, p)
        swing = torch.einsum("l,tabp,tlb->tlap", weight[:, joint], slopes, arm[:, :, joint])
        lids = torch.einsum("lcab,tabp->tlcp", correctives[:, :, joint], slopes)
        by_motion[..., part] = through_world @ swing + through_blend @ lids
    slopes = torch.einsum("tabp,bc->tacp", _rotation_slopes(motion[:, columns.rotation]), facing)
    by_motion[..., columns.rotation] = lens @ torch.einsum("tacp,tlc->tlap", slopes, about_root)
    by_motion[..., columns.translation] = lens
    if not shared:
        return Linearised(residual, by_motion, None)
    by_shared = torch.empty(count, landmarks, 2, size + 1, dtype=motion.dtype)
    # moving a joint moves what it turns: root, jaw and eyes follow the shape through their own directions
    levers = [through_blend, lens - through_world]
    for joint in range(3):
        levers.append(-through_world @ (weight[:, joint, None, None] * (turns[:, None, joint] - eye)))
    followed = points.joint_dirs.reshape(5, 3, size)[[0, 2, 3, 4]].reshape(1, 12, size).expand(landmarks, -1, -1)
    by_shared[..., :size] = _per_landmark(torch.cat(levers, dim=-1), torch.cat([identity, followed], dim=1))
    by_shared[..., size] = (pixels - problem.principal_point) / scale[:, None, None]
    return Linearised(residual, by_motion, by_shared)


def _per_landmark(through: Tensor, directions: Tensor) -> Tensor:
    """(T, L, 2, k) product of (T, L, 2, n) with per-landmark directions (L, n, k)."""
    frames, landmarks = through.shape[:2]
    left = through.permute(1, 0, 2, 3).reshape(landmarks, 2 * frames, -1)
    product = torch.bmm(left, directions.contiguous())
    return product.reshape(landmarks, frames, 2, -1).permute(1, 0, 2, 3)


def _rotation_slopes(rotation: Tensor) -> Tensor:
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


def _prior_weights(problem: Problem, columns: Slices) -> tuple[Tensor, Tensor, Tensor]:
    """(P,) weights of the pull to zero, of the second differences, and of left against right eye."""
    config = problem.config
    pull = torch.zeros(columns.total, dtype=torch.float64)
    pull[columns.expression] = config.expression_weight
    pull[columns.jaw] = torch.tensor([0.2, 20.0, 20.0], dtype=torch.float64) * config.expression_weight
    pull[columns.left_eye] = pull[columns.right_eye] = 0.2 * config.expression_weight
    bend = torch.zeros(columns.total, dtype=torch.float64)
    bend[columns.expression] = 1.0
    bend[columns.jaw] = 4.0
    bend[columns.left_eye] = bend[columns.right_eye] = 1.0
    bend[columns.rotation] = 60.0
    bend[columns.translation] = 600.0
    return pull, config.temporal_weight * bend, torch.tensor(config.vergence_weight, dtype=torch.float64)


def _robust(problem: Problem, residual: Tensor) -> Tensor:
    """(T, L) weights of iteratively reweighted least squares: trust x Geman-McClure, per landmark-noise variance."""
    scale = problem.config.robust_scale
    shrink = (scale**2 / (scale**2 + (residual**2).sum(-1))) ** 2
    return problem.config.landmark_weight * problem.point_weight * shrink / len(problem.point_weight)


def _cost(problem: Problem, columns: Slices, state: State, frames: NDArray[np.int64] | None) -> float:
    """The objective, with the robust function itself instead of its quadratic model."""
    chosen: NDArray[np.int64] | slice = slice(None) if frames is None else frames
    squared = (_residual(problem, columns, state, chosen) ** 2).sum(-1)
    scale = problem.config.robust_scale
    robust = problem.point_weight * scale**2 * squared / (scale**2 + squared)
    motion = state.motion[chosen]
    pull, bend, vergence = _prior_weights(problem, columns)
    total = problem.config.landmark_weight * robust.sum() / len(problem.point_weight)
    total = total + (pull * motion**2).sum()
    total = total + vergence * ((motion[:, columns.left_eye] - motion[:, columns.right_eye]) ** 2).sum()
    total = total + len(motion) * problem.config.shape_weight * (state.shape**2).sum()
    total = total + len(motion) * problem.config.focal_weight * (state.log_focal - np.log(problem.focal_guess)) ** 2
    if frames is None:
        total = total + (bend * motion * (problem.smooth @ motion)).sum()
    return float(total)


def _second_differences(times_s: Float64) -> sparse.csr_array:
    """(up to T - 2, T) second differences in units of the median frame step; rows across a hole are left out.

    Variable frame rates are respected: the row is the second divided difference at the frames' own times.
    """
    count = len(times_s)
    if count < 3:
        return sparse.csr_array((0, count))
    steps = np.diff(times_s)
    unit = float(np.median(steps))
    before, after = steps[:-1] / unit, steps[1:] / unit
    bands = [2 / (before * (before + after)), -2 / (before * after), 2 / (after * (before + after))]
    matrix = sparse.diags_array(bands, offsets=[0, 1, 2], shape=(count - 2, count)).tocsr()
    return matrix[np.flatnonzero((before < 2.5) & (after < 2.5))]


def _solve(problem: Problem, columns: Slices, state: State, keys: NDArray[np.int64] | None) -> State:
    """Projected Gauss-Newton with damping: key frames with the shared unknowns, or all frames without."""
    shared = keys is not None
    frames: NDArray[np.int64] | slice = slice(None) if keys is None else keys
    damping, cost = 1e-2, _cost(problem, columns, state, keys)
    for _ in range(problem.config.iterations):
        line = _linearise(problem, columns, state, frames, shared)
        for _ in range(MAX_TRIES):
            trial = _step(problem, columns, state, keys, line, damping)
            trial_cost = _cost(problem, columns, trial, keys)
            if trial_cost <= cost:
                break
            damping *= 10
        else:
            break
        gain = (cost - trial_cost) / max(cost, 1e-12)
        state, cost, damping = trial, trial_cost, max(damping / 5, 1e-6)
        if gain < problem.config.tolerance:
            break
    if keys is None:
        return state
    # frames between the keys start from the nearest key's expression and their own rigid placement
    nearest = keys[np.abs(np.arange(len(state.motion))[:, None] - keys[None]).argmin(1)]
    started = _placed(problem, columns, State(state.shape, state.log_focal, state.motion[torch.as_tensor(nearest)]))
    started.motion[torch.as_tensor(keys)] = state.motion[torch.as_tensor(keys)]
    return started


def _step(
    problem: Problem,
    columns: Slices,
    state: State,
    keys: NDArray[np.int64] | None,
    line: Linearised,
    damping: float,
) -> State:
    """One damped Gauss-Newton step, with unknowns at their bounds held when the step would leave them."""
    frames: NDArray[np.int64] | slice = slice(None) if keys is None else keys
    motion = state.motion[frames]
    count = len(motion)
    weight = _robust(problem, line.residual)
    root = weight.sqrt()[..., None]
    residual = (root * line.residual).reshape(count, -1, 1)
    jacobian = (root[..., None] * line.by_motion).reshape(count, -1, columns.total)
    pull, bend, vergence = _prior_weights(problem, columns)
    hessian = torch.bmm(jacobian.transpose(1, 2), jacobian).double()
    gradient = torch.bmm(jacobian.transpose(1, 2), residual)[..., 0].double()
    hessian.diagonal(dim1=1, dim2=2).add_(pull)
    gradient += pull * motion
    for left, right in zip(_range(columns.left_eye), _range(columns.right_eye), strict=True):
        difference = vergence * (motion[:, left] - motion[:, right])
        gradient[:, left] += difference
        gradient[:, right] -= difference
        hessian[:, left, left] += vergence
        hessian[:, right, right] += vergence
        hessian[:, left, right] -= vergence
        hessian[:, right, left] -= vergence
    smooth = torch.zeros(count, count, dtype=torch.float64)
    if keys is None:
        smooth = problem.smooth
        gradient += bend * (smooth @ motion)
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    diagonal.add_(damping * diagonal + 1e-9)
    held = ((motion <= problem.lower) & (gradient > 0)) | ((motion >= problem.upper) & (gradient < 0))
    system = _System(hessian, gradient, smooth, bend)
    if line.by_shared is not None:
        by_shared = (root[..., None] * line.by_shared).reshape(count, -1, line.by_shared.shape[-1])
        system = _bordered(problem, state, system, jacobian, by_shared, residual, damping)
    fixed = torch.zeros_like(motion)
    for _ in range(BOUND_PASSES):
        change, shared_change = system.solve(fixed, held)
        target = motion - change
        beyond = ((target < problem.lower) | (target > problem.upper)) & ~held
        if not bool(beyond.any()):
            break
        held = held | beyond
        fixed = torch.where(beyond, motion - torch.clamp(target, problem.lower, problem.upper), fixed)
    moved = state.motion.clone()
    moved[frames] = torch.clamp(motion - change, problem.lower, problem.upper)
    if shared_change is None:
        return State(state.shape, state.log_focal, moved)
    return State(state.shape - shared_change[:-1], state.log_focal - shared_change[-1], moved)


@dataclass(frozen=True)
class _System:
    """Normal equations of one step: per-frame blocks, time coupling, and optionally the shared unknowns' border."""

    hessian: Tensor
    gradient: Tensor
    smooth: Tensor
    bend: Tensor
    border: Tensor | None = None
    corner: Tensor | None = None
    corner_gradient: Tensor | None = None

    def solve(self, fixed: Tensor, held: Tensor) -> tuple[Tensor, Tensor | None]:
        """Change of motion and of the shared unknowns, where held unknowns change by `fixed`."""
        pulled = (self.hessian @ fixed[..., None])[..., 0] + self.bend * (self.smooth @ fixed)
        right, mask = (self.gradient - pulled).numpy(), held.numpy()
        if self.border is None or self.corner is None or self.corner_gradient is None:
            change = solve_time(self.hessian.numpy(), right, self.smooth.numpy(), self.bend.numpy(), mask)
            return torch.as_tensor(change) + fixed, None
        shared_right = self.corner_gradient - torch.einsum("tpq,tp->q", self.border, fixed)
        change, shared = solve_arrow(
            self.hessian.numpy(), right, self.border.numpy(), self.corner.numpy(), shared_right.numpy(), mask
        )
        return torch.as_tensor(change) + fixed, torch.as_tensor(shared)


def _bordered(
    problem: Problem,
    state: State,
    system: _System,
    jacobian: Tensor,
    by_shared: Tensor,
    residual: Tensor,
    damping: float,
) -> _System:
    """The system with the border of shape and focal length, and their priors scaled by the number of frames."""
    config, count = problem.config, len(jacobian)
    flat = by_shared.reshape(-1, by_shared.shape[-1])
    corner = (flat.T @ flat).double()
    corner_gradient = (flat.T @ residual.reshape(-1)).double()
    prior = torch.full((len(corner),), count * config.shape_weight, dtype=torch.float64)
    prior[-1] = count * (config.focal_weight if config.focal_px is None else KNOWN_FOCAL_WEIGHT)
    offset = torch.cat([state.shape, (state.log_focal - np.log(problem.focal_guess))[None]])
    corner_gradient += prior * offset
    corner.diagonal().add_(prior + damping * (corner.diagonal() + prior))
    border = torch.bmm(jacobian.transpose(1, 2), by_shared).double()
    return _System(system.hessian, system.gradient, system.smooth, system.bend, border, corner, corner_gradient)


def _range(part: slice) -> range:
    return range(part.start, part.stop)


def _result(
    model: HeadModel,
    problem: Problem,
    columns: Slices,
    state: State,
    track: LandmarkTrack,
    seen: NDArray[np.int64],
) -> HeadTrack:
    expression, pose, neck, jaw, left_eye, right_eye, translation = _pose_arguments(problem, columns, state.motion)
    face = torch.as_tensor(FACE.copy())
    error_px = _residual(problem, columns, state, slice(None)).norm(dim=-1)[:, face] * problem.scale_px[:, None]
    residual = error_px.mean(1)

    def spread(values: Tensor) -> NDArray[np.float32]:
        whole = np.full((len(track.valid), *values.shape[1:]), np.nan, dtype=np.float32)
        whole[seen] = values.numpy()
        return whole

    return HeadTrack(
        head_model=model.name,
        model_sha256=model.sha256,
        shape=state.shape.numpy().astype(np.float32),
        expression=spread(expression),
        global_pose=spread(torch.as_tensor(unwrap_axis_angle(pose.numpy(), near=FACING_CAMERA))),
        neck_pose=spread(neck),
        jaw_pose=spread(jaw),
        left_eye_pose=spread(left_eye),
        right_eye_pose=spread(right_eye),
        translation=spread(translation),
        focal_px=float(state.log_focal.exp()),
        principal_point=problem.principal_point.numpy().astype(np.float32),
        valid=track.valid.copy(),
        residual_px=spread(residual),
        nme=spread(residual / _interocular(problem.observed)),
    )
