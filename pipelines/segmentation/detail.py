"""Whether pictures between two others are mixed from both: a mix loses fine detail, what moves keeps it.

Detail of two views has nothing to do with each other, so half of one and half of the other have half of the energy. A
view that moves by so little that its pictures lie on a line keeps its edges as sharp as they were.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.segmentation.lines import course_of

Float32 = NDArray[np.float32]

SIZE: Final = (192, 144)
"""Pixels that are compared, twice as fine as those of the line."""
CHANGED: Final = 0.15
"""Part of the picture, where it changes most, whose detail counts: two takes may have the same wall behind them."""
AROUND: Final = 9
"""Side of the square in which its change is taken."""
LOST: Final = (0.5, 1.5)
"""Lost energy over what a mix would lose. Of 21,000 windows in dissolves, encoded, 98 of 100 have 0.5 to 1.25, of 2,000
windows of people who talk 99 of 100 less than 0.3; a lens that is focused anew loses more."""
LEAST_LOSS: Final = 0.2
"""Part of the energy that a mix must lose, so that the loss can be told from noise."""
OFF: Final = 0.15
"""RMS distance of a pixel from its straight course, over its change, up to which it keeps to it."""
ON_LINE: Final = 0.3
"""Part of the energy of the change in pixels that keep to it: at this size edges that move leave theirs."""


def is_mix(pictures: Float32, kept: Float32) -> bool:
    """Whether the inner ones of (T, 144, 192) grey pictures are mixed from the first and the last one.

    kept (144, 192) is 1 where pixels take part, 0 where something else moves.
    """
    away = ((pictures - pictures[0]) * kept).reshape(len(pictures), -1)
    along = away[-1]
    course = course_of(away, along)
    return _on_line(away, along, course) >= ON_LINE and LOST[0] <= _lost(pictures, course, kept) <= LOST[1]


def _on_line(away: Float32, along: Float32, course: Float32) -> float:
    """Part of the energy of a change that lies in pixels with a straight course."""
    off = np.sqrt(np.mean((away - course[:, np.newaxis] * along)[1:-1] ** 2, axis=0))
    energy = along**2
    return float(energy[off < OFF * np.abs(along)].sum() / max(1e-6, float(energy.sum())))


def _lost(pictures: Float32, course: Float32, kept: Float32) -> float:
    """Energy of detail that the picture half way lost, over what a mix would lose; 0 where that is hardly any."""
    middle = int(np.argmin(np.abs(course - 0.5)))
    part = float(course[middle])
    change = cv2.blur(np.abs(pictures[-1] - pictures[0]) * kept, (AROUND, AROUND)) * kept
    changed = change >= np.quantile(change, 1 - CHANGED)
    first, half, last = (cv2.Laplacian(pictures[i], cv2.CV_32F)[changed] for i in (0, middle, -1))
    present = (1 - part) * float(first @ first) + part * float(last @ last)
    mixed = (1 - part) * first + part * last
    loss = present - float(mixed @ mixed)
    return (present - float(half @ half)) / loss if loss > LEAST_LOSS * present else 0.0
