"""Reads the user's own SMPL-X files (400 and 20 components) into the house's body model.

Source of the layout: Pavlakos et al. 2019 and the loaders of public tools; see docs/body.md. The file is checked by
key, shape and value before anything of it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.models import body_model
from reconstruct.models.body_model import NUM_JOINTS, PARENTS, BodyModel
from reconstruct.models.flame import NO_PARENT, Finding
from reconstruct.models.safe_pickle import load_npz, load_pickle
from schemas.errors import TalksetError

VERTICES: Final = 10475
TRIANGLES: Final = 20908
COMPONENTS: Final[Mapping[int, int]] = {400: 300, 20: 10}
"""Columns of shapedirs -> how many of them are identity; the others are expression."""
LICENCE: Final = "SMPL-X: non-commercial, registered at smpl-x.is.tue.mpg.de; never shipped"
SHAPES: Final[Mapping[str, tuple[int | None, ...]]] = {
    "v_template": (VERTICES, 3),
    "shapedirs": (VERTICES, 3, None),
    "posedirs": (VERTICES, 3, 9 * (NUM_JOINTS - 1)),
    "J_regressor": (NUM_JOINTS, VERTICES),
    "weights": (VERTICES, NUM_JOINTS),
    "kintree_table": (2, NUM_JOINTS),
    "f": (TRIANGLES, 3),
}
"""Keys that an SMPL-X file must have; hands_mean and hands_components may be missing."""


@dataclass(frozen=True)
class SmplxFile:
    """An SMPL-X file as it was read and checked."""

    path: Path
    arrays: dict[str, NDArray[Any]]
    num_shape: int
    hands_mean: NDArray[np.float64]
    """(2, 45), zero where the file has none."""
    findings: tuple[Finding, ...]
    licence: str = LICENCE


def is_smplx(path: Path) -> bool:
    """Whether a file holds a body of SMPL-X's number of vertices; raises TalksetError for one that cannot be read."""
    if path.suffix.lower() not in (".npz", ".pkl"):
        return False
    stored = load_npz(path) if path.suffix.lower() == ".npz" else load_pickle(path)
    return isinstance(stored, dict) and np.shape(stored.get("v_template", ())) == (VERTICES, 3)


def read_smplx(path: Path) -> SmplxFile:
    """Read and check an SMPL-X .npz (or a pickle with the same keys).

    Files of 400 components have 300 of identity, older ones of 20 have 10. `hands_meanl` and `hands_meanr` may be
    missing, as in some redistributed files: the hands' mean is then flat, and the findings say so.
    Raises TalksetError: missing_file, unsafe_file, or corrupt_data naming the file, the key and what was expected.
    """
    stored = load_npz(path) if path.suffix.lower() == ".npz" else load_pickle(path)
    if not isinstance(stored, dict):
        raise _wrong(path, f"it holds a {type(stored).__name__}, expected a dictionary")
    arrays, findings = {}, []
    for key, shape in SHAPES.items():
        if key not in stored:
            raise _wrong(path, f"the key {key!r} is missing; it has {', '.join(sorted(map(str, stored))[:20])}")
        arrays[key] = _checked(path, key, stored[key], shape)
        findings.append(Finding(key, f"{arrays[key].shape} {np.asarray(stored[key]).dtype}"))
    components = arrays["shapedirs"].shape[2]
    if components not in COMPONENTS:
        raise _wrong(path, f"shapedirs has {components} components, expected 400 (300 + 100) or 20 (10 + 10)")
    means = []
    for side in "lr":
        key = f"hands_mean{side}"
        if key in stored:
            means.append(_checked(path, key, stored[key], (45,)))
            findings.append(Finding(key, "(45,)"))
        else:
            means.append(np.zeros(45))
            findings.append(Finding(key, "missing: a flat hand is the mean", good=False))
    _judge(path, arrays)
    identity = COMPONENTS[components]
    findings.append(Finding("identity, expression", f"{identity}, {components - identity}"))
    return SmplxFile(path, arrays, identity, np.stack(means), tuple(findings))


def to_body_model(file: SmplxFile, name: str) -> BodyModel:
    """The body model of an SMPL-X file; weights are scaled to sum to one."""
    arrays = file.arrays
    weights = arrays["weights"] / arrays["weights"].sum(1, keepdims=True)
    count = arrays["shapedirs"].shape[2] - file.num_shape
    model = BodyModel(
        name=name,
        licence=file.licence,
        v_template=arrays["v_template"].astype(np.float32),
        shapedirs=arrays["shapedirs"].astype(np.float32),
        posedirs=arrays["posedirs"].astype(np.float32),
        joint_regressor=arrays["J_regressor"].astype(np.float32),
        weights=weights.astype(np.float32),
        parents=np.array(PARENTS, dtype=np.int64),
        faces=arrays["f"].astype(np.int32),
        num_shape=file.num_shape,
        expression_names=tuple(f"exp_{number:03d}" for number in range(count)),
        hands_mean=file.hands_mean.astype(np.float32),
    )
    body_model.check(model)
    return model


def _wrong(path: Path, what: str) -> TalksetError:
    return TalksetError("corrupt_data", f"{path}: {what}", "Give SMPLX_NEUTRAL.npz (or MALE, FEMALE) as published")


def _checked(path: Path, key: str, value: Any, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """A key's array as float64 or int64, its shape and values checked."""
    array = np.asarray(value)
    whole = key in ("f", "kintree_table")
    if array.dtype.kind not in "fiu":
        raise _wrong(path, f"{key} holds {array.dtype}, expected numbers")
    fits = array.ndim == len(shape) and all(want in (None, got) for got, want in zip(array.shape, shape, strict=True))
    if not fits:
        raise _wrong(path, f"{key} has shape {array.shape}, expected {str(shape).replace('None', '400 or 20')}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _wrong(path, f"{key} holds values that are not finite")
    return array.astype(np.int64 if whole else np.float64)


def _judge(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Raise TalksetError where the values cannot be SMPL-X: tree, triangles, sums, units and axes."""
    parents = np.where(np.isin(arrays["kintree_table"][0], (NO_PARENT, -1)), -1, arrays["kintree_table"][0])
    if tuple(parents.tolist()) != PARENTS:
        raise _wrong(path, f"kintree_table has the parents {parents.tolist()}, expected SMPL-X's")
    faces = arrays["f"]
    if faces.min() < 0 or faces.max() >= VERTICES:
        raise _wrong(path, f"f refers to the vertices {faces.min()}..{faces.max()}, expected 0..{VERTICES - 1}")
    for key, axis in (("weights", 1), ("J_regressor", 1)):
        sums = arrays[key].sum(axis)
        if np.abs(sums - 1).max() > 5e-2:
            raise _wrong(path, f"the rows of {key} sum to {sums.min():.4f}..{sums.max():.4f}, expected 1")
    places = arrays["J_regressor"] @ arrays["v_template"]
    height = float(np.ptp(arrays["v_template"][:, 1]))
    if not 1.2 < height < 2.3:
        raise _wrong(path, f"v_template is {height:.3g} high, expected a body in metres with y up (1.2 to 2.3)")
    if not places[20, 0] > places[18, 0] > places[16, 0] > 0 > places[17, 0]:
        raise _wrong(path, "the left arm does not lie along +x, expected SMPL-X's T pose")
