"""FACS action units from ARKit's blend-shape weights, relative to a face at rest, and what of them lasts in speech.

Ekman, Friesen & Hager, "Facial Action Coding System", 2002. Left and right are the subject's.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.errors import UsageError

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Unit:
    """One action unit and the weights that make it up."""

    name: str
    actions: tuple[str, ...]
    """ARKit's names; the unit is their mean."""
    speech: bool = False
    """Whether speech moves it: then its median over a window counts, which the mouth's quick shapes hardly touch."""
    one_sided: bool = False
    """The difference of the two actions instead of their mean."""


def _pair(name: str, action: str, speech: bool = False, one_sided: bool = False) -> Unit:
    return Unit(name, (f"{action}Left", f"{action}Right"), speech, one_sided)


UNITS: Final = (
    Unit("AU1", ("browInnerUp",)),
    _pair("AU2", "browOuterUp"),
    _pair("AU4", "browDown"),
    _pair("AU5", "eyeWide"),
    _pair("AU6", "cheekSquint"),
    _pair("AU7", "eyeSquint"),
    _pair("AU9", "noseSneer"),
    _pair("AU10", "mouthUpperUp", speech=True),
    _pair("AU12", "mouthSmile", speech=True),
    _pair("AU14", "mouthDimple", speech=True),
    _pair("AU15", "mouthFrown", speech=True),
    _pair("AU16", "mouthLowerDown", speech=True),
    Unit("AU17", ("mouthShrugLower",), speech=True),
    Unit("AU18", ("mouthPucker",), speech=True),
    _pair("AU20", "mouthStretch", speech=True),
    Unit("AU23", ("mouthRollLower", "mouthRollUpper"), speech=True),
    _pair("AU24", "mouthPress", speech=True),
    Unit("AU26", ("jawOpen",), speech=True),
    Unit("lips", ("mouthClose",), speech=True),
    _pair("AU10 of one side", "mouthUpperUp", speech=True, one_sided=True),
    _pair("AU12 of one side", "mouthSmile", speech=True, one_sided=True),
    _pair("AU14 of one side", "mouthDimple", speech=True, one_sided=True),
    _pair("AU24 of one side", "mouthPress", speech=True, one_sided=True),
)
"""In the order of every vector of units. AU26 is the jaw's fall (AU25 to AU27); `lips` closes them over an open jaw."""
NUM_UNITS: Final = len(UNITS)


def action_units(names: Sequence[str], weights: ArrayLike, rest: ArrayLike | None = None) -> Float64:
    """(T, U) units of ARKit weights (T, len(names)) less those of the face at rest (len(names),); NaN stays NaN.

    A unit of one side is the size of the difference of left and right. Raises UsageError where a name is missing.
    """
    table = np.asarray(weights, dtype=np.float64)
    if rest is not None:
        table = table - np.asarray(rest, dtype=np.float64)
    column = {name: index for index, name in enumerate(names)}
    missing = [action for unit in UNITS for action in unit.actions if action not in column]
    if missing:
        raise UsageError(f"no weights of {', '.join(sorted(set(missing)))}", "Give all of ARKit's blend shapes by name")
    found = []
    for unit in UNITS:
        parts = table[:, [column[action] for action in unit.actions]]
        found.append(parts[:, 0] - parts[:, 1] if unit.one_sided else parts.mean(1))
    return np.stack(found, axis=1)


def over_window(units: Float64) -> Float64:
    """(U,) of the frames of a window (n, U): means, medians of what speech moves, sizes of what is of one side.

    NaN where no frame is known.
    """
    speech = np.array([unit.speech for unit in UNITS])
    one_sided = np.array([unit.one_sided for unit in UNITS])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a window without a face
        level = np.where(speech, np.nanmedian(units, axis=0), np.nanmean(units, axis=0))
    return np.where(one_sided, np.abs(level), level)
