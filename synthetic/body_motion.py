"""Animated bodies with known truth: gestures of both hands before a waist-up camera, and what exact detectors see."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.body.articulation import SIDES, Articulation, articulation_of
from reconstruct.body.fit_problem import Camera, HeadMeasurement
from reconstruct.body.gestures import random_gesture
from reconstruct.body.kinematics import Posed, Skeleton, pose, skeleton_of
from reconstruct.body.points import LEFT_HAND, LEFT_HIP, POSE, RIGHT_HAND, RIGHT_HIP, BodyPoints
from reconstruct.camera import image_centre
from reconstruct.models.body_model import BodyModel, joint
from schemas.types import BodyLandmarks

Float64 = NDArray[np.float64]

SHAPE_SCALE: Final = 0.8
HOLD_S: Final = (0.1, 0.4)
MOVE_S: Final = (0.4, 0.9)


@dataclass(frozen=True)
class BodyScene:
    """One animated body and its camera: everything is known."""

    model: BodyModel
    skeleton: Skeleton
    """With all identity coefficients of the model."""
    betas: Float64
    """(S,)"""
    motion: Float64
    """(T, P)"""
    pts_us: NDArray[np.int64]
    camera: Camera
    width: int
    height: int

    @property
    def posed(self) -> Posed:
        """Joints and landmarks in camera space."""
        return pose(self.skeleton, self.betas, self.motion)

    @property
    def head(self) -> HeadMeasurement:
        """What a perfect face fit says."""
        posed = self.posed
        return HeadMeasurement(posed.world[:, joint("head")], posed.joints[:, [23, 24]].mean(1))

    def vertices_motion(self) -> tuple[Float64, Float64]:
        """Poses (T, 55, 3), the root's in the camera, and translations (T, 3), as `skin_joints` takes them."""
        parts = self.skeleton.articulation
        poses = parts.poses(self.motion)
        root = self.skeleton.facing @ Rotation.from_rotvec(poses[:, 0]).as_matrix()
        poses[:, 0] = Rotation.from_matrix(root).as_rotvec()
        pelvis = (self.skeleton.joints + self.skeleton.joint_dirs @ self.betas)[0]
        return poses, self.motion[:, parts.translation] - pelvis


def make_scene(
    model: BodyModel,
    points: BodyPoints,
    seed: int,
    seconds: float = 3.0,
    fps: Fraction = Fraction(25),
    width: int = 640,
    height: int = 480,
) -> BodyScene:
    """A random person who gestures with both hands before a camera that shows head to waist; the seed decides all."""
    rng = np.random.default_rng([seed, 91])
    skeleton = skeleton_of(model, articulation_of(model), points, model.num_shape)
    betas = np.clip(SHAPE_SCALE * rng.normal(size=model.num_shape), -2, 2)
    count = round(seconds * fps)
    times = np.arange(count) * float(1 / fps)
    distance = rng.uniform(1.3, 1.8)
    shown = rng.uniform(0.95, 1.15)  # metres across the shorter side
    focal = float(min(width, height) * distance / shown)
    motion = _gestures(skeleton, betas, times, rng)
    motion += _sway(skeleton.articulation, times, rng)
    parts = skeleton.articulation
    motion[:, :3] += [0.0, rng.uniform(-0.35, 0.35), 0.0]
    motion = np.clip(motion, parts.array("low"), parts.array("high"))
    neck = pose(skeleton, betas, motion).joints[:, joint("neck")]
    motion[:, parts.translation] += np.array([rng.normal(0, 0.05), -0.02, distance]) - neck.mean(0)
    return BodyScene(
        model=model,
        skeleton=skeleton,
        betas=betas,
        motion=motion,
        pts_us=np.round(1e6 * times).astype(np.int64),
        camera=Camera(focal, image_centre(width, height).astype(np.float64)),
        width=width,
        height=height,
    )


def _gestures(skeleton: Skeleton, betas: Float64, times: Float64, rng: np.random.Generator) -> Float64:
    """(T, P) arms and hands that move from pose to pose with minimum jerk and rest in between."""
    parts = skeleton.articulation
    motion = parts.at_rest(len(times))
    for side in SIDES:
        arm = [index for index, freedom in enumerate(parts.freedoms) if freedom.name.startswith(f"{side}_")]
        arm = [index for index in arm if not parts.freedoms[index].name.split("_")[1].startswith(("hip", "knee"))]
        now, before = 0.0, random_gesture(skeleton, betas, side, rng)
        while now < times[-1] + 1e-9:
            after = random_gesture(skeleton, betas, side, rng)
            start, end = now + rng.uniform(*HOLD_S), 0.0
            end = start + rng.uniform(*MOVE_S)
            part = np.clip((times - start) / (end - start), 0, 1)
            smooth = part**3 * (10 - 15 * part + 6 * part**2)
            own = (times >= now) & (times <= end)
            motion[np.ix_(np.flatnonzero(own), np.array(arm))] = (before + smooth[own, None] * (after - before))[:, arm]
            now, before = end, after
    return motion


def _sway(articulation: Articulation, times: Float64, rng: np.random.Generator) -> Float64:
    """(T, P) slow movement of trunk and head."""
    motion = np.zeros((len(times), len(articulation)))
    for index, freedom in enumerate(articulation.freedoms):
        size = {"spine": 0.02, "neck": 0.06, "head": 0.08, "pelvi": 0.03, "trans": 0.006}.get(
            freedom.name[:5].rstrip("_")
        )
        size = size if size is not None else {"neck": 0.06, "head": 0.08}.get(freedom.name[:4])
        if size is not None:
            rate, phase = rng.uniform(0.15, 0.6, 2), rng.uniform(0, 2 * np.pi, 2)
            motion[:, index] = size * np.sin(2 * np.pi * np.outer(times, rate) + phase).sum(1)
    return motion


def seen_by_exact_detectors(
    scene: BodyScene, noise_px: float = 0.0, depth_noise_m: float = 0.04, seed: int = 0, with_depth: bool = True
) -> BodyLandmarks:
    """Landmarks of a scene: exact, or with independent Gaussian noise on every coordinate.

    What a detector believes of depth has an error of its own (`depth_noise_m`, slow); without depth it is NaN. Points
    outside of the picture have confidence 0, hands are found where most of them is inside.
    """
    rng = np.random.default_rng([seed, 17])
    points = scene.posed.points
    pixels = scene.camera.focal_px * points[..., :2] / points[..., 2:] + scene.camera.centre
    inside = ((pixels >= 0) & (pixels <= [scene.width, scene.height])).all(2)
    pixels = pixels + noise_px * rng.normal(size=pixels.shape)
    observed = np.concatenate([pixels, inside[..., None]], axis=2).astype(np.float32)
    frames = len(points)
    world = np.full((frames, 33, 4), np.nan, dtype=np.float32)
    hands_world = np.full((2, frames, 21, 3), np.nan, dtype=np.float32)
    hips = points[:, [LEFT_HIP, RIGHT_HIP]].mean(1, keepdims=True)
    if with_depth:
        wrong = depth_noise_m * rng.normal(size=(1, 33, 3))
        world[..., :3] = points[:, POSE] - hips + wrong
        world[..., 3] = inside[:, POSE]
        for side, hand in enumerate((LEFT_HAND, RIGHT_HAND)):
            wrong = 0.15 * depth_noise_m * rng.normal(size=(1, 21, 3))
            hands_world[side] = points[:, hand] - points[:, hand].mean(1, keepdims=True) + wrong
    hands = []
    for side, hand in enumerate((LEFT_HAND, RIGHT_HAND)):
        found = inside[:, hand].mean(1) > 0.7
        hands.append(np.where(found[:, None, None], observed[:, hand], np.nan).astype(np.float32))
        hands_world[side][~found] = np.nan
    return BodyLandmarks(
        pts_us=scene.pts_us,
        pose_xyc=observed[:, POSE],
        pose_world=world,
        left_hand_xyc=hands[0],
        right_hand_xyc=hands[1],
        left_hand_world=hands_world[0],
        right_hand_world=hands_world[1],
        valid=np.ones(frames, dtype=np.bool_),
        width=scene.width,
        height=scene.height,
        detector=scene.skeleton.points.detector,
    )
