"""The body fit as a problem: landmarks with weights, depth cues, the head's measurement, and what is unknown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.body.kinematics import Skeleton
from reconstruct.body.points import (
    COUNT,
    LEFT_HAND,
    LEFT_HIP,
    LEFT_SHOULDER,
    POSE,
    RIGHT_HAND,
    RIGHT_HIP,
    RIGHT_SHOULDER,
)
from reconstruct.body.prior import pose_prior
from reconstruct.linear_solve import Bending
from schemas.config import ReconstructConfig
from schemas.errors import TalksetError
from schemas.types import BodyLandmarks

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

POSE_SIGMA: Final = 0.03
"""Standard deviation of a landmark of the pose, in shoulder widths."""
FACE_SIGMA: Final = 0.02
HIP_SIGMA: Final = 0.10
"""Detectors put hips where clothes end; they tell little more than how the trunk leans."""
HAND_SIGMA: Final = 0.04
"""Standard deviation of a landmark of a hand, in hand sizes (wrist to middle knuckle)."""
OUTSIDE_TRUST: Final = 0.1
"""Of points of a found hand that the network puts outside of the picture: guesses, but better ones than the prior's."""
OWN_SPREAD: Final = 0.4
"""Part of a hand landmark's spread over renderings that its standard deviation does not hold already."""
HAND_OF_POSE_SIGMA: Final = 0.12
"""Knuckles that the pose network sees, where no hand was found; in shoulder widths."""
DEPTH_SIGMA_M: Final = 0.07
"""Of the difference in depth of two points of the body, as the detector believes it."""
HAND_DEPTH_SIGMA_M: Final = 0.012
HEAD_TURN_SIGMA: Final = 0.05
"""Of the head's rotation that the face fit gives, radians."""
HEAD_PLACE_SIGMA_M: Final = (0.006, 0.006, 0.04)
"""Of the middle of the eyes across and along the line of sight."""
SMALLEST_HAND: Final = 0.15
"""A hand never looks smaller than this many shoulder widths to the weights, however it is turned."""
CLOCK_S: Final = 0.04
"""Step of the second differences that inertias are given for."""
_ARM: Final = ((13, 11), (15, 13), (14, 12), (16, 14))
_TRUNK: Final = (
    (LEFT_SHOULDER, RIGHT_SHOULDER),
    (LEFT_HIP, RIGHT_HIP),
    (LEFT_SHOULDER, LEFT_HIP),
    (RIGHT_SHOULDER, RIGHT_HIP),
)
DEPTH_PAIRS: Final = (*_TRUNK, *_ARM)
"""Landmarks of the pose whose difference in depth counts."""
HAND_PAIRS: Final = ((5, 0), (9, 0), (17, 0), (5, 17), (4, 2), (8, 5), (12, 9), (16, 13), (20, 17))


@dataclass(frozen=True)
class HeadMeasurement:
    """What the face fit says of the head, in the camera's space."""

    rotation: Float64
    """(T, 3, 3) model space to camera space; NaN where there is no face."""
    eyes: Float64
    """(T, 3) middle of the two eye joints, metres."""


@dataclass(frozen=True)
class Camera:
    """Pinhole camera of the clip."""

    focal_px: float
    centre: Float64
    """(2,)"""


@dataclass(frozen=True)
class Problem:
    """Everything that a fit of T frames needs; pixels are source pixels."""

    skeleton: Skeleton
    camera: Camera
    observed: Float64
    """(T, 75, 2) zero where it has no weight."""
    precision: Float64
    """(T, 75) inverse variance, 1 / px^2; zero for what does not count."""
    seen: Bool
    """(T, 75) what counts and is inside of the picture."""
    pairs: NDArray[np.int64]
    """(D, 2) landmarks whose difference in depth is believed."""
    depth_m: Float64
    """(T, D)"""
    depth_precision: Float64
    """(T, D)"""
    head: HeadMeasurement
    head_precision: Float64
    """(T, 4) of rotation and the three axes of the eyes' place; zero without a face."""
    prior: Float64
    """(P, P) precision of the pose about rest."""
    bend: Float64
    """(P,) weights of second differences."""
    bending: Bending
    config: ReconstructConfig
    world: Float64
    """(T, 33, 3) the detector's own idea of the body, for the start; NaN where it has none."""
    hand_world: Float64
    """(T, 2, 21, 3)"""

    @property
    def frames(self) -> int:
        """T."""
        return len(self.observed)

    def part(self, rows: NDArray[np.int64]) -> Problem:
        """Some frames, without their coupling over time."""
        head = HeadMeasurement(self.head.rotation[rows], self.head.eyes[rows])
        return dataclasses.replace(
            self,
            observed=self.observed[rows],
            precision=self.precision[rows],
            seen=self.seen[rows],
            depth_m=self.depth_m[rows],
            depth_precision=self.depth_precision[rows],
            head=head,
            head_precision=self.head_precision[rows],
            bending=Bending.of(np.zeros(0)),
            world=self.world[rows],
            hand_world=self.hand_world[rows],
        )


def make_problem(
    skeleton: Skeleton,
    landmarks: BodyLandmarks,
    rows: NDArray[np.int64],
    camera: Camera,
    head: HeadMeasurement | None,
    config: ReconstructConfig,
) -> Problem:
    """The problem of the frames `rows`. Raises TalksetError body_lost where no shoulders are seen."""
    count = len(rows)
    points = np.zeros((count, COUNT, 3))
    for place, values in (
        (POSE, landmarks.pose_xyc),
        (LEFT_HAND, landmarks.left_hand_xyc),
        (RIGHT_HAND, landmarks.right_hand_xyc),
    ):
        points[:, place] = values[rows]
    known = np.isfinite(points).all(2)
    points[~known] = 0
    trust = np.where(known, points[..., 2], 0.0)
    trust[:, POSE][trust[:, POSE] < config.min_visibility] = 0
    seen = trust > 0
    for place in (LEFT_HAND, RIGHT_HAND):
        own = known[:, place] & seen[:, place].any(1)[:, None]
        trust[:, place] = np.where(own & ~seen[:, place], OUTSIDE_TRUST, trust[:, place])
    shoulder_px = shoulder_width(points[:, POSE], trust[:, POSE])
    sigma = _sigma_px(points, known, shoulder_px)
    with_head = np.zeros(count, dtype=bool) if head is None else np.isfinite(head.eyes).all(1)
    sigma[:, :11] *= np.where(with_head, 4.0, 1.0)[:, None]  # the face fit says it better
    spread = skeleton.points.spread_m * shoulder_px / SHOULDERS_M
    spread[LEFT_HAND], spread[RIGHT_HAND] = OWN_SPREAD * spread[LEFT_HAND], OWN_SPREAD * spread[RIGHT_HAND]
    sigma = np.sqrt(sigma**2 + spread**2)
    depth, depth_precision, pairs = _depth_cues(landmarks, rows, trust)
    if head is None:
        head = HeadMeasurement(np.full((count, 3, 3), np.nan), np.full((count, 3), np.nan))
    weights = np.array([HEAD_TURN_SIGMA, *HEAD_PLACE_SIGMA_M]) ** -2.0
    safe_head = HeadMeasurement(
        np.where(with_head[:, None, None], head.rotation, np.eye(3)), np.where(with_head[:, None], head.eyes, 0.0)
    )
    articulation = skeleton.articulation
    times_s = landmarks.pts_us[rows] / 1e6
    return Problem(
        skeleton=skeleton,
        camera=camera,
        observed=points[..., :2],
        precision=trust / sigma**2,
        seen=seen,
        pairs=pairs,
        depth_m=depth,
        depth_precision=depth_precision,
        head=safe_head,
        head_precision=with_head[:, None] * weights,
        prior=pose_prior(articulation),
        bend=config.smoothness * articulation.array("inertia") ** -2.0,
        bending=Bending.of(times_s, CLOCK_S),
        config=config,
        world=landmarks.pose_world[rows, :, :3].astype(np.float64),
        hand_world=np.stack([landmarks.left_hand_world[rows], landmarks.right_hand_world[rows]], 1).astype(np.float64),
    )


SHOULDERS_M: Final = 0.34
"""Distance of the shoulder landmarks of an ordinary person."""


def shoulder_width(pose: Float64, trust: Float64) -> float:
    """Width of the shoulders in pixels: the 80th percentile over frames, so that turning does not make it small.

    Raises TalksetError body_lost without a frame that shows both.
    """
    both = (trust[:, LEFT_SHOULDER] > 0) & (trust[:, RIGHT_SHOULDER] > 0)
    if not both.any():
        raise TalksetError("body_lost", "no frame shows both shoulders", "Use clips that show the upper body")
    apart = np.linalg.norm(pose[both, LEFT_SHOULDER, :2] - pose[both, RIGHT_SHOULDER, :2], axis=1)
    return max(float(np.percentile(apart, 80)), 1.0)


def hand_size(points: Float64) -> Float64:
    """(T,) pixels from the wrist to the middle knuckle of hands (T, 21, >= 2), or the palm's width."""
    edges = [np.linalg.norm(points[:, a, :2] - points[:, b, :2], axis=1) for a, b in ((9, 0), (5, 17))]
    return np.asarray(np.maximum(edges[0], 1.2 * edges[1]))


def _sigma_px(points: Float64, known: Bool, shoulder_px: float) -> Float64:
    """(T, 75) standard deviation of each landmark in pixels."""
    sigma = np.full((len(points), COUNT), POSE_SIGMA * shoulder_px)
    sigma[:, :11] = FACE_SIGMA * shoulder_px
    sigma[:, [LEFT_HIP, RIGHT_HIP]] = HIP_SIGMA * shoulder_px
    for side, hand in ((0, LEFT_HAND), (1, RIGHT_HAND)):
        found = known[:, hand].all(1)
        size = np.maximum(hand_size(points[:, hand]), SMALLEST_HAND * shoulder_px)
        sigma[:, hand] = (HAND_SIGMA * size)[:, None]
        knuckles = np.array([17, 19, 21]) + side
        sigma[:, knuckles] = np.where(found, 1e6, HAND_OF_POSE_SIGMA * shoulder_px)[:, None]
        sigma[found, 15 + side] *= 4  # the hand's own wrist is better
    return sigma


def _depth_cues(
    landmarks: BodyLandmarks, rows: NDArray[np.int64], trust: Float64
) -> tuple[Float64, Float64, NDArray[np.int64]]:
    """Differences in depth (T, D) that the detector believes, their precision, and the landmarks (D, 2)."""
    sources: Sequence[tuple[Float64, slice, tuple[tuple[int, int], ...], float]] = (
        (landmarks.pose_world[rows, :, 2].astype(np.float64), POSE, DEPTH_PAIRS, DEPTH_SIGMA_M),
        (landmarks.left_hand_world[rows, :, 2].astype(np.float64), LEFT_HAND, HAND_PAIRS, HAND_DEPTH_SIGMA_M),
        (landmarks.right_hand_world[rows, :, 2].astype(np.float64), RIGHT_HAND, HAND_PAIRS, HAND_DEPTH_SIGMA_M),
    )
    depth, precision, pairs = [], [], []
    for z, place, own, sigma in sources:
        for first, second in own:
            difference = z[:, first] - z[:, second]
            believed = np.minimum(trust[:, place.start + first], trust[:, place.start + second])
            weight = np.where(np.isfinite(difference), believed, 0.0)
            depth.append(np.where(np.isfinite(difference), difference, 0.0))
            precision.append(weight / sigma**2)
            pairs.append((place.start + first, place.start + second))
    return np.stack(depth, 1), np.stack(precision, 1), np.array(pairs)
