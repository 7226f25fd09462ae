"""Opening of the eyes from 2D landmarks: what lids do from frame to frame, before any fit smooths it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reconstruct.landmarks.topology import topology_of
from schemas.types import Float32, LandmarkTrack


def lid_openings(track: LandmarkTrack) -> Float32:
    """(T, 2) mean distance of upper and lower lid over the eye's width, left and right (the subject's); NaN where not
    valid.

    The eye aspect ratio of Soukupova & Cech (2016) with all of the lids' landmarks. Both are measured across the line
    of the eye's corners, so roll and scale do not matter.
    """
    topology = topology_of(track.detector)
    found = np.full((len(track.valid), 2), np.nan, np.float32)
    points = track.face_xy[track.valid].astype(np.float64)
    if not len(points):
        return found
    for side, name in enumerate(("left", "right")):
        outer, inner = (points[:, getattr(topology, f"{name}_eye_{end}")] for end in ("outer", "inner"))
        across = inner - outer
        width = np.maximum(np.linalg.norm(across, axis=1), 1e-6)
        down = np.stack([-across[:, 1], across[:, 0]], axis=1) / width[:, None]
        corners = {getattr(topology, f"{name}_eye_outer"), getattr(topology, f"{name}_eye_inner")}
        heights = []
        for lid in ("upper", "lower"):
            inner_points = [int(at) for at in getattr(topology, f"{name}_eye_{lid}") if at not in corners]
            heights.append(_height(points, inner_points, outer, down))
        found[track.valid, side] = np.abs(heights[1] - heights[0]) / width
    return found


def _height(
    points: NDArray[np.float64], lid: list[int], corner: NDArray[np.float64], down: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(T,) mean place of a lid across the line of the corners, pixels."""
    return np.asarray(np.einsum("tnc,tc->tn", points[:, lid] - corner[:, None], down).mean(1))
