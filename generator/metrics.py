"""Metrics of speech-driven face motion over vertices: one name, one definition.

Papers use one name for several formulas; each has its own function here. All take float arrays (T, V, 3) in metres of
the truth and of the prediction, frame by frame at the same times, and vertex ids of the model's regions.

Head rotation: none of these removes it. Pass vertices in the canonical pose (expression and jaw applied, global and
neck rotation and translation zero), which is how the published figures are made; a rotated head counts as error.
Everything is computed in float64. Every function raises UsageError for arrays of another or unequal shape, without
frames, or with values that are not finite (leave out frames that are not valid), and for ids outside 0..V-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError

Float64 = NDArray[np.float64]
Vertices = NDArray[np.floating[Any]]
Ids = NDArray[np.integer[Any]] | Sequence[int]

MM: Final = 1e3
"""Millimetres in a metre."""
UP: Final = 1
"""The axis of model space that points up."""


def lve_l2(truth: Vertices, prediction: Vertices, lips: Ids) -> float:
    """Lip vertex error in mm: mean_t max_v |prediction - truth| over the lip vertices.

    The largest L2 error of each frame, as the text of MeshTalk (Richard et al. 2021) has it. Head rotation is not
    removed: canonical pose in.
    """
    return float(_distances_mm(truth, prediction, lips, "lips").max(axis=1).mean())


def lve_sq(truth: Vertices, prediction: Vertices, lips: Ids) -> float:
    """Squared lip vertex error in mm^2: mean_t max_v |prediction - truth|^2 over the lip vertices.

    What the evaluation scripts of FaceFormer and CodeTalker (cal_metric.py) and torchmetrics compute under the name
    LVE; they leave the unit of the mesh (m^2 gives a number 1e6 times smaller). Head rotation is not removed:
    canonical pose in.
    """
    return float((_distances_mm(truth, prediction, lips, "lips") ** 2).max(axis=1).mean())


def lve_rms(truth: Vertices, prediction: Vertices, lips: Ids) -> float:
    """Root of `lve_sq`, in mm: sqrt(mean_t max_v |prediction - truth|^2) over the lip vertices.

    What ARTalk (Chu et al. 2025) reports as LVE. Head rotation is not removed: canonical pose in.
    """
    return float(np.sqrt(lve_sq(truth, prediction, lips)))


def fdd_std_sq(truth: Vertices, prediction: Vertices, template: Vertices, upper_face: Ids) -> float:
    """Upper-face dynamics deviation in mm^2: mean_v (std_t |truth - template|^2 - std_t |prediction - template|^2).

    `template` (V, 3) is the neutral face of the same person, metres. Signed: positive where the prediction moves less
    than the truth. std is the population's (numpy's default), the norm is squared, as in CodeTalker's cal_metric.py
    (Xing et al. 2023), whose figures are in the unit of its meshes. Head rotation is not removed: canonical pose in.
    """
    true, predicted = _pair(truth, prediction)
    ids = _checked_ids(upper_face, true.shape[1], "upper_face")
    neutral = _checked(template, "template", 2)
    if neutral.shape != true.shape[1:]:
        raise UsageError(f"template has shape {neutral.shape}, expected {true.shape[1:]}", "Pass the neutral face")
    spread = [(((moving - neutral)[:, ids] * MM) ** 2).sum(axis=2).std(axis=0) for moving in (true, predicted)]
    return float((spread[0] - spread[1]).mean())


def fdd_abs_xyz(truth: Vertices, prediction: Vertices, upper_face: Ids) -> float:
    """Upper-face dynamics deviation in cm: 100 mean_v |std_t(x + y + z of truth) - std_t(x + y + z of prediction)|.

    The factor 100 turns metres into cm and belongs to the definition; coordinates are summed, not squared, as ARTalk
    (Chu et al. 2025) has it, so motion along (1, -1, 0) is not seen. std is the population's. Head rotation is not
    removed: canonical pose in.
    """
    true, predicted = _pair(truth, prediction)
    ids = _checked_ids(upper_face, true.shape[1], "upper_face")
    spread = [moving[:, ids].sum(axis=2).std(axis=0) for moving in (true, predicted)]
    return float(100 * np.abs(spread[0] - spread[1]).mean())


def fdd_motion(truth: Vertices, prediction: Vertices, upper_face: Ids) -> float:
    """Upper-face dynamics deviation in mm: mean_v (d(truth) - d(prediction)), d = std_t |vertex - its mean over time|.

    Signed: positive where the prediction moves less than the truth. Needs no template, so the resting face does not
    enter: the text of CodeTalker (Xing et al. 2023) with the temporal mean as origin. std is the population's; motion
    at a constant distance from its mean (a circle, two poses held equally long) has d = 0. Head rotation is not
    removed: canonical pose in.
    """
    true, predicted = _pair(truth, prediction)
    ids = _checked_ids(upper_face, true.shape[1], "upper_face")
    spread = []
    for moving in (true[:, ids], predicted[:, ids]):
        spread.append(np.linalg.norm(moving - moving.mean(axis=0), axis=2).std(axis=0))
    return float(MM * (spread[0] - spread[1]).mean())


def mod(truth: Vertices, prediction: Vertices, inner_lips: Ids) -> float:
    """Mouth opening difference in mm: mean_t |opening(truth) - opening(prediction)|.

    opening = max_v y - min_v y over the vertices of the inner lips (y is up): their vertical extent. Head rotation is
    not removed and a tilted head shortens the extent: canonical pose in.
    """
    true, predicted = _pair(truth, prediction)
    ids = _checked_ids(inner_lips, true.shape[1], "inner_lips")
    opening = [np.ptp(moving[:, ids, UP], axis=1) for moving in (true, predicted)]
    return float(MM * np.abs(opening[0] - opening[1]).mean())


def mve(truth: Vertices, prediction: Vertices, vertices: Ids | None = None) -> float:
    """Mean vertex error in mm: mean_{t,v} |prediction - truth| over `vertices`, all by default.

    Head rotation is not removed: canonical pose in, or posed vertices on purpose, which must then be said.
    """
    return float(_distances_mm(truth, prediction, vertices, "vertices").mean())


def mhd(truth: Vertices, prediction: Vertices, vertices: Ids | None = None) -> float:
    """Root of the mean squared vertex distance in mm: sqrt(mean_{t,v} |prediction - truth|^2), all vertices by default.

    At least `mve`, equal where all distances are. Head rotation is not removed: canonical pose in, or posed vertices
    on purpose, which must then be said.
    """
    return float(np.sqrt((_distances_mm(truth, prediction, vertices, "vertices") ** 2).mean()))


def _distances_mm(truth: Vertices, prediction: Vertices, ids: Ids | None, name: str) -> Float64:
    """Distances (T, len(ids)) of the chosen vertices."""
    true, predicted = _pair(truth, prediction)
    chosen = slice(None) if ids is None else _checked_ids(ids, true.shape[1], name)
    return np.asarray(MM * np.linalg.norm(predicted[:, chosen] - true[:, chosen], axis=2))


def _pair(truth: Vertices, prediction: Vertices) -> tuple[Float64, Float64]:
    true, predicted = _checked(truth, "truth", 3), _checked(prediction, "prediction", 3)
    if true.shape != predicted.shape:
        message = f"truth has shape {true.shape}, prediction {predicted.shape}"
        raise UsageError(message, "Compare the same vertices at the same times")
    return true, predicted


def _checked(array: Vertices, name: str, axes: int) -> Float64:
    values = np.asarray(array)
    if values.ndim != axes or values.shape[-1] != 3 or 0 in values.shape or values.dtype.kind != "f":
        wanted = "(T, V, 3)" if axes == 3 else "(V, 3)"
        raise UsageError(f"{name} is {values.dtype} of shape {values.shape}, expected float {wanted}", "Pass metres")
    if not np.isfinite(values).all():
        raise UsageError(f"{name} holds values that are not finite", "Leave out frames that are not valid")
    return np.asarray(values, dtype=np.float64)


def _checked_ids(ids: Ids, count: int, name: str) -> NDArray[np.int64]:
    chosen = np.asarray(ids)
    if chosen.ndim != 1 or len(chosen) == 0 or chosen.dtype.kind not in "iu":
        message = f"{name} is {chosen.dtype} of shape {chosen.shape}, expected a list of vertex ids"
        raise UsageError(message, "Pass a region of the head model")
    if chosen.min() < 0 or chosen.max() >= count:
        message = f"{name} refers to vertices {chosen.min()}..{chosen.max()}, there are 0..{count - 1}"
        raise UsageError(message, "Pass the ids of the same model")
    return chosen.astype(np.int64)
