"""Fits a body model with hands to the landmarks of a whole clip, in the camera of its head."""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from reconstruct.body.articulation import articulation_of
from reconstruct.body.fit_problem import Camera, HeadMeasurement, Problem, make_problem
from reconstruct.body.fit_solver import residuals, solve_motion, solve_person
from reconstruct.body.fit_start import start_motion
from reconstruct.body.kinematics import Skeleton, pose, skeleton_of
from reconstruct.body.points import LEFT_HAND, RIGHT_HAND, UPPER_BODY, BodyPoints
from reconstruct.camera import FACING_CAMERA, default_focal, image_centre
from reconstruct.models.body_model import BODY, NUM_JOINTS, BodyModel, joint
from reconstruct.models.head_model import HeadModel
from reconstruct.models.rotations import unwrap_axis_angle
from reconstruct.models.skinning import SkinningModel, axis_angle_to_matrix, place_joints, prepare
from schemas.config import ReconstructConfig
from schemas.errors import TalksetError
from schemas.types import BodyLandmarks, BodyTrack, HeadTrack

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
LEAST_SCALE: Final = 0.2
"""Landmarks are never taken for better than this part of what they are stated to be."""
KNUCKLES: Final = (5, 9, 13, 17)
CHAINS: Final = ("thumb", "index", "middle", "ring", "pinky")
"""Fingers in the order of MediaPipe's landmarks."""
HAND_BONES: Final = {"left": slice(25, 40), "right": slice(40, 55)}


@dataclasses.dataclass(frozen=True)
class BodyFitter:
    """What the fits of all clips with one body model share."""

    model: BodyModel
    skeleton: Skeleton
    config: ReconstructConfig

    @classmethod
    def of(cls, model: BodyModel, points: BodyPoints, config: ReconstructConfig) -> BodyFitter:
        """Raises TalksetError corrupt_data when the points belong to another model."""
        if points.model_sha256 != model.sha256:
            message = f"the body landmarks are not of {model.name}"
            raise TalksetError("corrupt_data", message, "Delete the cached embedding")
        return cls(model, skeleton_of(model, articulation_of(model), points, config.num_betas), config)

    def fit(
        self, landmarks: BodyLandmarks, head: HeadMeasurement | None = None, camera: Camera | None = None
    ) -> BodyTrack:
        """Fit a body to the landmarks of one clip.

        Args: head: where the face fit has the head, in the same camera; camera: that of the face fit, or an ordinary
        one. Frames without a body follow their neighbours and the face, with `body_valid` and `body_joint_valid`
        false. Raises TalksetError body_lost when no frame shows both shoulders,
        fit_failed when the solution is not finite.
        """
        rows = np.arange(len(landmarks.valid))
        if not landmarks.valid.any():
            raise TalksetError("body_lost", "no frame of the clip shows a body", "Use clips that show the upper body")
        camera = camera or ordinary_camera(landmarks)
        own = None if head is None else HeadMeasurement(head.rotation[rows], head.eyes[rows])
        problem = make_problem(self.skeleton, landmarks, rows, camera, own, self.config)
        shape, motion = self.solve(problem)
        if not (np.isfinite(motion).all() and np.isfinite(shape).all()):
            raise TalksetError("fit_failed", "the fit of the body diverged", "Report the clip")
        return self._track(problem, shape, motion, landmarks, rows)

    def solve(self, problem: Problem) -> tuple[Float64, Float64]:
        """Identity (S,) and motion (T, P) of a problem."""
        keys = key_frames(problem, self.config.key_frames)
        seen = np.flatnonzero((problem.precision[:, [11, 12]] > 0).all(1))
        part = problem.part(keys)
        shape, moved = solve_person(part, start_motion(part, np.zeros(self.skeleton.num_shape)))
        better = noise_scale(part, shape, moved)
        if better < 0.7:
            problem = dataclasses.replace(
                problem, precision=problem.precision / better**2, prior=problem.prior, bend=problem.bend
            )
            part = problem.part(keys)
            shape, moved = solve_person(part, moved)
        start = start_motion(problem.part(seen), shape)
        every = np.arange(problem.frames)
        after = np.clip(np.searchsorted(seen, every), 0, len(seen) - 1)
        before = np.clip(after - 1, 0, None)
        nearer = np.abs(seen[before] - every) < np.abs(seen[after] - every)
        return shape, solve_motion(problem, shape, start[np.where(nearer, before, after)])

    def _track(
        self,
        problem: Problem,
        shape: Float64,
        motion: Float64,
        landmarks: BodyLandmarks,
        rows: NDArray[np.int64],
    ) -> BodyTrack:
        articulation = self.skeleton.articulation
        poses = articulation.poses(motion)
        turned = self.skeleton.facing @ Rotation.from_rotvec(poses[:, 0]).as_matrix()
        root = unwrap_axis_angle(Rotation.from_matrix(turned).as_rotvec(), near=FACING_CAMERA)
        betas = np.zeros(self.model.num_shape)
        betas[: len(shape)] = shape
        pelvis = (self.skeleton.joints + self.skeleton.joint_dirs @ shape)[0]
        found = residuals(problem, pose(self.skeleton, shape, motion))
        error_px = np.linalg.norm(found.pixels, axis=2)
        counted = (problem.precision > 0)[:, list(UPPER_BODY)]
        with np.errstate(invalid="ignore"):
            mean_px = (error_px[:, list(UPPER_BODY)] * counted).sum(1) / counted.sum(1)
        observed = observed_joints(problem)

        def spread(values: Float64, fill: float = np.nan) -> NDArray[np.float32]:
            whole = np.full((len(landmarks.valid), *values.shape[1:]), fill, dtype=np.float32)
            whole[rows] = values
            return whole

        return BodyTrack(
            body_model=self.model.name,
            body_model_sha256=self.model.sha256,
            betas=betas.astype(np.float32),
            body_pose=spread(poses[:, BODY].reshape(len(rows), -1)),
            left_hand_pose=spread(poses[:, HAND_BONES["left"]].reshape(len(rows), -1)),
            right_hand_pose=spread(poses[:, HAND_BONES["right"]].reshape(len(rows), -1)),
            body_global_pose=spread(root),
            body_translation=spread(motion[:, articulation.translation] - pelvis),
            body_valid=landmarks.valid & np.isfinite(mean_px),
            body_joint_valid=spread(observed.astype(np.float64), 0.0).astype(bool),
            body_residual_px=spread(mean_px),
            focal_px=problem.camera.focal_px,
            principal_point=problem.camera.centre.astype(np.float32),
        )


def fit_body(
    model: BodyModel,
    points: BodyPoints,
    landmarks: BodyLandmarks,
    config: ReconstructConfig,
    head: HeadMeasurement | None = None,
    camera: Camera | None = None,
) -> BodyTrack:
    """`BodyFitter.fit` of a single clip."""
    return BodyFitter.of(model, points, config).fit(landmarks, head, camera)


def ordinary_camera(landmarks: BodyLandmarks) -> Camera:
    """A camera of the picture's size with an ordinary focal length."""
    width, height = landmarks.width, landmarks.height
    return Camera(default_focal(width, height), image_centre(width, height).astype(np.float64))


def measured_head(model: HeadModel, track: HeadTrack) -> tuple[HeadMeasurement, Camera]:
    """Where the face fit has the head and its eyes, and the camera that it found them in.

    The head turns by the head model's root and neck; its eyes are the two eye joints.
    """
    skinning = prepare(model, np.arange(1), dtype=torch.float64)
    rows = np.flatnonzero(track.valid)
    count = len(track.valid)
    rotation, eyes = np.full((count, 3, 3), np.nan), np.full((count, 3), np.nan)
    poses = np.stack([track.global_pose[rows], track.neck_pose[rows]], axis=1).astype(np.float64)
    turns = np.tile(np.eye(3), (len(rows), 5, 1, 1))
    turns[:, :2] = axis_angle_to_matrix(torch.as_tensor(poses)).numpy()
    shape = torch.as_tensor(np.tile(track.shape.astype(np.float64), (len(rows), 1)))
    world, offset = (part.numpy() for part in place_joints(skinning, shape, torch.as_tensor(turns)))
    joints = skinning.joint_template.numpy() + (skinning.joint_dirs.numpy() @ track.shape).reshape(-1, 3)
    rotation[rows] = world[:, 1]
    placed = (world[:, 1] @ joints[[3, 4]].mean(0)[:, None])[..., 0] + offset[:, 1]
    eyes[rows] = placed + track.translation[rows]
    return HeadMeasurement(rotation, eyes), Camera(track.focal_px, track.principal_point.astype(np.float64))


def key_frames(problem: Problem, count: int) -> NDArray[np.int64]:
    """At most so many frames spread over the clip, in each stretch the one of which most is seen."""
    told = (
        10000 * (problem.precision[:, [11, 12]] > 0).all(1)
        + (problem.precision > 0).sum(1)
        + 20 * (problem.precision[:, [13, 14, 15, 16]] > 0).sum(1)
    )
    parts = [part for part in np.array_split(np.arange(problem.frames), count) if len(part)]
    chosen = [part[told[part].argmax()] for part in parts]
    return np.array([index for index in chosen if told[index] >= 10000])


def noise_scale(problem: Problem, shape: Float64, motion: Float64) -> float:
    """How much better the landmarks are than stated: the median of what is left, over what it should be, at most 1."""
    found = residuals(problem, pose(problem.skeleton, shape, motion)).pixels
    counted = problem.precision > 0
    error = np.sqrt(problem.precision * (found**2).sum(2))[counted]
    return float(np.clip(np.median(error) / 1.18, LEAST_SCALE, 1.0)) if len(error) else 1.0


def observed_joints(problem: Problem) -> Bool:
    """(T, 55) joints whose rotation something tells: a landmark below them, or the face."""
    seen = problem.seen
    found = np.zeros((problem.frames, NUM_JOINTS), dtype=bool)
    shoulders = seen[:, [11, 12]].all(1)
    found[:, 0] = shoulders
    for name in ("spine1", "spine2", "spine3"):
        found[:, joint(name)] = shoulders & seen[:, [23, 24]].all(1)
    head = (problem.head_precision[:, 0] > 0) | seen[:, [0, 2, 5]].all(1)
    for name in ("neck", "head", "jaw", "left_eye", "right_eye"):
        found[:, joint(name)] = head & shoulders if name in ("neck", "head") else head
    for side, hand, offset in (("left", LEFT_HAND, 0), ("right", RIGHT_HAND, 1)):
        arm = seen[:, [11 + offset, 13 + offset, 15 + offset]]
        points = seen[:, hand]
        palm = points[:, 0] & (points[:, list(KNUCKLES)].sum(1) >= 2)
        wrist = arm[:, 2] | palm
        found[:, joint(f"{side}_collar")] = arm[:, 0]
        found[:, joint(f"{side}_shoulder")] = arm[:, 0] & arm[:, 1]
        found[:, joint(f"{side}_elbow")] = arm[:, 1] & wrist
        found[:, joint(f"{side}_wrist")] = palm
        for chain, finger in enumerate(CHAINS):  # a finger that leaves the picture is seen as far as it is inside
            for bone in (1, 2, 3):
                both = points[:, 4 * chain + bone] & points[:, 4 * chain + bone + 1]
                found[:, joint(f"{side}_{finger}{bone}")] = palm & both
        knee, ankle = seen[:, 25 + offset], seen[:, 27 + offset]
        found[:, joint(f"{side}_hip")] = seen[:, 23 + offset] & knee
        found[:, joint(f"{side}_knee")] = knee & ankle
    return found


def body_poses(track: BodyTrack, head: HeadTrack | None = None) -> Float64:
    """(T, 55, 3) axis-angle of all joints; jaw and eyes are those of the head track, or at rest."""
    count = len(track.body_valid)
    poses = np.zeros((count, NUM_JOINTS, 3))
    poses[:, 0] = track.body_global_pose
    poses[:, BODY] = track.body_pose.reshape(count, -1, 3)
    poses[:, HAND_BONES["left"]] = track.left_hand_pose.reshape(count, -1, 3)
    poses[:, HAND_BONES["right"]] = track.right_hand_pose.reshape(count, -1, 3)
    if head is not None:
        for name, values in (
            ("jaw", head.jaw_pose),
            ("left_eye", head.left_eye_pose),
            ("right_eye", head.right_eye_pose),
        ):
            poses[:, joint(name)] = np.where(np.isfinite(values), values, 0.0)
    return poses


def joint_positions(model: BodyModel, track: BodyTrack) -> Float64:
    """(T, 55, 3) metres in camera space; NaN where there is no body."""
    return placed_joints(prepare(model, np.arange(1), dtype=torch.float64), track)


def placed_joints(skinning: SkinningModel, track: BodyTrack) -> Float64:
    """`joint_positions` by a model that was prepared in float64."""
    rows = np.flatnonzero(np.isfinite(track.body_translation).all(1))
    turns = axis_angle_to_matrix(torch.as_tensor(body_poses(track)[rows]))
    betas = torch.as_tensor(np.tile(track.betas.astype(np.float64), (len(rows), 1)))
    world, offset = place_joints(skinning, betas, turns)
    rest = skinning.joint_template + (betas @ skinning.joint_dirs.T).reshape(len(rows), NUM_JOINTS, 3)
    placed = (world @ rest[..., None])[..., 0] + offset + torch.as_tensor(track.body_translation[rows])[:, None]
    whole = np.full((len(track.body_valid), NUM_JOINTS, 3), np.nan)
    whole[rows] = placed.numpy()
    return whole
