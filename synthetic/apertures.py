"""How far the lips and the eyelids of a head model stand apart, measured on vertices found by geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError

Ids = NDArray[np.int64]
Float64 = NDArray[np.float64]

HALF_WIDTH_M = 0.004
"""Half of the width about the middle of the mouth or of an eye in which a gap is measured."""


@dataclass(frozen=True)
class Apertures:
    """Vertices above and below the three slits of a head."""

    lips: tuple[Ids, Ids]
    left_eye: tuple[Ids, Ids]
    right_eye: tuple[Ids, Ids]

    def ids(self) -> Ids:
        """All vertices concerned, sorted, each once."""
        return np.asarray(np.unique(np.concatenate([*self.lips, *self.left_eye, *self.right_eye])), dtype=np.int64)


def find_apertures(model: HeadModel) -> Apertures:
    """The vertices about the middle of the lips (told apart by the jaw's weight) and of the eyelids (by height).

    Raises UsageError when the model names no lips or eyelids.
    """
    for name in ("lips", "eyelids"):
        if name not in model.regions:
            raise UsageError(f"head model {model.name!r} has no region {name!r}", "Measure it with the open head")
    rest = model.v_template.astype(np.float64)
    lips = model.regions["lips"].astype(np.int64)
    middle = lips[np.abs(rest[lips, 0]) < HALF_WIDTH_M]
    moves = model.weights[middle, 2] > 0.5
    lids = model.regions["eyelids"].astype(np.int64)
    eyes = []
    for centre in model.joint_regressor[3:5].astype(np.float64) @ rest:
        near = lids[np.abs(rest[lids, 0] - centre[0]) < HALF_WIDTH_M]
        above = rest[near, 1] > centre[1] - 0.001  # lids meet a little below the centre of the eye
        eyes.append((near[above], near[~above]))
    return Apertures((middle[~moves], middle[moves]), eyes[0], eyes[1])


def gap_m(vertices: Float64, slit: tuple[Ids, Ids]) -> Float64:
    """(T,) metres from the highest lower to the lowest upper vertex of a slit; negative where they overlap.

    Args: vertices (T, V, 3) in the model's own axes (y up), without head rotation.
    """
    above, below = slit
    return np.asarray(vertices[:, above, 1].min(1) - vertices[:, below, 1].max(1))
