"""A parametric body is a file: SMPL-X-layout arrays plus what a fit needs to know about them.

Layout (SMPL-X, Pavlakos et al. 2019; see docs/body.md): V vertices, F triangles, S identity and E expression
components, 55 joints in SMPL-X's order. Model space: metres, y up, z out of the face, x towards the subject's left,
right-handed; the rest pose is a T with the palms down.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.models.head_model import write_npz
from schemas.errors import TalksetError

_FINGERS: Final = ("index", "middle", "pinky", "ring", "thumb")
JOINTS: Final[tuple[str, ...]] = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "jaw", "left_eye", "right_eye"),
    *(f"{side}_{finger}{bone}" for side in ("left", "right") for finger in _FINGERS for bone in (1, 2, 3)),
)
"""SMPL-X's 55 joints in its order."""
PARENTS: Final = (
    *(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15),
    *(20, 25, 26, 20, 28, 29, 20, 31, 32, 20, 34, 35, 20, 37, 38),
    *(21, 40, 41, 21, 43, 44, 21, 46, 47, 21, 49, 50, 21, 52, 53),
)
BODY: Final = slice(1, 22)
"""Joints of `body_pose`."""
LEFT_HAND: Final = slice(25, 40)
RIGHT_HAND: Final = slice(40, 55)
NUM_JOINTS: Final = 55
FORMAT: Final = 1


def joint(name: str) -> int:
    """Index of a joint by its name; raises ValueError for an unknown one."""
    return JOINTS.index(name)


@dataclass(frozen=True)
class BodyModel:
    """The arrays of one body model, immutable."""

    name: str
    licence: str
    v_template: NDArray[np.float32]
    """(V, 3) metres."""
    shapedirs: NDArray[np.float32]
    """(V, 3, S + E) metres per unit coefficient; identity first, then expression."""
    posedirs: NDArray[np.float32]
    """(V, 3, 486) pose correctives: 54 joints x 9 elements of (rotation matrix - identity), row-major."""
    joint_regressor: NDArray[np.float32]
    """(55, V) rows sum to one."""
    weights: NDArray[np.float32]
    """(V, 55) rows sum to one."""
    parents: NDArray[np.int64]
    """(55,) parent of each joint, -1 for the root."""
    faces: NDArray[np.int32]
    """(F, 3)"""
    num_shape: int
    expression_names: tuple[str, ...]
    hands_mean: NDArray[np.float32]
    """(2, 45) axis-angle that readers of SMPL-X add to the left and right hand poses; zero: flat hands."""
    regions: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    """Named vertex sets; may be empty."""
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


_ARRAYS: Final = (
    *("v_template", "shapedirs", "posedirs", "joint_regressor", "weights", "parents", "faces", "hands_mean"),
)


def check(model: BodyModel) -> None:
    """Raise TalksetError("corrupt_data") naming the first array whose shape or values cannot be a body model."""
    v, e = model.num_vertices, model.num_expression
    shapes: dict[str, tuple[int, ...]] = {
        "v_template": (v, 3),
        "shapedirs": (v, 3, model.num_shape + e),
        "posedirs": (v, 3, 9 * (NUM_JOINTS - 1)),
        "joint_regressor": (NUM_JOINTS, v),
        "weights": (v, NUM_JOINTS),
        "parents": (NUM_JOINTS,),
        "faces": (model.faces.shape[0], 3),
        "hands_mean": (2, 45),
    }
    for name, expected in shapes.items():
        array = getattr(model, name)
        if array.shape != expected:
            raise _corrupt(model.name, f"{name} has shape {array.shape}, expected {expected}")
        if not np.isfinite(array).all():
            raise _corrupt(model.name, f"{name} holds values that are not finite")
    if tuple(model.parents.tolist()) != PARENTS:
        raise _corrupt(model.name, f"the parents are {model.parents.tolist()}, expected {list(PARENTS)}")
    if len(model.expression_names) != e:
        raise _corrupt(model.name, f"{len(model.expression_names)} expression names for {e} expressions")
    if model.faces.size and (model.faces.min() < 0 or model.faces.max() >= v):
        raise _corrupt(model.name, f"faces refer to vertices outside 0..{v - 1}")
    if np.abs(model.weights.sum(1) - 1).max() > 1e-4:
        raise _corrupt(model.name, "skinning weights do not sum to one")


def _corrupt(name: str, what: str) -> TalksetError:
    return TalksetError("corrupt_data", f"body model {name!r}: {what}", "Build or add the model again")


def content_sha256(model: BodyModel) -> str:
    """Hash of every array and name of the model, independent of how it is stored."""
    result = hashlib.sha256()
    for name in _ARRAYS:
        array = np.ascontiguousarray(getattr(model, name))
        result.update(f"{name}:{array.dtype.str}:{array.shape}\n".encode())
        result.update(array.tobytes())
    for region in sorted(model.regions):
        result.update(region.encode())
        result.update(np.ascontiguousarray(model.regions[region], dtype=np.int32).tobytes())
    result.update(json.dumps([model.name, model.expression_names, model.num_shape]).encode())
    return result.hexdigest()


def save(model: BodyModel, path: Path) -> str:
    """Write the model as a compressed .npz, atomically; return its content hash."""
    check(model)
    digest = content_sha256(model)
    meta: dict[str, Any] = {
        "format": FORMAT,
        "kind": "body",
        "name": model.name,
        "licence": model.licence,
        "num_shape": model.num_shape,
        "expression_names": model.expression_names,
        "sha256": digest,
    }
    arrays: dict[str, NDArray[Any]] = {name: getattr(model, name) for name in _ARRAYS}
    arrays |= {f"region:{name}": ids for name, ids in model.regions.items()}
    arrays["meta"] = np.array(json.dumps(meta))
    write_npz(path, arrays)
    return digest


def load(path: Path) -> BodyModel:
    """Read a model written by `save` and check its arrays against its hash.

    Raises TalksetError: missing_model when there is no such file, corrupt_data when it is not a whole body model.
    """
    if not path.is_file():
        raise TalksetError("missing_model", f"no body model at {path}", "Run `talkset models build --body`")
    try:
        with np.load(path, allow_pickle=False) as stored:
            meta = json.loads(str(stored["meta"]))
            if meta.get("kind") != "body":
                raise ValueError("it is the model of a head")
            arrays = {name: stored[name] for name in _ARRAYS}
            regions = {key.removeprefix("region:"): stored[key] for key in stored.files if key.startswith("region:")}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise _corrupt(path.name, f"{path} is not readable ({error})") from error
    if meta["format"] != FORMAT:
        raise _corrupt(meta["name"], f"file format {meta['format']}, this version reads {FORMAT}")
    model = BodyModel(
        name=meta["name"],
        licence=meta["licence"],
        num_shape=meta["num_shape"],
        expression_names=tuple(meta["expression_names"]),
        regions=regions,
        sha256=meta["sha256"],
        **arrays,
    )
    check(model)
    if content_sha256(model) != model.sha256:
        raise _corrupt(model.name, f"{path} does not match its own hash")
    return model
