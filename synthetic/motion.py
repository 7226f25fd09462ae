"""A talker's motion from the phones of its speech: mouth, blinks, gaze, head and brows, sampled at any times.

Everything is made on a fine grid of 5 ms and read at the frames' presentation times, so motion does not depend on the
frame rate. Model space: y up, z out of the face, x to the subject's left; camera space as in reconstruct.camera.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from reconstruct.camera import FACING_CAMERA
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import prepare, skin
from schemas.types import Float32, HeadTrack, Int64, Interval
from synthetic.affect import Affect, Enacted, enact
from synthetic.apertures import find_apertures, gap_m
from synthetic.head_gestures import HeadGesture, gesture_tracks
from synthetic.phonetics import FUNCTION_WORDS
from synthetic.visemes import CHANNELS, blend, closure, ramp

Float64 = NDArray[np.float64]

STEP_S: Final = 0.005
LIPS_TOUCH_M: Final = -0.0005
"""Gap at which lips or lids are closed for sure: they overlap by half a millimetre."""
ARTICULATOR_SIGMA_S: Final = 0.012
BLINK_CLOSING_S: Final = 0.10
BLINK_HELD_S: Final = 0.042
"""A frame at 24 fps or more falls inside."""
BLINK_OPENING_S: Final = 0.15
YAW_LIMIT: Final = np.radians(20.0)
PITCH_LIMIT: Final = np.radians(10.0)
ROLL_LIMIT: Final = np.radians(6.0)
NECK_SHARE: Final = 0.5
"""Part of the head's rotation that the neck joint carries; the global rotation carries the rest."""


NOTHING_FELT: Final = Affect()


@dataclass(frozen=True)
class Manner:
    """How lively a talker is; 1 is ordinary."""

    head: float = 1.0
    mouth: float = 1.0
    brows: float = 1.0
    smile: float = 0.12
    """Mean of mouthSmile."""
    blinks_hz: float = 0.3
    turn_rad: float = 0.0
    """Yaw about which the head moves; positive turns to the subject's left."""
    gestures: tuple[HeadGesture, ...] = ()
    """Nods and shakes made on purpose."""


@dataclass(frozen=True)
class Placement:
    """Where the head is and how it is seen."""

    focal_px: float
    principal_point: Float32
    """(2,) pixels."""
    eyes_m: tuple[float, float, float]
    """Mean position of the point between the eyes, camera space."""


def talk(
    model: HeadModel,
    shape: Float32,
    phones: Sequence[Interval],
    words: Sequence[Interval],
    pts_us: Int64,
    placement: Placement,
    manner: Manner,
    seed: int,
    affect: Affect = NOTHING_FELT,
    person: int = 0,
) -> HeadTrack:
    """Head parameters at `pts_us` (T,) of a head of `shape` (S,) that speaks; the same arguments give the same track.

    What is felt shows in the way of the person of that seed, around what speech asks of the mouth.
    The expressions in `model.fixed_expressions` stay zero: jaw and eye joints do their work.
    Raises UsageError for an unknown phone or a model without lips and eyelids.
    """
    rng = np.random.default_rng(seed)
    grid = np.arange(0.0, max(pts_us[-1] / 1e6, max((p.end_us for p in phones), default=0) / 1e6) + 0.5, STEP_S)
    accents = _accents(words)
    spoken = closure(phones, grid, silence=False)
    felt = enact(affect, person, grid, spoken, np.random.default_rng([seed, 139]))
    manner = dataclasses.replace(manner, head=manner.head * affect.liveliness)
    expression = {name: np.zeros(len(grid)) for name in model.expression_names}
    jaw = _mouth(expression, phones, grid, manner, rng) + felt.jaw
    _face(expression, accents, grid, manner, felt, rng)
    for name, value in felt.expression.items():
        expression[name] += value
    blink = _blinks(grid, manner, rng)
    turn = _head(accents, grid, manner, felt, rng)
    eyes = _gaze(turn, felt, grid, rng)
    closed = np.maximum(spoken, (1 - felt.parted) * closure(phones, grid))
    sway = np.stack([_wander(grid, 0.5, rng) for _ in range(3)], axis=1) * (0.006, 0.003, 0.006) * manner.head

    def at_frames(track: Float64) -> Float64:
        return np.stack([np.interp(pts_us / 1e6, grid, column) for column in track.T], axis=1)

    codes = at_frames(np.stack([expression[name] for name in model.expression_names], axis=1))
    frames = at_frames(np.column_stack([jaw, blink, closed, turn, eyes, sway]))
    jaw, blink, closed = frames[:, 0], frames[:, 1], frames[:, 2]
    head, eyes, sway = Rotation.from_euler("YXZ", frames[:, 3:6]), frames[:, 6:8], frames[:, 8:11]
    eye_pose = _rotvec(Rotation.from_euler("YX", eyes))
    eye_pose = np.clip(eye_pose, model.pose_bounds[3, :, 0], model.pose_bounds[3, :, 1])
    jaw_pose = np.clip(np.outer(jaw, [1.0, 0.0, 0.0]), model.pose_bounds[2, :, 0], model.pose_bounds[2, :, 1])
    codes = np.clip(codes, model.expression_bounds[:, 0], model.expression_bounds[:, 1])
    codes = _meet(model, shape, codes, jaw_pose, eye_pose, closed, blink)
    whole = _rotvec(head)
    neck = Rotation.from_rotvec(NECK_SHARE * whole)
    facing = Rotation.from_rotvec(FACING_CAMERA.astype(np.float64))
    root = facing * Rotation.from_rotvec((1 - NECK_SHARE) * whole)
    count = len(pts_us)
    return HeadTrack(
        head_model=model.name,
        model_sha256=model.sha256,
        shape=shape.astype(np.float32),
        expression=codes.astype(np.float32),
        global_pose=_near_facing(_rotvec(root)).astype(np.float32),
        neck_pose=_rotvec(neck).astype(np.float32),
        jaw_pose=jaw_pose.astype(np.float32),
        left_eye_pose=eye_pose.astype(np.float32),
        right_eye_pose=eye_pose.astype(np.float32),
        translation=(_translation(model, shape, placement) + sway).astype(np.float32),
        focal_px=float(placement.focal_px),
        principal_point=np.asarray(placement.principal_point, dtype=np.float32),
        valid=np.ones(count, dtype=np.bool_),
        residual_px=np.zeros(count, dtype=np.float32),
        nme=np.zeros(count, dtype=np.float32),
    )


def _rotvec(rotation: Rotation) -> Float64:
    return np.asarray(rotation.as_rotvec(), dtype=np.float64)


def _near_facing(rotvec: Float64) -> Float64:
    """Of the two axis-angles of each rotation the one nearer to FACING_CAMERA, so that tracks do not jump at pi."""
    angle = np.maximum(np.linalg.norm(rotvec, axis=1, keepdims=True), 1e-12)
    other = rotvec * (1 - 2 * np.pi / angle)
    nearer = np.linalg.norm(other - FACING_CAMERA, axis=1) < np.linalg.norm(rotvec - FACING_CAMERA, axis=1)
    return np.where(nearer[:, None], other, rotvec)


def _accents(words: Sequence[Interval]) -> list[tuple[float, float]]:
    """Time (s) and length (s) of the words that bear an accent."""
    content = [word for word in words if word.label.lower().strip(".,;:!?") not in FUNCTION_WORDS]
    return [((0.6 * word.start_us + 0.4 * word.end_us) / 1e6, (word.end_us - word.start_us) / 1e6) for word in content]


def _wander(grid: Float64, sigma_s: float, rng: np.random.Generator) -> Float64:
    """Smooth noise of unit variance; its spectrum falls to 1/e at 1 / (2 pi sigma_s) Hz."""
    pad = int(4 * sigma_s / STEP_S)
    noise = gaussian_filter1d(rng.normal(size=len(grid) + 2 * pad), sigma_s / STEP_S, mode="wrap")
    return np.asarray(noise[pad : pad + len(grid)] * np.sqrt(2 * np.sqrt(np.pi) * sigma_s / STEP_S))


def _both(expression: dict[str, Float64], name: str, value: Float64, left: float = 1.0, right: float = 1.0) -> None:
    """Add to an expression, or to its left and right halves."""
    if name in expression:
        expression[name] += value
    else:
        expression[f"{name}Left"] += left * value
        expression[f"{name}Right"] += right * value


def _mouth(
    expression: dict[str, Float64], phones: Sequence[Interval], grid: Float64, manner: Manner, rng: np.random.Generator
) -> Float64:
    """Fill in the mouth's expressions; returns the jaw's opening (N,) in radians."""
    channels = blend(phones, grid)
    effort = manner.mouth * (1 + 0.10 * _wander(grid, 0.6, rng))
    left, right = 1 + rng.uniform(-0.1, 0.1, 2)
    for name in CHANNELS[1:]:
        _both(expression, name, gaussian_filter1d(channels[name] * effort, ARTICULATOR_SIGMA_S / STEP_S), left, right)
    return np.asarray(gaussian_filter1d(channels["jaw"] * effort, ARTICULATOR_SIGMA_S / STEP_S))


def _face(
    expression: dict[str, Float64],
    accents: Sequence[tuple[float, float]],
    grid: Float64,
    manner: Manner,
    felt: Enacted,
    rng: np.random.Generator,
) -> None:
    """Brows that rise on some accents, a smile that comes and goes, cheeks with it."""
    brows = 0.06 * np.abs(_wander(grid, 0.7, rng))
    for time, length in accents:
        if rng.uniform() < 0.5:
            height = rng.uniform(0.15, 0.5)
            brows += height * ramp(grid, time - 0.08, time + 0.3 * length, 0.16, 0.30)
    brows = np.minimum(manner.brows * brows, 0.9)
    _both(expression, "browInnerUp", 0.8 * brows)
    _both(expression, "browOuterUp", 0.6 * brows, 1 + rng.uniform(-0.15, 0.15), 1 + rng.uniform(-0.15, 0.15))
    _both(expression, "browDown", manner.brows * 0.12 * np.maximum(_wander(grid, 0.6, rng) - 0.5, 0))
    smile = manner.smile * np.clip(1 + 0.7 * _wander(grid, 0.8, rng), 0, 2.5) * felt.smile
    _both(expression, "mouthSmile", smile, 1 + rng.uniform(-0.12, 0.12), 1 + rng.uniform(-0.12, 0.12))
    _both(expression, "cheekSquint", 0.4 * smile)
    _both(expression, "eyeSquint", 0.05 + 0.4 * smile)


def _blinks(grid: Float64, manner: Manner, rng: np.random.Generator) -> Float64:
    """(N,) 0 open to 1 closed; at least one blink, the first within the first 1.5 s (or the middle of a short clip)."""
    duration = float(grid[-1]) - 0.5
    total = np.zeros(len(grid))
    time = min(rng.uniform(0.4, 1.5), 0.5 * duration)
    while time < duration:
        total = np.maximum(total, ramp(grid, time, time + BLINK_HELD_S, BLINK_CLOSING_S, BLINK_OPENING_S))
        time += 0.5 + rng.gamma(3.0, max(1 / manner.blinks_hz - 0.5, 0.1) / 3.0)
    return total


def _head(
    accents: Sequence[tuple[float, float]], grid: Float64, manner: Manner, felt: Enacted, rng: np.random.Generator
) -> Float64:
    """(N, 3) yaw, pitch (down is positive), roll of the head in its own axes, radians."""
    yaw = np.radians(5.0) * _wander(grid, 0.40, rng) + np.radians(2.0) * _wander(grid, 0.18, rng)
    pitch = np.radians(2.2) * _wander(grid, 0.35, rng) + np.radians(0.8) * _wander(grid, 0.15, rng)
    roll = np.radians(2.0) * _wander(grid, 0.45, rng)
    for time, _ in accents:
        depth = np.radians(rng.uniform(1.0, 4.5))
        pitch += depth * np.exp(-0.5 * ((grid - time) / 0.11) ** 2)
    shake, nod = gesture_tracks(manner.gestures, grid)
    tracks = (
        (manner.turn_rad + manner.head * yaw + felt.head[:, 0] + shake, YAW_LIMIT),
        (manner.head * pitch + felt.head[:, 1] + nod, PITCH_LIMIT),
        (manner.head * roll + felt.head[:, 2], ROLL_LIMIT),
    )
    return np.stack([limit * np.tanh(track / limit) for track, limit in tracks], axis=1)


def _gaze(turn: Float64, felt: Enacted, grid: Float64, rng: np.random.Generator) -> Float64:
    """(N, 2) yaw and pitch of both eyes relative to the head, radians.

    The eyes rest on a point (mostly the camera) while the head moves, then jump: 2.2 ms per degree over 21 ms (Bahill,
    Clark & Stark 1975).
    """
    target = np.zeros((len(grid), 2))
    current, time = np.radians(rng.normal(0, 1.0, 2)), 0.0
    target[:] = current
    while time < grid[-1]:
        time += float(np.clip(rng.lognormal(-0.35, 0.5), 0.25, 2.5))
        away = rng.uniform() < 0.4
        following = np.radians(rng.normal(0, (11.0, 5.0)) if away else rng.normal(0, 1.2, 2))
        length = 0.021 + 0.0022 * float(np.degrees(np.linalg.norm(following - current)))
        phase = np.clip((grid - time) / length, 0, 1)
        minimum_jerk = phase**3 * (10 - 15 * phase + 6 * phase**2)
        target += minimum_jerk[:, None] * (following - current)
        current = following
    target[:, 1] += felt.gaze
    world = Rotation.from_euler("YX", target)
    ahead = (Rotation.from_euler("YXZ", turn).inv() * world).apply([0.0, 0.0, 1.0])
    yaw, pitch = np.arctan2(ahead[:, 0], ahead[:, 2]), -np.arcsin(np.clip(ahead[:, 1], -1, 1))
    return np.stack([np.clip(yaw, -0.6, 0.6), np.clip(pitch, -0.4, 0.4)], axis=1)


def _meet(
    model: HeadModel,
    shape: Float32,
    codes: Float64,
    jaw_pose: Float64,
    eye_pose: Float64,
    lips_closed: Float64,
    lids_closed: Float64,
) -> Float64:
    """Expressions (T, E) in which the lips and lids of this very head come together as far as they should.

    The gap is measured, and mouthClose and eyeBlink are solved for by secant steps: both change it almost linearly.
    """
    slits = find_apertures(model)
    ids = slits.ids()
    sparse = prepare(model, ids, dtype=torch.float64)
    names = model.expression_names
    moves = (
        (slits.lips, names.index("mouthClose"), lips_closed),
        (slits.left_eye, names.index("eyeBlinkLeft"), lids_closed),
        (slits.right_eye, names.index("eyeBlinkRight"), lids_closed),
    )
    zero = torch.zeros(len(codes), 3, dtype=torch.float64)
    jaw, eyes = torch.as_tensor(jaw_pose, dtype=torch.float64), torch.as_tensor(eye_pose, dtype=torch.float64)

    def gaps(expression: Float64) -> list[Float64]:
        tensor = torch.as_tensor(expression, dtype=torch.float64)
        rest = torch.as_tensor(shape, dtype=torch.float64)
        vertices = skin(sparse, rest, tensor, zero, zero, jaw, eyes, eyes, zero).numpy()
        return [gap_m(vertices, (np.searchsorted(ids, s[0]), np.searchsorted(ids, s[1]))) for s, _, _ in moves]

    codes = codes.copy()
    codes[:, [column for _, column, _ in moves]] = 0.0
    opened = gaps(codes)
    probe = codes.copy()
    probe[:, [column for _, column, _ in moves]] = 0.3
    for (_, column, closed), before, after in zip(moves, opened, gaps(probe), strict=True):
        wanted = np.minimum(before, before + closed * (LIPS_TOUCH_M - before))
        slope = np.minimum((after - before) / 0.3, -1e-3)
        codes[:, column] = np.clip((wanted - before) / slope, 0, 1)
    final = gaps(codes)
    for (_, column, closed), before, now in zip(moves, opened, final, strict=True):
        wanted = np.minimum(before, before + closed * (LIPS_TOUCH_M - before))
        scale = np.divide(wanted - before, now - before, out=np.ones(len(now)), where=np.abs(now - before) > 1e-4)
        codes[:, column] = np.clip(codes[:, column] * np.clip(scale, 0.5, 2.0), 0, 1)
    return codes


def _translation(model: HeadModel, shape: Float32, placement: Placement) -> Float64:
    """(3,) that puts the point between the eyes of the unturned head at `placement.eyes_m`."""
    rest = model.v_template + model.identity @ shape
    joints = (model.joint_regressor @ rest).astype(np.float64)
    facing = Rotation.from_rotvec(FACING_CAMERA.astype(np.float64))
    return np.asarray(np.asarray(placement.eyes_m) - facing.apply(joints[3:].mean(0) - joints[0]) - joints[0])
