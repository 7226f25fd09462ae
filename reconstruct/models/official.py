"""Reads the publishers' landmark embeddings of FLAME: 68 points (iBUG) and 105 of MediaPipe's 478.

An official embedding may leave points out; those carry `samples` 0 and an infinite `spread_m`, which a fit turns into
the weight zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.embedding import Embedding
from reconstruct.models.head_model import HeadModel
from reconstruct.models.safe_pickle import load_npy, load_npz
from schemas.errors import TalksetError

CONTOUR: Final = 17
"""Points 0-16 of iBUG's 68 run along the jaw and slide over the surface as the head turns."""
IBUG_POINTS: Final = 68
MEDIAPIPE_POINTS: Final = 478
YAW_ROWS: Final = 79
"""Rows of the dynamic contour: 0..39 degrees of yaw to one side, then -1..-39 to the other."""
OUTSIDE: Final = 0.05
"""How far a point may lie outside of its triangle, as a negative weight."""
LAYOUTS: Final[Mapping[str, int]] = {"mediapipe": MEDIAPIPE_POINTS, "face-alignment": IBUG_POINTS}
"""First word of a detector's name -> number of its points."""

Float64 = NDArray[np.float64]


def points_of(detector: str) -> int | None:
    """How many points a detector of that name has, None for one that no official embedding is for."""
    return next((count for word, count in LAYOUTS.items() if detector.startswith(word)), None)


def read_official(path: Path, model: HeadModel) -> Embedding:
    """Read `landmark_embedding.npy` (68 points) or `mediapipe_landmark_embedding.npz` (105 of 478) for a FLAME model.

    The 68 points are those of `full_lmk_*`: the contour is that of a frontal face, and its `spread_m` tells how far
    each point of it slides over 39 degrees of yaw. Other points have `spread_m` 0: the publisher gives none. The
    `detector` is the number of points; `for_detector` gives it a name.

    Raises TalksetError: missing_file, unsafe_file, or corrupt_data naming the key, what was found and expected.
    """
    stored = load_npz(path) if path.suffix.lower() == ".npz" else load_npy(path)
    if not isinstance(stored, dict):
        raise _wrong(path, f"it holds a {type(stored).__name__}, expected a dictionary")
    if "landmark_indices" in stored:
        return _mediapipe(path, stored, model)
    if "full_lmk_faces_idx" in stored:
        return _ibug(path, stored, model)
    known = ", ".join(sorted(map(str, stored))[:12]) or "none"
    raise _wrong(path, f"its keys are {known}, expected landmark_indices or full_lmk_faces_idx")


def for_detector(embedding: Embedding, detector: str) -> Embedding:
    """The embedding under the name and version of a detector that has these points."""
    return dataclasses.replace(embedding, detector=detector)


def complete(official: Embedding, computed: Embedding) -> Embedding:
    """The official points, and the computed ones where the official embedding has none (irises, cheeks).

    Both are of one model and have the same points; raises TalksetError corrupt_data otherwise.
    """
    if official.model_sha256 != computed.model_sha256 or len(official.vertices) != len(computed.vertices):
        raise TalksetError("corrupt_data", "two landmark embeddings belong to different models or detectors")
    known = official.samples > 0

    def merge(name: str) -> Any:
        first, second = getattr(official, name), getattr(computed, name)
        return np.where(known.reshape(-1, *[1] * (first.ndim - 1)), first, second).astype(first.dtype)

    names = ("vertices", "barycentric", "spread_m", "samples", "offset_m", "response")
    return dataclasses.replace(computed, **{name: merge(name) for name in names})


def _mediapipe(path: Path, stored: Mapping[str, Any], model: HeadModel) -> Embedding:
    indices = _numbers(path, stored, "landmark_indices", (None,), whole=True)
    count = len(indices)
    if len(np.unique(indices)) != count or indices.min() < 0 or indices.max() >= MEDIAPIPE_POINTS:
        raise _wrong(path, f"landmark_indices are not distinct points of 0..{MEDIAPIPE_POINTS - 1}")
    vertices, weights = _points(path, stored, ("lmk_face_idx", "lmk_b_coords"), (count,), model)
    return _scattered(model, MEDIAPIPE_POINTS, indices, vertices, weights, np.zeros(count))


def _ibug(path: Path, stored: Mapping[str, Any], model: HeadModel) -> Embedding:
    vertices, weights = _points(path, stored, ("full_lmk_faces_idx", "full_lmk_bary_coords"), (1, IBUG_POINTS), model)
    spread = np.zeros(IBUG_POINTS)
    if "dynamic_lmk_faces_idx" in stored:
        keys = ("dynamic_lmk_faces_idx", "dynamic_lmk_bary_coords")
        moving = _places(model, *_points(path, stored, keys, (YAW_ROWS, CONTOUR), model))
        frontal = _places(model, vertices[0, :CONTOUR], weights[0, :CONTOUR])
        spread[:CONTOUR] = np.sqrt(((moving - frontal) ** 2).sum(2).mean(0))
    return _scattered(model, IBUG_POINTS, np.arange(IBUG_POINTS), vertices[0], weights[0], spread)


def _scattered(
    model: HeadModel,
    total: int,
    indices: NDArray[np.int64],
    vertices: NDArray[np.int64],
    weights: Float64,
    spread: Float64,
) -> Embedding:
    """An embedding of all points of a detector, of which only some have a place; the others lie on vertex 0, unused."""
    triangles = np.zeros((total, 3), dtype=np.int64)
    barycentric = np.tile(np.array([1, 0, 0], dtype=np.float32), (total, 1))
    spread_m = np.full(total, np.inf, dtype=np.float32)
    samples = np.zeros(total, dtype=np.int32)
    triangles[indices], barycentric[indices] = vertices, weights
    spread_m[indices], samples[indices] = spread, 1
    offset_m, response = np.zeros((total, 3), np.float32), np.zeros((total, 3, model.num_shape), np.float32)
    return Embedding(str(total), model.sha256, triangles, barycentric, spread_m, samples, offset_m, response)


def _points(
    path: Path, stored: Mapping[str, Any], keys: tuple[str, str], shape: tuple[int, ...], model: HeadModel
) -> tuple[NDArray[np.int64], Float64]:
    """Vertex ids (*shape, 3) and barycentric weights (*shape, 3) of one pair of keys."""
    triangles = _numbers(path, stored, keys[0], shape, whole=True)
    weights = _numbers(path, stored, keys[1], (*shape, 3), whole=False)
    if triangles.min() < 0 or triangles.max() >= len(model.faces):
        found = f"{triangles.min()}..{triangles.max()}"
        raise _wrong(path, f"{keys[0]} has the triangles {found}, {model.name} has 0..{len(model.faces) - 1}")
    if np.abs(weights.sum(-1) - 1).max() > 1e-2 or weights.min() < -OUTSIDE:
        raise _wrong(path, f"{keys[1]} has weights that are negative or do not sum to one")
    return model.faces[triangles].astype(np.int64), weights / weights.sum(-1, keepdims=True)


def _places(model: HeadModel, vertices: NDArray[np.int64], weights: Float64) -> Float64:
    """(..., 3) metres on the mean head."""
    return np.asarray((weights[..., None] * model.v_template[vertices].astype(np.float64)).sum(-2))


def _numbers(path: Path, stored: Mapping[str, Any], key: str, shape: tuple[int | None, ...], whole: bool) -> Any:
    if key not in stored:
        raise _wrong(path, f"the key {key!r} is missing")
    array = np.asarray(stored[key])
    kinds = "iu" if whole else "f"
    fits = array.ndim == len(shape) and all(want in (None, got) for got, want in zip(array.shape, shape, strict=True))
    if not fits or array.dtype.kind not in kinds or not array.size:
        wanted = str(shape).replace("None", "n")
        raise _wrong(path, f"{key} has shape {array.shape} and type {array.dtype}, expected {wanted}")
    if not np.isfinite(array).all():
        raise _wrong(path, f"{key} holds values that are not finite")
    return array.astype(np.int64 if whole else np.float64)


def _wrong(path: Path, what: str) -> TalksetError:
    remedy = "Give landmark_embedding.npy or mediapipe_landmark_embedding.npz as their publishers offer them"
    return TalksetError("corrupt_data", f"{path}: {what}", remedy)
