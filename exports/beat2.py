"""Writes bodies as BEAT2 npz files, the layout that EMAGE and its successors read.

Keys and shapes (see docs/body.md): betas (300,), poses (T, 165) axis-angle of SMPL-X's 55 joints, expressions (T, 100),
trans (T, 3), model "smplx2020", gender "neutral", mocap_frame_rate 30. Readers make their body with `use_pca=False` and
add the model's mean hand to the hand poses, so it is taken away here.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.files import write_atomic

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
FPS: Final = Fraction(30)
NUM_BETAS: Final = 300
NUM_EXPRESSIONS: Final = 100
MODEL: Final = "smplx2020"
GENDER: Final = "neutral"
_PARTS: Final = (
    ("body_global_pose", slice(0, 1)),
    ("body_pose", slice(1, 22)),
    ("left_hand_pose", slice(25, 40)),
    ("right_hand_pose", slice(40, 55)),
    ("jaw_pose", slice(22, 23)),
    ("left_eye_pose", slice(23, 24)),
    ("right_eye_pose", slice(24, 25)),
)
"""Params column -> joints of SMPL-X."""
SHAPES: Final = {"betas": 1, "poses": 2, "expressions": 2, "trans": 2}


def to_beat2(
    poses: Float64,
    translation: Float64,
    betas: Float32,
    expression: Float32 | None = None,
    hands_mean: Float32 | None = None,
    mocap_frame_rate: int = int(FPS),
) -> dict[str, Any]:
    """The arrays of one file.

    Args: poses (T, 55, 3) axis-angle in SMPL-X's order, the root's in the space that is wanted (`upright` turns camera
    space into BEAT2's, y up); translation (T, 3) metres; betas (S,) and expression (T, E), cut or filled with zeros;
    hands_mean (2, 45) of the body model, subtracted. Raises UsageError for other shapes or values that are not finite.
    """
    count = len(poses)
    if poses.shape != (count, 55, 3) or translation.shape != (count, 3):
        message = f"poses are {poses.shape} and translations {translation.shape}"
        raise UsageError(message, "Give (T, 55, 3) and (T, 3)")
    flat = poses.reshape(count, 165).astype(np.float64)
    if hands_mean is not None:
        flat[:, 75:120] -= hands_mean[0]
        flat[:, 120:165] -= hands_mean[1]
    if not (np.isfinite(flat).all() and np.isfinite(translation).all()):
        raise UsageError("the body has frames without values", "Export a span in which every frame has a body")
    codes = np.zeros((count, 0)) if expression is None else expression
    return {
        "betas": _sized(np.asarray(betas)[None], NUM_BETAS)[0],
        "poses": flat.astype(np.float32),
        "expressions": _sized(codes, NUM_EXPRESSIONS),
        "trans": translation.astype(np.float32),
        "model": np.array(MODEL),
        "gender": np.array(GENDER),
        "mocap_frame_rate": np.array(mocap_frame_rate),
    }


def poses_of(columns: Mapping[str, NDArray[Any]]) -> Float64:
    """(T, 55, 3) axis-angle of all joints from the params columns of a clip, (T, 3 n) or flat.

    Body and hands are `body_global_pose`, `body_pose`, `left_hand_pose`, `right_hand_pose`; jaw and eyes are the head's
    `jaw_pose`, `left_eye_pose`, `right_eye_pose` where they are given. Raises UsageError for a clip without a body.
    """
    if any(columns.get(name) is None for name, _ in _PARTS[:4]):
        raise UsageError("the clip has no body", "Run with --set reconstruct.body=true")
    count = np.asarray(columns["body_global_pose"]).size // 3
    poses = np.zeros((count, 55, 3))
    for name, place in _PARTS:
        if columns.get(name) is not None:
            poses[:, place] = np.asarray(columns[name], dtype=np.float64).reshape(count, -1, 3)
    return poses


def upright(poses: Float64, translation: Float64, pelvis: Float64) -> tuple[Float64, Float64]:
    """Poses (T, 55, 3) and translations (T, 3) of camera space in a space with y up and z towards the camera.

    `pelvis` (3,) is where the shaped body's pelvis rests: SMPL-X turns about it and adds the translation after.
    """
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec([np.pi, 0.0, 0.0])
    turned = poses.astype(np.float64).copy()
    turned[:, 0] = (turn * Rotation.from_rotvec(poses[:, 0])).as_rotvec()
    return turned, np.asarray(turn.apply(translation + pelvis) - pelvis)


def resampled(poses: Float64, translation: Float64, pts_us: NDArray[np.int64]) -> tuple[Float64, Float64]:
    """Poses (T', 55, 3) and translations (T', 3) at 30 frames/s from those at `pts_us` (T,), by the frames' own times.

    Rotations go along the shortest way (slerp), translations in a straight line. Frame k is at k / 30 s exactly.
    """
    from scipy.spatial.transform import Rotation, Slerp

    seconds = (pts_us - pts_us[0]) / 1e6
    if len(seconds) < 2:
        return poses, translation
    wanted = np.arange(int(seconds[-1] * FPS + Fraction(1, 1000)) + 1) / float(FPS)
    wanted = np.minimum(wanted, seconds[-1])
    result = np.empty((len(wanted), 55, 3))
    for index in range(55):
        result[:, index] = Slerp(seconds, Rotation.from_rotvec(poses[:, index]))(wanted).as_rotvec()
    moved = np.stack([np.interp(wanted, seconds, column) for column in translation.T], axis=1)
    return result, moved


def write_beat2(path: Path, arrays: dict[str, Any]) -> None:
    """Write the arrays of `to_beat2` as .npz, completely or not at all. Raises TalksetError disk_full, not_writable."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def read_beat2(path: Path) -> dict[str, Any]:
    """Read a BEAT2 file back. Raises UsageError for a file that lacks a key or has another shape."""
    with np.load(path, allow_pickle=False) as stored:
        missing = {*SHAPES, "model", "gender", "mocap_frame_rate"} - set(stored.files)
        if missing:
            raise UsageError(f"{path} lacks {', '.join(sorted(missing))}", "Give a BEAT2 npz file")
        arrays = {name: stored[name] for name in stored.files}
    sizes = {"betas": (NUM_BETAS,), "poses": (165,), "expressions": (NUM_EXPRESSIONS,), "trans": (3,)}
    for name, axes in SHAPES.items():
        if arrays[name].ndim != axes or arrays[name].shape[axes - 1 :] != sizes[name]:
            raise UsageError(f"{path}: {name} has shape {arrays[name].shape}", f"Expected {sizes[name]} at the end")
    return arrays


def _sized(values: NDArray[Any], width: int) -> Float32:
    """Rows cut or filled with zeros to a width."""
    result = np.zeros((len(values), width), dtype=np.float32)
    kept = min(width, values.shape[1])
    result[:, :kept] = values[:, :kept]
    return result
