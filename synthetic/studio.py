"""Ten rendered talkers unlike those of the demo, one hard condition each, for measuring reconstruction through pixels.

Heads come from anny's phenotypes (age, sex, build), carried to the head model's identity; the truth is a head track.
Camera effects (blur, dark, noise) and glasses are laid over the pictures of `synthetic.render`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from reconstruct.appearance import Look
from reconstruct.models import open_head
from reconstruct.models.head_model import HeadModel
from schemas.types import HeadTrack, Int64
from synthetic.evaluate import similarity, track_vertices
from synthetic.known_truth import nearest_shape, swing, turned
from synthetic.make import frame_times
from synthetic.motion import Manner, talk
from synthetic.render import render
from synthetic.speech import Voice, synthesize
from synthetic.talker import AUDIO_RATE, Talker, placement_of

Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

SECONDS: Final = 2.6
SHUTTER: Final = 0.9
"""Exposure over the frame's duration, where there is motion blur."""
SUB_FRAMES: Final = 5
"""Pictures averaged for one exposure; odd, so that the truth is its middle."""
GAMMA: Final = 2.2
FRAME_COLOUR: Final = (22, 20, 24)
RIM_M: Final = (0.025, 0.020)
"""Half width and half height of a rim."""
RIM_THICK_M: Final = 0.0025


@dataclass(frozen=True)
class Scene:
    """One talker and what makes the recording hard."""

    name: str
    what: str
    text: str
    seed: int
    look: Look
    phenotypes: dict[str, float]
    """anny's phenotypes 0..1 (age: 0.33 child, 0.67 young, 1 old); those not named are at the middle."""
    yaw_deg: tuple[float, float] = (-12.0, 12.0)
    """The head goes from one to the other and back, `sweeps` times in all."""
    sweeps: float = 1.5
    glasses: bool = False
    exposure: float = 1.0
    """Factor on linear light."""
    noise: float = 1.5
    """Standard deviation in steps of 8-bit sRGB."""
    blur: bool = False
    focal_px: float = 900.0
    distance_m: float = 0.9

    @property
    def talker(self) -> Talker:
        """What `synthetic.render` draws: 640 x 480, without noise, which comes after the blur."""
        return Talker(
            name=self.name,
            text=self.text,
            look=self.look,
            manner=Manner(blinks_hz=0.7),
            shape_seed=self.seed,
            motion_seed=self.seed,
            focal_px=self.focal_px,
            distance_m=self.distance_m,
            background_seed=self.seed,
            noise=0.0,
        )


_FAIR: Final = Look(skin=(0.80, 0.60, 0.50), lips=(0.66, 0.32, 0.30), brows=(0.30, 0.20, 0.12), mottle=0.015)
_TAN: Final = Look(skin=(0.48, 0.29, 0.19), lips=(0.40, 0.16, 0.14), brows=(0.03, 0.02, 0.015), mottle=0.015)
_DARK: Final = Look(
    skin=(0.18, 0.095, 0.06), lips=(0.20, 0.075, 0.07), brows=(0.02, 0.014, 0.012), scalp=(0.02, 0.015, 0.012),
    iris=(0.05, 0.028, 0.018), mottle=0.015,
)  # fmt: skip
_GREY: Final = Look(skin=(0.70, 0.50, 0.42), lips=(0.52, 0.27, 0.25), brows=(0.40, 0.38, 0.36), scalp=(0.42, 0.4, 0.38))
_CHILD: Final = {"age": 0.36, "gender": 0.4, "weight": 0.45, "asian": 1.0, "african": 0.0, "caucasian": 0.0}
_WOMAN: Final = {"age": 0.68, "gender": 0.0, "asian": 0.0, "african": 0.0, "caucasian": 1.0}
_MAN: Final = {"age": 0.72, "gender": 1.0, "muscle": 0.8, "asian": 0.0, "african": 1.0, "caucasian": 0.0}
_OLD: Final = {"age": 1.0, "asian": 0.0, "african": 0.0, "caucasian": 1.0}
_OLD_MAN: Final = {"age": 0.95, "gender": 1.0, "weight": 0.7, "asian": 0.2, "african": 0.6, "caucasian": 0.2}
_HEAVY: Final = {"age": 0.75, "gender": 1.0, "weight": 1.0, "muscle": 0.2, "asian": 0.2, "african": 0.0}
_THIN: Final = {"age": 0.7, "gender": 0.3, "weight": 0.0, "asian": 1.0, "african": 0.0, "caucasian": 0.0}
_SIDE_LIGHT: Final = dataclasses.replace(_TAN, light=(0.95, -0.1, -0.3), ambient=0.14)

SCENES: Final[tuple[Scene, ...]] = (
    Scene("child", "a child's head", "Mom and Bob made a map.", 201, _FAIR, _CHILD),
    Scene("old", "an old woman", "Papa bought me a big blue book.", 202, _GREY, _OLD | {"gender": 0.0}),
    Scene("heavy", "a heavy man", "We move the box above the pipe.", 203, _TAN, _HEAVY),
    Scene("left", "yaw to +45 degrees", "Bring me a cup, Pamela.", 204, _FAIR, _WOMAN, yaw_deg=(-5.0, 45.0)),
    Scene("right", "yaw to -45 degrees", "Both boys pay my bill.", 205, _DARK, _MAN, yaw_deg=(5.0, -45.0)),
    Scene("glasses", "a dark frame with lenses", "My bus came by at five.", 206, _FAIR, _MAN, glasses=True),
    Scene("dim", "low light, much noise", "Please bump the lamp.", 207, _TAN, _THIN, exposure=0.05, noise=7.0),
    Scene("blur", "motion blur", "Mix a bowl of pea soup.", 208, _FAIR, _WOMAN, (-25.0, 25.0), 5.0, blur=True),
    Scene("small", "a small face", "Peter made a pie.", 209, _TAN, _OLD_MAN, focal_px=620.0, distance_m=1.25),
    Scene("side", "hard light from the side", "Maybe buy them a puppy.", 210, _SIDE_LIGHT, _THIN),
)
"""Each once: the table of docs and benchmarks."""


def identity_of(scene: Scene, anny: open_head.AnnyHead, model: HeadModel) -> NDArray[np.float32]:
    """(S,) identity of the person that a scene's phenotypes describe; small local changes by the talker's seed."""
    labels = [str(label) for label in anny.model.phenotype_labels]
    phenotypes, local = open_head.sample_people(anny, 1, 500_000 + scene.seed)
    phenotypes[:] = 0.5
    for name, value in scene.phenotypes.items():
        phenotypes[0, labels.index(name)] = value
    still = np.zeros((1, len(anny.model.facial_action_labels)))
    return nearest_shape(model, open_head.placed(anny, anny.coefficients(phenotypes, local, still))[0])


def act(scene: Scene, model: HeadModel, shape: NDArray[np.float32]) -> tuple[Int64, HeadTrack, HeadTrack]:
    """PTS (T,) of a scene, its truth, and the track of all exposures (T x SUB_FRAMES with blur, else the truth)."""
    talker = scene.talker
    speech = synthesize(talker.text, Voice(), talker.motion_seed, AUDIO_RATE)
    pts_us = frame_times(round(SECONDS * 1_000_000), talker.fps)
    steps = np.arange(SUB_FRAMES) - SUB_FRAMES // 2 if scene.blur else np.zeros(1)
    exposure_us = float(SHUTTER * 1_000_000 / talker.fps)
    times = (pts_us[:, None] + exposure_us / SUB_FRAMES * steps).ravel()
    clock = np.rint(times - min(0.0, times.min())).astype(np.int64)
    phones, words = speech.phones, speech.words
    track = talk(model, shape, phones, words, clock, placement_of(talker), talker.manner, talker.motion_seed)
    rng = np.random.default_rng([talker.motion_seed, 3])
    first, last = np.radians(scene.yaw_deg)
    seconds = clock / 1e6
    way = 0.5 - 0.5 * np.cos(scene.sweeps * np.pi * seconds / SECONDS)
    pitch, roll = (np.radians(limit) * swing(seconds, rng) for limit in (8.0, 5.0))
    track = turned(track, np.stack([first + (last - first) * way, pitch, roll], axis=1))
    return pts_us, rows_of(track, np.arange(len(pts_us)) * len(steps) + len(steps) // 2), track


def rows_of(track: HeadTrack, rows: Int64) -> HeadTrack:
    """Some frames of a track."""
    arrays = {
        field.name: getattr(track, field.name)[rows]
        for field in dataclasses.fields(track)
        if isinstance(getattr(track, field.name), np.ndarray) and len(getattr(track, field.name)) == len(track.valid)
        and field.name not in ("shape", "principal_point")
    }  # fmt: skip
    return dataclasses.replace(track, **arrays)


def film(scene: Scene, model: HeadModel, exposures: HeadTrack) -> Iterator[UInt8]:
    """(H, W, 3) sRGB pictures of a scene from the exposures of `act`; the same arguments give the same pictures."""
    rng = np.random.default_rng([scene.talker.motion_seed, 4])
    group: list[NDArray[np.float64]] = []
    worn = _glasses(model, exposures) if scene.glasses else None
    for index, picture in enumerate(render(model, scene.talker, exposures)):
        if worn is not None:
            picture = _draw_glasses(picture, worn, exposures, index)
        group.append((picture / 255.0) ** GAMMA)
        if len(group) == (SUB_FRAMES if scene.blur else 1):
            linear = scene.exposure * np.mean(group, axis=0)
            srgb = 255 * linear ** (1 / GAMMA) + scene.noise * rng.normal(size=linear.shape)
            group.clear()
            yield np.clip(np.rint(srgb), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class _Glasses:
    """Lines of a frame in camera space; rims and bridge lie before the face, an arm is seen from its own side only."""

    rims: Float64
    """(T, 2, n, 3)"""
    bridge: Float64
    """(T, 2, 3)"""
    arms: Float64
    """(T, 2, 2, 3)"""
    outward: Float64
    """(T, 2, 3) direction of either side of the head."""


def _glasses(model: HeadModel, track: HeadTrack) -> _Glasses:
    """A frame that sits rigidly on the skull of this head, in every frame of a track."""
    rest = (model.v_template + model.identity @ track.shape).astype(np.float64)
    skull = model.regions["scalp"].astype(np.int64)
    posed = track_vertices(model, track, np.arange(len(track.valid)), skull, True)
    _, turn, move = similarity(np.broadcast_to(rest[skull], posed.shape), posed)
    eyes = model.joint_regressor[3:5].astype(np.float64) @ rest
    face = rest[model.regions["face"].astype(np.int64)]
    ears = rest[model.regions["ears"].astype(np.int64)]
    angle = np.linspace(0, 2 * np.pi, 49)
    rims, arms = [], []
    for centre in eyes:
        side = float(np.sign(centre[0]))
        near = face[np.linalg.norm(face[:, :2] - centre[:2], axis=1) < RIM_M[0]]
        middle = np.array([centre[0] + 0.002 * side, centre[1] - 0.002, float(np.percentile(near[:, 2], 90)) + 0.006])
        ring = middle + np.stack([RIM_M[0] * np.cos(angle), RIM_M[1] * np.sin(angle), 0 * angle], axis=1)
        ear = ears[np.sign(ears[:, 0]) == side].mean(0)
        rims.append(ring)
        hinge = middle + np.array([side * RIM_M[0], 0.006, 0.0])
        arms.append([hinge, np.array([ear[0], hinge[1], ear[2]])])
    bridge = np.array([rims[0][24], rims[1][0]]) if eyes[0, 0] > 0 else np.array([rims[0][0], rims[1][24]])

    def carried(points: Float64) -> Float64:
        flat = points.reshape(-1, 3)
        placed = flat @ turn.transpose(0, 2, 1) + move[:, None]
        return np.asarray(placed.reshape(len(turn), *points.shape))

    outward = np.sign(eyes[:, :1]) * np.array([1.0, 0.0, 0.0])
    return _Glasses(
        carried(np.array(rims)), carried(bridge), carried(np.array(arms)), outward @ turn.transpose(0, 2, 1)
    )


def _draw_glasses(picture: UInt8, worn: _Glasses, track: HeadTrack, frame: int) -> UInt8:
    """The picture with the frame's lines and a faint reflection on the lenses."""

    def pixels(points: Float64) -> NDArray[np.int32]:
        flat = track.focal_px * points[:, :2] / points[:, 2:] + track.principal_point
        return np.asarray(np.rint(16 * flat), dtype=np.int32)

    drawn = picture.copy()
    rims = worn.rims[frame]
    thick = max(1, round(track.focal_px * RIM_THICK_M / float(rims[..., 2].mean())))
    lens = drawn.copy()
    for rim in rims:
        cv2.fillPoly(lens, [pixels(rim)], (210, 220, 230), cv2.LINE_AA, shift=4)
    drawn = cv2.addWeighted(drawn, 0.9, lens, 0.1, 0)
    lines = [*rims, worn.bridge[frame]]
    for side in range(2):
        toward_camera = float(worn.outward[frame, side] @ worn.arms[frame, side].mean(0)) < 0
        if toward_camera:
            lines.append(worn.arms[frame, side])
    for line in lines:
        cv2.polylines(drawn, [pixels(line)], False, FRAME_COLOUR, thick, cv2.LINE_AA, shift=4)
    return np.asarray(drawn, dtype=np.uint8)
