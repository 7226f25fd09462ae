"""Random poses of arms and hands before the body: what a talking person does, inside anatomical limits."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.body.kinematics import Skeleton, pose
from reconstruct.models.body_model import joint

Float64 = NDArray[np.float64]
TRIES: Final = 400
REACH_M: Final = ((-0.35, 0.35), (-0.45, 0.15), (0.12, 0.50))
"""Where a gesturing wrist may be against the middle of the shoulders: to the body's side, up, and forward."""


def random_gesture(skeleton: Skeleton, betas: Float64, side: str, rng: np.random.Generator) -> Float64:
    """(P,) a pose with the hand before the body: drawn until the wrist is within reach."""
    parts = skeleton.articulation
    low, high = parts.array("low"), parts.array("high")
    names = [freedom.name for freedom in parts.freedoms]
    sign = 1.0 if side == "left" else -1.0
    drawn = parts.at_rest(TRIES)
    for index, name in enumerate(names):
        if not name.startswith(f"{side}_") or name.split("_")[1].startswith(("hip", "knee")):
            continue
        spread = parts.freedoms[index].spread
        drawn[:, index] += rng.normal(0, min(0.8 * spread, 0.5), TRIES)
    first = names.index(f"{side}_shoulder_x")
    swing = Rotation.from_euler(
        "ZYX",
        np.stack(
            [
                -sign * rng.uniform(0.7, 1.4, TRIES),
                -sign * rng.uniform(-0.2, 0.9, TRIES),
                rng.uniform(-0.9, 0.9, TRIES),
            ],
            axis=1,
        ),
    )
    drawn[:, first : first + 3] = swing.as_rotvec()
    drawn[:, names.index(f"{side}_elbow_flexion")] = rng.uniform(0.7, 2.2, TRIES)
    drawn[:, names.index(f"{side}_elbow_twist")] = rng.uniform(-1.2, 0.9, TRIES)
    curl = rng.uniform(0, 1, (TRIES, 1)) * rng.uniform(0.3, 1.0, (TRIES, 4))
    for column, finger in enumerate(("index", "middle", "ring", "pinky")):
        for bone, share in ((1, 1.1), (2, 1.4), (3, 0.9)):
            index = names.index(f"{side}_{finger}{bone}_flexion")
            drawn[:, index] = share * curl[:, column] + rng.normal(0, 0.1, TRIES)
    drawn = np.clip(drawn, low + 0.05 * (high - low), high - 0.05 * (high - low))
    posed = pose(skeleton, betas, drawn)
    centre = posed.joints[:, [joint("left_shoulder"), joint("right_shoulder")]].mean(1)
    wrist = (posed.joints[:, joint(f"{side}_wrist")] - centre) * [1, -1, -1]
    knuckle = (posed.joints[:, joint(f"{side}_middle1")] - centre) * [1, -1, -1]
    good = np.ones(TRIES, dtype=bool)
    for place in (wrist, knuckle):
        for axis, (least, most) in enumerate(REACH_M):
            good &= (place[:, axis] > least) & (place[:, axis] < most)
    good &= sign * wrist[:, 0] > -0.10
    choices = np.flatnonzero(good)
    return np.asarray(
        drawn[choices[0]] if len(choices) else drawn[np.abs(wrist - [0.1 * sign, -0.1, 0.3]).sum(1).argmin()]
    )
