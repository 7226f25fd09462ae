"""Where the landmarks of a fitted body lie in the picture, from what is stored of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.body.fit import body_poses
from reconstruct.body.fit_problem import hand_size, shoulder_width
from reconstruct.body.points import LEFT_HAND, POSE, RIGHT_HAND, UPPER_BODY, BodyPoints
from reconstruct.models.body_model import BodyModel
from reconstruct.models.skinning import axis_angle_to_matrix, place_joints, prepare
from schemas.types import BodyLandmarks, BodyTrack

Float64 = NDArray[np.float64]


def landmark_pixels(model: BodyModel, points: BodyPoints, track: BodyTrack) -> Float64:
    """(T, 75, 2) source pixels of the landmarks of a fitted body; NaN where there is none."""
    skinning = prepare(model, np.arange(1), dtype=torch.float64)
    rows = np.flatnonzero(np.isfinite(track.body_translation).all(1))
    turns = axis_angle_to_matrix(torch.as_tensor(body_poses(track)[rows]))
    betas = track.betas.astype(np.float64)
    world, offset = place_joints(skinning, torch.as_tensor(np.tile(betas, (len(rows), 1))), turns)
    rest = points.template + points.dirs @ betas
    turn, move = world.numpy()[:, points.carrier], offset.numpy()[:, points.carrier]
    placed = (turn @ rest[:, :, None])[..., 0] + move + track.body_translation[rows][:, None]
    pixels = np.full((len(track.body_valid), len(rest), 2), np.nan)
    pixels[rows] = track.focal_px * placed[..., :2] / placed[..., 2:] + track.principal_point
    return pixels


def reprojection_errors(
    model: BodyModel, points: BodyPoints, track: BodyTrack, landmarks: BodyLandmarks, min_visibility: float = 0.5
) -> tuple[Float64, Float64]:
    """Errors of visible points of the upper body in shoulder widths, and of found hands in hand sizes; flat arrays."""
    pixels = landmark_pixels(model, points, track)
    pose = landmarks.pose_xyc.astype(np.float64)
    trust = np.where(np.isfinite(pose[..., 2]), pose[..., 2], 0.0)
    trust[trust < min_visibility] = 0
    away = np.linalg.norm(pixels[:, POSE] - pose[..., :2], axis=2) / shoulder_width(pose, trust)
    body = away[:, list(UPPER_BODY)][trust[:, list(UPPER_BODY)] > 0]
    hands = []
    for place, found in ((LEFT_HAND, landmarks.left_hand_xyc), (RIGHT_HAND, landmarks.right_hand_xyc)):
        known = np.isfinite(found).all((1, 2))
        error = np.linalg.norm(pixels[known][:, place] - found[known][..., :2], axis=2)
        hands.append((error / hand_size(found[known].astype(np.float64))[:, None]).ravel())
    return body[np.isfinite(body)], np.concatenate(hands)
