"""A style embedding without training: statistics of face, head and voice on scales that were not learned.

Every statistic is transformed so that people spread about evenly (logarithms of what is a ratio), has a usual value
taken away, is divided by how far people usually are from it, and cut at `LIMIT`. Usual values and spreads are round
numbers from what speech is known to be like (a voice is 85 to 255 Hz, a head turns some degrees, weights of
expressions are a few hundredths to tenths). Then it is divided by its `NOISE`: how much it changes, in the same units,
between two seconds and the next two of one speaker, because the words are others. That was measured on twenty rendered
talkers through detector and fit, pooled by kind and rounded; no recording of a person had a say in it.

Two embeddings are near by their Euclidean distance. What a person has by nature - pitch and colour of the voice, the
face at rest as the fit reads it - is part of the style, as a stranger would take it to be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from annotate.performance import Performance
from annotate.pitch import HOP_S
from annotate.signals import HZ, even, runs, smooth
from annotate.style.descriptors import describe
from annotate.style.voice import Voice, listen
from schemas.types import Style

Float64 = NDArray[np.float64]

NAME: Final = "statistical-2"
LIMIT: Final = 3.0

ACTIONS: Final = {
    "jaw": ("jawOpen",),
    "round": ("mouthFunnel", "mouthPucker"),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "frown": ("mouthFrownLeft", "mouthFrownRight"),
    "stretch": ("mouthStretchLeft", "mouthStretchRight", "mouthDimpleLeft", "mouthDimpleRight"),
    "press": ("mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper"),
    "shrug": ("mouthShrugLower", "mouthShrugUpper"),
    "lower": ("mouthLowerDownLeft", "mouthLowerDownRight"),
    "upper": ("mouthUpperUpLeft", "mouthUpperUpRight"),
    "close": ("mouthClose",),
    "brow_down": ("browDownLeft", "browDownRight"),
    "brow_inner": ("browInnerUp",),
    "brow_outer": ("browOuterUpLeft", "browOuterUpRight"),
    "cheek": ("cheekSquintLeft", "cheekSquintRight"),
    "sneer": ("noseSneerLeft", "noseSneerRight"),
    "squint": ("eyeSquintLeft", "eyeSquintRight"),
    "wide": ("eyeWideLeft", "eyeWideRight"),
}
"""Of each the root of the mean weight and of its deviation are statistics."""
SIDED: Final = ("mouthSmile", "mouthLowerDown", "mouthUpperUp", "browOuterUp", "browDown", "eyeBlink")
"""Of each the mean difference of left and right is one."""
FACE_NOISE_S: Final = 0.04

_MEAN, _DEVIATION, _SIDES = (0.22, 0.15), (0.18, 0.08), (0.0, 0.06)
_RATES: Final = {
    "head_speed_deg_s": (np.log(8.0), 0.6),
    "head_rhythm_hz": (np.log(1.3), 0.4),
    "mouth_range": (np.log(0.05), 0.4),
    "brow_range": (np.log(0.03), 0.6),
    "pitch_hz": (np.log(150.0), 0.35),
    "pitch_range_st": (np.log(10.0), 0.4),
    "loudness_range_db": (np.log(25.0), 0.25),
    "syllables_per_s": (np.log(4.5), 0.25),
}
"""Descriptors by their logarithm: usual value and spread. Without `eye_range`, in which rendered talkers differ no more
from one another than each does from one two seconds to the next."""
COLOURS: Final = 4
"""Coefficients of the voice's spectrum: neighbouring bands say much the same, its cosine transform does not."""
_COLOUR_DB: Final = ((18.0, -1.0, 0.0, 0.0), 6.0)
"""Their usual values (a voice falls by some 1.5 dB from band to band) and spread."""
_TILT_RAD: Final = (0.0, 0.12)
_STILL_RAD: Final = (np.log(0.02), 0.8)

NOISE: Final = {
    "mean": 0.33, "deviation": 0.40, "sides": 0.27, "turn": 0.7, "roll_mean": 0.25, "colour": 0.5, "pitch_hz": 0.25,
    "pitch_range_st": 0.65, "loudness_range_db": 1.2, "head_speed_deg_s": 0.7, "head_rhythm_hz": 0.7,
    "mouth_range": 0.35, "brow_range": 0.45,
}  # fmt: skip
"""By the statistic's kind, the part of its name before the colon."""

ENOUGH_VOICE_S: Final = 1.0
"""Voiced speech in the two seconds that `NOISE` was measured on. Of less, noise is larger by the root of the ratio, so
the voice's statistics of such a clip count less by it."""

GROUPS: Final = {
    "face": tuple(f"{kind}:{name}" for kind in ("mean", "deviation") for name in ACTIONS)
    + tuple(f"sides:{name}" for name in SIDED)
    + ("mouth_range", "brow_range"),
    "head": ("roll_mean", *(f"turn:{axis}" for axis in ("yaw", "pitch", "roll")), "head_speed_deg_s", "head_rhythm_hz"),
    "voice": ("pitch_hz", "pitch_range_st", "loudness_range_db", *(f"colour:{index}" for index in range(COLOURS))),
}
"""The statistics of each group, in the order of the embedding."""
DIMENSION: Final = sum(len(names) for names in GROUPS.values())


def statistics(clip: Performance, voice: Voice | None = None) -> dict[str, float]:
    """Statistics of a clip by name, on their scales and cut at `LIMIT`; those that it cannot have are missing."""
    if voice is None and clip.samples is not None:
        voice = listen(clip.samples)
    found: dict[str, float] = {}
    described = describe(clip, voice)
    for name, (usual, spread) in _RATES.items():
        value = described[name]
        if value is not None and value > 0:
            found[name] = (np.log(value) - usual) / spread
    found |= _of_face(clip)
    found |= _of_head(clip)
    if voice is not None and np.isfinite(voice.colour_db).all():
        usual, spread = _COLOUR_DB
        waves = dct(voice.colour_db, norm="ortho")[1 : COLOURS + 1]
        found |= {f"colour:{index}": (waves[index] - usual[index]) / spread for index in range(COLOURS)}
    kept = {name: float(np.clip(value, -LIMIT, LIMIT)) for name, value in found.items() if np.isfinite(value)}
    if voice is not None:
        voiced_s = HOP_S * float(np.isfinite(voice.pitch_hz).sum())
        trust = np.sqrt(min(1.0, voiced_s / ENOUGH_VOICE_S))
        kept |= {name: value * float(trust) for name, value in kept.items() if name in GROUPS["voice"]}
    return kept


def _of_face(clip: Performance) -> dict[str, float]:
    found: dict[str, float] = {}
    if clip.weights is None or not clip.valid.any():
        return found
    for name, weights in ACTIONS.items():
        if not clip.has(*weights):
            continue
        _, curve = even(clip.pts_us, clip.look(*weights))
        steady = smooth(curve, FACE_NOISE_S)
        known = steady[np.isfinite(steady)]
        if len(known):
            found[f"mean:{name}"] = (np.sqrt(max(known.mean(), 0.0)) - _MEAN[0]) / _MEAN[1]
            found[f"deviation:{name}"] = (np.sqrt(known.std()) - _DEVIATION[0]) / _DEVIATION[1]
    for name in SIDED:
        if clip.has(f"{name}Left", f"{name}Right"):
            apart = float(np.nanmean(clip.look(f"{name}Left") - clip.look(f"{name}Right")))
            found[f"sides:{name}"] = (apart - _SIDES[0]) / _SIDES[1]
    return found


def _of_head(clip: Performance) -> dict[str, float]:
    found: dict[str, float] = {}
    if clip.head is None or not clip.valid.any():
        return found
    _, angles = even(clip.pts_us, clip.head.astype(np.float64))
    known = angles[np.isfinite(angles).all(1)]
    if not len(known):
        return found
    # the mean pitch is left out: where a face points when it looks ahead depends on the fitted shape
    found["roll_mean"] = (float(known[:, 2].mean()) - _TILT_RAD[0]) / _TILT_RAD[1]
    moving = []
    for start, stop in runs(np.isfinite(angles).all(1)):
        piece = angles[start:stop]
        moving.append(piece - smooth(piece, 1.0, HZ))
    for axis, name in enumerate(("yaw", "pitch", "roll")):
        spread = float(np.concatenate(moving)[:, axis].std())
        found[f"turn:{name}"] = (np.log(max(spread, 1e-4)) - _STILL_RAD[0]) / _STILL_RAD[1]
    return found


def embed(clip: Performance, voice: Voice | None = None) -> Style | None:
    """The style of a clip: `DIMENSION` numbers; None where it has neither face nor voice.

    A group that is missing is zero, and the model's name says which groups there are (`weights` for a face whose look
    at rest is not known): only embeddings of one name can be compared.
    """
    values = statistics(clip, voice)
    parts, present = [], []
    for group, names in GROUPS.items():
        if any(name in values for name in names):
            present.append("weights" if group == "face" and clip.surface is None else group)
        parts.append(np.array([values.get(name, 0.0) / NOISE[name.partition(":")[0]] for name in names]))
    if not present:
        return None
    whole = np.concatenate(parts) / np.sqrt(DIMENSION)
    return Style(f"{NAME}/{'+'.join(present)}", whole.astype(np.float32))


@dataclass(frozen=True)
class StatisticalEncoder:
    """See `annotate.style.StyleEncoder`."""

    name: str = NAME

    def embed(self, clip: Performance, voice: Voice | None = None) -> Style | None:
        """See the protocol."""
        return embed(clip, voice)


def distance(one: Style, other: Style) -> float:
    """How far two styles are apart; infinite for those of different models."""
    if one.model != other.model:
        return float("inf")
    return float(np.linalg.norm(one.embedding.astype(np.float64) - other.embedding.astype(np.float64)))
