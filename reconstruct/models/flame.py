"""Reads the user's own FLAME files (2020, 2023, 2023 Open) into the house's head model.

Source of the layout: Li et al. 2017 and the loaders of public trackers; see docs/models.md. The file is checked by key,
shape and value before anything of it is used, and what was found is kept as a list that people can read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.models import head_model
from reconstruct.models.head_model import HeadModel
from reconstruct.models.regions import eyeball, find_regions, pieces
from reconstruct.models.safe_pickle import load_npz, load_pickle
from schemas.errors import TalksetError

VERTICES: Final = 5023
TRIANGLES: Final = 9976
NUM_SHAPE: Final = 300
NUM_EXPRESSION: Final = 100
CODE_BOUND: Final = 4.0
"""Codes are coefficients of principal components in standard deviations; beyond four of them is no face."""
NO_PARENT: Final = 2**32 - 1
"""The root's parent, as an unsigned -1."""
PARENTS: Final = (-1, 0, 1, 1, 1)

SHAPES: Final[Mapping[str, tuple[int, ...]]] = {
    "v_template": (VERTICES, 3),
    "shapedirs": (VERTICES, 3, NUM_SHAPE + NUM_EXPRESSION),
    "posedirs": (VERTICES, 3, 36),
    "J_regressor": (5, VERTICES),
    "weights": (VERTICES, 5),
    "kintree_table": (2, 5),
    "f": (TRIANGLES, 3),
}
"""Keys that a FLAME file must have; others are not read."""

LICENCES: Final[Mapping[str, str]] = {
    "2020": "FLAME 2020: non-commercial, registered at flame.is.tue.mpg.de; never shipped",
    "2023": "FLAME 2023: non-commercial, registered at flame.is.tue.mpg.de; never shipped",
    "2023-open": "FLAME 2023 Open: reported as CC-BY-4.0, registered at flame.is.tue.mpg.de; never shipped",
    "unknown": "FLAME: under the licence of your download from flame.is.tue.mpg.de; never shipped",
}
MASK_SIZES: Final[Mapping[str, int]] = {
    "face": 1787,
    "eye_region": 751,
    "neck": 253,
    "left_eyeball": 546,
    "right_eyeball": 546,
    "ears": 588,
    "forehead": 133,
    "lips": 254,
    "nose": 379,
    "scalp": 489,
    "boundary": 114,
}
"""Regions of FLAME_masks.pkl and how many vertices they have; another number is reported, not refused."""
REQUIRED_MASKS: Final = ("face", "neck", "left_eyeball", "right_eyeball", "ears", "lips", "scalp")


@dataclass(frozen=True)
class Finding:
    """One line of what is known about a file."""

    what: str
    found: str
    expected: str = ""
    good: bool = True


@dataclass(frozen=True)
class FlameFile:
    """A FLAME file as it was read and checked."""

    path: Path
    version: str
    """2020, 2023, 2023-open or unknown."""
    arrays: dict[str, NDArray[Any]]
    findings: tuple[Finding, ...]

    @property
    def licence(self) -> str:
        """What may be done with it."""
        return LICENCES[self.version]


def read_flame(path: Path, version: str | None = None) -> FlameFile:
    """Read and check a FLAME pickle or an .npz with the same keys.

    Args: version: which release it is, when its name does not tell.
    Raises TalksetError: missing_file, unsafe_file, or corrupt_data naming the file, the key and what was expected.
    """
    stored = load_npz(path) if path.suffix.lower() == ".npz" else load_pickle(path)
    if not isinstance(stored, dict):
        raise _wrong(
            path, f"it holds a {type(stored).__name__}, expected a dictionary with the keys {', '.join(SHAPES)}"
        )
    release, why = (version, "as given") if version else _release(path)
    _refuse_no_jaw(path, stored)
    arrays, findings = {}, [Finding("release", release, f"({why})")]
    for key, shape in SHAPES.items():
        if key not in stored:
            known = ", ".join(sorted(str(name) for name in stored)[:20]) or "none"
            raise _wrong(path, f"the key {key!r} is missing; it has {known}")
        arrays[key] = _checked(path, key, stored[key], shape)
        findings.append(Finding(key, f"{arrays[key].shape} {np.asarray(stored[key]).dtype}", str(shape)))
    return FlameFile(path, release, arrays, (*findings, *_judged(path, arrays)))


def to_head_model(
    file: FlameFile, name: str, masks: Mapping[str, NDArray[np.int32]] | None = None
) -> tuple[HeadModel, tuple[Finding, ...]]:
    """The head model of a FLAME file, and what was noted on the way.

    Joints 3 and 4 become the subject's left (+x) and right eye wherever the file has them the other way round.
    Regions come from `masks` (see `read_masks`), the others from geometry. Raises TalksetError corrupt_data.
    """
    arrays, notes = file.arrays, []
    order = [0, 1, 2, 3, 4]
    joints = arrays["J_regressor"] @ arrays["v_template"]
    if joints[3, 0] < joints[4, 0]:
        order = [0, 1, 2, 4, 3]
        notes.append(Finding("eyes", "joint 3 is the subject's right eye: joints 3 and 4 were swapped"))
    weights = arrays["weights"][:, order]
    weights = weights / weights.sum(1, keepdims=True)
    correctives = arrays["posedirs"].reshape(VERTICES, 3, 4, 9)[:, :, [joint - 1 for joint in order[1:]]]
    template, faces = arrays["v_template"].astype(np.float32), arrays["f"].astype(np.int32)
    regions = find_regions(template, faces, weights.astype(np.float32))
    if masks is not None:
        regions, noted = _with_masks(regions, masks, arrays["v_template"])
        notes += noted
    notes += [Finding(f"region {key}", f"{len(ids)} vertices") for key, ids in sorted(regions.items())]
    model = HeadModel(
        name=name,
        licence=file.licence,
        v_template=template,
        shapedirs=arrays["shapedirs"].astype(np.float32),
        posedirs=correctives.reshape(VERTICES, 3, 36).astype(np.float32),
        joint_regressor=arrays["J_regressor"][order].astype(np.float32),
        weights=weights.astype(np.float32),
        parents=np.array(PARENTS, dtype=np.int64),
        faces=faces,
        num_shape=NUM_SHAPE,
        expression_names=tuple(f"exp_{number:03d}" for number in range(NUM_EXPRESSION)),
        expression_bounds=np.tile(np.array([-CODE_BOUND, CODE_BOUND], dtype=np.float32), (NUM_EXPRESSION, 1)),
        pose_bounds=pose_bounds(),
        regions=regions,
    )
    head_model.check(model)
    return model, tuple(notes)


def pose_bounds() -> NDArray[np.float32]:
    """(5, 3, 2) radians, axis-angle in the model's own axes as for every head: +x opens the jaw and looks down.

    The root turns freely; the neck moderately; the jaw closes a little beyond rest, because the template's lips only
    touch, and opens to 0.6; the eyes turn 35 degrees up and down, 45 sideways.
    """
    bounds = np.zeros((5, 3, 2), dtype=np.float32)
    bounds[0] = [[-np.pi, np.pi]] * 3
    bounds[1] = [[-0.7, 0.7], [-0.9, 0.9], [-0.6, 0.6]]
    bounds[2] = [[-0.05, 0.6], [-0.15, 0.15], [-0.1, 0.1]]
    bounds[3:] = [[-0.6, 0.6], [-0.8, 0.8], [-0.05, 0.05]]
    return bounds


def read_masks(path: Path) -> dict[str, NDArray[np.int32]]:
    """Vertex ids by region of a FLAME_masks.pkl.

    Raises TalksetError: missing_file, unsafe_file, or corrupt_data for missing regions and ids outside of the mesh.
    """
    stored = load_pickle(path)
    if not isinstance(stored, dict):
        raise _wrong(path, f"it holds a {type(stored).__name__}, expected a dictionary of vertex ids by region")
    missing = [name for name in REQUIRED_MASKS if name not in stored]
    if missing:
        raise _wrong(path, f"the regions {', '.join(missing)} are missing; expected {', '.join(MASK_SIZES)}")
    masks = {}
    for name in (name for name in MASK_SIZES if name in stored):
        ids = np.asarray(stored[name])
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or not len(ids):
            raise _wrong(path, f"region {name!r} has shape {ids.shape} and type {ids.dtype}, expected (n,) integers")
        if int(ids.min()) < 0 or int(ids.max()) >= VERTICES:
            raise _wrong(path, f"region {name!r} has ids {ids.min()}..{ids.max()}, expected 0..{VERTICES - 1}")
        masks[name] = np.unique(ids).astype(np.int32)
    return masks


def is_masks(stored: Any) -> bool:
    """Whether the content of a pickle is FLAME_masks.pkl."""
    return isinstance(stored, dict) and "left_eyeball" in stored and "v_template" not in stored


def _wrong(path: Path, what: str, remedy: str = "") -> TalksetError:
    return TalksetError("corrupt_data", f"{path}: {what}", remedy or "Give a FLAME file as its publisher offers it")


def _release(path: Path) -> tuple[str, str]:
    """Release and why, by file name: the layouts of the releases do not differ."""
    name = path.stem.lower()
    for pattern, release in (
        (r"flame[-_ ]?2023[-_ ]?open", "2023-open"),
        (r"flame[-_ ]?2023", "2023"),
        (r"flame[-_ ]?2020|^generic_model$", "2020"),
    ):
        if re.search(pattern, name):
            return release, f"by the file name {path.name}"
    return "unknown", f"the file name {path.name} is none of generic_model, flame2023, flame2023_Open"


def _refuse_no_jaw(path: Path, stored: Mapping[Any, Any]) -> None:
    """FLAME without jaw joint: known by name, by four joints, or by a jaw that carries no vertex."""
    weights = np.asarray(stored.get("weights", ()))
    evidence = ""
    if re.search(r"no[-_ ]?jaw", path.stem, re.IGNORECASE):
        evidence = f"its name is {path.name}"
    elif weights.shape == (VERTICES, 4):
        evidence = f"weights has shape {weights.shape}, expected {SHAPES['weights']}"
    elif weights.shape == SHAPES["weights"] and weights.dtype.kind == "f" and weights[:, 2].max() < RIGID_JAW:
        evidence = f"the jaw joint carries no vertex (largest weight {weights[:, 2].max():.3g})"
    if evidence:
        raise _wrong(
            path,
            f"this is FLAME without jaw joint ({evidence}): it opens the mouth by expression codes",
            "The jaw is a joint in every fit, column and exporter here; add flame2023.pkl of the same download instead",
        )


RIGID_JAW: Final = 0.5
"""Weight that the chin has at least where the jaw is a joint."""


def _checked(path: Path, key: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A key's array as float64 or int64, its shape and values checked."""
    array = np.asarray(value)
    whole = key in ("f", "kintree_table")
    if array.dtype.kind not in "fiu":
        raise _wrong(path, f"{key} holds {array.dtype}, expected numbers")
    if array.shape != shape:
        raise _wrong(path, f"{key} has shape {array.shape}, expected {shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _wrong(path, f"{key} holds {int((~np.isfinite(array)).sum())} values that are not finite")
    if not whole:
        return array.astype(np.float64)
    if array.dtype.kind == "f" and (array != np.round(array)).any():
        raise _wrong(path, f"{key} holds fractions, expected whole numbers")
    return array.astype(np.int64)


def _judged(path: Path, arrays: Mapping[str, NDArray[Any]]) -> list[Finding]:
    """What the values say: tree, triangles, sums, units, axes, eyes. Raises TalksetError where they cannot be FLAME."""
    parents = np.where(arrays["kintree_table"][0] == NO_PARENT, -1, arrays["kintree_table"][0])
    if tuple(parents.tolist()) != PARENTS:
        raise _wrong(path, f"kintree_table has the parents {parents.tolist()}, expected {list(PARENTS)}")
    faces = arrays["f"]
    if faces.min() < 0 or faces.max() >= VERTICES:
        raise _wrong(path, f"f refers to the vertices {faces.min()}..{faces.max()}, expected 0..{VERTICES - 1}")
    weights, sums = arrays["weights"], arrays["J_regressor"].sum(1)
    if np.abs(weights.sum(1) - 1).max() > 1e-2 or weights.min() < -1e-3:
        low, high = weights.sum(1).min(), weights.sum(1).max()
        raise _wrong(path, f"the rows of weights sum to {low:.4f}..{high:.4f}, expected 1")
    if np.abs(sums - 1).max() > 5e-2:
        raise _wrong(path, f"the rows of J_regressor sum to {np.round(sums, 4).tolist()}, expected 1")
    template = arrays["v_template"]
    height = float(np.ptp(template[:, 1]))
    if not 0.15 < height < 0.6:
        raise _wrong(path, f"v_template is {height:.3g} high, expected a head in metres (0.15 to 0.6)")
    root, neck, jaw, first, second = arrays["J_regressor"] @ template
    eyes = (first + second) / 2
    if not (eyes[1] > neck[1] > root[1] - 0.05 and eyes[2] > neck[2] and eyes[1] > jaw[1]):
        raise _wrong(path, "the eyes are not above and before the neck, expected y up and z out of the face")
    labels = pieces(faces.astype(np.int32), VERTICES)
    balls = [eyeball(weights, labels, joint) for joint in (3, 4)]
    if not all(len(ball) for ball in balls):
        raise _wrong(path, "no vertex turns with the joints 3 and 4, expected the two eyeballs")
    for joint, ball, place in ((3, balls[0], first), (4, balls[1], second)):
        if np.linalg.norm(template[ball].mean(0) - place) > 0.03 or (place[0] > 0) != (template[ball, 0].mean() > 0):
            raise _wrong(path, f"joint {joint} is not inside the eyeball that turns with it")
    if (first[0] > 0) == (second[0] > 0):
        raise _wrong(path, f"both eye joints have x of one sign ({first[0]:.3f}, {second[0]:.3f}), expected one each")
    side = "left" if first[0] > 0 else "right"
    spread = np.sqrt((arrays["shapedirs"] ** 2).sum((0, 1)) / VERTICES) * 1000
    return [
        Finding("root's parent", f"{int(arrays['kintree_table'][0, 0])} read as -1"),
        Finding("sums of J_regressor", f"{sums.min():.5f}..{sums.max():.5f}", "1", bool(np.abs(sums - 1).max() < 1e-3)),
        Finding("head height", f"{height:.3f} m", "0.15..0.6"),
        Finding("joint 3 turns", f"the subject's {side} eye, {len(balls[0])} vertices", "left (+x), 546"),
        Finding("distance of the eyes", f"{1000 * float(np.linalg.norm(first - second)):.1f} mm"),
        Finding("first identity code", f"moves vertices by {spread[0]:.2f} mm RMS"),
        Finding("first expression code", f"moves vertices by {spread[NUM_SHAPE]:.2f} mm RMS"),
    ]


def _with_masks(
    regions: Mapping[str, NDArray[np.int32]], masks: Mapping[str, NDArray[np.int32]], template: NDArray[np.float64]
) -> tuple[dict[str, NDArray[np.int32]], list[Finding]]:
    """Regions with those of FLAME_masks.pkl in place of geometry's; left is the subject's whatever the file says."""
    given, notes = dict(masks), []
    for name, ids in masks.items():
        if len(ids) != MASK_SIZES[name]:
            notes.append(Finding(f"mask {name}", f"{len(ids)} vertices", str(MASK_SIZES[name]), good=False))
    if template[given["left_eyeball"], 0].mean() < template[given["right_eyeball"], 0].mean():
        given["left_eyeball"], given["right_eyeball"] = given["right_eyeball"], given["left_eyeball"]
        notes.append(Finding("masks", "left_eyeball lies at -x, the subject's right: the two were swapped"))
    for name in ("left_eyeball", "right_eyeball"):
        if not set(given[name].tolist()) & set(regions[name].tolist()):
            raise TalksetError(
                "corrupt_data",
                f"the masks' {name} shares no vertex with the eyeball of the model",
                "Give the FLAME_masks.pkl of this model's download",
            )
    balls = np.union1d(given["left_eyeball"], given["right_eyeball"])
    face = np.setdiff1d(given["face"], balls).astype(np.int32)
    middle = (template[given["lips"], 1].mean() + template[balls, 1].mean()) / 2
    result = {**regions, **given, "face": face, "upper_face": face[template[face, 1] > middle]}
    result["mouth"] = np.setdiff1d(regions["mouth"], np.union1d(face, given["lips"])).astype(np.int32)
    return result, notes
