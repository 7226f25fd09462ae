"""Rotations of whole sequences between axis-angle, matrix, quaternion and 6D, continuous over time, NaN where unknown.

Everything is batched over (..., 3) numpy arrays; the algebra is scipy's. A row that holds a value that is not finite
(a frame that is not valid) comes out as NaN in every form. float32 goes in and comes out as float32; all else as
float64, and everything is computed in float64.
"""

from __future__ import annotations

import math
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Float64 = NDArray[np.float64]
Floats = NDArray[Any]
QuaternionOrder = Literal["wxyz", "xyzw"]

DEGENERATE_6D: Final = 1e-9
"""Vectors shorter than this, or with a smaller sine between them, span no plane."""


def axis_angle_to_matrix(rotation: ArrayLike) -> Floats:
    """(..., 3) axis-angle in radians to (..., 3, 3) rotation matrices that multiply column vectors."""
    return _apply(rotation, (3,), (3, 3), lambda rows: Rotation.from_rotvec(rows).as_matrix())


def matrix_to_axis_angle(matrix: ArrayLike) -> Floats:
    """(..., 3, 3) matrices to (..., 3) axis-angle of angle 0..pi in radians.

    A matrix that is not quite orthogonal stands for the nearest rotation. Raises ValueError for one that mirrors or
    flattens space (determinant not above zero), naming the row.
    """

    def convert(rows: Float64) -> Float64:
        return np.asarray(Rotation.from_matrix(rows.reshape(-1, 3, 3)).as_rotvec())

    values = _rows(matrix, (3, 3))
    known = np.flatnonzero(np.isfinite(values).all(1))
    determinant = np.linalg.det(values[known].reshape(-1, 3, 3))
    if (determinant <= 0).any():
        bad = int((determinant <= 0).argmax())
        message = f"matrix {known[bad]} is no rotation: its determinant is {determinant[bad]:.3g}, not 1"
        raise ValueError(f"{message}; check the handedness of its axes")
    return _apply(matrix, (3, 3), (3,), convert)


def axis_angle_to_quaternion(rotation: ArrayLike, order: QuaternionOrder = "wxyz") -> Floats:
    """(..., 3) axis-angle to (..., 4) unit quaternions with w >= 0, w first as in PyTorch3D ("xyzw" as in scipy)."""
    _check_order(order)

    def convert(rows: Float64) -> Float64:
        quaternion = np.asarray(Rotation.from_rotvec(rows).as_quat(canonical=True))
        return np.roll(quaternion, 1, axis=1) if order == "wxyz" else quaternion

    return _apply(rotation, (3,), (4,), convert)


def quaternion_to_axis_angle(quaternion: ArrayLike, order: QuaternionOrder = "wxyz") -> Floats:
    """(..., 4) quaternions of any length, w first ("xyzw": w last), to (..., 3) axis-angle of angle 0..pi.

    Raises ValueError for a quaternion of length zero, naming the row.
    """
    _check_order(order)
    values = _rows(quaternion, (4,))
    zero = np.flatnonzero((values == 0).all(1))
    if len(zero):
        raise ValueError(f"quaternion {zero[0]} is zero, which is no rotation; write NaN where none is known")

    def convert(rows: Float64) -> Float64:
        return np.asarray(Rotation.from_quat(np.roll(rows, -1, axis=1) if order == "wxyz" else rows).as_rotvec())

    return _apply(quaternion, (4,), (3,), convert)


def axis_angle_to_6d(rotation: ArrayLike) -> Floats:
    """(..., 3) axis-angle to (..., 6): the first two ROWS of the matrix, one after the other, as PyTorch3D has it.

    Zhou et al., "On the Continuity of Rotation Representations in Neural Networks" (2019), take the first two columns:
    that is the 6D form of the inverse rotation.
    """
    return _apply(rotation, (3,), (6,), lambda rows: Rotation.from_rotvec(rows).as_matrix()[:, :2].reshape(-1, 6))


def sixd_to_axis_angle(sixd: ArrayLike) -> Floats:
    """(..., 6), such as a network's output, to (..., 3) axis-angle of angle 0..pi, by Gram-Schmidt (Zhou et al. 2019).

    The two rows need not be orthogonal or of unit length. Where they span no plane (one is zero, or they are parallel)
    there is no rotation and the result is NaN.
    """

    def convert(rows: Float64) -> Float64:
        first, second = rows[:, :3], rows[:, 3:]
        with np.errstate(divide="ignore", invalid="ignore"):
            first = first / np.linalg.norm(first, axis=1, keepdims=True)
            second = second / np.linalg.norm(second, axis=1, keepdims=True)
            second = second - (first * second).sum(1, keepdims=True) * first
            sine = np.linalg.norm(second, axis=1)
            second = second / sine[:, None]
        length = np.minimum(np.linalg.norm(rows[:, :3], axis=1), np.linalg.norm(rows[:, 3:], axis=1))
        good = (sine > DEGENERATE_6D) & (length > DEGENERATE_6D)
        result = np.full((len(rows), 3), np.nan)
        if good.any():
            matrices = np.stack([first[good], second[good], np.cross(first[good], second[good])], axis=1)
            result[good] = Rotation.from_matrix(matrices).as_rotvec()
        return result

    return _apply(sixd, (6,), (3,), convert)


def interpolate(first: ArrayLike, second: ArrayLike, fraction: ArrayLike) -> Floats:
    """Rotations (N, 3) at `fraction` (N,) of the shortest way from `first` to `second` (N, 3), angle 0..pi.

    Spherical linear interpolation: the angular velocity between the two is constant. NaN where either is NaN.
    """
    start, end, part = _rows(first, (3,)), _rows(second, (3,)), np.asarray(fraction, dtype=np.float64)
    known = np.isfinite(start).all(1) & np.isfinite(end).all(1)
    result = np.full(start.shape, np.nan)
    if known.any():
        origin = Rotation.from_rotvec(start[known])
        way = (origin.inv() * Rotation.from_rotvec(end[known])).as_rotvec()
        result[known] = (origin * Rotation.from_rotvec(part[known, None] * way)).as_rotvec()
    return result.astype(_result_type(first, second))


def slerp(rotation: ArrayLike, times: ArrayLike, targets: ArrayLike) -> Floats:
    """Rotations (N, 3) at `targets` (N,) from those (T, 3) at rising `times` (T,), unwrapped; any one unit of time.

    NaN where the rotation before or after is NaN, unless the target is exactly at a time whose rotation is known.
    Raises ValueError for targets outside the times (nothing is extrapolated) or times that do not rise.
    """
    values, at, wanted = _rows(rotation, (3,)), np.asarray(times), np.asarray(targets)
    if at.shape != (len(values),) or len(values) == 0 or (np.diff(at) <= 0).any():
        raise ValueError(f"{len(values)} rotations need as many rising times, got times of shape {at.shape}")
    if len(wanted) and (wanted.min() < at[0] or wanted.max() > at[-1]):
        raise ValueError(f"targets {wanted.min()}..{wanted.max()} leave the times {at[0]}..{at[-1]}; cut them")
    before = np.searchsorted(at, wanted, side="right") - 1
    after = np.where(at[before] == wanted, before, np.minimum(before + 1, len(at) - 1))
    step = np.where(after > before, at[after] - at[before], 1)
    found = interpolate(values[before], values[after], (wanted - at[before]) / step)
    known = np.flatnonzero(np.isfinite(found).all(1))
    near = values[before[known[0]]] if len(known) else None
    return unwrap_axis_angle(found, near).astype(_result_type(rotation))


def unwrap_axis_angle(sequence: ArrayLike, near: ArrayLike | None = None) -> Floats:
    """(T, 3) the same rotations, each written as the axis-angle that is nearest to its predecessor.

    An axis-angle of angle a may as well be written with the angle a + 2 pi k about the same axis. A head that faces the
    camera is turned by about pi, where the shortest form jumps by 2 pi; a curve with jumps cannot be filtered, learned
    or interpolated. Angles of the result may pass pi. Rows that are NaN stay so and are skipped: a sequence is
    continuous across a hole. The first row stays as it is, or goes nearest to `near` (3,) if that is given.
    """
    values = _rows(sequence, (3,)).copy()
    known = np.isfinite(values).all(1)
    values[~known] = np.nan
    before: tuple[float, float, float] | None = None
    if near is not None:
        x, y, z = np.asarray(near, dtype=np.float64).tolist()
        before = (x, y, z)
    for index in np.flatnonzero(known).tolist():
        x, y, z = values[index].tolist()
        if before is not None:
            x, y, z = _nearest_form((x, y, z), before)
            values[index] = x, y, z
        before = (x, y, z)
    return values.astype(_result_type(sequence))


def _nearest_form(
    rotation: tuple[float, float, float], before: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Of the axis-angles that mean the same rotation the one nearest to `before`."""
    axis, angle = rotation, math.hypot(*rotation)
    if angle < 1e-12:  # no rotation: any axis will do, so that of the predecessor
        axis, angle, length = before, 0.0, math.hypot(*before)
    else:
        length = angle
    if length < 1e-12:
        return rotation
    along = sum(a * b for a, b in zip(axis, before, strict=True)) / length
    turns = round((along - angle) / math.tau)
    if turns == 0:
        return rotation
    scale = (angle + math.tau * turns) / length
    return axis[0] * scale, axis[1] * scale, axis[2] * scale


def _check_order(order: str) -> None:
    if order not in ("wxyz", "xyzw"):
        raise ValueError(f"quaternion order {order!r} is not known; give 'wxyz' (w first) or 'xyzw' (w last)")


def _rows(values: ArrayLike, shape: tuple[int, ...]) -> Float64:
    """(N, n) float64 rows of an array (..., *shape). Raises ValueError for another shape."""
    array = np.asarray(values, dtype=np.float64)
    if array.shape[max(0, array.ndim - len(shape)) :] != shape:
        expected = ", ".join(("...", *map(str, shape)))
        raise ValueError(f"got an array of shape {array.shape}, expected ({expected})")
    return array.reshape(-1, math.prod(shape))


def _result_type(*values: ArrayLike) -> type[np.floating[Any]]:
    """float32 where all inputs are, else float64."""
    return np.float32 if all(np.asarray(value).dtype == np.float32 for value in values) else np.float64


def _apply(values: ArrayLike, inner: tuple[int, ...], outer: tuple[int, ...], convert: Any) -> Floats:
    """Convert the finite rows of (..., *inner) to (..., *outer) and leave the others NaN."""
    rows = _rows(values, inner)
    known = np.isfinite(rows).all(1)
    result = np.full((len(rows), math.prod(outer)), np.nan)
    if known.any():
        result[known] = np.asarray(convert(rows[known])).reshape(int(known.sum()), -1)
    batch = np.shape(values)[: np.ndim(values) - len(inner)]
    return result.reshape(*batch, *outer).astype(_result_type(values))
