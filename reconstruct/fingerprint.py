"""The motion of a face as it survives encoding, scaling, cropping and mirroring, by which copies are found.

A picture hash cannot tell two sentences of one person before one camera apart. What a face does can: how the lips open
and how the head nods, from landmarks, which follow the face wherever it is in the picture.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from reconstruct.landmarks.lips import lip_shape, still_points
from reconstruct.landmarks.topology import topology_of
from schemas.fingerprint import MOTION_HOP_US
from schemas.types import LandmarkTrack

UNSEEN: Final = -128
_SMOOTH_HOPS: Final = 1.0
"""Standard deviation of the smoothing: a detector's noise has no say."""
_STEPS: Final = 32
"""Values of one standard deviation."""
_NEAR_HOPS: Final = 1.5
"""A moment further from any frame with a face is unseen."""


def face_motion(track: LandmarkTrack) -> NDArray[np.int8]:
    """(N, 2) opening of the lips and height of the head every 40 ms from the clip's start, each standardised.

    Neither changes when the picture is mirrored, scaled, cropped or turned up in its frame rate; -128 where no face is
    near in time.
    """
    seconds = track.pts_us[track.valid] / MOTION_HOP_US
    if len(seconds) < 2:
        return np.zeros((0, 2), np.int8)
    grid = np.arange(int(track.pts_us[-1] // MOTION_HOP_US) + 1)
    after = np.searchsorted(seconds, grid).clip(1, len(seconds) - 1)
    unseen = np.minimum(np.abs(seconds[after] - grid), np.abs(seconds[after - 1] - grid)) > _NEAR_HOPS
    topology = topology_of(track.detector)
    points = track.face_xy[track.valid].astype(np.float64)
    mean = points.mean(axis=0)
    across = mean[topology.left_eye_outer] - mean[topology.right_eye_outer]
    down = np.array([-across[1], across[0]]) * np.sign(across[0] or 1.0)
    still = still_points(topology, mean @ down)
    nod = points[:, still, 1].mean(axis=1) / max(float(np.linalg.norm(across)), 1e-9)
    found = np.empty((len(grid), 2), np.int8)
    for column, values in enumerate((lip_shape(track)[track.valid, 0].astype(np.float64), nod)):
        smooth = gaussian_filter1d(np.interp(grid, seconds, values), _SMOOTH_HOPS, mode="nearest")
        standard = (smooth - smooth.mean()) / max(float(smooth.std()), 1e-9)
        found[:, column] = np.clip(np.rint(_STEPS * standard), -127, 127)
    found[unseen] = UNSEEN
    return found
