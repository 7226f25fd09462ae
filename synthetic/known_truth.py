"""Clips whose landmarks are exact: random heads that talk, turn, look about and blink, projected without a picture.

What a fit makes of them is its own error alone: no renderer, no detector. Heads come from a head model
(`model_clip`) or, for heads that no coefficients describe, from anny's own non-linear forward (`anny_clip`).
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from torch import Tensor

from reconstruct.camera import FACING_CAMERA, image_centre
from reconstruct.embedding import Embedding
from reconstruct.landmark_points import PosedLandmarks
from reconstruct.landmarks.topology import LEFT_EYE_OUTER, RIGHT_EYE_OUTER
from reconstruct.models import open_head
from reconstruct.models.head_model import HeadModel
from reconstruct.models.rotations import unwrap_axis_angle
from reconstruct.models.skinning import skin
from schemas.types import Float32, HeadTrack, Int64, LandmarkTrack
from synthetic.make import frame_times
from synthetic.motion import NECK_SHARE, Manner, Placement, talk
from synthetic.speech import Voice, synthesize
from synthetic.talker import SENTENCES, SHAPE_LIMIT, SHAPE_SCALE

Float64 = NDArray[np.float64]

FPS: Final = Fraction(25)
SIZE: Final = (640, 480)
FOCAL_RANGE: Final = (1.0, 2.5)
"""Focal length over the longer side of the picture."""
INTEROCULAR_PX: Final = (100.0, 120.0)
"""Distance of the outer eye corners of the unturned head; the camera stands where it has to for it."""
YAW_RAD, PITCH_RAD, ROLL_RAD = (float(np.radians(angle)) for angle in (25.0, 12.0, 10.0))
"""Furthest head rotation of a clip, reached once in it."""
TURN_HZ: Final = (0.15, 0.7)
FACE_WEIGHT: Final = 20.0
EXTREME_CHANGE_STD: Final = 0.5
"""Of the local changes of a head outside the model; the model was distilled from half of it."""


@dataclass(frozen=True)
class KnownClip:
    """Landmarks of a clip and what they were projected from."""

    truth: HeadTrack
    """Of a head outside the model: its motion, with the identity that comes nearest."""
    landmarks: LandmarkTrack
    face: Float64 | None = None
    """(T, F, 3) true vertices of the model's face region in the canonical pose; None where `truth` holds them."""


def model_clip(model: HeadModel, embedding: Embedding, seed: int, frames: int = 75, noise_px: float = 0.0) -> KnownClip:
    """A random head of the model; the same arguments give the same clip.

    Args: noise_px: standard deviation of independent Gaussian noise on every coordinate of every landmark.
    """
    rng = np.random.default_rng([seed, 31])
    shape = random_shape(model, rng)
    truth = _performance(model, embedding, shape, frames, seed, rng)
    points = PosedLandmarks.of(model, embedding).at(*_pose(truth)).numpy()
    return KnownClip(truth, _observed(points, truth, embedding, noise_px, seed))


def anny_clip(
    anny: open_head.AnnyHead, model: HeadModel, embedding: Embedding, seed: int, frames: int = 75
) -> KnownClip:
    """A random person of anny with local changes far beyond those that the open head was distilled from.

    The mesh is anny's own (its non-linear blend of phenotypes, local changes and sculpted actions) in every frame; only
    the rotation of the head is rigid, about the skull's pivot. `model` must be the open head: same vertices.
    """
    rng = np.random.default_rng([seed, 37])
    phenotypes, local = _extreme_person(anny, seed)
    still = anny.coefficients(phenotypes, local, np.zeros((1, len(anny.model.facial_action_labels))))
    rest = open_head.placed(anny, still)[0]
    truth = _performance(model, embedding, nearest_shape(model, rest), frames, seed, rng)
    actions = _as_actions(anny, truth)
    repeated = np.repeat(phenotypes, frames, 0), np.repeat(local, frames, 0)
    canonical = open_head.placed(anny, anny.coefficients(*repeated, actions))
    turn = Rotation.from_rotvec(truth.global_pose) * Rotation.from_rotvec(truth.neck_pose)
    truth = dataclasses.replace(
        truth, global_pose=_near_facing(turn), neck_pose=np.zeros((frames, 3), dtype=np.float32)
    )
    # as the nearest head of the model: it turns about that head's root joint
    root = model.joint_regressor[0].astype(np.float64) @ (model.v_template + model.identity @ truth.shape)
    vertices = np.einsum("tij,tvj->tvi", turn.as_matrix(), canonical - root) + root + truth.translation[:, None]
    points = _on_surface(vertices, embedding.vertices, embedding)
    # a detector sees them beside the surface as on the nearest head of the model
    landmarks, pose = PosedLandmarks.of(model, embedding), _pose(truth)
    points += (skin(landmarks.seen, *pose) - skin(landmarks.on_surface, *pose)).numpy()
    face = canonical[:, model.regions["face"].astype(np.int64)]
    return KnownClip(truth, _observed(points, truth, embedding, 0.0, seed), face)


def random_shape(model: HeadModel, rng: np.random.Generator) -> Float32:
    """(S,) identity coefficients, normal with SHAPE_SCALE, drawn again beyond SHAPE_LIMIT deviations."""
    shape = rng.normal(size=model.num_shape)
    while (far := np.abs(shape) > SHAPE_LIMIT).any():
        shape[far] = rng.normal(size=int(far.sum()))
    return np.asarray(SHAPE_SCALE * shape, dtype=np.float32)


def nearest_shape(model: HeadModel, rest: Float64) -> Float32:
    """(S,) identity whose neutral mesh is nearest to (V, 3), least squares; the face counts `FACE_WEIGHT` times."""
    weight = np.ones(model.num_vertices)
    weight[model.regions["face"].astype(np.int64)] = np.sqrt(FACE_WEIGHT)
    rows = np.repeat(weight, 3)
    basis = rows[:, None] * model.identity.reshape(-1, model.num_shape).astype(np.float64)
    offset = rows * (rest - model.v_template).reshape(-1)
    return np.asarray(np.linalg.lstsq(basis, offset, rcond=None)[0], dtype=np.float32)


def _performance(
    model: HeadModel, embedding: Embedding, shape: Float32, frames: int, seed: int, rng: np.random.Generator
) -> HeadTrack:
    """Speech, gaze and blinks of a talker, with wider head turns, in front of a camera of random focal length."""
    width, height = SIZE
    focal = float(rng.uniform(*FOCAL_RANGE) * max(SIZE))
    corners = model.v_template + model.identity @ shape
    eyes = [
        embedding.barycentric[point] @ corners[embedding.vertices[point]] for point in (LEFT_EYE_OUTER, RIGHT_EYE_OUTER)
    ]
    distance = focal * float(np.linalg.norm(eyes[0] - eyes[1])) / float(rng.uniform(*INTEROCULAR_PX))
    placement = Placement(focal, image_centre(width, height), (0.0, -0.02, distance))
    pts_us = frame_times(round(Fraction(frames) / FPS * 1_000_000) + 1, FPS)[:frames]
    sentences = itertools.cycle(np.roll(np.array(SENTENCES), -seed).tolist())
    text = " ".join(itertools.islice(sentences, 1 + frames // 50))
    speech = synthesize(text, Voice(), seed)
    track = talk(model, shape, speech.phones, speech.words, pts_us, placement, Manner(), seed)
    turns = [limit * swing(pts_us / 1e6, rng) for limit in (YAW_RAD, PITCH_RAD, ROLL_RAD)]
    return turned(track, np.stack(turns, axis=1))


def turned(track: HeadTrack, angles: Float64) -> HeadTrack:
    """A track with another head rotation: (T, 3) yaw, pitch (down is positive), roll in the head's axes, radians."""
    whole = Rotation.from_euler("YXZ", angles).as_rotvec()
    facing = Rotation.from_rotvec(FACING_CAMERA.astype(np.float64))
    root = facing * Rotation.from_rotvec((1 - NECK_SHARE) * whole)
    neck = np.asarray(NECK_SHARE * whole, dtype=np.float32)
    return dataclasses.replace(track, global_pose=_near_facing(root), neck_pose=neck)


def swing(seconds: Float64, rng: np.random.Generator) -> Float64:
    """(T,) a smooth movement that reaches -1 or 1 once: four sines of random frequency and phase."""
    frequency, phase = rng.uniform(*TURN_HZ, 4), rng.uniform(0, 2 * np.pi, 4)
    total = np.sin(2 * np.pi * np.outer(seconds, frequency) + phase) @ rng.uniform(0.3, 1.0, 4)
    return np.asarray(total / np.abs(total).max())


def _near_facing(rotation: Rotation) -> Float32:
    return np.asarray(unwrap_axis_angle(rotation.as_rotvec(), near=FACING_CAMERA), dtype=np.float32)


def _pose(track: HeadTrack) -> list[Tensor]:
    """What `skin` takes, of all frames."""
    moving = (
        track.expression,
        track.global_pose,
        track.neck_pose,
        track.jaw_pose,
        track.left_eye_pose,
        track.right_eye_pose,
        track.translation,
    )
    return [torch.as_tensor(values, dtype=torch.float64) for values in (track.shape, *moving)]


def _on_surface(vertices: Float64, corners: Int64, embedding: Embedding) -> Float64:
    """(T, L, 3) landmarks on the posed mesh: barycentric after skinning."""
    return np.asarray((embedding.barycentric[None, :, :, None] * vertices[:, corners]).sum(2), dtype=np.float64)


def _observed(points: Float64, truth: HeadTrack, embedding: Embedding, noise_px: float, seed: int) -> LandmarkTrack:
    pixels = truth.focal_px * points[..., :2] / points[..., 2:] + truth.principal_point
    pixels += noise_px * np.random.default_rng([seed, 41]).normal(size=pixels.shape)
    count = len(pixels)
    return LandmarkTrack(
        pts_us=frame_times(round(Fraction(count) / FPS * 1_000_000) + 1, FPS)[:count],
        face_xy=pixels.astype(np.float32),
        confidence=np.ones(pixels.shape[:2], dtype=np.float32),
        valid=np.ones(count, dtype=np.bool_),
        width=SIZE[0],
        height=SIZE[1],
        detector=embedding.detector,
    )


def _extreme_person(anny: open_head.AnnyHead, seed: int) -> tuple[Float64, Float64]:
    """Phenotypes (1, P) and extreme local changes (1, C) of one person, drawn as the distillation draws, but wider."""
    phenotypes, local = open_head.sample_people(anny, 1, 900_000 + seed)
    rng = np.random.default_rng([seed, 43])
    wide = np.clip(rng.normal(0, EXTREME_CHANGE_STD, local.shape), -1, 1)
    return phenotypes, np.where(local != 0, wide, 0.0)


def _as_actions(anny: open_head.AnnyHead, truth: HeadTrack) -> Float64:
    """(T, A) weights of anny's sculpted actions for the motion of a track: its jaw and eye joints become actions."""
    labels = [str(label) for label in anny.model.facial_action_labels]
    actions = np.zeros((len(truth.valid), len(labels)))
    names = [label.removeprefix("facial_action:") for label in anny.labels if label.startswith("facial_action:")]
    for column, name in enumerate(names):
        actions[:, labels.index(name)] = truth.expression[:, column]
    actions[:, labels.index("jawOpen")] = truth.jaw_pose[:, 0] / open_head.JAW_OPEN_RAD
    for side, pose in (("Left", truth.left_eye_pose), ("Right", truth.right_eye_pose)):
        outward = pose[:, 1] if side == "Left" else -pose[:, 1]
        for way, angle in (("Down", pose[:, 0]), ("Up", -pose[:, 0]), ("Out", outward), ("In", -outward)):
            actions[:, labels.index(f"eyeLook{way}{side}")] = np.maximum(angle, 0) / open_head.EYE_LOOK_RAD
    return np.asarray(actions)
