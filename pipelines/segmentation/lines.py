"""Whether pictures lie on a straight line between two others, some pixels left out: what a dissolve is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

SIZE: Final = (96, 72)
"""Pixels that are compared: fine enough that a head that turns moves edges by more than one of them."""
ONE_VIEW: Final = 0.35
"""Part of the change that the brightness of the first view does not explain, below which only the light changes."""
ONE_COLOUR: Final = 0.2
"""Standard deviation of a change over its RMS, below which it is the same everywhere."""


@dataclass(frozen=True)
class Fit:
    """How well how many pixels must fit the line."""

    part: float
    """Pixels that must fit: the others are hands, a head that moves, a clock that takes no part in the dissolve."""
    worst: float
    """Distance from the line over its length, worst frame; two views of a moving head have 0.5 and more."""
    mean: float
    least_change: float
    """RMS grey-value difference of the ends, 0..255. Two takes of one person in one room mostly differ by 15 and more,
    a person who sits up slowly by 7."""


# Of 105 dissolves between recordings of people who talk and sign, encoded, some with every third frame lost, the first
# two pass 88, all four 96, and of 12,300 windows without one no more. The fewer pixels must fit, the better they must:
# without a quarter, what is left of a person who moves before a still wall is the wall, hence the larger change.
FITS: Final = (
    Fit(1.00, 0.30, 0.20, 8.0),
    Fit(0.93, 0.15, 0.10, 8.0),
    Fit(0.85, 0.15, 0.10, 12.0),
    Fit(0.75, 0.15, 0.10, 12.0),
)
FIRST_SIGHT: Final = Fit(0.75, float("inf"), 0.18, 0.0)
"""What the loosest fit has at least before its pixels are chosen again."""
NOISE: Final = 2.0
"""RMS grey-value difference that compression alone makes."""


@dataclass(frozen=True)
class Line:
    """Pictures that lie on a line."""

    kept: Float32
    """(P,) 1 for pixels that fit, 0 for those that are left out."""
    change: float
    """RMS grey-value difference of its ends there."""
    residual: float
    """Mean distance over the length."""


def line_of(away: Float32) -> Line | None:
    """The line from a first picture to the last of (T, P) pictures less that first one, if they lie on it."""
    along = away[-1]
    length, square = along * along, away * away
    if float(length.sum()) < min(fit.least_change for fit in FITS) ** 2 * along.size:
        return None
    kept = np.ones_like(along)
    off = _off_pixels(away, along, kept)
    sight = _fitted(away, along, length, square, _least(off, FIRST_SIGHT.part), FIRST_SIGHT)
    if sight.residual > max(FIRST_SIGHT.mean, NOISE / max(sight.change, 1e-6)):
        return None  # most windows end here
    for fit in FITS:
        if fit.part < 1:  # twice, with the course that the pixels have which fit
            kept = _least(_off_pixels(away, along, _least(off, fit.part)), fit.part)
        line = _fitted(away, along, length, square, kept, fit)
        if line.change >= fit.least_change and line.residual <= fit.mean:
            return line
    return None


def _fitted(away: Float32, along: Float32, length: Float32, square: Float32, kept: Float32, fit: Fit) -> Line:
    """The line through the pixels that are kept; its residual is infinite where one picture is too far from it."""
    size = max(1e-6, float(length @ kept))
    place = away @ (along * kept) / size
    residual = np.sqrt(np.maximum(square @ kept / size - place**2, 0.0))
    mean = float(residual.mean()) if residual.max() <= fit.worst else float("inf")
    return Line(kept, float(np.sqrt(size / kept.sum())), mean)


def course_of(away: Float32, along: Float32, kept: Float32 | None = None) -> Float32:
    """(T,) places, 0..1 between the ends, of pictures (T, P) less the first one."""
    part = along if kept is None else along * kept
    return np.asarray(away @ part / max(1e-6, float(along @ part)), np.float32)


def _off_pixels(away: Float32, along: Float32, kept: Float32) -> Float32:
    """(P,) how far each pixel leaves the course of those that are kept."""
    off = np.multiply.outer(course_of(away, along, kept), along)
    np.subtract(away, off, out=off)
    return np.asarray(np.abs(off, out=off).max(axis=0), np.float32)


def _least(off: Float32, part: float) -> Float32:
    """(P,) 1 for the given part of the pixels, those that leave the line least."""
    count = round(part * len(off))
    return np.asarray(off <= np.partition(off, count - 1)[count - 1], np.float32)


def is_one_view(first: Float32, along: Float32, kept: Float32) -> bool:
    """Whether both ends of a line show the same view under another light."""
    pixels = kept > 0
    change = along[pixels] - along[pixels].mean()
    centred = first[pixels] - first[pixels].mean()
    explained = float(change @ centred) ** 2 / max(1e-6, float(centred @ centred))
    return float(change @ change) - explained < ONE_VIEW**2 * float(along @ (along * kept))


def is_one_colour(along: Float32) -> bool:
    """Whether a change is the same everywhere: from black to white leads a line near any view."""
    return float(along.std()) < ONE_COLOUR * float(np.sqrt(np.mean(along**2)))
