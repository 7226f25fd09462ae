"""What the stages know of a clip, as the arrays that annotators take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from annotate.performance import Hands, Performance
from pipelines.surface import surface_weights
from reconstruct.camera import FACING_CAMERA
from reconstruct.landmarks.lids import lid_openings
from reconstruct.landmarks.lips import lip_shape
from schemas.errors import UsageError
from schemas.types import BodyTrack, Float32, HeadTrack, LandmarkTrack, Transcription

if TYPE_CHECKING:
    from reconstruct.embedding import Embedding
    from reconstruct.models.body_model import BodyModel
    from reconstruct.models.head_model import HeadModel

Float64 = NDArray[np.float64]

_AHEAD: Final = np.array([0.0, 0.0, 1.0])
"""Where a face and its eyes look, model space."""


def performance_of(
    model: HeadModel,
    head: HeadTrack,
    landmarks: LandmarkTrack,
    duration_us: int,
    samples: Float32 | None = None,
    spoken: Transcription | None = None,
    hands: Hands | None = None,
    embedding: Embedding | None = None,
) -> Performance:
    """A clip as annotators take it; `model` is the head model of the track, `embedding` that of its landmarks on it.

    Weights come from the fit where the head model's expressions are ARKit's, else from the detector where it gives
    them, else there are none.
    """
    names, weights, fitted = _weights(model, head, landmarks)
    surface = None
    if fitted and embedding is not None:
        surface = np.clip(surface_weights(model, embedding, head)[0], 0, 1)
    words, phones = ((), ()) if spoken is None else (spoken.words, spoken.phones)
    rotation = head_rotation(head)
    opening = lip_shape(landmarks)[:, 0]
    return Performance(
        pts_us=landmarks.pts_us,
        duration_us=duration_us,
        valid=head.valid,
        names=names,
        weights=weights,
        surface=surface,
        head=head_angles(rotation, head.valid),
        gaze=_gaze(rotation, head),
        lip_opening=opening,
        lid_opening=lid_openings(landmarks),
        samples=samples,
        words=words,
        phones=phones,
        hands=hands,
    )


def head_rotation(head: HeadTrack) -> Rotation:
    """(T,) rotation of the head against a face that looks along the camera's axis; of invalid frames the identity."""
    valid = head.valid[:, None]
    world = Rotation.from_rotvec(np.where(valid, head.global_pose, FACING_CAMERA).astype(np.float64))
    neck = Rotation.from_rotvec(np.where(valid, head.neck_pose, 0).astype(np.float64))
    return Rotation.from_rotvec(FACING_CAMERA.astype(np.float64)).inv() * world * neck


def head_angles(rotation: Rotation, valid: NDArray[np.bool_]) -> Float32:
    """(T, 3) yaw, pitch and roll of a `head_rotation`, as `Performance.head` has them."""
    angles = rotation.as_euler("YXZ")
    return np.where(valid[:, None], angles, np.nan).astype(np.float32)


def _gaze(rotation: Rotation, head: HeadTrack) -> Float32:
    """(T, 2) yaw and pitch of the eyes' mean direction against the line from the head to the camera."""
    valid = head.valid[:, None]
    eyes = np.where(valid, (head.left_eye_pose + head.right_eye_pose) / 2, 0).astype(np.float64)
    ahead = (rotation * Rotation.from_rotvec(eyes)).apply(_AHEAD)
    place = np.where(valid, head.translation, _AHEAD).astype(np.float64)
    camera = Rotation.from_rotvec(FACING_CAMERA.astype(np.float64)).inv().apply(-place)
    found = []
    for vectors in (ahead, camera):
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        found.append(np.stack([np.arctan2(unit[:, 0], unit[:, 2]), -np.arcsin(np.clip(unit[:, 1], -1, 1))], axis=1))
    return np.where(valid, found[0] - found[1], np.nan).astype(np.float32)


def _weights(
    model: HeadModel, head: HeadTrack, landmarks: LandmarkTrack
) -> tuple[tuple[str, ...], NDArray[np.float32] | None, bool]:
    from reconstruct.models.arkit import ARKIT_NAMES, to_arkit

    poses = (head.expression, head.jaw_pose, head.left_eye_pose, head.right_eye_pose)
    try:
        weights = to_arkit(model, *poses, clip=True)
    except UsageError:  # expressions of FLAME are no ARKit actions
        if landmarks.blendshapes is None:
            return (), None, False
        return ARKIT_NAMES, np.where(head.valid[:, None], landmarks.blendshapes, np.float32(np.nan)), False
    return ARKIT_NAMES, np.where(head.valid[:, None], weights, np.float32(np.nan)), True


def hands_of(model: BodyModel, track: BodyTrack) -> Hands:
    """Wrists of a body against the middle of its shoulders, in the axes of its upper spine."""
    from reconstruct.models.body_model import joint

    rest = (model.v_template + model.identity[:, :, : len(track.betas)] @ track.betas).astype(np.float64)
    joints = model.joint_regressor.astype(np.float64) @ rest
    poses = np.nan_to_num(track.body_pose.astype(np.float64)).reshape(len(track.body_pose), 21, 3)
    wrists, shoulders = [], []
    for side in ("left", "right"):
        turned, parent = Rotation.identity(len(poses)), joint("spine3")
        place = np.zeros((len(poses), 3))
        for name in ("collar", "shoulder", "elbow", "wrist"):
            here = joint(f"{side}_{name}")
            place = place + turned.apply(joints[here] - joints[parent])
            if name == "shoulder":
                shoulders.append(place)
            turned, parent = turned * Rotation.from_rotvec(poses[:, here - 1]), here
        seen = track.body_valid & track.body_joint_valid[:, [joint(f"{side}_shoulder"), joint(f"{side}_elbow")]].all(1)
        wrists.append(np.where(seen[:, None], place, np.nan))
    return Hands((np.stack(wrists, axis=1) - np.mean(shoulders, axis=0)[:, None]).astype(np.float32))
