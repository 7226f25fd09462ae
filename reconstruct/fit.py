"""Fits a head model to the landmarks of a whole clip.

Shape and focal length are shared by the clip; expression, jaw, gaze, head rotation and translation move per frame. The
problem is a robust non-linear least squares on the sparse landmark points, weighted by what is known of the landmarks'
errors, and solved by projected Gauss-Newton (reconstruct.fitting): first shape, focal length and motion together on key
frames spread over the clip, then the motion of all frames at once with a second-order prior over time. A clip is one
problem however long it is, in time and memory linear in its frames, so there are no windows and no seams.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconstruct.camera import FACING_CAMERA
from reconstruct.embedding import Embedding
from reconstruct.fitting.derivatives import FACING, Geometry
from reconstruct.fitting.neck import share_with_neck
from reconstruct.fitting.objective import residuals
from reconstruct.fitting.problem import Known, Problem, State, make_problem
from reconstruct.fitting.solver import Equations, solve_motion, solve_person, start_state
from reconstruct.fitting.uncertainty import at_limit, uncertainty_mm
from reconstruct.models.head_model import HeadModel
from reconstruct.models.rotations import unwrap_axis_angle
from reconstruct.models.skinning import axis_angle_to_matrix
from schemas.config import FitConfig
from schemas.errors import TalksetError
from schemas.types import HeadTrack, LandmarkTrack


def fit_clip(
    model: HeadModel, embedding: Embedding, track: LandmarkTrack, config: FitConfig, known: Known | None = None
) -> HeadTrack:
    """Fit a head to the landmarks of one clip.

    Args: track: (T, L, 2) source pixels with confidence and a validity mask; frames that are not valid stay NaN in
    every per-frame output. known: the person's shape and focal length where another fit has found them. Raises
    TalksetError: face_lost when no frame is valid, fit_failed when the solution is not finite, corrupt_data when the
    embedding belongs to another model or has other landmarks than the track, or for numbers that are not finite.
    """
    if embedding.model_sha256 != model.sha256:
        raise TalksetError(
            "corrupt_data", f"the landmark embedding is not of {model.name}", "Delete the cached embedding"
        )
    if len(embedding.vertices) != track.face_xy.shape[1]:
        message = (
            f"{track.detector} gave {track.face_xy.shape[1]} landmarks, the embedding has {len(embedding.vertices)}"
        )
        raise TalksetError("corrupt_data", message, "Use the embedding of the detector that found the landmarks")
    seen = np.flatnonzero(track.valid)
    if len(seen) == 0:
        raise TalksetError("face_lost", "no frame of the clip shows a face")
    problem = make_problem(model, embedding, track, seen, config, known)
    problem, state = solve_person(problem, start_state(problem, known), known)
    state, equations = solve_motion(problem, state)
    if not bool(torch.isfinite(state.motion).all() and torch.isfinite(state.shape).all()):
        raise TalksetError("fit_failed", "the fit diverged", "Report the clip; its landmarks may be degenerate")
    return to_track(model, problem, state, equations, track, seen)


def to_track(
    model: HeadModel,
    problem: Problem,
    state: State,
    equations: Equations,
    track: LandmarkTrack,
    seen: NDArray[np.int64],
) -> HeadTrack:
    """A solved state of the frames `seen` as the head track of all T frames, with its diagnostics.

    `equations` are those of the motion there; their curvature is what the uncertainty is taken from.
    """
    columns, motion, config = problem.columns, state.motion, problem.config
    geometry = Geometry(problem, state.shape)
    error_px = residuals(geometry, state).norm(dim=-1) * problem.scale_px[:, None]
    mean_px = error_px[:, torch.as_tensor(problem.face)].mean(1)
    held_out_px = error_px[:, torch.as_tensor(problem.held_out)].mean(1)
    expression = torch.zeros(len(motion), model.num_expression, dtype=torch.float64)
    expression[:, torch.as_tensor(problem.free)] = motion[:, columns.expression]
    world = axis_angle_to_matrix(motion[:, columns.rotation]) @ axis_angle_to_matrix(FACING)
    eyes = torch.zeros(2, len(motion), 3, dtype=torch.float64)
    eyes[0, :, :2], eyes[1, :, :2] = motion[:, columns.left_eye], motion[:, columns.right_eye]
    pose, neck, translation = share_with_neck(
        world.numpy(),
        motion[:, columns.translation].numpy(),
        geometry.joints[:2].numpy(),
        track.pts_us[seen] / 1e6,
        config.neck_after_s,
        model.pose_bounds[1],
    )

    def spread(values: Tensor | NDArray[np.float64]) -> NDArray[np.float32]:
        whole = np.full((len(track.valid), *values.shape[1:]), np.nan, dtype=np.float32)
        whole[seen] = np.asarray(values)
        return whole

    return HeadTrack(
        head_model=model.name,
        model_sha256=model.sha256,
        shape=state.shape.numpy().astype(np.float32),
        expression=spread(expression),
        global_pose=spread(unwrap_axis_angle(pose, near=FACING_CAMERA)),
        neck_pose=spread(neck),
        jaw_pose=spread(motion[:, columns.jaw]),
        left_eye_pose=spread(eyes[0]),
        right_eye_pose=spread(eyes[1]),
        translation=spread(translation),
        focal_px=float(state.log_focal.exp()),
        principal_point=problem.principal_point.numpy().astype(np.float32),
        valid=track.valid.copy(),
        residual_px=spread(mean_px),
        nme=spread(mean_px / problem.eye_px),
        held_out_nme=spread(held_out_px / problem.eye_px),
        uncertainty_mm=spread(uncertainty_mm(problem, geometry, state, equations)),
        at_limit=spread(at_limit(problem, state)),
    )
