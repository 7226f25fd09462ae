"""glTF 2.0 (one .glb file): a talking head as a mesh with its own morph targets, animated at the motion's times.

Khronos, glTF 2.0 specification. The mesh's rest is the person's head; each expression that moves is a morph target, so
a face stays editable in Blender or a game engine. What skinning with pose correctives adds (jaw, eyes and neck do not
turn linearly) is put into further morph targets: principal components of what expressions do not explain.
The head's rotation and place are the node's own. Written without a library: a JSON chunk and a binary chunk.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from reconstruct.models.head_model import HeadModel
from reconstruct.models.rotations import axis_angle_to_quaternion
from reconstruct.models.skinning import prepare, skin
from schemas.errors import UsageError
from schemas.files import write_atomic
from schemas.types import HeadTrack, Int64

Float32 = NDArray[np.float32]

FLOAT, UINT32 = 5126, 5125
ARRAY_BUFFER, ELEMENT_BUFFER = 34962, 34963
TARGET_RESIDUAL_M: Final = 0.0001
"""RMS distance of the morphed mesh from the skinned one that is good enough."""
MAX_COMPONENTS: Final = 12
CHUNK: Final = 64
JOINTS: Final = ("neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose")
FLIP: Final = np.array([1.0, -1.0, -1.0])
"""Camera axes (y down, z forward) to glTF's (y up, z towards the viewer)."""


@dataclass(frozen=True)
class GltfReport:
    """What was written."""

    path: Path
    targets: tuple[str, ...]
    residual_mm: float
    """RMS distance of the morphed from the skinned mesh, head rotation aside."""


def write_gltf(path: Path, track: HeadTrack, pts_us: Int64, model: HeadModel, name: str = "head") -> GltfReport:
    """Write a track as an animated .glb file, whole or not at all.

    Frames that are not valid hold the last valid one. Raises UsageError for a track of another model, without valid
    frames, or whose times do not rise from 0 or later; TalksetError for a full disk.
    """
    if track.model_sha256 != model.sha256 or track.expression.shape[1] != model.num_expression:
        raise UsageError(f"the track is of {track.head_model}, not of this {model.name}", "Pass its own model")
    times = np.asarray(pts_us, np.int64)
    if times.shape != track.valid.shape or not track.valid.any() or times[0] < 0 or (np.diff(times) <= 0).any():
        raise UsageError(f"{len(times)} times for {len(track.valid)} frames make no animation", "Pass rising times")
    held = _held(track.valid)
    base, targets, names, weights, residual = _morphs(model, track, held)
    buffer = _Buffer()
    primitive: dict[str, Any] = {
        "attributes": {
            "POSITION": buffer.add(base, "VEC3", ARRAY_BUFFER, bounds=True),
            "NORMAL": buffer.add(_normals(base, model.faces), "VEC3", ARRAY_BUFFER),
        },
        "indices": buffer.add(model.faces.reshape(-1).astype(np.uint32), "SCALAR", ELEMENT_BUFFER),
        "material": 0,
        "targets": [{"POSITION": buffer.add(target, "VEC3", ARRAY_BUFFER, bounds=True)} for target in targets],
    }
    rotation, place = _placed(model, track, held)
    seconds = buffer.add((times / 1e6).astype(np.float32), "SCALAR", None, bounds=True)
    channels = {
        "weights": buffer.add(weights.astype(np.float32).reshape(-1), "SCALAR", None),
        "rotation": buffer.add(rotation, "VEC4", None),
        "translation": buffer.add(place, "VEC3", None),
    }
    document = {
        "asset": {"version": "2.0", "generator": "talkset"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": name}],
        "meshes": [
            {
                "name": name,
                "primitives": [primitive],
                "weights": [float(w) for w in weights[0]],
                "extras": {"targetNames": names, "head_model": model.name},
            }
        ],
        "materials": [
            {
                "name": "skin",
                "pbrMetallicRoughness": {
                    "baseColorFactor": [0.72, 0.55, 0.47, 1.0],
                    "metallicFactor": 0.0,
                    "roughnessFactor": 0.7,
                },
            }
        ],
        "animations": [
            {
                "name": "talk",
                "samplers": [{"input": seconds, "output": output} for output in channels.values()],
                "channels": [
                    {"sampler": number, "target": {"node": 0, "path": kind}} for number, kind in enumerate(channels)
                ],
            }
        ],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    write_atomic(path, _glb(document, bytes(buffer.data)))
    return GltfReport(path, tuple(names), residual)


class _Buffer:
    """The binary chunk and what describes it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: NDArray[Any], kind: str, target: int | None, bounds: bool = False) -> int:
        """Append an array; returns the number of its accessor."""
        component = UINT32 if array.dtype == np.uint32 else FLOAT
        values = np.ascontiguousarray(array, np.uint32 if component == UINT32 else np.float32)
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": values.nbytes}
        if target is not None:
            view["target"] = target
        self.data += values.tobytes()
        self.data += b"\0" * (-len(self.data) % 4)
        self.views.append(view)
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1, "componentType": component, "count": len(values), "type": kind,
        }  # fmt: skip
        if bounds:
            flat = values.reshape(len(values), -1)
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _glb(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(binary), 0x004E4942) + binary
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def _held(valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each frame the last valid one, before the first of them the first."""
    known = np.flatnonzero(valid)
    return np.asarray(known[np.maximum(np.searchsorted(known, np.arange(len(valid)), side="right") - 1, 0)])


def _morphs(
    model: HeadModel, track: HeadTrack, held: NDArray[np.int64]
) -> tuple[Float32, list[Float32], list[str], NDArray[np.float64], float]:
    """Rest mesh (V, 3), targets (V, 3), their names, weights (T, K) and the RMS residual in mm."""
    shape = track.shape
    base = (model.v_template + model.identity @ shape).astype(np.float32)
    expression = track.expression[held]
    moving = np.flatnonzero(np.abs(expression).max(axis=0) > 1e-4)
    names = [model.expression_names[k] for k in moving]
    weights = expression[:, moving].astype(np.float64)
    targets = [np.ascontiguousarray(model.expression[:, :, k]) for k in moving]
    linear = np.stack(targets, axis=0).reshape(len(targets), -1) if targets else np.zeros((0, base.size))
    rest = np.empty((len(held), base.size), np.float32)
    for start in range(0, len(held), CHUNK):
        span = held[start : start + CHUNK]
        posed = _skinned(model, track, span).reshape(len(span), -1)
        rest[start : start + CHUNK] = posed - base.reshape(-1) - weights[start : start + CHUNK] @ linear
    values, vectors = np.linalg.eigh((rest @ rest.T).astype(np.float64))
    left = float(np.trace(rest @ rest.T))
    for number, place in enumerate(np.argsort(values)[::-1][:MAX_COMPONENTS]):
        if left / rest.size * 3 <= TARGET_RESIDUAL_M**2 or values[place] <= 0:
            break
        scale = np.abs(vectors[:, place]).max()
        unit = vectors[:, place] / scale
        targets.append((rest.T @ vectors[:, place] * scale).reshape(-1, 3).astype(np.float32))
        names.append(f"joints{number}")
        weights = np.column_stack([weights, unit])
        left -= float(values[place])
    if not targets:  # a still face: viewers expect what the animation refers to
        targets, names, weights = [np.zeros_like(base)], ["still"], np.zeros((len(held), 1))
    return base, targets, names, weights, float(1e3 * np.sqrt(max(left, 0.0) / rest.size * 3))


def _skinned(model: HeadModel, track: HeadTrack, frames: NDArray[np.int64]) -> Float32:
    """(n, V, 3) metres without the root's rotation and place."""
    skinning = prepare(model)
    zero = torch.zeros(len(frames), 3)
    expression, shape = torch.as_tensor(track.expression[frames]), torch.as_tensor(track.shape)
    neck, jaw, left, right = (torch.as_tensor(getattr(track, name)[frames]) for name in JOINTS)
    return np.asarray(skin(skinning, shape, expression, zero, neck, jaw, left, right, zero).numpy())


def _placed(model: HeadModel, track: HeadTrack, held: NDArray[np.int64]) -> tuple[Float32, Float32]:
    """Rotation (T, 4) as x, y, z, w and place (T, 3) of the node, glTF's axes, the first frame's head at the origin."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_matrix(np.diag(FLIP)) * Rotation.from_rotvec(track.global_pose[held])
    quaternion = axis_angle_to_quaternion(turn.as_rotvec(), "xyzw").astype(np.float32)
    flips = np.cumprod(np.where((quaternion[1:] * quaternion[:-1]).sum(1) < 0, -1, 1))
    quaternion[1:] *= flips[:, None]  # neighbours on one side, so that what is between them is the short way
    rest = model.v_template + model.identity @ track.shape
    root = (model.joint_regressor[0] @ rest).astype(np.float64)
    place = FLIP * (track.translation[held] - track.translation[held[0]]) + root - turn.apply(root)
    return quaternion, place.astype(np.float32)


def _normals(vertices: Float32, faces: NDArray[np.int32]) -> Float32:
    """(V, 3) unit normals, area-weighted; up where a vertex is in no triangle."""
    corners = vertices[faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, faces[:, corner], flat)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 1e-12, total / np.maximum(length, 1e-12), [0, 1, 0]).astype(np.float32)
