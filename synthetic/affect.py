"""How a talker feels and how that shows: the face while it speaks, head, gaze and voice, each person in its own way.

The faces are the prototypes and major variants of the FACS Investigator's Guide (Ekman, Friesen & Hager 2002, table
10-1), those of contempt after Matsumoto & Ekman 2004. A person picks a variant once and always shows it alike; how
strong each action is and how far left and right differ is the person's own too. The voice changes as Juslin & Laukka
2003 (table 7) and Scherer 2003 report. Nothing here is read by the recogniser of `annotate.emotion`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from synthetic.speech import Voice
from synthetic.visemes import ramp

Float64 = NDArray[np.float64]

ONSET_S: Final = 0.35
OFFSET_S: Final = 0.60
FLUCTUATION: Final = 0.06
"""Standard deviation of an action's strength over time."""
STRENGTH: Final = (0.8, 1.1)
"""Range of a person's strength of each action, as a factor."""
ASYMMETRY: Final = 0.12
"""Most by which either side of a person's face is stronger or weaker."""

ACTIONS: Final[Mapping[int, Mapping[str, float]]] = {
    1: {"browInnerUp": 1.0},
    2: {"browOuterUp": 1.0},
    4: {"browDown": 1.0},
    5: {"eyeWide": 1.0},
    6: {"cheekSquint": 1.0, "eyeSquint": 0.4},
    7: {"eyeSquint": 1.0},
    9: {"noseSneer": 1.0, "mouthUpperUp": 0.2},
    10: {"mouthUpperUp": 0.9, "noseSneer": 0.25},
    11: {"mouthUpperUp": 0.3, "noseSneer": 0.2},
    12: {"mouthSmile": 1.0},
    14: {"mouthDimple": 1.0},
    15: {"mouthFrown": 1.0},
    16: {"mouthLowerDown": 1.0},
    17: {"mouthShrugLower": 1.0},
    20: {"mouthStretch": 1.0},
    23: {"mouthPress": 0.6, "mouthRollLower": 0.4},
    24: {"mouthPress": 1.0},
    25: {"mouthLowerDown": 0.4, "mouthUpperUp": 0.3},
    26: {"jaw": 0.14},
    27: {"jaw": 0.26},
}
"""FACS action unit -> what it moves at full strength: ARKit actions (of both sides where there are two), `jaw` in
radians."""
PARTING: Final = ("mouthUpperUp", "mouthLowerDown", "jaw")
"""What keeps lips apart; it gives way where the lips must meet."""
PARTED_UNITS: Final = (16, 25, 26, 27)
"""With these the lips are apart in silence too."""


@dataclass(frozen=True)
class _Face:
    """Action units at intensity 1: those that all show, one of several variants, and what half of all people add."""

    always: Mapping[int, float] = field(default_factory=dict)
    variants: tuple[Mapping[int, float], ...] = ({},)
    sometimes: Mapping[int, float] = field(default_factory=dict)
    one_sided: bool = False


@dataclass(frozen=True)
class _Bearing:
    """Head, gaze and voice at intensity 1, as differences and factors to the person's ordinary ones."""

    pitch_deg: float = 0.0
    """Positive is down."""
    roll_deg: float = 0.0
    gaze_deg: float = 0.0
    """Positive is down."""
    head: float = 1.0
    """Factor on the head's movement."""
    octaves: float = 0.0
    """Of the fundamental frequency."""
    melody: float = 1.0
    rate: float = 1.0
    gain_db: float = 0.0
    breathiness: float = 0.0


_FACES: Final[Mapping[str, _Face]] = {
    "neutral": _Face(),
    "happiness": _Face({12: 0.8}, ({6: 0.75}, {6: 0.55}, {6: 0.25}), {25: 0.35}),
    "anger": _Face(
        {4: 0.85, 7: 0.55},
        ({5: 0.4, 23: 0.7}, {5: 0.5, 24: 0.6}, {5: 0.35, 17: 0.5, 23: 0.6}, {17: 0.5, 24: 0.6},
         {5: 0.3, 10: 0.4, 23: 0.6}),
    ),
    "sadness": _Face({1: 0.85, 4: 0.35}, ({15: 0.75}, {15: 0.6, 17: 0.45}, {11: 0.5, 15: 0.55})),
    "contempt": _Face({}, ({14: 0.85}, {12: 0.4, 14: 0.6}, {12: 0.65}), {}, one_sided=True),
    "surprise": _Face({1: 0.85, 2: 0.85, 5: 0.55}, ({26: 0.8}, {27: 0.7}, {}), {25: 0.3}),
    "fear": _Face({1: 0.85, 2: 0.5, 4: 0.4, 5: 0.85}, ({20: 0.7, 25: 0.3}, {20: 0.6, 26: 0.5}, {25: 0.5})),
    "disgust": _Face(
        {}, ({9: 0.85}, {9: 0.75, 17: 0.45}, {9: 0.65, 15: 0.35, 16: 0.45}, {10: 0.85}, {10: 0.75, 17: 0.45}), {7: 0.35}
    ),
    "calm": _Face({12: 0.12}),
}  # fmt: skip

_BEARINGS: Final[Mapping[str, _Bearing]] = {
    "neutral": _Bearing(),
    "happiness": _Bearing(-1.0, 2.0, 0.0, 1.3, 0.30, 1.4, 1.10, 3.0, -0.05),
    "anger": _Bearing(2.5, 0.0, 0.0, 1.5, 0.25, 1.3, 1.15, 5.0, -0.12),
    "sadness": _Bearing(6.0, 0.0, 8.0, 0.5, -0.20, 0.5, 0.80, -6.0, 0.20),
    "contempt": _Bearing(-3.5, 2.5, 0.0, 0.8, -0.05, 0.9, 0.92, -1.0, 0.0),
    "surprise": _Bearing(-3.0, 0.0, 0.0, 1.1, 0.45, 1.7, 1.05, 3.0, 0.0),
    "fear": _Bearing(-2.0, 0.0, 0.0, 1.2, 0.50, 0.9, 1.25, 1.0, 0.05),
    "disgust": _Bearing(-1.5, -2.5, 0.0, 0.9, -0.10, 0.9, 0.85, 0.5, 0.0),
    "calm": _Bearing(0.0, 0.0, 0.0, 0.6, -0.10, 0.7, 0.88, -3.0, 0.10),
}


@dataclass(frozen=True)
class Affect:
    """What a talker feels and how strongly; over the whole clip, or over a part of it."""

    emotion: str = "neutral"
    intensity: float = 0.0
    """0 to 1; a neutral talker has none."""
    start_s: float | None = None
    """When it begins to show; None from before the first frame."""
    end_s: float | None = None
    """When it begins to fade; None for never."""

    def __post_init__(self) -> None:
        """Refuse what no face was drawn for."""
        if self.emotion not in _FACES:
            raise UsageError(f"Affect.emotion={self.emotion!r} is not known", f"Choose one of {', '.join(_FACES)}")
        if not 0 <= self.intensity <= 1:
            raise UsageError(f"Affect.intensity={self.intensity!r} is out of range", "Choose 0 to 1")
        if self.start_s is not None and self.end_s is not None and not self.start_s < self.end_s:
            raise UsageError(f"Affect starts at {self.start_s} s and ends at {self.end_s} s", "Choose start < end")

    def course(self, times_s: Float64) -> Float64:
        """(N,) intensity at each time: that of the label, with raised-cosine flanks where it begins and ends."""
        if self.emotion == "neutral":
            return np.zeros(len(times_s))
        start = -1e6 if self.start_s is None else self.start_s + ONSET_S
        stop = 1e6 if self.end_s is None else self.end_s
        return self.intensity * ramp(times_s, start, stop, ONSET_S, OFFSET_S)

    def voiced(self, voice: Voice) -> Voice:
        """The voice of somebody who feels so, within what `Voice` allows."""
        bearing, much = _BEARINGS[self.emotion], self.intensity
        return dataclasses.replace(
            voice,
            f0_hz=float(np.clip(voice.f0_hz * 2.0 ** (much * bearing.octaves), 60, 400)),
            melody=float(np.clip(voice.melody * (1 + much * (bearing.melody - 1)), 0, 2.5)),
            speaking_rate=float(np.clip(voice.speaking_rate * (1 + much * (bearing.rate - 1)), 0.5, 1.6)),
            breathiness=float(np.clip(voice.breathiness + much * bearing.breathiness, 0, 1)),
        )

    @property
    def gain_db(self) -> float:
        """How much louder than ordinarily the talker speaks."""
        return self.intensity * _BEARINGS[self.emotion].gain_db

    @property
    def liveliness(self) -> float:
        """Factor on the movement of the head."""
        return 1 + self.intensity * (_BEARINGS[self.emotion].head - 1)


@dataclass(frozen=True)
class Enacted:
    """What an affect adds to a talker on a grid of N times."""

    intensity: Float64
    """(N,)"""
    expression: dict[str, Float64]
    """ARKit action with its side -> (N,), for what is moved."""
    jaw: Float64
    """(N,) radians of opening."""
    head: Float64
    """(N, 3) yaw, pitch, roll in radians."""
    gaze: Float64
    """(N,) radians downwards."""
    smile: Float64
    """(N,) factor on the ordinary smile of the talker, which nobody keeps in grief."""
    parted: Float64
    """(N,) 0 to 1: how far the lips stay apart in silence."""


def enact(affect: Affect, person: int, grid: Float64, closed: Float64, rng: np.random.Generator) -> Enacted:
    """How the person of that seed shows an affect at the times `grid` (N,) in seconds, equally spaced.

    Args: closed (N,) 1 where speech wants the lips together: what keeps them apart gives way there. rng: fluctuation.
    """
    course = affect.course(grid)
    own = np.random.default_rng([person, 131])  # the same in all clips of the person
    strength = {unit: float(value) for unit, value in zip(ACTIONS, own.uniform(*STRENGTH, len(ACTIONS)), strict=True)}
    tilt = {unit: float(value) for unit, value in zip(ACTIONS, own.uniform(-1, 1, len(ACTIONS)), strict=True)}
    units, sided = _shown(affect.emotion, person)
    expression: dict[str, Float64] = {}
    jaw = np.zeros(len(grid))
    for unit, level in units.items():
        drawn = course * level * strength[unit] * (1 + FLUCTUATION * _drift(grid, rng))
        for name, share in ACTIONS[unit].items():
            moved = share * drawn * (1 - closed if name in PARTING else 1)
            if name == "jaw":
                jaw += moved
            elif name in ("browInnerUp", "mouthShrugLower", "mouthRollLower"):
                expression[name] = expression.get(name, 0.0) + moved
            else:
                for side, sign in (("Left", 1), ("Right", -1)):
                    factor = float(side == sided) if sided else 1 + sign * ASYMMETRY * tilt[unit]
                    expression[name + side] = expression.get(name + side, 0.0) + factor * moved
    bearing = _BEARINGS[affect.emotion]
    parted = np.clip(2 * course * sum(units.get(unit, 0.0) for unit in PARTED_UNITS), 0, 1)
    head = np.outer(course, np.radians([0.0, bearing.pitch_deg, bearing.roll_deg * (1 if tilt[1] > 0 else -1)]))
    smile = np.ones(len(grid)) if affect.emotion in ("happiness", "calm") else 1 - course
    return Enacted(course, expression, jaw, head, np.radians(bearing.gaze_deg) * course, smile, parted)


def _shown(emotion: str, person: int) -> tuple[dict[int, float], str]:
    """Action units of a person at intensity 1, and the side on which alone they are, or none."""
    face = _FACES[emotion]
    rng = np.random.default_rng([person, 137, list(_FACES).index(emotion)])
    units = {**face.always, **face.variants[int(rng.integers(len(face.variants)))]}
    units |= {unit: level for unit, level in face.sometimes.items() if rng.uniform() < 0.5}
    side = ("Left", "Right")[int(rng.integers(2))]
    return units, side if face.one_sided else ""


def _drift(grid: Float64, rng: np.random.Generator) -> Float64:
    """(N,) slow noise of unit variance: three sines below 1 Hz of random frequency and phase."""
    frequency, phase = rng.uniform(0.2, 1.0, 3), rng.uniform(0, 2 * np.pi, 3)
    return np.asarray(np.sin(2 * np.pi * np.outer(grid, frequency) + phase).sum(1) * np.sqrt(2 / 3))
