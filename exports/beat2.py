"""Writes bodies as BEAT2 npz files, the layout that EMAGE and its successors read.

Keys and shapes (see docs/body.md): betas (300,), poses (T, 165) axis-angle of SMPL-X's 55 joints, expressions (T, 100),
trans (T, 3), model "smplx2020", gender "neutral", mocap_frame_rate 30. Readers make their body with `use_pca=False` and
add the model's mean hand to the hand poses, so it is taken away here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from exports.spoken import MEND, stored_clips
from exports.textgrid import SUFFIX, write_textgrid
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, write_atomic

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
LONGEST_HOLE_S: Final = 0.2
"""Frames without a body are bridged up to this: that is what motion capture bridges too."""
NO_BODY: Final = "it has no body"
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


def frame_times(pts_us: NDArray[np.int64]) -> Float64:
    """(T',) seconds from the start of the clip: frame k at k / 30 s, up to the last of `pts_us`."""
    return np.arange(int(int(pts_us[-1]) * FPS / 10**6 + Fraction(1, 1000)) + 1) / float(FPS)


def resampled(
    poses: Float64, translation: Float64, pts_us: NDArray[np.int64], times_s: Float64 | None = None
) -> tuple[Float64, Float64]:
    """Poses (T', 55, 3) and translations (T', 3) at `times_s`, by default `frame_times`, from those at `pts_us` (T,).

    Rotations go along the shortest way (slerp), translations in a straight line; before the first and after the last
    of `pts_us` they stand still.
    """
    from scipy.spatial.transform import Rotation, Slerp

    wanted = frame_times(pts_us) if times_s is None else times_s
    seconds = pts_us / 1e6
    if len(seconds) < 2:
        return poses[np.zeros(len(wanted), int)], translation[np.zeros(len(wanted), int)]
    wanted = np.clip(wanted, seconds[0], seconds[-1])
    result = np.empty((len(wanted), 55, 3))
    for index in range(55):
        result[:, index] = Slerp(seconds, Rotation.from_rotvec(poses[:, index]))(wanted).as_rotvec()
    return result, _interpolated(translation, seconds, wanted)


@dataclass(frozen=True)
class Exported:
    """What `export_beat2` did."""

    written: tuple[Path, ...]
    left_out: Mapping[str, str]
    """Clip -> why it has no file."""


def export_beat2(dataset: Path, folder: Path) -> Exported:
    """Write the bodies of a data set as BEAT2 has them: smplxflame_30/<clip_id>.npz and textgrid/<clip_id>.TextGrid.

    Frame k is at k / 30 s of the clip; the space has y up and z towards the camera. BEAT2 has no mask: frames without
    a body of up to `LONGEST_HOLE_S` are bridged (slerp), a clip with a longer hole is left out, as are clips without a
    body and those whose body has no finite value.

    Raises UsageError for a folder that holds no data set, whose body model is not installed, or without any body,
    TalksetError(corrupt_data) for tables that cannot be read, disk_full or not_writable; files written before stay.
    """
    written: list[Path] = []
    left_out: dict[str, str] = {}
    clips = {clip.clip_id: clip for clip in stored_clips(dataset)}
    for name in ("smplxflame_30", "textgrid"):
        with named_errors(folder / name):
            (folder / name).mkdir(parents=True, exist_ok=True)
    for row in _body_rows(dataset):
        clip_id = row["clip_id"]
        if clip_id not in clips:
            continue
        arrays = _clip_arrays(row)
        if isinstance(arrays, str):
            left_out[clip_id] = arrays
            continue
        path = folder / "smplxflame_30" / f"{clip_id}.npz"
        write_beat2(path, arrays)
        words = folder / "textgrid" / f"{clip_id}{SUFFIX}"
        write_textgrid(clips[clip_id], words)
        written += [path, words]
    if not written and all(reason == NO_BODY for reason in left_out.values()):
        raise UsageError(f"no clip of {dataset} has a body", "Run with --set reconstruct.body=true")
    return Exported(tuple(written), left_out)


def _body_rows(dataset: Path) -> Iterator[Mapping[str, Any]]:
    """Params of all clips as arrays, one clip after the other."""
    names = ("clip_id", "num_frames", "pts_us", "body_model", "betas", "body_translation", "expression")
    columns = [*names, *(name for name, _ in _PARTS)]
    for path in sorted((dataset / "params").glob("part-*.parquet")):
        try:
            stored = pq.ParquetFile(path)
            present = [name for name in columns if name in stored.schema_arrow.names]
            for group in range(stored.num_row_groups):
                table = stored.read_row_group(group, columns=present)
                for place in range(table.num_rows):
                    cells = {name: table[name][place] for name in present}
                    yield {name: _cell(cell) for name, cell in cells.items()} | dict.fromkeys({*columns} - {*present})
        except (OSError, pa.ArrowException) as error:
            raise TalksetError("corrupt_data", f"{path} cannot be read ({error})", MEND) from error


def _cell(cell: Any) -> Any:
    if not cell.is_valid or not pa.types.is_list(cell.type):
        return cell.as_py()
    return cell.values.to_numpy(zero_copy_only=False)


def _clip_arrays(row: Mapping[str, Any]) -> dict[str, Any] | str:
    """The arrays of a clip's file, or why it has none."""
    from reconstruct.models.registry import load_body

    if row["body_model"] is None:
        return NO_BODY
    model = load_body(row["body_model"])
    count, pts_us = row["num_frames"], row["pts_us"]
    poses, place = poses_of(row), row["body_translation"].reshape(count, 3).astype(np.float64)
    codes = row["expression"].reshape(count, -1).astype(np.float64)
    known = np.isfinite(poses).all((1, 2)) & np.isfinite(place).all(1) & np.isfinite(codes).all(1)
    edges = np.concatenate([[0], pts_us[known], pts_us[-1:]])
    if not known.any() or np.diff(edges).max() > 1e6 * LONGEST_HOLE_S:
        return f"{count - int(known.sum())} of {count} frames have no body, for more than {LONGEST_HOLE_S} s at a time"
    shape = row["betas"]
    rest = model.v_template.astype(np.float64) + model.identity[:, :, : len(shape)].astype(np.float64) @ shape
    poses, place = upright(poses[known], place[known], model.joint_regressor[0].astype(np.float64) @ rest)
    times_s, seconds = frame_times(pts_us), pts_us[known] / 1e6
    codes = _interpolated(codes[known], seconds, times_s).astype(np.float32)
    poses, place = resampled(poses, place, pts_us[known], times_s)
    return to_beat2(poses, place, shape, codes, model.hands_mean)


def _interpolated(values: Float64, seconds: Float64, wanted: Float64) -> Float64:
    """Columns of `values` (T, n) in straight lines at other times."""
    return np.stack([np.interp(wanted, seconds, column) for column in values.T], axis=1)


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
