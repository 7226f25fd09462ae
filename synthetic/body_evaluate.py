"""How far a fitted body is from the truth: joints, hands, angles, shaking."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.body.fit import body_poses, joint_positions
from reconstruct.models.body_model import JOINTS, joint
from schemas.types import BodyTrack
from synthetic.body_motion import BodyScene

Float64 = NDArray[np.float64]
UPPER: Final = tuple(
    joint(name)
    for name in (
        *("spine3", "neck", "head", "left_collar", "right_collar", "left_shoulder", "right_shoulder"),
        *("left_elbow", "right_elbow", "left_wrist", "right_wrist"),
    )
)
ROOT: Final = joint("neck")
"""Truncated bodies have no pelvis to align at: what is seen of the trunk ends at the neck and the shoulders."""


def body_errors(scene: BodyScene, track: BodyTrack) -> dict[str, float]:
    """Errors of a fit of a scene.

    `upper_mm` and `hands_mm`: mean distance of upper-body joints after alignment of the root, and of finger joints
    after alignment of the wrist, millimetres. The root is the neck; `upper_pelvis_mm` has the pelvis instead.
    `elbow_deg` and `shoulder_deg`: mean angle between found and true bend of the elbow, and direction of the upper arm
    against the trunk. `jitter_ratio`: RMS second difference of the upper body's and the hands' joints over the truth's.
    """
    rows = np.flatnonzero(track.body_valid)
    found = joint_positions(scene.model, track)[rows]
    true = scene.posed.joints[rows]
    result = {}
    for name, root in (("upper_mm", ROOT), ("upper_pelvis_mm", 0)):
        error = (found - found[:, [root]]) - (true - true[:, [root]])
        result[name] = 1000 * float(np.linalg.norm(error[:, list(UPPER)], axis=2).mean())
    seen = track.body_joint_valid[rows]
    distances = []
    for side, bones in (("left", slice(25, 40)), ("right", slice(40, 55))):
        wrist = joint(f"{side}_wrist")
        error = (found - found[:, [wrist]]) - (true - true[:, [wrist]])
        distances.append(np.linalg.norm(error[:, bones], axis=2)[seen[:, bones.start]].ravel())
    hands = np.concatenate(distances)
    result["hands_mm"] = 1000 * float(hands.mean()) if len(hands) else float("nan")
    result |= _angles(found, true)
    own = [*UPPER, *range(25, 55)]
    result["jitter_ratio"] = _shake(found[:, own]) / max(_shake(true[:, own]), 1e-12)
    return result


def _angles(found: Float64, true: Float64) -> dict[str, float]:
    bends, lifts = [], []
    for side in ("left", "right"):
        for joints, into in ((found, 0), (true, 1)):
            shoulder, elbow, wrist = (joints[:, joint(f"{side}_{name}")] for name in ("shoulder", "elbow", "wrist"))
            upper, fore = elbow - shoulder, wrist - elbow
            across = joints[:, joint("left_shoulder")] - joints[:, joint("right_shoulder")]
            up = joints[:, joint("neck")] - joints[:, joint("spine3")]
            frame = _frame(across, up)
            bends.append((into, _angle(upper, fore)))
            lifts.append((into, np.einsum("tba,tb->ta", frame, upper)))
    elbow = np.concatenate([np.abs(bends[i][1] - bends[i + 1][1]) for i in (0, 2)])
    shoulder = np.concatenate([_angle(lifts[i][1], lifts[i + 1][1]) for i in (0, 2)])
    return {
        "elbow_deg": float(np.degrees(elbow.mean())),
        "shoulder_deg": float(np.degrees(shoulder.mean())),
    }


def _frame(across: Float64, up: Float64) -> Float64:
    first = across / np.linalg.norm(across, axis=1, keepdims=True)
    second = up - (up * first).sum(1, keepdims=True) * first
    second /= np.linalg.norm(second, axis=1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=2)


def _angle(first: Float64, second: Float64) -> Float64:
    """(T,) radians between vectors (T, 3)."""
    sine = np.linalg.norm(np.cross(first, second), axis=1)
    return np.asarray(np.arctan2(sine, (first * second).sum(1)))


def _shake(joints: Float64) -> float:
    """RMS second difference over time, metres a frame^2."""
    bend = joints[2:] - 2 * joints[1:-1] + joints[:-2]
    return float(np.sqrt((bend**2).sum(2).mean())) if len(bend) else float("nan")


def rotation_errors(scene: BodyScene, track: BodyTrack) -> dict[str, float]:
    """Mean angle in degrees between found and true rotation of each joint of the upper body against its parent."""
    true = scene.vertices_motion()[0]
    found = body_poses(track)
    rows = np.flatnonzero(track.body_valid)
    result = {}
    for index in (*UPPER, joint("pelvis")):
        apart = Rotation.from_rotvec(found[rows, index]).inv() * Rotation.from_rotvec(true[rows, index])
        result[JOINTS[index]] = float(np.degrees(apart.magnitude().mean()))
    return result
