"""Divides the rotation of the head between the body below and the neck, without moving the head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.spatial.transform import Rotation

from reconstruct.linear_solve import Bending

Float64 = NDArray[np.float64]


def share_with_neck(
    world: Float64, translation: Float64, joints: Float64, times_s: Float64, after_s: float, bounds: NDArray[np.float32]
) -> tuple[Float64, Float64, Float64]:
    """Global rotation (T, 3), neck rotation (T, 3) as axis-angle and translation (T, 3) that place the head as before.

    A face tells only the product of the two rotations. A torso is heavy: what of the head's rotation lasts longer than
    about `after_s` seconds is given to the root, the rest to the neck within its `bounds` (3, 2); 0 gives the neck
    nothing. Args: world (T, 3, 3) rotation of the head; joints (2, 3) root and neck of the shape in model space.
    """
    head = Rotation.from_matrix(world)
    step_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
    count = len(head)
    if after_s <= 0 or count < 3:
        return head.as_rotvec(), np.zeros((count, 3)), translation
    middle = head.mean()
    away = (middle.inv() * head).as_rotvec()
    body = middle * Rotation.from_rotvec(_slow(away, times_s, step_s, after_s))
    neck = np.clip((body.inv() * head).as_rotvec(), bounds[:, 0], bounds[:, 1])
    root = head * Rotation.from_rotvec(neck).inv()  # exact, also where the neck reached its bound
    # the neck's joint stands where the root's rotation puts it: moving the whole keeps the head in place
    lever = joints[1] - joints[0]
    return root.as_rotvec(), neck, translation + head.apply(lever) - root.apply(lever)


def _slow(values: Float64, times_s: Float64, step_s: float, after_s: float) -> Float64:
    """Values (T, C) without what changes faster than `after_s`: the smoothing spline of Whittaker and Henderson.

    Its second-difference weight is that which halves a sine of period 2 pi `after_s`.
    """
    zero, one, two = (band.numpy() * (after_s / step_s) ** 4 for band in Bending.of(times_s, step_s).bands)
    banded = np.zeros((3, len(values)))
    banded[2] = 1 + zero
    banded[1, 1:], banded[0, 2:] = one, two
    return np.asarray(linalg.solveh_banded(banded, values))
