"""Opening and width of the lips from 2D landmarks, with the motion of the head taken out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconstruct.landmarks.topology import Topology, topology_of
from schemas.types import Float32, LandmarkTrack

Float64 = NDArray[np.float64]


def lip_shape(track: LandmarkTrack) -> Float32:
    """(T, 2) opening and width of the lips, fractions of the outer eye corner distance; NaN where not valid.

    Opening is the mean distance of the outer rims of upper and lower lip, width that of the corners of the mouth. Each
    frame is first laid on the clip's mean face by the affine map that fits the upper face best, which undoes scale,
    roll, and to first order yaw and pitch: turning the head does not narrow the mouth.
    """
    topology = topology_of(track.detector)
    points = track.face_xy[track.valid].astype(np.float64)
    found = np.full((len(track.valid), 2), np.nan, np.float32)
    if not len(points):
        return found
    mean = points.mean(axis=0)
    right, left = mean[topology.right_eye_outer], mean[topology.left_eye_outer]
    scale = float(np.linalg.norm(left - right))
    across = (left - right) / max(scale, 1e-9)
    down = np.array([-across[1], across[0]])
    ring = topology.lips_outer
    maps = laid_maps(points, mean, still_points(topology, mean @ down))
    laid = np.einsum("tck,tnk->tnc", maps[:, :, :2], points[:, ring]) + maps[:, np.newaxis, :, 2]
    half = len(ring) // 2
    lower, upper = laid[:, 1:half], laid[:, :half:-1]
    found[track.valid, 0] = ((lower - upper) @ down).mean(axis=1) / max(scale, 1e-9)
    found[track.valid, 1] = (laid[:, half] - laid[:, 0]) @ across / max(scale, 1e-9)
    return found


def still_points(topology: Topology, height: Float64) -> NDArray[np.int64]:
    """Points that neither speech nor blinks move: the upper face without lids and brows.

    `height` (L,) grows towards the chin.
    """
    moving = (
        *(topology.right_eye_upper, topology.right_eye_lower, topology.left_eye_upper, topology.left_eye_lower),
        *(topology.right_brow, topology.left_brow, topology.lips_outer, topology.lips_inner),
    )
    corners = (*(topology.right_eye_outer, topology.right_eye_inner, topology.left_eye_outer, topology.left_eye_inner),)
    above = np.flatnonzero(height <= height[topology.nose_tip])
    still = np.setdiff1d(np.intersect1d(above, topology.face), np.concatenate(moving))
    return np.union1d(still, corners)


def laid_maps(points: Float64, onto: Float64, still: NDArray[np.int64]) -> Float64:
    """(T, 2, 3) affine maps that bring the still points of each frame (T, L, 2) nearest to theirs in `onto` (L, 2)."""
    rows = np.concatenate([points[:, still], np.ones((len(points), len(still), 1))], axis=2)
    square = np.einsum("tnk,tnl->tkl", rows, rows) + 1e-9 * np.eye(3)
    return np.asarray(np.linalg.solve(square, np.einsum("tnk,nc->tkc", rows, onto[still])).transpose(0, 2, 1))
