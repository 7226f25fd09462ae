"""How good the picture of a clip's face is, frame by frame; docs/quality.md defines every measure.

The measures are defined on what is seen, not on what a viewer would say of it: they rank clips of one source well and
clips of different sources fairly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruct.landmarks.lips import laid_maps, still_points
from reconstruct.landmarks.topology import Topology, topology_of
from schemas.types import LandmarkTrack

Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

DETAIL_PX: Final = 112
"""Side of the face at which sharpness is measured: a face that is larger is scaled down, a smaller one up."""
PATCH_PX: Final = 40
"""Side of the aligned faces that are compared over time."""
BURNT: Final = 250
"""Luma from which on a pixel holds no shape."""
CHANGED: Final = 0.35
"""Relative change of luma that no expression or turn of the head makes on most of a face."""
MOST_GAIN: Final = 1.6
"""Largest change of the light on a face from one moment to another; what changes more is something else."""
BLOCK_PX: Final = 8
"""Side of the transform blocks of MPEG-1 to MPEG-4, and of JPEG."""

BLOCKS_US: Final = 200_000
"""Blockiness is of the whole picture, so it is measured five times a second; codecs change it with their key frames."""

PICTURE_MEASURES: Final = (
    *("face_px", "sharpness", "brightness", "burnt", "yaw_deg", "pitch_deg", "roll_deg", "occlusion", "blockiness"),
)


def picture_quality(frames: Iterable[tuple[int, UInt8]], track: LandmarkTrack, points_m: Float64) -> dict[str, Float64]:
    """(T,) values of every measure of `PICTURE_MEASURES`; NaN where no face was seen, or nothing was measured.

    `frames` are the (pts_us, rgb) of the track, in its order. `points_m` (L, 3) are the landmarks on the mean head in
    rest pose, metres, model space; NaN where unknown.
    """
    topology = topology_of(track.detector)
    count = len(track.valid)
    found = {name: np.full(count, np.nan) for name in PICTURE_MEASURES}
    if not track.valid.any():
        return found
    points = track.face_xy.astype(np.float64)
    low, high = points[track.valid].min(axis=1), points[track.valid].max(axis=1)
    found["face_px"][track.valid] = np.sqrt(np.prod(high - low, axis=1))
    angles = head_angles_deg(points[track.valid], points_m, topology)
    for column, name in enumerate(("yaw_deg", "pitch_deg", "roll_deg")):
        found[name][track.valid] = np.abs(angles[:, column])
    maps = np.full((count, 2, 3), np.nan)
    maps[track.valid] = _patch_maps(points[track.valid], topology)
    blocks_due_us = 0
    patches = np.zeros((count, PATCH_PX, PATCH_PX), np.uint8)
    for index, (_, rgb) in zip(range(count), frames, strict=False):
        if not track.valid[index]:
            continue
        luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        face = _cut(luma, points[index])
        if face is None:
            continue
        found["sharpness"][index] = sharpness(face)
        middle = face[DETAIL_PX // 5 : -DETAIL_PX // 5, DETAIL_PX // 5 : -DETAIL_PX // 5]
        found["brightness"][index] = middle.mean() / 255.0
        found["burnt"][index] = (middle >= BURNT).mean()
        if track.pts_us[index] >= blocks_due_us:
            found["blockiness"][index] = blockiness(luma)
            blocks_due_us = track.pts_us[index] + BLOCKS_US
        patches[index] = cv2.warpAffine(luma, maps[index], (PATCH_PX, PATCH_PX), flags=cv2.INTER_AREA)
    seen = np.isfinite(found["sharpness"])
    found["occlusion"][seen] = occlusion(patches[seen])
    return found


def sharpness(face: UInt8) -> float:
    """Variance of the Laplacian of a face of `DETAIL_PX`, divided by the variance of its luma: contrast drops out.

    After Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", 2000.
    """
    smooth = cv2.GaussianBlur(face.astype(np.float32), (3, 3), 0.8)  # so that noise is no detail
    return float(cv2.Laplacian(smooth, cv2.CV_32F).var() / max(float(smooth.var()), 1.0))


def blockiness(luma: UInt8) -> float:
    """Mean step of luma at the borders of 8 x 8 blocks over the mean step elsewhere: about 1 without blocks.

    After Wang, Bovik & Evans, "Blind measurement of blocking artifacts in images", 2000, in the pixel domain. Only a
    picture that was not scaled after it was coded has its blocks at multiples of 8.
    """
    border, other = 0.0, 0.0
    for axis in (0, 1):
        first = luma[:-1] if axis == 0 else luma[:, :-1]
        second = luma[1:] if axis == 0 else luma[:, 1:]
        step = cv2.absdiff(first, second)
        mean = cv2.reduce(step, 1 - axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
        inside = np.arange(len(mean)) % BLOCK_PX != BLOCK_PX - 1
        border += float(mean[~inside].mean()) if (~inside).any() else 0.0
        other += float(mean[inside].mean())
    return float(border / max(other, 0.05))


def occlusion(patches: UInt8) -> Float64:
    """(N,) share of an aligned face (N, P, P) that looks unlike the clip's median face: a hint at hands and objects.

    What hides the face for most of the clip is the median and is not seen.
    """
    light = patches.reshape(len(patches), -1).astype(np.float32) + 1.0
    usual = np.median(light, axis=0)
    gain = np.clip(np.median(light / usual, axis=1, keepdims=True), 1 / MOST_GAIN, MOST_GAIN)
    change = light / gain / usual
    return np.asarray((np.abs(np.log(change)) > np.log1p(CHANGED)).mean(axis=1), np.float64)


def head_angles_deg(face_xy: Float64, points_m: Float64, topology: Topology) -> Float64:
    """(T, 3) yaw, pitch and roll of the head from landmarks (T, L, 2), degrees, camera space.

    Zero looks into the camera; positive yaw turns to the subject's left, pitch up, roll towards the subject's right
    shoulder. The rotation is that of the scaled orthographic projection of the mean head's still points that fits best.
    """
    height = -points_m[:, 1]
    still = still_points(topology, np.where(np.isfinite(height), height, np.inf))
    still = still[np.isfinite(points_m[still]).all(axis=1)]
    model = points_m[still] * [1.0, -1.0, -1.0]  # camera axes: y down, z forward
    model = model - model.mean(axis=0)
    seen = face_xy[:, still] - face_xy[:, still].mean(axis=1, keepdims=True)
    plane = np.einsum("tnc,kn->tck", seen, np.linalg.pinv(model))  # (T, 2, 3): two scaled rows of the rotation
    left, _, right = np.linalg.svd(plane, full_matrices=False)
    rows = left @ right
    rotation = np.concatenate([rows, np.cross(rows[:, 0], rows[:, 1])[:, np.newaxis]], axis=1)
    yaw = np.arctan2(-rotation[:, 0, 2], np.hypot(rotation[:, 1, 2], rotation[:, 2, 2]))
    pitch = np.arctan2(rotation[:, 1, 2], rotation[:, 2, 2])
    roll = np.arctan2(-rotation[:, 0, 1], rotation[:, 0, 0])
    return np.asarray(np.degrees(np.stack([yaw, pitch, roll], axis=1)), np.float64)


def _cut(luma: UInt8, points: Float64) -> UInt8 | None:
    """The square around a face at `DETAIL_PX`; None where it is outside the picture."""
    low, high = points.min(axis=0), points.max(axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 4.0)
    left, top = (max(0, int(v)) for v in np.floor(middle - half))
    right, bottom = (int(v) for v in np.ceil(middle + half))
    face = luma[top:bottom, left:right]
    if min(face.shape) < 8:
        return None
    way = cv2.INTER_AREA if face.shape[0] >= DETAIL_PX else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(face, (DETAIL_PX, DETAIL_PX), interpolation=way), np.uint8)


def _patch_maps(points: Float64, topology: Topology) -> Float64:
    """(N, 2, 3) affine maps from the picture to a patch in which the still face stands still."""
    mean = points.mean(axis=0)
    across = mean[topology.left_eye_outer] - mean[topology.right_eye_outer]
    down = np.array([-across[1], across[0]]) / max(float(np.linalg.norm(across)), 1e-9)
    low, high = mean.min(axis=0), mean.max(axis=0)
    place = (mean - (low + high) / 2) / max(float((high - low).max()), 1e-9) * 0.9 * PATCH_PX + PATCH_PX / 2
    maps: Any = laid_maps(points, place, still_points(topology, mean @ down))
    return np.asarray(maps)
