"""A parametric head is a file: FLAME-layout arrays plus what a fit needs to know about them.

Layout (FLAME, Li et al. 2017; see also docs/models.md): V vertices, F triangles, S identity and E expression
components, 5 joints in the order root, neck, jaw, left eye, right eye. Model space: metres, y up, z out of the face,
x towards the subject's left, right-handed.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import TalksetError
from schemas.files import named_errors, write_atomic

JOINTS = ("root", "neck", "jaw", "left_eye", "right_eye")
FORMAT = 1


@dataclass(frozen=True)
class HeadModel:
    """The arrays of one head model, immutable."""

    name: str
    licence: str
    v_template: NDArray[np.float32]
    """(V, 3) metres."""
    shapedirs: NDArray[np.float32]
    """(V, 3, S + E) metres per unit coefficient; identity first, then expression."""
    posedirs: NDArray[np.float32]
    """(V, 3, 36) pose correctives: 4 joints x 9 elements of (rotation matrix - identity), row-major."""
    joint_regressor: NDArray[np.float32]
    """(5, V) rows sum to one."""
    weights: NDArray[np.float32]
    """(V, 5) rows sum to one."""
    parents: NDArray[np.int64]
    """(5,) parent of each joint, -1 for the root."""
    faces: NDArray[np.int32]
    """(F, 3)"""
    num_shape: int
    expression_names: tuple[str, ...]
    expression_bounds: NDArray[np.float32]
    """(E, 2) lowest and highest sensible coefficient."""
    pose_bounds: NDArray[np.float32]
    """(5, 3, 2) radians, lowest and highest axis-angle component of each joint."""
    fixed_expressions: tuple[str, ...] = ()
    """Expressions that a joint already describes (jaw opening, gaze); a fit keeps them at zero."""
    regions: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    """Named vertex sets: face, upper_face, lips, eyelids, ears, scalp, left_eyeball, right_eyeball, mouth (inner),
    tongue, neck."""
    sha256: str = ""
    """Of the content; set by `save` and `load`."""

    @property
    def num_vertices(self) -> int:
        """V."""
        return int(self.v_template.shape[0])

    @property
    def num_expression(self) -> int:
        """E."""
        return int(self.shapedirs.shape[2] - self.num_shape)

    @property
    def identity(self) -> NDArray[np.float32]:
        """(V, 3, S) the identity part of `shapedirs`."""
        return self.shapedirs[:, :, : self.num_shape]

    @property
    def expression(self) -> NDArray[np.float32]:
        """(V, 3, E) the expression part of `shapedirs`."""
        return self.shapedirs[:, :, self.num_shape :]


def check(model: HeadModel) -> None:
    """Raise TalksetError("corrupt_data") naming the first array whose shape or values cannot be a head model."""
    v, e = model.num_vertices, model.num_expression
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "v_template": (model.v_template.shape, (v, 3)),
        "shapedirs": (model.shapedirs.shape, (v, 3, model.num_shape + e)),
        "posedirs": (model.posedirs.shape, (v, 3, 36)),
        "joint_regressor": (model.joint_regressor.shape, (5, v)),
        "weights": (model.weights.shape, (v, 5)),
        "parents": (model.parents.shape, (5,)),
        "faces": (model.faces.shape, (model.faces.shape[0], 3)),
        "expression_bounds": (model.expression_bounds.shape, (e, 2)),
        "pose_bounds": (model.pose_bounds.shape, (5, 3, 2)),
    }
    for name, (got, expected) in shapes.items():
        if got != expected:
            raise _corrupt(model.name, f"{name} has shape {got}, expected {expected}")
    if len(model.expression_names) != e:
        raise _corrupt(model.name, f"{len(model.expression_names)} expression names for {e} expressions")
    if model.faces.size and (model.faces.min() < 0 or model.faces.max() >= v):
        raise _corrupt(model.name, f"faces refer to vertices outside 0..{v - 1}")
    for name in ("v_template", "shapedirs", "posedirs", "joint_regressor", "weights"):
        if not np.isfinite(getattr(model, name)).all():
            raise _corrupt(model.name, f"{name} holds values that are not finite")
    if np.abs(model.weights.sum(1) - 1).max() > 1e-4:
        raise _corrupt(model.name, "skinning weights do not sum to one")


def _corrupt(name: str, what: str) -> TalksetError:
    return TalksetError("corrupt_data", f"head model {name!r}: {what}", "Build or add the model again")


_ARRAYS = (
    "v_template",
    "shapedirs",
    "posedirs",
    "joint_regressor",
    "weights",
    "parents",
    "faces",
    "expression_bounds",
    "pose_bounds",
)


def content_sha256(model: HeadModel) -> str:
    """Hash of every array and name of the model, independent of how it is stored."""
    result = hashlib.sha256()
    for name in _ARRAYS:
        array = np.ascontiguousarray(getattr(model, name))
        result.update(f"{name}:{array.dtype.str}:{array.shape}\n".encode())
        result.update(array.tobytes())
    for region in sorted(model.regions):
        result.update(region.encode())
        result.update(np.ascontiguousarray(model.regions[region], dtype=np.int32).tobytes())
    result.update(json.dumps([model.name, model.expression_names, model.fixed_expressions, model.num_shape]).encode())
    return result.hexdigest()


def save(model: HeadModel, path: Path) -> str:
    """Write the model as a compressed .npz, atomically; return its content hash."""
    check(model)
    digest = content_sha256(model)
    meta: dict[str, Any] = {
        "format": FORMAT,
        "name": model.name,
        "licence": model.licence,
        "num_shape": model.num_shape,
        "expression_names": model.expression_names,
        "fixed_expressions": model.fixed_expressions,
        "sha256": digest,
    }
    arrays = {name: getattr(model, name) for name in _ARRAYS}
    arrays |= {f"region:{name}": ids for name, ids in model.regions.items()}
    arrays["meta"] = np.array(json.dumps(meta))
    write_npz(path, arrays)
    return digest


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a compressed .npz completely or not at all. Raises TalksetError disk_full or not_writable."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with named_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def load(path: Path) -> HeadModel:
    """Read a model written by `save` and check its arrays against its hash.

    Raises TalksetError: missing_model when there is no such file, corrupt_data when it is not a whole model.
    """
    if not path.is_file():
        raise TalksetError("missing_model", f"no head model at {path}", "Run `talkset models build`")
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            arrays = {name: stored[name] for name in _ARRAYS}
            regions = {key.removeprefix("region:"): stored[key] for key in stored.files if key.startswith("region:")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise _corrupt(path.name, f"{path} is not readable ({error})") from error
    if meta["format"] != FORMAT:
        raise _corrupt(meta["name"], f"file format {meta['format']}, this version reads {FORMAT}")
    model = HeadModel(
        name=meta["name"],
        licence=meta["licence"],
        num_shape=meta["num_shape"],
        expression_names=tuple(meta["expression_names"]),
        fixed_expressions=tuple(meta["fixed_expressions"]),
        regions=regions,
        sha256=meta["sha256"],
        **arrays,
    )
    check(model)
    if content_sha256(model) != model.sha256:
        raise _corrupt(model.name, f"{path} does not match its own hash")
    return model
