"""Who the synthetic talkers are: face, voice, words, camera and room, each a plain value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import numpy as np

from reconstruct.appearance import Look, Rgb
from reconstruct.camera import image_centre
from reconstruct.models.head_model import HeadModel
from schemas.types import Float32
from synthetic.affect import Affect
from synthetic.motion import Manner, Placement
from synthetic.speech import Voice

SHAPE_SCALE: Final = 0.8
SHAPE_LIMIT: Final = 2.0
"""Identity coefficients are normal with that deviation, drawn again beyond the limit (in deviations)."""
LICENCE: Final = "CC0-1.0"
AUDIO_RATE: Final = 16_000


@dataclass(frozen=True)
class Outfit:
    """What is worn on the head model when it is drawn; not part of the truth."""

    hair_m: float = 0.008
    """Thickness of the hair."""
    long_hair: bool = False
    cloth: Rgb = (0.06, 0.09, 0.16)


@dataclass(frozen=True)
class Talker:
    """One synthetic person who says one text in front of one camera."""

    name: str
    text: str
    voice: Voice = field(default_factory=Voice)
    look: Look = field(default_factory=Look)
    outfit: Outfit = field(default_factory=Outfit)
    manner: Manner = field(default_factory=Manner)
    affect: Affect = field(default_factory=Affect)
    shape_seed: int = 0
    """The person: its head, and how it shows what it feels."""
    motion_seed: int = 0
    width: int = 640
    height: int = 480
    focal_px: float = 900.0
    distance_m: float = 0.9
    """From the camera to the point between the eyes."""
    offset_m: tuple[float, float] = (0.0, -0.03)
    """Of the point between the eyes from the optical axis, right and down in the picture."""
    fps: Fraction = Fraction(25)
    background: tuple[Rgb, Rgb] = ((0.32, 0.36, 0.40), (0.12, 0.13, 0.15))
    """Linear RGB at the top and at the bottom."""
    background_seed: int = 0
    noise: float = 1.5
    """Standard deviation of the camera's noise, in steps of 8-bit sRGB."""


def shape_of(talker: Talker, model: HeadModel) -> Float32:
    """(S,) identity coefficients of a talker."""
    rng = np.random.default_rng(talker.shape_seed)
    shape = rng.normal(size=model.num_shape)
    while (far := np.abs(shape) > SHAPE_LIMIT).any():
        shape[far] = rng.normal(size=int(far.sum()))
    return np.asarray(SHAPE_SCALE * shape, dtype=np.float32)


def placement_of(talker: Talker) -> Placement:
    """Camera and position of a talker."""
    centre = image_centre(talker.width, talker.height)
    return Placement(talker.focal_px, centre, (*talker.offset_m, talker.distance_m))


def scaled(talker: Talker, factor: float) -> Talker:
    """The same scene on a picture of another size (sides rounded to even numbers)."""
    width, height = (2 * round(side * factor / 2) for side in (talker.width, talker.height))
    return dataclasses.replace(talker, width=width, height=height, focal_px=talker.focal_px * factor)


DEMO_TALKERS: Final[tuple[Talker, ...]] = (
    Talker(
        name="amber",
        text="Bob and Pamela put five big maps above the blue box. We found them very useful.",
        voice=Voice(f0_hz=195.0, formant_scale=1.16, breathiness=0.25),
        look=Look(
            skin=(0.72, 0.47, 0.36),
            lips=(0.62, 0.20, 0.20),
            brows=(0.12, 0.06, 0.03),
            scalp=(0.13, 0.06, 0.03),
            iris=(0.10, 0.20, 0.14),
            light=(0.5, -0.6, -0.7),
            ambient=0.40,
            mottle=0.015,
            brow_thickness_m=0.0026,
            brow_length_m=0.020,
            brow_slope_m=0.001,
            brow_height_m=0.020,
        ),
        outfit=Outfit(hair_m=0.012, long_hair=True, cloth=(0.30, 0.06, 0.07)),
        manner=Manner(head=1.0, brows=1.2, smile=0.18),
        shape_seed=11,
        motion_seed=1,
        width=640,
        height=480,
        focal_px=1000.0,
        distance_m=0.80,
        fps=Fraction(25),
        background=((0.38, 0.42, 0.44), (0.16, 0.17, 0.18)),
        background_seed=1,
    ),
    Talker(
        name="basil",
        text="Good morning, everyone. Today we show how a machine can follow a moving face.",
        voice=Voice(f0_hz=105.0, formant_scale=1.0, breathiness=0.15, speaking_rate=1.05),
        look=Look(
            skin=(0.20, 0.105, 0.065),
            lips=(0.22, 0.085, 0.075),
            brows=(0.02, 0.014, 0.012),
            scalp=(0.022, 0.016, 0.014),
            iris=(0.05, 0.028, 0.018),
            light=(-0.6, -0.4, -0.7),
            ambient=0.42,
            sclera=(0.72, 0.69, 0.64),
            mouth=(0.10, 0.02, 0.02),
            brow_slope_m=0.0,
            mottle=0.015,
        ),
        outfit=Outfit(hair_m=0.005, cloth=(0.35, 0.36, 0.33)),
        manner=Manner(head=1.2, brows=0.9, smile=0.08, turn_rad=0.08),
        shape_seed=5,
        motion_seed=2,
        width=384,
        height=512,
        focal_px=920.0,
        distance_m=0.80,
        offset_m=(0.0, -0.02),
        fps=Fraction(30),
        background=((0.20, 0.17, 0.13), (0.40, 0.33, 0.24)),
        background_seed=2,
    ),
    Talker(
        name="cedar",
        text="Please move the brown chair, and pass me a cup of coffee. Thank you very much.",
        voice=Voice(f0_hz=125.0, formant_scale=1.05, breathiness=0.3, speaking_rate=0.95),
        look=Look(
            skin=(0.62, 0.41, 0.29),
            lips=(0.48, 0.22, 0.20),
            brows=(0.10, 0.055, 0.03),
            scalp=(0.10, 0.055, 0.03),
            iris=(0.13, 0.24, 0.36),
            light=(0.65, -0.45, -0.6),
            ambient=0.40,
            mottle=0.012,
            brow_slope_m=0.001,
        ),
        outfit=Outfit(hair_m=0.012, cloth=(0.05, 0.10, 0.07)),
        manner=Manner(head=0.8, brows=1.0, smile=0.12, turn_rad=-0.10),
        shape_seed=8,
        motion_seed=3,
        width=448,
        height=448,
        focal_px=1050.0,
        distance_m=0.95,
        offset_m=(0.01, -0.015),
        fps=Fraction(30000, 1001),
        background=((0.10, 0.14, 0.20), (0.22, 0.26, 0.30)),
        background_seed=3,
    ),
)
"""Three people, cameras and frame rates; a few seconds each."""

SENTENCES: Final = (
    "The quick brown fox jumps over the lazy dog.",
    "We have been away for more than five weeks.",
    "Many people prefer to walk home before it rains.",
    "Both of them bought a map of the old town.",
    "Please bring me the blue book from the table.",
    "She will show you a very different picture tomorrow.",
    "How much money would you pay for a boat like this?",
    "Every morning my father makes a pot of coffee.",
)

_SKINS: Final[tuple[Rgb, ...]] = (
    (0.16, 0.08, 0.05), (0.28, 0.155, 0.10), (0.45, 0.27, 0.18), (0.62, 0.41, 0.30), (0.74, 0.52, 0.41),
    (0.82, 0.63, 0.53),
)  # fmt: skip
_HAIRS: Final[tuple[Rgb, ...]] = (
    (0.018, 0.014, 0.012), (0.06, 0.03, 0.02), (0.14, 0.07, 0.035), (0.34, 0.22, 0.10), (0.42, 0.40, 0.38),
)  # fmt: skip
_IRISES: Final[tuple[Rgb, ...]] = ((0.05, 0.028, 0.018), (0.14, 0.08, 0.04), (0.10, 0.18, 0.12), (0.16, 0.26, 0.36))


def random_talker(seed: int, width: int = 320, height: int = 320, fps: Fraction = Fraction(25)) -> Talker:
    """A talker with random head, colours, light, voice, sentence and camera; the same seed gives the same one."""
    rng = np.random.default_rng([seed, 77])
    skin = _SKINS[rng.integers(len(_SKINS))]
    hair = _HAIRS[rng.integers(2 if skin[0] < 0.4 else len(_HAIRS))]
    iris = _IRISES[rng.integers(2 if skin[0] < 0.4 else len(_IRISES))]
    lips = (skin[0] * 0.9, skin[1] * 0.55, skin[2] * 0.65)
    red, green, blue = (float(value) for value in rng.uniform(0.03, 0.4, 3))
    female = bool(rng.uniform() < 0.5)
    return Talker(
        name=f"talker{seed:05d}",
        text=SENTENCES[rng.integers(len(SENTENCES))],
        voice=Voice(
            f0_hz=float(rng.uniform(170, 240) if female else rng.uniform(90, 140)),
            formant_scale=float(rng.uniform(1.1, 1.2) if female else rng.uniform(0.95, 1.05)),
            breathiness=float(rng.uniform(0.1, 0.4)),
            speaking_rate=float(rng.uniform(0.9, 1.15)),
        ),
        look=Look(
            skin=skin,
            lips=lips,
            brows=hair,
            scalp=hair,
            iris=iris,
            light=(float(rng.uniform(-0.7, 0.7)), float(rng.uniform(-0.8, -0.2)), -0.7),
            ambient=float(rng.uniform(0.35, 0.55)),
            mottle=0.015,
            brow_thickness_m=0.003 if female else 0.0045,
            brow_length_m=0.021,
            brow_slope_m=0.0005,
        ),
        outfit=Outfit(
            hair_m=float(rng.uniform(0.004, 0.014)),
            long_hair=bool(female and rng.uniform() < 0.7),
            cloth=(float(rng.uniform(0.03, 0.4)), float(rng.uniform(0.03, 0.4)), float(rng.uniform(0.03, 0.4))),
        ),
        manner=Manner(
            head=float(rng.uniform(0.7, 1.3)),
            brows=float(rng.uniform(0.6, 1.4)),
            smile=float(rng.uniform(0.0, 0.25)),
            turn_rad=float(rng.normal(0, 0.08)),
        ),
        shape_seed=seed,
        motion_seed=seed,
        width=width,
        height=height,
        focal_px=float(rng.uniform(1.3, 2.2) * max(width, height)),
        distance_m=float(rng.uniform(0.75, 1.1)),
        fps=fps,
        background=((red, green, blue), (0.5 * red, 0.5 * green, 0.5 * blue)),
        background_seed=seed,
    )
