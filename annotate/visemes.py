"""From phones to what the mouth shows: named viseme maps, long rows of visemes, and tracks of them at the video's PTS.

The set "oculus15" is that of Oculus/Meta LipSync, which MPEG-4's face animation has as its visemes 0 to 14 (ISO/IEC
14496-2, table C.1); the set "sapi22" is that of Microsoft's SAPI 5 and Azure Speech (viseme ids 0 to 21). Tracks share
the mouth between neighbours by dominance functions (Cohen & Massaro, "Modeling coarticulation in synthetic visual
speech", 1993).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.types import Float32, Int64, Interval

Float64 = NDArray[np.float64]

PAUSE_US: Final = 150_000
"""A longer gap between phones is shown as silence."""
_CORE: Final = 0.7
"""Middle part of a viseme in which its dominance is full."""
_ANTICIPATION_US: Final = 45_000
_CARRY_OVER_US: Final = 30_000
"""Times in which dominance falls to 1/e before and after that part: lips move ahead of the sound."""


@dataclass(frozen=True)
class VisemeMap:
    """A named set of visemes and which of them each ARPAbet phone shows, one after the other."""

    name: str
    source: str
    visemes: tuple[str, ...]
    """In the set's own order; the first is silence."""
    phones: Mapping[str, tuple[str, ...]]


def _spread(groups: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {phone: (viseme,) for viseme, phones in groups.items() for phone in phones.split()}


OCULUS15: Final = VisemeMap(
    "oculus15",
    # dictionaries without stress write AH for the schwa too, which is far more frequent than the open vowel of "cup"
    "Meta, Oculus LipSync: Viseme Reference; MPEG-4 visemes, ISO/IEC 14496-2 table C.1",
    ("sil", "PP", "FF", "TH", "DD", "kk", "CH", "SS", "nn", "RR", "aa", "E", "ih", "oh", "ou"),
    {
        **_spread(
            {
                "PP": "P B M", "FF": "F V", "TH": "TH DH", "DD": "T D", "kk": "K G NG HH", "CH": "CH JH SH ZH",
                "SS": "S Z", "nn": "N L", "RR": "R ER", "aa": "AA AE", "E": "EH AH", "ih": "IH IY Y", "oh": "AO",
                "ou": "UH UW W",
            }
        ),
        "AW": ("aa", "ou"), "AY": ("aa", "ih"), "EY": ("E", "ih"), "OW": ("oh", "ou"), "OY": ("oh", "ih"),
    },
)  # fmt: skip

SAPI22: Final = VisemeMap(
    "sapi22",
    "Microsoft, SAPI 5 SPVISEMES and Azure Speech: Get facial position with viseme",
    tuple(str(number) for number in range(22)),
    _spread(
        {
            "1": "AE AH", "2": "AA", "3": "AO", "4": "EH EY UH", "5": "ER", "6": "IY IH Y", "7": "UW W", "8": "OW",
            "9": "AW", "10": "OY", "11": "AY", "12": "HH", "13": "R", "14": "L", "15": "S Z", "16": "SH CH JH ZH",
            "17": "TH DH", "18": "F V", "19": "T D N", "20": "K G NG", "21": "P B M",
        }
    ),
)  # fmt: skip

VISEME_MAPS: Final = {table.name: table for table in (OCULUS15, SAPI22)}

DOMINANCE: Final = {
    "sil": 0.8, "PP": 1.8, "FF": 1.6, "TH": 0.9, "DD": 0.5, "kk": 0.35, "CH": 1.1, "SS": 0.9, "nn": 0.5, "RR": 0.8,
    "aa": 1.0, "E": 1.0, "ih": 0.9, "oh": 1.1, "ou": 1.2,
}  # fmt: skip
"""How strongly a viseme of oculus15 insists on the mouth: lips that must meet do, a hidden tongue does not."""

ARKIT: Final[Mapping[str, Mapping[str, float]]] = {
    "sil": {},
    "PP": {"mouthClose": 0.06, "jawOpen": 0.06, "mouthPressLeft": 0.35, "mouthPressRight": 0.35, "mouthRollLower": 0.2},
    "FF": {"jawOpen": 0.10, "mouthRollLower": 0.55, "mouthUpperUpLeft": 0.25, "mouthUpperUpRight": 0.25},
    "TH": {"jawOpen": 0.18, "tongueOut": 0.25, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "DD": {"jawOpen": 0.16, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2},
    "kk": {"jawOpen": 0.22, "mouthLowerDownLeft": 0.15, "mouthLowerDownRight": 0.15},
    "CH": {"jawOpen": 0.12, "mouthFunnel": 0.5, "mouthShrugUpper": 0.2},
    "SS": {"jawOpen": 0.08, "mouthStretchLeft": 0.25, "mouthStretchRight": 0.25, "mouthLowerDownLeft": 0.3,
           "mouthLowerDownRight": 0.3},
    "nn": {"jawOpen": 0.18, "mouthLowerDownLeft": 0.15, "mouthLowerDownRight": 0.15},
    "RR": {"jawOpen": 0.16, "mouthFunnel": 0.35, "mouthPucker": 0.25},
    "aa": {"jawOpen": 0.48, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2, "mouthUpperUpLeft": 0.1,
           "mouthUpperUpRight": 0.1},
    "E": {"jawOpen": 0.34, "mouthStretchLeft": 0.2, "mouthStretchRight": 0.2, "mouthLowerDownLeft": 0.2,
          "mouthLowerDownRight": 0.2},
    "ih": {"jawOpen": 0.2, "mouthSmileLeft": 0.2, "mouthSmileRight": 0.2, "mouthStretchLeft": 0.2,
           "mouthStretchRight": 0.2},
    "oh": {"jawOpen": 0.36, "mouthFunnel": 0.5, "mouthPucker": 0.15},
    "ou": {"jawOpen": 0.16, "mouthPucker": 0.7, "mouthFunnel": 0.25},
}  # fmt: skip
"""ARKit weights of each viseme of oculus15: round figures after the pictures of Meta's viseme reference."""

ARKIT_NAMES: Final = tuple(sorted({name for weights in ARKIT.values() for name in weights}))
"""The blend shapes that visemes move, in the order of the columns of `arkit_track`."""


def viseme_map(name: str) -> VisemeMap:
    """The map of that name. Raises UsageError for another."""
    if name not in VISEME_MAPS:
        raise UsageError(f"unknown viseme map {name!r}", f"Known: {', '.join(VISEME_MAPS)}")
    return VISEME_MAPS[name]


def viseme_rows(phones: Sequence[Interval], table: VisemeMap = OCULUS15) -> tuple[Interval, ...]:
    """Visemes as rows: phones of the same viseme that touch are one, a diphthong may be two; silence is no row.

    Times are those of the phones, a score is the lowest of its phones. Raises UsageError for a phone that the map does
    not know.
    """
    rows: list[Interval] = []
    for phone in phones:
        shown = _shown(phone, table)
        edges = np.linspace(phone.start_us, phone.end_us, len(shown) + 1).round().astype(int).tolist()
        for index, viseme in enumerate(shown):
            start, end = edges[index], edges[index + 1]
            if rows and rows[-1].label == viseme and rows[-1].end_us == start:
                last = rows.pop()
                start, score = last.start_us, min(last.score, phone.score)
            else:
                score = phone.score
            rows.append(Interval(start, end, viseme, score, phone.interpolated, phone.source))
    return tuple(rows)


def phone_track(phones: Sequence[Interval], pts_us: Int64) -> tuple[str, ...]:
    """The phone that is spoken at each of (T,) presentation times; empty in silence."""
    starts = np.array([phone.start_us for phone in phones], np.int64)
    found = np.searchsorted(starts, pts_us, side="right") - 1
    return tuple(
        phones[index].label if index >= 0 and time < phones[index].end_us else ""
        for index, time in zip(found.tolist(), pts_us.tolist(), strict=True)
    )


def viseme_track(phones: Sequence[Interval], pts_us: Int64) -> Float32:
    """(T, 15) weights of the visemes of oculus15 at each of (T,) presentation times; a row sums to 1.

    Raises UsageError for a phone that the map does not know.
    """
    times = np.asarray(pts_us, np.float64)[:, np.newaxis]
    shares = np.zeros((len(pts_us), len(OCULUS15.visemes)))
    # far from everything the mouth is at rest
    shares[:, 0] = 1e-6
    for viseme, start, end in _segments(phones, pts_us):
        middle, half = (start + end) / 2, _CORE * (end - start) / 2
        ahead = np.maximum(middle - half - times[:, 0], 0.0) / _ANTICIPATION_US
        behind = np.maximum(times[:, 0] - middle - half, 0.0) / _CARRY_OVER_US
        shares[:, OCULUS15.visemes.index(viseme)] += DOMINANCE[viseme] * np.exp(-ahead - behind)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True), np.float32)


def arkit_track(phones: Sequence[Interval], pts_us: Int64) -> Float32:
    """(T, len(ARKIT_NAMES)) ARKit weights 0..1 that the visemes ask for at each of (T,) presentation times."""
    table = np.array([[ARKIT[viseme].get(name, 0.0) for name in ARKIT_NAMES] for viseme in OCULUS15.visemes])
    return np.asarray(viseme_track(phones, pts_us) @ table, np.float32)


def lip_opening(track: Float32) -> Float32:
    """(T,) relative opening of the lips of an `arkit_track`, to compare with a measured one."""
    weights = {
        "jawOpen": 1.0, "mouthClose": -1.0, "mouthLowerDownLeft": 0.2, "mouthLowerDownRight": 0.2,
        "mouthUpperUpLeft": 0.1, "mouthUpperUpRight": 0.1, "mouthPucker": -0.1, "mouthRollLower": -0.2,
    }  # fmt: skip
    return np.asarray(track @ np.array([weights.get(name, 0.0) for name in ARKIT_NAMES]), np.float32)


def _shown(phone: Interval, table: VisemeMap) -> tuple[str, ...]:
    label = phone.label.rstrip("012")
    if label not in table.phones:
        known = " ".join(sorted(table.phones))
        raise UsageError(f"the phone {phone.label!r} is not in the viseme map {table.name}", f"Known phones: {known}")
    return table.phones[label]


def _segments(phones: Sequence[Interval], pts_us: Int64) -> list[tuple[str, float, float]]:
    """Visemes with their times in microseconds, silences around and between phones included."""
    found: list[tuple[str, float, float]] = []
    far = 1_000_000.0
    if not len(pts_us):
        return found
    reached = float(pts_us[0]) - far
    for phone in sorted(phones, key=lambda phone: phone.start_us):
        if phone.start_us - reached > PAUSE_US:
            found.append(("sil", reached, float(phone.start_us)))
        shown = _shown(phone, OCULUS15)
        edges = np.linspace(phone.start_us, phone.end_us, len(shown) + 1).tolist()
        found += [(viseme, edges[i], edges[i + 1]) for i, viseme in enumerate(shown)]
        reached = float(phone.end_us)
    if float(pts_us[-1]) + far - reached > PAUSE_US:
        found.append(("sil", reached, float(pts_us[-1]) + far))
    return found
