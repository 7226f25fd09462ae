"""Which point of a body is which detected landmark: 33 of the pose and 21 of each hand, each carried by one joint.

A landmark of the pose is no point of the skin but near a joint, so each is a joint, a middle of joints or the tip of a
finger, plus a small offset that `reconstruct.body.calibrate` measures on renderings of the model.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.models.body_model import BodyModel, joint

Float64 = NDArray[np.float64]
POSE: Final = slice(0, 33)
LEFT_HAND: Final = slice(33, 54)
RIGHT_HAND: Final = slice(54, 75)
COUNT: Final = 75
NOSE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_HIP, RIGHT_HIP = 0, 11, 12, 23, 24
UPPER_BODY: Final = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24)
"""Points of the pose that stand for the upper body: face, shoulders, elbows, wrists, hips."""
POSE_MIRROR: Final = (
    *(0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9),
    *(index + 1 if index % 2 else index - 1 for index in range(11, 33)),
)
"""The same landmark of the other side."""
TIP_VERTICES: Final = 6
_HAND_CHAINS: Final = ("thumb", "index", "middle", "ring", "pinky")


@dataclass(frozen=True)
class BodyPoints:
    """The landmarks of a body model in its rest pose."""

    model_sha256: str
    detector: str
    """Name of the detector that the offsets were measured with; "joints" where they are zero."""
    carrier: NDArray[np.int64]
    """(75,) joint that carries each landmark."""
    template: Float64
    """(75, 3) metres, offsets included."""
    dirs: Float64
    """(75, 3, S) per identity coefficient."""
    spread_m: Float64
    """(75,) RMS distance at which a detector finds the landmark from here; zero where it was not measured."""

    def moved(self, offset_m: Float64, spread_m: Float64, detector: str) -> BodyPoints:
        """The same points with offsets (75, 3) in the rest pose."""
        return dataclasses.replace(self, template=self.template + offset_m, spread_m=spread_m, detector=detector)

    def cut(self, num_shape: int) -> BodyPoints:
        """With only the first identity coefficients."""
        return dataclasses.replace(self, dirs=self.dirs[:, :, :num_shape])


def points_of(model: BodyModel) -> BodyPoints:
    """Landmarks at the joints, before any measurement."""
    vertices = model.v_template.astype(np.float64)
    identity = model.identity.astype(np.float64)
    regressor = model.joint_regressor.astype(np.float64)
    joints, joint_dirs = regressor @ vertices, np.einsum("jv,vcs->jcs", regressor, identity)
    carrier = np.zeros(COUNT, dtype=np.int64)
    template, dirs = np.zeros((COUNT, 3)), np.zeros((COUNT, 3, model.num_shape))

    def place(index: int, carried_by: str, *names: str, vertex_ids: NDArray[np.int64] | None = None) -> None:
        carrier[index] = joint(carried_by)
        if vertex_ids is not None:
            template[index], dirs[index] = vertices[vertex_ids].mean(0), identity[vertex_ids].mean(0)
            return
        ids = [joint(name) for name in names]
        template[index], dirs[index] = joints[ids].mean(0), joint_dirs[ids].mean(0)

    for index in (0, 9, 10, 7, 8):  # nose, mouth, ears: told by the eyes and the offset
        place(index, "head", "left_eye", "right_eye")
    for side, first, eyes in (("left", 11, (1, 2, 3)), ("right", 12, (4, 5, 6))):
        for index in eyes:
            place(index, "head", f"{side}_eye")
        for index, carried_by, name in (
            (first, "collar", "shoulder"),
            (first + 2, "shoulder", "elbow"),
            (first + 4, "elbow", "wrist"),
            (first + 6, "wrist", "pinky1"),
            (first + 8, "wrist", "index1"),
            (first + 10, "thumb1", "thumb2"),
            (first + 14, "hip", "knee"),
            (first + 16, "knee", "ankle"),
            (first + 18, "ankle", "ankle"),
            (first + 20, "ankle", "foot"),
        ):
            place(index, f"{side}_{carried_by}", f"{side}_{name}")
        place(first + 12, "pelvis", f"{side}_hip")
        start = (LEFT_HAND if side == "left" else RIGHT_HAND).start
        place(start, f"{side}_wrist", f"{side}_wrist")
        for chain, finger in enumerate(_HAND_CHAINS):
            carried_by = f"{side}_wrist"
            for bone in (1, 2, 3):
                place(start + 4 * chain + bone, carried_by, f"{side}_{finger}{bone}")
                carried_by = f"{side}_{finger}{bone}"
            tip = _tip(model, vertices, joints, f"{side}_{finger}")
            place(start + 4 * chain + 4, carried_by, vertex_ids=tip)
    return BodyPoints(model.sha256, "joints", carrier, template, dirs, np.zeros(COUNT))


def _tip(model: BodyModel, vertices: Float64, joints: Float64, finger: str) -> NDArray[np.int64]:
    """The vertices of a finger that lie farthest along its last bone."""
    own = np.flatnonzero(model.weights[:, joint(f"{finger}3")] > 0.5)
    along = joints[joint(f"{finger}3")] - joints[joint(f"{finger}2")]
    return np.asarray(own[np.argsort(vertices[own] @ along)[-TIP_VERTICES:]])
