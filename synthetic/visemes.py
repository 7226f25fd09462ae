"""What each ARPAbet phone asks of the jaw and the lips, and how neighbouring phones share the mouth.

Targets are blended by dominance functions (Cohen & Massaro, "Modeling coarticulation in synthetic visual
speech", 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.types import Interval

Float64 = NDArray[np.float64]

CHANNELS: Final = (
    "jaw",
    "mouthFunnel",
    "mouthPucker",
    "mouthStretch",
    "mouthLowerDown",
    "mouthUpperUp",
    "mouthRollLower",
    "mouthShrugUpper",
    "tongueOut",
)
"""`jaw` is the opening in radians; the others are ARKit expressions, for both sides where there are two."""


@dataclass(frozen=True)
class Viseme:
    """Targets by channel (those not named are zero) and how strongly the phone insists on them."""

    targets: dict[str, float]
    dominance: float = 1.0
    lips: float | None = None
    """Dominance over the lips, where it differs from that over the jaw."""


def _v(jaw: float, dominance: float = 1.0, lips: float | None = None, **targets: float) -> Viseme:
    return Viseme({"jaw": jaw, **targets}, dominance, lips)


_SPREAD: Final = {"mouthStretch": 0.25, "mouthLowerDown": 0.25, "mouthUpperUp": 0.15}
_MID: Final = {"mouthStretch": 0.10, "mouthLowerDown": 0.20, "mouthUpperUp": 0.10}
_TEETH: Final = {"mouthStretch": 0.12, "mouthLowerDown": 0.35, "mouthUpperUp": 0.12}
_ROUND: Final = {"mouthFunnel": 0.20, "mouthPucker": 0.75}
_HALF_ROUND: Final = {"mouthFunnel": 0.35, "mouthPucker": 0.30}
_HUSH: Final = {"mouthFunnel": 0.50, "mouthPucker": 0.15}

_AA, _AE, _AO, _EH = _v(0.19, **_MID), _v(0.17, **_SPREAD), _v(0.15, **_HALF_ROUND), _v(0.13, **_MID)
_IH, _IY, _UH, _UW = _v(0.07, **_MID), _v(0.05, **_SPREAD), _v(0.07, **_HALF_ROUND), _v(0.045, 1.0, 1.6, **_ROUND)
_BILABIAL, _LABIODENTAL = _v(0.03, 1.2, 1.3), _v(0.055, 1.2, 2.0, mouthRollLower=0.65, mouthUpperUp=0.35)
_DENTAL = _v(0.06, 0.9, 0.6, mouthLowerDown=0.25, mouthUpperUp=0.15, tongueOut=0.12)
_ALVEOLAR, _VELAR = _v(0.05, 0.8, 0.35, **_MID), _v(0.08, 0.5, 0.25, **_MID)
_SIBILANT, _POSTALVEOLAR = _v(0.025, 1.4, 0.9, **_TEETH), _v(0.035, 1.3, 1.5, **_HUSH)

VISEMES: Final[dict[str, tuple[Viseme, ...]]] = {
    "AA": (_AA,), "AE": (_AE,), "AH": (_v(0.11, **_MID),), "AO": (_AO,), "EH": (_EH,), "IH": (_IH,), "IY": (_IY,),
    "UH": (_UH,), "UW": (_UW,), "ER": (_v(0.075, 1.0, 1.1, mouthFunnel=0.35, mouthPucker=0.20),),
    "AW": (_AA, _UW), "AY": (_AA, _IH), "EY": (_EH, _IY), "OW": (_AO, _UW), "OY": (_AO, _IH),
    "P": (_BILABIAL,), "B": (_BILABIAL,), "M": (_BILABIAL,), "F": (_LABIODENTAL,), "V": (_LABIODENTAL,),
    "TH": (_DENTAL,), "DH": (_DENTAL,), "T": (_ALVEOLAR,), "D": (_ALVEOLAR,), "N": (_ALVEOLAR,),
    "L": (_v(0.085, 0.8, 0.35, **_MID),), "S": (_SIBILANT,), "Z": (_SIBILANT,),
    "SH": (_POSTALVEOLAR,), "ZH": (_POSTALVEOLAR,), "CH": (_POSTALVEOLAR,), "JH": (_POSTALVEOLAR,),
    "K": (_VELAR,), "G": (_VELAR,), "NG": (_VELAR,), "HH": (_v(0.08, 0.2, 0.1),),
    "R": (_v(0.05, 0.8, 1.1, mouthFunnel=0.40, mouthPucker=0.25),), "W": (_v(0.03, 1.1, 2.0, **_ROUND),),
    "Y": (_v(0.045, 0.7, 0.6, **_SPREAD),),
}  # fmt: skip
"""Every phone; a diphthong has two visemes, one after the other."""

BILABIALS: Final = frozenset(("P", "B", "M"))
LABIODENTALS: Final = frozenset(("F", "V"))
LABIODENTAL_CLOSURE: Final = 0.7
REST: Final = Viseme({}, 1.0)
ANTICIPATION_PER_S: Final = 22.0
CARRY_OVER_PER_S: Final = 26.0
CORE: Final = 0.4
"""Middle part of a phone in which its dominance is full."""
CLOSING_S: Final = 0.060
RELEASE_S: Final = 0.045
PAUSE_S: Final = 0.15
"""A gap between phones longer than this is silence with closed lips."""


def blend(phones: Sequence[Interval], times_s: Float64) -> dict[str, Float64]:
    """Channel -> (N,) value at each time: the dominance-weighted mean of the targets of all phones and pauses.

    Raises UsageError for a phone that is not in `VISEMES`.
    """
    jaw_weight, lip_weight = np.full(len(times_s), 1e-9), np.full(len(times_s), 1e-9)
    sums = {channel: np.zeros(len(times_s)) for channel in CHANNELS}
    for viseme, start, stop in _segments(phones, times_s):
        middle, half = (start + stop) / 2, CORE * (stop - start) / 2
        early, late = np.maximum(middle - half - times_s, 0), np.maximum(times_s - middle - half, 0)
        fall = np.exp(-ANTICIPATION_PER_S * early - CARRY_OVER_PER_S * late)
        lips = viseme.dominance if viseme.lips is None else viseme.lips
        jaw_weight += viseme.dominance * fall
        lip_weight += lips * fall
        for channel, target in viseme.targets.items():
            sums[channel] += (viseme.dominance if channel == "jaw" else lips) * fall * target
    return {name: total / (jaw_weight if name == "jaw" else lip_weight) for name, total in sums.items()}


def _segments(phones: Sequence[Interval], times_s: Float64) -> list[tuple[Viseme, float, float]]:
    """Visemes with start and end in seconds, pauses included."""
    segments: list[tuple[Viseme, float, float]] = []
    for start, stop in pauses(phones, times_s):
        segments.append((REST, start, stop))
    for phone in phones:
        if phone.label not in VISEMES:
            raise UsageError(f"unknown phone {phone.label!r}", f"Use ARPAbet without stress: {' '.join(VISEMES)}")
        parts = VISEMES[phone.label]
        edges = np.linspace(phone.start_us / 1e6, phone.end_us / 1e6, len(parts) + 1)
        segments += [(part, float(edges[i]), float(edges[i + 1])) for i, part in enumerate(parts)]
    return segments


def pauses(phones: Sequence[Interval], times_s: Float64) -> list[tuple[float, float]]:
    """Start and end in seconds of the silences around and between phones."""
    begin, end = float(times_s[0]) - 1.0, float(times_s[-1]) + 1.0
    edges = [begin, *(t / 1e6 for phone in phones for t in (phone.start_us, phone.end_us)), end]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a > PAUSE_S]


def closure(phones: Sequence[Interval], times_s: Float64, silence: bool = True) -> Float64:
    """(N,) 0..1: 1 where the lips must touch, throughout p, b, m (but for the release) and in silence; less in f, v.

    Without `silence`, only where a phone wants them to.
    """
    total = np.zeros(len(times_s))
    for phone in phones:
        if phone.label in BILABIALS:
            start, stop = phone.start_us / 1e6, phone.end_us / 1e6
            held = 0.6 if phone.label in "PB" else 0.85
            stop = start + max(held * (stop - start), min(stop - start, 0.042))  # a frame at 24 fps falls inside
            total = np.maximum(total, ramp(times_s, start, stop, CLOSING_S, RELEASE_S))
        elif phone.label in LABIODENTALS:
            start, stop = phone.start_us / 1e6, phone.end_us / 1e6
            total = np.maximum(total, LABIODENTAL_CLOSURE * ramp(times_s, start, stop, CLOSING_S, RELEASE_S))
    for start, stop in pauses(phones, times_s) if silence else ():
        total = np.maximum(total, ramp(times_s, start + 0.10, stop - 0.04, 0.12, 0.10))
    return total


def ramp(times_s: Float64, start: float, stop: float, rise: float, fall: float) -> Float64:
    """1 from start to stop, raised-cosine flanks of `rise` before and `fall` seconds after."""
    before = np.clip((times_s - start + rise) / rise, 0, 1)
    after = np.clip((stop + fall - times_s) / fall, 0, 1)
    return np.asarray((0.5 - 0.5 * np.cos(np.pi * before)) * (0.5 - 0.5 * np.cos(np.pi * after)))
