"""Where the landmarks of a fitted head lie in the picture, and how much landmarks shake from frame to frame."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.embedding import Embedding
from reconstruct.landmark_points import PosedLandmarks
from reconstruct.models.head_model import HeadModel
from schemas.types import Bool, HeadTrack

Float64 = NDArray[np.float64]
BLOCK = 64
"""Frames posed at a time, so that memory does not grow with the clip."""


def reprojected(model: HeadModel, embedding: Embedding, head: HeadTrack) -> Float64:
    """(T, L, 2) pixels of the landmarks of a fit, where the detector sees them; NaN in frames that are not valid."""
    rows = np.flatnonzero(head.valid)
    landmarks = PosedLandmarks.of(model, embedding)
    shape = torch.as_tensor(head.shape, dtype=torch.float64)
    pixels = np.full((len(head.valid), len(embedding.vertices), 2), np.nan)
    moving = (
        head.expression,
        head.global_pose,
        head.neck_pose,
        head.jaw_pose,
        head.left_eye_pose,
        head.right_eye_pose,
        head.translation,
    )
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        motion = [torch.as_tensor(values[block], dtype=torch.float64) for values in moving]
        points = landmarks.at(shape, *motion).numpy()
        pixels[block] = head.focal_px * points[..., :2] / points[..., 2:] + head.principal_point
    return pixels


def landmark_jitter(points: Float64, scale: Float64 | float, valid: Bool) -> float:
    """RMS second difference over time of points (T, L, 2) over `scale` (T,), a fraction per frame^2.

    With a scale of 1 it is in the unit of the points. Taken over triples of consecutive valid frames; NaN without one.
    """
    whole = valid[2:] & valid[1:-1] & valid[:-2]
    size = np.broadcast_to(np.asarray(scale, dtype=np.float64), valid.shape)
    bend = (points[2:] - 2 * points[1:-1] + points[:-2])[whole] / size[1:-1][whole][:, None, None]
    return float(np.sqrt((bend**2).sum(2).mean())) if len(bend) else float("nan")
