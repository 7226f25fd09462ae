"""What names tell of expressions: which of left and right move together, and where a detector's blend shapes start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.models.arkit import ARKIT_NAMES, JOINT_ACTIONS, from_arkit
from reconstruct.models.head_model import HeadModel

TOGETHER: Final[Mapping[str, float]] = {
    "eyeBlink": 1.0,
    "eyeWide": 1.0,
    "eyeSquint": 0.5,
    "browDown": 0.5,
    "browOuterUp": 0.5,
    "cheekSquint": 0.5,
}
"""Actions whose two sides mostly move as one, and how firmly: both upper lids are lifted by one nucleus, brows and
cheeks can be moved alone by some people. The mouth's sides, which speech and smiles move unlike, are free."""


def mirrored(names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(N, 2) places of the left and the right one of two expressions that mostly move together, and (N,) how firmly.

    Pairs are told by their names, an action of `TOGETHER` and Left or Right; other names have none.
    """
    places = {name: place for place, name in enumerate(names)}
    found = [
        (places[action + "Left"], places[action + "Right"], firmly)
        for action, firmly in TOGETHER.items()
        if action + "Left" in places and action + "Right" in places
    ]
    pairs = np.array([pair[:2] for pair in found], np.int64).reshape(-1, 2)
    return pairs, np.array([pair[2] for pair in found], np.float64)


def speaks_arkit(model: HeadModel) -> bool:
    """Whether the model's expressions, jaw and eyes are ARKit's actions as `arkit` converts them."""
    return set(ARKIT_NAMES) <= set(model.expression_names) and set(model.fixed_expressions) == set(JOINT_ACTIONS)


def of_blendshapes(model: HeadModel, blendshapes: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Expression (T, E), jaw and eye poses (T, 3) of ARKit weights (T, 52); frames without them are at rest."""
    return {name: np.nan_to_num(values) for name, values in from_arkit(model, blendshapes, clip=True).items()}
