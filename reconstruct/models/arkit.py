"""ARKit's 52 blend-shape weights from and to the parameters of a head whose expressions are ARKit's actions.

The open head carries jawOpen, jawLeft, jawRight and the eight eyeLook actions by its jaw and eye joints; all other
actions are expression coefficients of the same name. Left and right are the subject's in both. Weights run from 0 to 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reconstruct.models.head_model import HeadModel
from reconstruct.models.open_head import EYE_LOOK_RAD, JAW_OPEN_RAD
from schemas.errors import UsageError

Float32 = NDArray[np.float32]

ARKIT_NAMES: Final = (
    *("eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft"),
    *("eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight"),
    *("eyeSquintRight", "eyeWideRight", "jawForward", "jawLeft", "jawRight", "jawOpen", "mouthClose", "mouthFunnel"),
    *("mouthPucker", "mouthLeft", "mouthRight", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft"),
    *("mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight"),
    *("mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft"),
    *("browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft"),
    *("cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut"),
)
"""The order of Apple's documentation of ARFaceAnchor.BlendShapeLocation."""

JAW_SIDE_RAD: Final = 0.09
"""Jaw rotation about y that is nearest to the sculpted jawLeft = 1 in the least squares sense (measured: 0.0904). The
sculpted action also shifts the jaw, which no rotation can, so it explains 56 % of the movement; jawOpen is exact."""

JOINT_ACTIONS: Final[Mapping[str, tuple[str, int, float]]] = {
    "jawOpen": ("jaw_pose", 0, JAW_OPEN_RAD),
    "jawLeft": ("jaw_pose", 1, JAW_SIDE_RAD),
    "jawRight": ("jaw_pose", 1, -JAW_SIDE_RAD),
    "eyeLookDownLeft": ("left_eye_pose", 0, EYE_LOOK_RAD),
    "eyeLookUpLeft": ("left_eye_pose", 0, -EYE_LOOK_RAD),
    "eyeLookOutLeft": ("left_eye_pose", 1, EYE_LOOK_RAD),
    "eyeLookInLeft": ("left_eye_pose", 1, -EYE_LOOK_RAD),
    "eyeLookDownRight": ("right_eye_pose", 0, EYE_LOOK_RAD),
    "eyeLookUpRight": ("right_eye_pose", 0, -EYE_LOOK_RAD),
    "eyeLookInRight": ("right_eye_pose", 1, EYE_LOOK_RAD),
    "eyeLookOutRight": ("right_eye_pose", 1, -EYE_LOOK_RAD),
}
"""Of each action that a joint carries: the pose, its axis-angle component, and its value in radians at weight 1.

Positive about x turns down, positive about y to the subject's left (model space: y up, z out of the face)."""

POSES: Final = ("jaw_pose", "left_eye_pose", "right_eye_pose")


def to_arkit(
    model: HeadModel,
    expression: ArrayLike,
    jaw_pose: ArrayLike,
    left_eye_pose: ArrayLike,
    right_eye_pose: ArrayLike,
    *,
    clip: bool = False,
) -> Float32:
    """(T, 52) ARKit weights in the order of `ARKIT_NAMES`; frames with a value that is not finite are all NaN.

    Args: expression (T, E); the three poses (T, 3) axis-angle, radians. With `clip`, weights are cut to 0..1; without,
    they may leave it a little (a fit closes the jaw to -0.02 rad), and converting back gives the same head. ARKit has
    no action for the jaw's roll and the eyes' torsion (the third components), nor for the neck: these are lost.
    Raises UsageError for a model whose expressions are not ARKit's actions, or arrays of another shape.
    """
    _check_model(model)
    codes = np.asarray(expression, dtype=np.float64)
    if codes.ndim != 2 or codes.shape[1] != model.num_expression:
        raise UsageError(f"expression has shape {codes.shape}, {model.name} needs (T, {model.num_expression})")
    given = dict(zip(POSES, (jaw_pose, left_eye_pose, right_eye_pose), strict=True))
    poses = {name: np.asarray(pose, dtype=np.float64) for name, pose in given.items()}
    for name, pose in poses.items():
        if pose.shape != (len(codes), 3):
            raise UsageError(f"{name} has shape {pose.shape}, expected ({len(codes)}, 3) as expression has")
    weights = codes[:, [model.expression_names.index(name) for name in ARKIT_NAMES]]  # a copy
    for name, (pose_name, axis, radians) in JOINT_ACTIONS.items():
        turned = poses[pose_name][:, axis] / radians
        # of two opposite actions only the one that the joint is turned to; jawOpen has no opposite
        weights[:, ARKIT_NAMES.index(name)] += turned if name == "jawOpen" else np.maximum(turned, 0)
    if clip:
        weights = np.clip(weights, 0, 1)
    unknown = ~np.isfinite(np.concatenate([codes, *poses.values()], axis=1)).all(1)
    weights[unknown] = np.nan
    return weights.astype(np.float32)


def from_arkit(
    model: HeadModel, weights: ArrayLike | Mapping[str, ArrayLike], *, clip: bool = False
) -> dict[str, Float32]:
    """Parameters of the head from ARKit weights: expression (T, E), jaw_pose, left_eye_pose, right_eye_pose (T, 3).

    Args: weights: (T, 52) in the order of `ARKIT_NAMES`, or (T,) by name, where names that are left out are 0. With
    `clip`, weights are cut to 0..1 first. A frame with a weight that is not finite is NaN everywhere. The expressions
    that joints carry come out as 0, as in fitted rows. Expressions of the model beyond ARKit's are 0.
    Raises UsageError for a model whose expressions are not ARKit's actions, an unknown name or another shape.
    """
    _check_model(model)
    table = _from_names(weights) if isinstance(weights, Mapping) else np.asarray(weights, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(ARKIT_NAMES):
        raise UsageError(f"weights have shape {table.shape}, expected (T, {len(ARKIT_NAMES)})", "See ARKIT_NAMES")
    table = np.where(np.isfinite(table).all(1, keepdims=True), table, np.nan)
    if clip:
        table = np.clip(table, 0, 1)
    expression = np.zeros((len(table), model.num_expression))
    expression[np.isnan(table[:, 0])] = np.nan
    result = {"expression": expression} | {name: np.zeros((len(table), 3)) for name in POSES}
    for place, name in enumerate(ARKIT_NAMES):
        if name not in JOINT_ACTIONS:
            expression[:, model.expression_names.index(name)] = table[:, place]
    for name, (pose, axis, radians) in JOINT_ACTIONS.items():
        result[pose][:, axis] += radians * table[:, ARKIT_NAMES.index(name)]
    for pose in POSES:
        result[pose][np.isnan(table[:, 0])] = np.nan
    return {name: values.astype(np.float32) for name, values in result.items()}


def _from_names(weights: Mapping[str, ArrayLike]) -> NDArray[Any]:
    """(T, 52) from weights by name."""
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in weights.items()}
    for name in arrays:
        if name not in ARKIT_NAMES:
            near = difflib.get_close_matches(name, ARKIT_NAMES, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "See reconstruct.models.arkit.ARKIT_NAMES"
            raise UsageError(f"{name!r} is no ARKit blend shape", hint)
    shapes = {values.shape for values in arrays.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 1:
        found = ", ".join(f"{name} {values.shape}" for name, values in arrays.items()) or "none"
        raise UsageError(f"weights by name need one shape (T,), got {found}", "Give every weight for the same frames")
    table = np.zeros((*next(iter(shapes)), len(ARKIT_NAMES)))
    for name, values in arrays.items():
        table[:, ARKIT_NAMES.index(name)] = values
    return table


def _check_model(model: HeadModel) -> None:
    """Raise UsageError unless the model has all 52 actions, and its joints carry those of `JOINT_ACTIONS`."""
    missing = [name for name in ARKIT_NAMES if name not in model.expression_names]
    if missing:
        shown = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise UsageError(
            f"the expressions of {model.name!r} are not ARKit's: {len(missing)} of 52 are missing ({shown})",
            "Only heads with ARKit-named expressions, such as the open head, convert to ARKit weights",
        )
    if set(model.fixed_expressions) != set(JOINT_ACTIONS):
        differ = sorted(set(model.fixed_expressions) ^ set(JOINT_ACTIONS))
        raise UsageError(
            f"{model.name!r} carries other actions by its joints than the open head: {', '.join(differ)} differ",
            "The angles of its joints at weight 1 are unknown; convert it with a mapping of your own",
        )
