"""What the identity of a fitted head looks like in terms of its expressions: so faces at rest become comparable.

A clip whose speaker frowns throughout gives a fit two ways to say so: lowered brows, or a person with low brows. Where
several clips of the speaker are known, the identities of their fits differ by just that. The part of an identity that
expressions could have made is found by ridge regression over the landmarks; with it added, the codes of all clips of a
speaker are measured from one face.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from reconstruct.embedding import Embedding
from reconstruct.models.head_model import HeadModel
from schemas.types import Float32

Float64 = NDArray[np.float64]

RIDGE_M2: Final = 1e-4
"""Of the codes; landmarks that move by a millimetre in an action together make about that."""
DEPTH: Final = 0.15
"""Weight of what moves along the line of sight, which a camera hardly sees."""
OUT_OF_SIGHT: Final = ("eyeLook", "jawLeft", "jawRight", "jawForward", "tongueOut", "cheekPuff")
"""Actions that are no explanation for a face at rest."""


def identity_actions(model: HeadModel, embedding: Embedding) -> Float64:
    """(E, S) expression codes that look like one unit of each shape coefficient, seen from the front.

    Position, rotation and size of the face are left out of the account. Rows of actions out of sight are zero.
    """

    def at_landmarks(directions: NDArray[np.float32]) -> Float64:
        corners = directions[embedding.vertices].astype(np.float64)
        return np.asarray(np.einsum("lc,lcdk->ldk", embedding.barycentric, corners))

    places = np.einsum("lc,lcd->ld", embedding.barycentric, model.v_template[embedding.vertices].astype(np.float64))
    count, middle = len(places), places - places.mean(0)
    rigid = [np.broadcast_to(axis, places.shape) for axis in np.eye(3)]
    rigid += [np.cross(axis, middle) for axis in np.eye(3)] + [middle]
    kept = [i for i, name in enumerate(model.expression_names) if not name.startswith(OUT_OF_SIGHT)]
    weight = np.tile([1.0, 1.0, DEPTH], count)[:, None]
    actions = at_landmarks(model.expression)[:, :, kept].reshape(3 * count, -1)
    system = weight * np.concatenate([actions, np.stack([move.reshape(-1) for move in rigid], axis=1)], axis=1)
    pull = np.diag([RIDGE_M2] * len(kept) + [1e-9] * len(rigid))
    wanted = weight * at_landmarks(model.identity).reshape(3 * count, -1)
    solved = np.linalg.solve(system.T @ system + pull, system.T @ wanted)
    found = np.zeros((model.num_expression, model.num_shape))
    found[kept] = solved[: len(kept)]
    return found


def looks_like(identity: Float64, shape: Float32) -> Float32:
    """(E,) expression codes that a shape (S,) looks like; `identity` is of `identity_actions`."""
    return np.asarray(identity @ shape.astype(np.float64), np.float32)
