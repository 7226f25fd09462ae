"""Where the body fit starts: limbs along the detector's own idea of depth, hands as their palms show."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.body.articulation import SIDES
from reconstruct.body.fit_problem import Problem
from reconstruct.body.kinematics import LEFT_EYE, RIGHT_EYE, pose
from reconstruct.body.points import LEFT_HAND, LEFT_HIP, LEFT_SHOULDER, RIGHT_HAND, RIGHT_HIP, RIGHT_SHOULDER
from reconstruct.models.body_model import joint
from reconstruct.models.open_body import frame, turn

Float64 = NDArray[np.float64]
UP: Final = np.array([0.0, -1.0, 0.0])
"""In the camera's axes."""
TOWARDS_CAMERA_M: Final = 0.12
"""How much nearer than the elbow a wrist is believed to be where the detector says nothing of depth."""
PELVIS_DEPTH_M: Final = 2.0


def start_motion(problem: Problem, shape: Float64) -> Float64:
    """(T, P) a pose near each frame's landmarks, from the frame alone; freedoms that nothing tells are at rest."""
    skeleton, articulation = problem.skeleton, problem.skeleton.articulation
    motion = articulation.at_rest(problem.frames)
    places = _believed(problem)
    seen = problem.precision > 0
    root = _root(places, seen)
    motion[:, :3] = Rotation.from_matrix(skeleton.facing.T @ root).as_rotvec()
    for side, name in enumerate(SIDES):
        _start_arm(problem, motion, shape, places, seen, side, name)
    motion = np.clip(motion, articulation.array("low"), articulation.array("high"))
    motion[:, articulation.translation] = _translation(problem, shape, motion)
    return motion


def _believed(problem: Problem) -> Float64:
    """(T, 33, 3) metres: the detector's places, or the picture's where it has none, with wrists before the trunk."""
    world = problem.world.copy()
    missing = ~np.isfinite(world).all((1, 2))
    if missing.any():
        points = problem.observed[missing, :33]
        apart = np.linalg.norm(points[:, LEFT_SHOULDER] - points[:, RIGHT_SHOULDER], axis=1)
        scale = 0.34 / np.maximum(apart, 1e-6)
        flat = np.zeros((len(points), 33, 3))
        flat[..., :2] = points * scale[:, None, None]
        flat[:, [15, 16], 2] = -TOWARDS_CAMERA_M
        world[missing] = flat
    return world


def _root(places: Float64, seen: NDArray[np.bool_]) -> Float64:
    """(T, 3, 3) rotation of the trunk in the camera: across the shoulders, and up from the hips where they are seen."""
    across = places[:, LEFT_SHOULDER] - places[:, RIGHT_SHOULDER]
    both = seen[:, [LEFT_HIP, RIGHT_HIP]].all(1)
    trunk = (places[:, [LEFT_SHOULDER, RIGHT_SHOULDER]] - places[:, [LEFT_HIP, RIGHT_HIP]]).mean(1)
    up = np.where(both[:, None], trunk, UP)
    return frame(across, up)


def _start_arm(
    problem: Problem,
    motion: Float64,
    shape: Float64,
    places: Float64,
    seen: NDArray[np.bool_],
    side: int,
    name: str,
) -> None:
    """Set shoulder, elbow and wrist of one arm, in place."""
    articulation = problem.skeleton.articulation
    sign = 1.0 if side == 0 else -1.0
    out, up = np.array([sign, 0, 0]), np.array([0, 1.0, 0])
    upper = places[:, 13 + side] - places[:, 11 + side]
    fore = places[:, 15 + side] - places[:, 13 + side]
    both = seen[:, 13 + side] & (seen[:, 15 + side] | seen[:, (LEFT_HAND, RIGHT_HAND)[side].start])
    known = both & np.isfinite(upper).all(1) & np.isfinite(fore).all(1)
    known &= (np.linalg.norm(upper, axis=1) > 1e-6) & (np.linalg.norm(fore, axis=1) > 1e-6)
    if not known.any():
        return
    posed = pose(problem.skeleton, shape, motion[known])
    parent = posed.world[:, joint(f"{name}_collar")]
    upper, fore = (np.einsum("tba,tb->ta", parent, vector[known]) for vector in (upper, fore))
    cosine = (upper * fore).sum(1) / (np.linalg.norm(upper, axis=1) * np.linalg.norm(fore, axis=1))
    flexion = np.arccos(np.clip(cosine, -1, 1))
    bend = sign * np.cross(fore, upper)
    straight = np.linalg.norm(bend, axis=1) < 0.1 * np.linalg.norm(upper, axis=1) * np.linalg.norm(fore, axis=1)
    bend[straight] = up
    shoulder = turn(out, up, upper, bend)
    first = articulation.index(f"{name}_shoulder_x")
    motion[known, first : first + 3] = Rotation.from_matrix(shoulder).as_rotvec()
    motion[known, articulation.index(f"{name}_elbow_flexion")] = flexion
    _start_wrist(problem, motion, shape, side, name, np.flatnonzero(known))


def _start_wrist(
    problem: Problem, motion: Float64, shape: Float64, side: int, name: str, rows: NDArray[np.int64]
) -> None:
    """Turn the forearm and the wrist so that the palm lies as the detector says, in place."""
    articulation = problem.skeleton.articulation
    hand = problem.hand_world[rows, side]
    rows, hand = rows[np.isfinite(hand).all((1, 2))], hand[np.isfinite(hand).all((1, 2))]
    if not len(rows):
        return
    sign = 1.0 if side == 0 else -1.0
    along = hand[:, [5, 9, 13, 17]].mean(1) - hand[:, 0]
    back = sign * np.cross(hand[:, 5] - hand[:, 0], hand[:, 17] - hand[:, 0])
    out, up = np.array([sign, 0, 0]), np.array([0, 1.0, 0])
    # a cross product turns with its vectors: the camera's axes are right-handed as the model's are
    palm = turn(out, up, along, back)
    motion[rows, articulation.index(f"{name}_elbow_twist")] = 0
    elbow = pose(problem.skeleton, shape, motion[rows]).world[:, joint(f"{name}_elbow")]
    angles = Rotation.from_matrix(np.swapaxes(elbow, 1, 2) @ palm).as_euler("XZY")
    motion[rows, articulation.index(f"{name}_elbow_twist")] = angles[:, 0]
    motion[rows, articulation.index(f"{name}_wrist_flexion")] = -sign * angles[:, 1]
    motion[rows, articulation.index(f"{name}_wrist_deviation")] = -sign * angles[:, 2]


def _translation(problem: Problem, shape: Float64, motion: Float64) -> Float64:
    """(T, 3) of the root: from the eyes of the face fit, else by least squares of the landmarks' lines of sight."""
    motion = motion.copy()
    motion[:, problem.skeleton.articulation.translation] = 0
    posed = pose(problem.skeleton, shape, motion)
    focal, centre = problem.camera.focal_px, problem.camera.centre
    weights = np.minimum(problem.precision, np.median(problem.precision[:, LEFT_SHOULDER]))[:, :33]
    sight = (problem.observed[:, :33] - centre) / focal
    rows = np.zeros((problem.frames, 33, 2, 3))
    rows[:, :, 0, 0] = rows[:, :, 1, 1] = 1
    rows[..., 2] = -sight
    points = posed.points[:, :33]
    right = sight * points[..., 2:] - points[..., :2]
    scaled = rows * weights[..., None, None]
    normal = np.einsum("tlka,tlkb->tab", scaled, rows)
    side = np.einsum("tlka,tlk->ta", scaled, right)
    firm = 1e-6 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(3) + 1e-12 * np.eye(3)
    found = np.linalg.solve(normal + firm, side[..., None])[..., 0]
    alone = (weights > 0).sum(1) < 3
    found[alone | (found[:, 2] < 0.2)] = [0, 0.3, PELVIS_DEPTH_M]
    with_head = problem.head_precision[:, 0] > 0
    eyes = posed.joints[:, [LEFT_EYE, RIGHT_EYE]].mean(1)
    found[with_head] = (problem.head.eyes - eyes)[with_head]
    return found
