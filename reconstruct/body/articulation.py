"""How the joints of a body can move: degrees of freedom with anatomical limits, and where they put every joint.

A joint turns by a product of factors: hinges (one angle about an axis that is fixed in the joint) and balls (an
axis-angle vector). A degree of freedom may drive hinges of several joints, as the twist of the forearm does. Angles in
radians; ranges follow the tables of joint motion of the American Academy of Orthopaedic Surgeons, rounded outwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.models.body_model import JOINTS, NUM_JOINTS, PARENTS, BodyModel, joint

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
FINGERS: Final = ("index", "middle", "ring", "pinky")
SIDES: Final = ("left", "right")
DOWN: Final = np.array([0.0, -1.0, 0.0])


@dataclass(frozen=True)
class Freedom:
    """One degree of freedom."""

    name: str
    low: float
    high: float
    rest: float
    """Where an unobserved one is."""
    spread: float
    """Standard deviation about the rest, of the pose prior."""
    inertia: float
    """Standard deviation of its second difference between frames at 25 frames/s."""


@dataclass(frozen=True)
class Factor:
    """A factor of a joint's rotation: a hinge of one freedom, or a ball of three consecutive ones."""

    joint: int
    first: int
    """Index of the (first) freedom."""
    axis: Float64 | None
    """(3,) of a hinge, in the rest pose; None for a ball."""
    scale: float = 1.0


@dataclass(frozen=True)
class Articulation:
    """The freedoms of a body, P of them; the last three are the root's translation in metres."""

    freedoms: tuple[Freedom, ...]
    factors: tuple[Factor, ...]
    """In the order of the joints, and of the product within a joint."""

    def __len__(self) -> int:
        return len(self.freedoms)

    def array(self, what: str) -> Float64:
        """(P,) low, high, rest, spread or inertia."""
        return np.array([getattr(freedom, what) for freedom in self.freedoms])

    def index(self, name: str) -> int:
        """Index of a freedom by its name; raises StopIteration for an unknown one."""
        return next(index for index, freedom in enumerate(self.freedoms) if freedom.name == name)

    @property
    def translation(self) -> slice:
        """The columns of the root's translation."""
        return slice(len(self.freedoms) - 3, len(self.freedoms))

    def rotations(self, motion: Float64) -> Float64:
        """(T, 55, 3, 3) rotation of each joint against its parent, for motion (T, P)."""
        return self.products(self.turns(motion))

    def turns(self, motion: Float64) -> Float64:
        """(T, F, 3, 3) rotation by each factor, for motion (T, P)."""
        vectors = np.empty((len(motion), len(self.factors), 3))
        for index, factor in enumerate(self.factors):
            if factor.axis is None:
                vectors[:, index] = motion[:, factor.first : factor.first + 3]
            else:
                vectors[:, index] = factor.scale * motion[:, factor.first, None] * factor.axis
        return rotation_matrix(vectors.reshape(-1, 3)).reshape(*vectors.shape, 3)

    def products(self, turns: Float64) -> Float64:
        """(T, 55, 3, 3) rotation of each joint against its parent from those of its factors."""
        local = np.broadcast_to(np.eye(3), (len(turns), NUM_JOINTS, 3, 3)).copy()
        for index, factor in enumerate(self.factors):
            local[:, factor.joint] = local[:, factor.joint] @ turns[:, index]
        return local

    def poses(self, motion: Float64) -> Float64:
        """(T, 55, 3) axis-angle of each joint against its parent, angle 0..pi."""
        local = self.rotations(motion)
        return np.asarray(Rotation.from_matrix(local.reshape(-1, 3, 3)).as_rotvec().reshape(len(motion), NUM_JOINTS, 3))

    def at_rest(self, frames: int) -> Float64:
        """(frames, P) everything at rest."""
        return np.tile(self.array("rest"), (frames, 1))

    def inside(self, motion: Float64, slack: float = 1e-6) -> Bool:
        """(T, P) whether a freedom keeps its limits."""
        return (motion >= self.array("low") - slack) & (motion <= self.array("high") + slack)


def rotation_matrix(vector: Float64) -> Float64:
    """(N, 3, 3) matrices of axis-angle vectors (N, 3) by Rodrigues' formula."""
    squared = (vector * vector).sum(1)
    small = squared < 1e-10
    angle = np.sqrt(np.where(small, 1.0, squared))
    first = np.where(small, 1 - squared / 6, np.sin(angle) / angle)
    second = np.where(small, 0.5 - squared / 24, (1 - np.cos(angle)) / angle**2)
    cross = cross_matrix(vector)
    return np.asarray(np.eye(3) + first[:, None, None] * cross + second[:, None, None] * (cross @ cross))


def left_jacobian(vector: Float64) -> Float64:
    """(N, 3, 3) how a change of an axis-angle vector turns its rotation, seen from outside (Sola et al. 2018, 145)."""
    squared = (vector * vector).sum(1)
    small = squared < 1e-8
    safe = np.where(small, 1.0, squared)
    angle = np.sqrt(safe)
    first = np.where(small, 0.5 - squared / 24, (1 - np.cos(angle)) / safe)
    second = np.where(small, 1 / 6 - squared / 120, (angle - np.sin(angle)) / (safe * angle))
    cross = cross_matrix(vector)
    return np.asarray(np.eye(3) + first[:, None, None] * cross + second[:, None, None] * (cross @ cross))


def cross_matrix(vector: Float64) -> Float64:
    """(N, 3, 3) matrices that multiply as the cross product with vectors (N, 3)."""
    result = np.zeros((len(vector), 3, 3))
    x, y, z = vector.T
    result[:, 0, 1], result[:, 0, 2] = -z, y
    result[:, 1, 0], result[:, 1, 2] = z, -x
    result[:, 2, 0], result[:, 2, 1] = -y, x
    return result


def articulation_of(model: BodyModel) -> Articulation:
    """The freedoms of a body model; the axes of fingers and thumbs come from the joints of its mean shape."""
    joints = model.joint_regressor.astype(np.float64) @ model.v_template.astype(np.float64)
    build = _Builder(joints)
    build.ball("pelvis", (-7.0,) * 3, (7.0,) * 3, (0.0,) * 3, (0.12, 3.0, 0.10), 0.004)
    for name in ("spine1", "spine2", "spine3"):
        build.ball(name, (-0.4, -0.4, -0.3), (0.6, 0.4, 0.3), (0.0,) * 3, (0.06, 0.08, 0.06), 0.002)
    build.ball("neck", (-0.6, -0.8, -0.5), (0.6, 0.8, 0.5), (0.0,) * 3, (0.25, 0.3, 0.2), 0.006)
    build.ball("head", (-0.7, -0.9, -0.5), (0.7, 0.9, 0.5), (0.0,) * 3, (0.25, 0.3, 0.2), 0.006)
    for side in SIDES:
        _arm(build, side)
        _hand(build, side)
        _leg(build, side)
    for axis in "xyz":
        build.freedom(f"translation_{axis}", -1000.0, 1000.0, 0.0, 1e4, 0.0015)
    order = sorted(range(len(build.factors)), key=lambda index: (build.factors[index].joint, index))
    return Articulation(tuple(build.freedoms), tuple(build.factors[index] for index in order))


class _Builder:
    """Collects freedoms and factors; axes of the right side are the left's, mirrored."""

    def __init__(self, joints: Float64) -> None:
        self.joints = joints
        self.freedoms: list[Freedom] = []
        self.factors: list[Factor] = []

    def freedom(self, name: str, low: float, high: float, rest: float, spread: float, inertia: float) -> int:
        self.freedoms.append(Freedom(name, low, high, rest, spread, inertia))
        return len(self.freedoms) - 1

    def ball(
        self,
        name: str,
        low: tuple[float, ...],
        high: tuple[float, ...],
        rest: tuple[float, ...],
        spread: tuple[float, ...],
        inertia: float,
    ) -> None:
        """Three freedoms of a joint; bounds of the left side, mirrored for a joint of the right one."""
        first = len(self.freedoms)
        for axis in range(3):
            bounds, middle = (low[axis], high[axis]), rest[axis]
            if name.startswith("right_") and axis > 0:
                bounds, middle = (-bounds[1], -bounds[0]), -middle
            self.freedom(f"{name}_{'xyz'[axis]}", *bounds, middle, spread[axis], inertia)
        self.factors.append(Factor(joint(name), first, None))

    def hinge(
        self,
        name: str,
        what: str,
        axis: Float64,
        limits: tuple[float, float],
        rest: float,
        spread: float,
        inertia: float = 0.02,
    ) -> int:
        """A freedom of a joint about an axis, which is turned to unit length."""
        index = self.freedom(f"{name}_{what}", *limits, rest, spread, inertia)
        self.factors.append(Factor(joint(name), index, axis / np.linalg.norm(axis)))
        return index


def mirrored(axis: tuple[float, float, float], side: str) -> Float64:
    """An axis of the left side as that of a side: what turns the left forward turns the right forward too."""
    x, y, z = axis
    return np.array([x, y, z]) if side == "left" else np.array([x, -y, -z])


def _arm(build: _Builder, side: str) -> None:
    build.hinge(f"{side}_collar", "raise", mirrored((0, 0, 1), side), (-0.25, 0.65), 0.0, 0.12, 0.004)
    build.hinge(f"{side}_collar", "forward", mirrored((0, -1, 0), side), (-0.4, 0.5), 0.0, 0.12, 0.004)
    build.ball(f"{side}_shoulder", (-1.9, -2.6, -2.0), (1.9, 1.6, 2.0), (0.2, -0.2, -1.2), (0.6, 0.6, 0.6), 0.015)
    build.hinge(f"{side}_elbow", "flexion", mirrored((0, -1, 0), side), (0.0, 2.65), 0.4, 0.8, 0.015)
    twist = build.hinge(f"{side}_elbow", "twist", mirrored((1, 0, 0), side), (-1.7, 1.7), 0.0, 0.6, 0.02)
    # half of the forearm's twist lies between elbow and wrist, so that the skin does not wring
    build.factors[-1] = Factor(joint(f"{side}_elbow"), twist, build.factors[-1].axis, 0.5)
    build.factors.append(Factor(joint(f"{side}_wrist"), twist, build.factors[-1].axis, 0.5))
    build.hinge(f"{side}_wrist", "flexion", mirrored((0, 0, -1), side), (-1.3, 1.5), 0.0, 0.4)
    build.hinge(f"{side}_wrist", "deviation", mirrored((0, -1, 0), side), (-0.7, 0.5), 0.0, 0.25)


def _hand(build: _Builder, side: str) -> None:
    joints = build.joints
    for finger in FINGERS:
        ends = [joints[joint(f"{side}_{finger}{bone}")] for bone in (1, 2, 3)]
        along = ends[2] - ends[0]
        curl = np.cross(along, DOWN)  # turns the finger towards the palm
        name = f"{side}_{finger}"
        build.hinge(f"{name}1", "abduction", mirrored((0, 1, 0), side), (-0.45, 0.45), 0.0, 0.15, 0.01)
        build.hinge(f"{name}1", "flexion", curl, (-0.5, 1.7), 0.3, 0.5)
        build.hinge(f"{name}2", "flexion", curl, (-0.15, 2.0), 0.4, 0.5)
        build.hinge(f"{name}3", "flexion", curl, (-0.2, 1.5), 0.25, 0.35)
    ends = [joints[joint(f"{side}_thumb{bone}")] for bone in (1, 2, 3)]
    towards = joints[joint(f"{side}_pinky1")] - ends[2]
    along = ends[1] - ends[0]
    curl = np.cross(ends[2] - ends[0], towards)
    spread = np.cross(curl, along)
    thumb = f"{side}_thumb"
    build.hinge(f"{thumb}1", "flexion", curl, (-0.8, 1.0), 0.1, 0.3)
    build.hinge(f"{thumb}1", "abduction", spread, (-0.8, 0.8), 0.0, 0.3)
    build.hinge(f"{thumb}1", "twist", along, (-0.5, 0.5), 0.0, 0.15)
    build.hinge(f"{thumb}2", "flexion", curl, (-0.4, 1.2), 0.1, 0.3)
    build.hinge(f"{thumb}3", "flexion", curl, (-0.5, 1.5), 0.2, 0.4)


def _leg(build: _Builder, side: str) -> None:
    build.ball(f"{side}_hip", (-2.2, -0.8, -0.5), (0.5, 0.8, 1.0), (0.0,) * 3, (0.3, 0.15, 0.15), 0.02)
    build.hinge(f"{side}_knee", "flexion", np.array([1.0, 0, 0]), (-0.05, 2.6), 0.05, 0.3, 0.03)


def limited_joints() -> tuple[str, ...]:
    """The joints whose limits an accepted frame must keep: elbows and fingers."""
    fingers = (name for name in JOINTS if name[-1] in "123" and name.split("_")[-1][:-1] in (*FINGERS, "thumb"))
    return ("left_elbow", "right_elbow", *fingers)


def decompose(articulation: Articulation, poses: Float64, names: tuple[str, ...]) -> dict[str, Float64]:
    """Angles (T, k) of the hinges of joints, in the order of the product, found from stored poses (T, 55, 3).

    The inverse of `poses` for joints of one to three hinges: Newton's method from rest on the rotation itself, so that
    limits are checked on what is stored, not on the unknowns of the fit. What no hinge explains is in the last column:
    the angle that is left.
    """
    found = {}
    for name in names:
        own = [factor for factor in articulation.factors if factor.joint == joint(name) and factor.axis is not None]
        target = Rotation.from_rotvec(poses[:, joint(name)])
        angles = np.zeros((len(poses), len(own)))
        left = np.zeros(len(poses))
        for _ in range(12):
            axes = np.zeros((len(poses), 3, len(own)))
            so_far = Rotation.identity(len(poses))
            for column, factor in enumerate(own):
                assert factor.axis is not None
                axes[:, :, column] = so_far.apply(factor.axis)
                so_far = so_far * Rotation.from_rotvec(angles[:, [column]] * factor.axis)
            error = (target * so_far.inv()).as_rotvec()
            left = np.linalg.norm(error, axis=1)
            normal = np.swapaxes(axes, 1, 2) @ axes + 1e-9 * np.eye(len(own))
            step = np.linalg.solve(normal, np.swapaxes(axes, 1, 2) @ error[:, :, None])[:, :, 0]
            angles = angles + step
            if np.abs(step).max(initial=0.0) < 1e-10:
                break
        found[name] = np.concatenate([angles / [factor.scale for factor in own], left[:, None]], axis=1)
    return found


def bounds_of(articulation: Articulation, name: str) -> Float64:
    """(k, 2) limits of the hinges of a joint, in the order of `decompose`."""
    own = [factor for factor in articulation.factors if factor.joint == joint(name) and factor.axis is not None]
    return np.array([(articulation.freedoms[f.first].low, articulation.freedoms[f.first].high) for f in own])


def ancestors() -> Bool:
    """(55, 55) whether joint [i] is joint [j] or one of its ancestors."""
    result = np.zeros((NUM_JOINTS, NUM_JOINTS), dtype=bool)
    for index in range(NUM_JOINTS):
        above = index
        while above >= 0:
            result[above, index] = True
            above = PARENTS[above]
    return result
