"""Acoustic targets of the ARPAbet phones for the speech synthesiser: an adult male reference voice.

Sources: vowel formants after Peterson & Barney (1952) and Hillenbrand et al. (1995); consonant targets, loci and burst
shapes after Klatt (1980) and Stevens (1998); durations after Umeda (1975, 1977). All are round figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

Formants = tuple[float, float, float]
Shape = tuple[tuple[float, float], ...]
"""Noise spectrum as (Hz, dB) corners; only its form matters, its level is given apart."""


@dataclass(frozen=True)
class Vowel:
    """A vowel or diphthong: duration in ms, first and last formant targets in Hz."""

    duration_ms: float
    onset: Formants
    glide: Formants


@dataclass(frozen=True)
class Sonorant:
    """A liquid, glide or nasal: formant targets in Hz, level in dB re a vowel."""

    duration_ms: float
    formants: Formants
    level_db: float
    zero_hz: float = 0.0
    """Frequency of the side branch's antiresonance; 0 for none (not a nasal)."""


@dataclass(frozen=True)
class Obstruent:
    """A stop, affricate or fricative.

    The second formant at its edges follows a locus equation, F2 = locus + pull * (F2 of the vowel - locus).
    """

    duration_ms: float
    locus: Formants
    pull: float
    noise: Shape
    """Spectrum of the frication, or of the burst of a stop; empty: the burst follows the vowel (velars)."""
    noise_db: float
    """Level of that noise in dB re a vowel."""
    voiced: bool
    closure: bool = False
    frication: Shape = ()
    """After the release of an affricate."""
    voicing_db: float = -10.0
    """Level of voicing through the vocal tract, where voiced and not closed."""


VOWELS: Final[dict[str, Vowel]] = {
    "AA": Vowel(125, (740, 1150, 2450), (730, 1130, 2450)),
    "AE": Vowel(130, (670, 1750, 2450), (640, 1680, 2430)),
    "AH": Vowel(75, (630, 1200, 2450), (610, 1200, 2450)),
    "AO": Vowel(130, (600, 880, 2450), (580, 900, 2450)),
    "AW": Vowel(155, (720, 1330, 2450), (440, 980, 2350)),
    "AY": Vowel(155, (720, 1230, 2450), (390, 1980, 2600)),
    "EH": Vowel(95, (560, 1800, 2550), (570, 1730, 2520)),
    "ER": Vowel(110, (480, 1330, 1690), (470, 1350, 1680)),
    "EY": Vowel(130, (480, 1980, 2600), (340, 2220, 2800)),
    "IH": Vowel(75, (420, 1980, 2600), (430, 1920, 2580)),
    "IY": Vowel(105, (310, 2230, 2950), (290, 2280, 3000)),
    "OW": Vowel(130, (530, 1050, 2420), (400, 840, 2380)),
    "OY": Vowel(180, (540, 850, 2420), (390, 1950, 2580)),
    "UH": Vowel(80, (450, 1090, 2340), (450, 1120, 2340)),
    "UW": Vowel(105, (320, 1050, 2300), (310, 930, 2280)),
}

SONORANTS: Final[dict[str, Sonorant]] = {
    "L": Sonorant(65, (360, 1080, 2750), -3.0),
    "R": Sonorant(65, (340, 1120, 1480), -3.0),
    "W": Sonorant(65, (300, 680, 2200), -4.0),
    "Y": Sonorant(60, (270, 2250, 3000), -4.0),
    "M": Sonorant(75, (280, 1050, 2250), -7.0, zero_hz=1000.0),
    "N": Sonorant(65, (280, 1550, 2550), -7.0, zero_hz=1650.0),
    "NG": Sonorant(80, (280, 2000, 2650), -7.0, zero_hz=3000.0),
}

_HISS: Final[Shape] = ((0, -50), (2500, -38), (3600, -16), (4600, -2), (6000, 0), (8000, -3))
_HUSH: Final[Shape] = ((0, -45), (1200, -30), (1900, -8), (2700, 0), (3600, -3), (5500, -8), (8000, -18))
_LABIAL: Final[Shape] = ((0, -6), (700, 0), (1500, -3), (4000, -12), (8000, -20))
_ALVEOLAR: Final[Shape] = ((0, -30), (1500, -14), (3000, -4), (4200, 0), (6000, -2), (8000, -8))
_FLAT: Final[Shape] = ((0, -14), (1000, -10), (3000, -6), (6000, -2), (8000, 0))
_DENTAL: Final[Shape] = ((0, -18), (1000, -11), (1600, -7), (4000, -6), (6500, 0), (8000, -2))

OBSTRUENTS: Final[dict[str, Obstruent]] = {
    "P": Obstruent(95, (300, 900, 2150), 0.75, _LABIAL, -14.0, voiced=False, closure=True),
    "B": Obstruent(75, (250, 900, 2150), 0.75, _LABIAL, -17.0, voiced=True, closure=True),
    "T": Obstruent(90, (320, 1750, 2650), 0.45, _ALVEOLAR, -7.0, voiced=False, closure=True),
    "D": Obstruent(70, (250, 1750, 2650), 0.45, _ALVEOLAR, -11.0, voiced=True, closure=True),
    "K": Obstruent(95, (300, 1900, 2250), 0.85, (), -9.0, voiced=False, closure=True),
    "G": Obstruent(75, (250, 1900, 2250), 0.85, (), -12.0, voiced=True, closure=True),
    "CH": Obstruent(125, (300, 1850, 2500), 0.4, _HUSH, -7.0, voiced=False, closure=True, frication=_HUSH),
    "JH": Obstruent(100, (260, 1850, 2500), 0.4, _HUSH, -12.0, voiced=True, closure=True, frication=_HUSH),
    "F": Obstruent(95, (320, 1000, 2150), 0.7, _FLAT, -20.0, voiced=False),
    "V": Obstruent(65, (270, 1050, 2150), 0.7, _FLAT, -26.0, voiced=True, voicing_db=-8.0),
    "TH": Obstruent(90, (320, 1350, 2550), 0.5, _DENTAL, -22.0, voiced=False),
    "DH": Obstruent(50, (280, 1350, 2550), 0.5, _DENTAL, -27.0, voiced=True, voicing_db=-7.0),
    "S": Obstruent(105, (320, 1700, 2600), 0.4, _HISS, -8.0, voiced=False),
    "Z": Obstruent(85, (260, 1700, 2600), 0.4, _HISS, -14.0, voiced=True, voicing_db=-11.0),
    "SH": Obstruent(110, (320, 1850, 2450), 0.4, _HUSH, -6.0, voiced=False),
    "ZH": Obstruent(85, (270, 1850, 2450), 0.4, _HUSH, -12.0, voiced=True, voicing_db=-10.0),
}

GLOTTAL_DURATION_MS: Final = 65.0
"""HH: whispered with the formants of its neighbours."""

DURATIONS_MS: Final[dict[str, float]] = {
    "HH": GLOTTAL_DURATION_MS,
    **{name: row.duration_ms for table in (VOWELS, SONORANTS, OBSTRUENTS) for name, row in table.items()},
}
"""Inherent duration of every phone that can be spoken."""

# fmt: off
FUNCTION_WORDS: Final = frozenset((
    "a", "an", "the", "and", "or", "but", "nor", "of", "to", "in", "on", "at", "by", "for", "with", "from", "as",
    "is", "are", "was", "were", "be", "been", "am", "do", "does", "did", "has", "have", "had", "he", "she", "it",
    "we", "they", "you", "i", "me", "him", "her", "us", "them", "his", "its", "our", "their", "my", "your", "that",
    "this", "than", "then", "so", "if", "not", "no", "will", "would", "can", "could", "shall", "should", "may",
    "might", "must", "there",
))
# fmt: on
"""Words without an accent."""
