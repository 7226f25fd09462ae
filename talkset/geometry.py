"""The head of a clip as geometry: vertices, 3D landmarks, ARKit weights, other rotation forms and frame rates.

The head model is the one that the clip was fitted with, by content hash, or none. It is read from the data set's own
`models/` folder, else from this installation. Needs torch and the packages of `reconstruct`, imported when called.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from talkset.store import DatasetError

if TYPE_CHECKING:
    from torch import Tensor

    from reconstruct.embedding import Embedding
    from reconstruct.landmark_points import PosedLandmarks
    from reconstruct.models.head_model import HeadModel
    from reconstruct.models.skinning import SkinningModel
    from talkset.dataset import Clip

Float32 = NDArray[np.float32]

SPACES: Final = ("camera", "model", "canonical")
ROTATION_KINDS: Final = ("matrix", "6d", "quaternion", "axis_angle")
POSES: Final = ("global_pose", "neck_pose", "jaw_pose", "left_eye_pose", "right_eye_pose")
HEAD_SIGNALS: Final = ("shape", "expression", *POSES, "translation", "valid")
BLOCK_BYTES: Final = 64 << 20
"""Working memory of skinning; the result itself comes on top."""
BYTES_PER_VERTEX: Final = 120
"""Working memory of one vertex in one frame (measured: 98 to 113)."""


def clip_vertices(
    clip: Clip,
    *,
    space: str = "camera",
    start: int | None = None,
    stop: int | None = None,
    vertex_ids: ArrayLike | None = None,
) -> Float32:
    """Vertices of the head (T, V, 3) in metres; NaN in frames that are not valid.

    Args: space: "camera" is where the fit put the head (OpenCV axes: x right, y down, z forward); "model" leaves out
    the global rotation and the translation (y up, z out of the face); "canonical" leaves out the neck's rotation as
    well, so that the skull stands still and only expression, jaw and eyes move. Fits from a face alone keep the neck
    at zero, and there the last two are the same. start, stop: frames as in a Python slice. vertex_ids (V,): only
    these, in this order.
    Raises DatasetError: the head model is missing or another one than the clip's, or an argument is out of range.
    """
    from reconstruct.models.skinning import skin

    loaded = _head_of(clip)
    ids = _vertex_ids(vertex_ids, loaded.model.num_vertices)
    head = _skinning(loaded, None if ids is None else ids.tobytes())
    return _posed(clip, loaded, space, slice(start, stop), len(head.vertex_ids), functools.partial(skin, head))


def clip_landmarks3d(
    clip: Clip,
    *,
    space: str = "camera",
    start: int | None = None,
    stop: int | None = None,
    detector: str | None = None,
) -> Float32:
    """The landmarks of the fitted head where the detector sees them (T, 478, 3) in metres; NaN where not valid.

    They are fitted, not measured: `focal_px * xy / z + principal_point` in camera space is near `face_xy`, and the mean
    distance over the face's points is `residual_px`. They lie a few millimetres beside the surface where the detector
    is known to see them there (reconstruct.response). The embedding is the one in the data set, else that of the
    installed detector on this model, computed once (half a minute) and cached.

    Args: space, start, stop as for `clip_vertices`; detector: name, where the data set has embeddings of several.
    Raises DatasetError: the model or its embedding is missing or of another model, or an argument is out of range.
    """
    loaded = _head_of(clip)
    embedding = _embedding_of(clip, loaded, detector)
    landmarks = _landmarks(loaded, embedding)
    count = len(landmarks.local) + len(landmarks.corners.vertex_ids)  # both are posed
    points = _posed(clip, loaded, space, slice(start, stop), count, landmarks.at)
    points[:, ~embedding.embedded] = np.nan  # an official embedding may leave landmarks out
    return points


def clip_faces(clip: Clip) -> NDArray[np.int32]:
    """Triangles (F, 3) of `clip_vertices`, counter-clockwise seen from outside. Raises DatasetError as there."""
    return _head_of(clip).model.faces.copy()


def clip_arkit(clip: Clip, *, clamp: bool = False) -> Float32:
    """ARKit's 52 weights (T, 52) in the order of `reconstruct.models.arkit.ARKIT_NAMES`; NaN where not valid.

    With `clamp`, weights are cut to 0..1. Raises DatasetError for a clip whose head has no ARKit-named expressions.
    """
    loaded = _head_of(clip)
    from reconstruct.models.arkit import to_arkit
    from schemas.errors import TalksetError

    names = ("expression", "jaw_pose", "left_eye_pose", "right_eye_pose", "valid")
    expression, jaw, left, right, valid = (_signal(clip, name, names) for name in names)
    try:
        weights = to_arkit(loaded.model, expression, jaw, left, right, clip=clamp)
    except TalksetError as error:
        raise DatasetError(f"clip {clip.clip_id}: {error}") from error
    weights[~valid] = np.nan
    return weights


def clip_rotations(clip: Clip, name: str, kind: str) -> Float32:
    """A rotation signal in another form, NaN in frames that are not valid: see `reconstruct.models.rotations`.

    Args: name: an axis-angle column such as "jaw_pose"; kind: "matrix" (T, 3, 3), "6d" (T, 6; the first two rows),
    "quaternion" (T, 4; w first) or "axis_angle" (T, 3; as stored). Raises DatasetError for a column that is no rotation
    or another kind, KeyError for an unknown column.
    """
    from reconstruct.models import rotations

    if kind not in ROTATION_KINDS:
        raise DatasetError(f"rotation kind {kind!r} is not known; give one of {', '.join(ROTATION_KINDS)}")
    if not _is_rotation(clip, name):
        known = [other for other in clip.dataset.columns if _is_rotation(clip, other)] or list(POSES)
        raise DatasetError(f"{name!r} is no rotation; columns with axis-angles are {', '.join(known)}")
    values = _signal(clip, name).astype(np.float32)
    values[~_signal(clip, "valid")] = np.nan
    if kind == "axis_angle":
        return values
    convert = {
        "matrix": rotations.axis_angle_to_matrix,
        "6d": rotations.axis_angle_to_6d,
        "quaternion": rotations.axis_angle_to_quaternion,
    }
    return np.asarray(convert[kind](values), dtype=np.float32)


def clip_resampled(
    clip: Clip,
    fps: Fraction | float | Sequence[int] | NDArray[np.int64],
    *,
    columns: Sequence[str] | None = None,
    max_gap_us: int | None = None,
) -> dict[str, Any]:
    """The clip's signals at another frame rate, or at given times in microseconds: see `talkset.resample.resample`.

    Rotations turn along the shortest way and stay unwrapped, other floats are interpolated linearly, labels take the
    nearest frame. `pts_us` and `valid` are always there and new; signals without a time axis come as they are.
    `columns` are the signals (default: those of the clip). Raises DatasetError for a rate or times out of range.
    """
    from talkset.resample import resample

    names = tuple(clip) if columns is None else tuple(columns)
    wanted = tuple(dict.fromkeys((*names, "pts_us", "valid")))
    pts, valid = _signal(clip, "pts_us", wanted), _signal(clip, "valid", wanted)
    signals: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    whole: dict[str, Any] = {}
    for name in names:
        value = clip.read(name, wanted)
        if value is None or not clip.is_per_frame(name):
            whole[name] = value
        elif name not in ("pts_us", "valid") and not name.endswith(".pts_us"):
            signals[name], kinds[name] = value, _kind(clip, name, value)
    try:
        made = resample(signals, kinds, pts, valid, fps, max_gap_us)
    except ValueError as error:
        raise DatasetError(f"clip {clip.clip_id} cannot be resampled: {error}") from error
    times = {name: made["pts_us"].copy() for name in names if name.endswith(".pts_us")}
    return whole | made | times


def head_model_of(clip: Clip) -> HeadModel:
    """The head model that the clip was fitted with.

    `models/<head_model>.npz` of the data set, else the installed model of that name; its content hash must be the
    clip's `model_sha256`. Raises DatasetError when it is in neither place, or is another model.
    """
    return _head_of(clip).model


def head_and_embedding_of(clip: Clip) -> tuple[HeadModel, Embedding]:
    """The same, with the landmarks on it; raises DatasetError likewise."""
    loaded = _head_of(clip)
    return loaded.model, _embedding_of(clip, loaded, None)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A model and where it came from; compared and hashed by identity, so that results about it can be cached."""

    model: HeadModel
    where: str


def _head_of(clip: Clip) -> _Loaded:
    name, wanted = clip.read("head_model"), clip.index["model_sha256"]
    if not name or not wanted:
        raise DatasetError(
            f"clip {clip.clip_id} does not say which head model it was fitted with; run `talkset verify`"
        )
    if "/" in name or "\\" in name or ".." in name:
        raise DatasetError(f"clip {clip.clip_id} has the unsafe head model name {name!r}; do not trust this data set")
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        raise DatasetError("the geometry of a clip needs PyTorch: pip install torch") from error
    from schemas.errors import TalksetError

    bundled = f"models/{name}.npz"
    try:
        if clip.dataset.has_file(bundled):
            loaded = _bundled_model(*_state(clip.dataset.local_path(bundled)))
        else:
            loaded = _installed_model(name)
    except TalksetError as error:
        raise DatasetError(
            f"clip {clip.clip_id} needs the head model {name} with content hash {wanted}: {error}; "
            f"add it as {bundled} to the data set, or install what built it"
        ) from error
    if loaded.model.sha256 != wanted:
        raise DatasetError(
            f"clip {clip.clip_id} was fitted with {name} of content hash {wanted}, but the model at {loaded.where} has "
            f"{loaded.model.sha256}; its coefficients mean nothing there. Put the right model at {bundled} of the data "
            f"set, or install the version that built it"
        )
    return loaded


def _state(path: Path) -> tuple[str, int, int]:
    """A file as a key of a cache: path, time of change, size."""
    found = path.stat()
    return str(path), found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=4)
def _bundled_model(path: str, mtime_ns: int, size: int) -> _Loaded:  # noqa: ARG001 - the key of the cache
    from reconstruct.models import head_model

    return _Loaded(head_model.load(Path(path)), path)


@functools.lru_cache(maxsize=4)
def _installed_model(name: str) -> _Loaded:
    from reconstruct.models import registry

    model = registry.load_model(name)
    paths = [str(entry.path) for entry in registry.entries() if name in (entry.name, entry.path.stem)]
    return _Loaded(model, paths[0] if paths else "this installation")


@functools.lru_cache(maxsize=8)
def _skinning(loaded: _Loaded, vertex_ids: bytes | None) -> SkinningModel:
    from reconstruct.models.skinning import prepare

    return prepare(loaded.model, None if vertex_ids is None else np.frombuffer(vertex_ids, dtype=np.int64))


@functools.lru_cache(maxsize=2)
def _landmarks(loaded: _Loaded, embedding: Embedding) -> PosedLandmarks:
    import torch

    from reconstruct.landmark_points import PosedLandmarks

    return PosedLandmarks.of(loaded.model, embedding, torch.float32)


def _vertex_ids(vertex_ids: ArrayLike | None, count: int) -> NDArray[np.int64] | None:
    if vertex_ids is None:
        return None
    ids = np.asarray(vertex_ids)
    if (
        ids.ndim != 1
        or ids.size == 0
        or not np.issubdtype(ids.dtype, np.integer)
        or ids.min() < 0
        or ids.max() >= count
    ):
        raise DatasetError(f"vertex_ids must be one or more integers from 0 to {count - 1}")
    return ids.astype(np.int64)


def _posed(clip: Clip, loaded: _Loaded, space: str, frames: slice, size: int, pose: Callable[..., Tensor]) -> Float32:
    """(T, n, 3) points of some frames in blocks, so that memory stays bounded for a clip of any length.

    `pose` makes them of a shape and rows of motion, with the working memory of `size` vertices.
    """
    import torch

    if space not in SPACES:
        raise DatasetError(f"space {space!r} is not known; give one of {', '.join(SPACES)}")
    shape, *motion, valid = (_signal(clip, name, HEAD_SIGNALS) for name in HEAD_SIGNALS)
    model = loaded.model
    if shape.shape != (model.num_shape,) or motion[0].shape[1:] != (model.num_expression,):
        raise DatasetError(
            f"clip {clip.clip_id} has shape {shape.shape} and expression {motion[0].shape}, {model.name} has "
            f"{model.num_shape} and {model.num_expression} coefficients; run `talkset verify`"
        )
    motion = [values[frames] for values in motion]
    left_out = {"camera": (), "model": (1, 6), "canonical": (1, 2, 6)}[space]  # global_pose, neck_pose, translation
    for place in left_out:
        motion[place] = np.where(np.isfinite(motion[place]), np.float32(0), motion[place])
    finite = np.all([np.isfinite(values).all(1) for values in motion], axis=0)
    known = np.flatnonzero(valid[frames] & finite)
    parts = []
    step = max(1, BLOCK_BYTES // (BYTES_PER_VERTEX * size))
    identity = torch.from_numpy(shape)
    with torch.no_grad():
        for first in range(0, len(known), step) or (0,):  # without a frame, for the number of points
            arguments = [identity, *(torch.from_numpy(values[known[first : first + step]]) for values in motion)]
            parts.append(pose(*arguments).numpy())
    result = np.full((len(motion[0]), *parts[0].shape[1:]), np.nan, dtype=np.float32)
    result[known] = np.concatenate(parts)
    return result


def _embedding_of(clip: Clip, loaded: _Loaded, detector: str | None) -> Embedding:
    """The bundled embedding of the model, else that of the installed detector."""
    prefix = f"{clip.read('head_model')}."
    names = [PurePosixPath(name).name for name in clip.dataset.list_files("models")]
    names = [name for name in names if name.startswith(prefix) and name.endswith(".embedding.npz")]
    found = {name: _bundled_embedding(*_state(clip.dataset.local_path(f"models/{name}"))) for name in names}
    for name, embedding in found.items():
        if embedding.model_sha256 != loaded.model.sha256:
            raise DatasetError(
                f"models/{name} belongs to a model of content hash {embedding.model_sha256}, the clip's has "
                f"{loaded.model.sha256}; remove that file from the data set, or put the right one there"
            )
    if detector is not None:
        found = {name: embedding for name, embedding in found.items() if embedding.detector == detector}
    if len(found) > 1:
        raise DatasetError(
            f"the data set has landmark embeddings of several detectors: "
            f"{', '.join(sorted(embedding.detector for embedding in found.values()))}; choose one with detector=..."
        )
    return next(iter(found.values())) if found else _computed_embedding(loaded, detector)


@functools.lru_cache(maxsize=8)
def _bundled_embedding(path: str, mtime_ns: int, size: int) -> Embedding:  # noqa: ARG001 - the key of the cache
    from reconstruct.embedding import load_embedding
    from schemas.errors import TalksetError

    try:
        return load_embedding(Path(path))
    except TalksetError as error:
        raise DatasetError(f"{error.message}; run `talkset verify`") from error


@functools.lru_cache(maxsize=8)
def _computed_embedding(loaded: _Loaded, detector: str | None) -> Embedding:
    from schemas.errors import TalksetError

    try:
        from reconstruct.landmarks import make_detector
        from reconstruct.landmarks.embed import embedding_for
        from schemas.config import LandmarkConfig

        return embedding_for(loaded.model, detector or make_detector(LandmarkConfig()).name)
    except (TalksetError, ModuleNotFoundError) as error:
        raise DatasetError(
            f"the data set has no landmark embedding of {loaded.model.name}, and none can be computed: {error}"
        ) from error


def _signal(clip: Clip, name: str, wanted: Sequence[str] = ()) -> NDArray[Any]:
    """A signal that must be there, whether or not it is among the columns that the data set was opened with."""
    value = clip.read(name, wanted)
    if value is None:
        raise DatasetError(f"clip {clip.clip_id} has no {name}, which its geometry needs; run `talkset verify`")
    return np.asarray(value)


def _is_rotation(clip: Clip, name: str) -> bool:
    return clip.dataset.field_metadata(name).get("rotation") == "axis_angle"


def _kind(clip: Clip, name: str, value: NDArray[Any]) -> str:
    """How a signal is read between two frames."""
    if _is_rotation(clip, name):
        return "axis_angle"
    if value.dtype == np.bool_:
        return "bool"
    return "linear" if np.issubdtype(value.dtype, np.floating) else "nearest"
