"""ARKit weights of a fitted head that are measured from one face in all clips of a speaker."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from reconstruct.embedding import Embedding
from reconstruct.identity_actions import identity_actions, looks_like
from reconstruct.models.arkit import ARKIT_NAMES, to_arkit
from reconstruct.models.head_model import HeadModel
from schemas.types import Float32, HeadTrack


def surface_weights(model: HeadModel, embedding: Embedding, head: HeadTrack) -> tuple[Float32, Float32]:
    """(T, 52) weights of the fit with what its identity looks like added, and that (52,) alone; not cut to 0..1.

    In the order of `ARKIT_NAMES`; frames that are not valid are NaN. Raises UsageError for a model without ARKit's
    actions.
    """
    poses = (head.jaw_pose, head.left_eye_pose, head.right_eye_pose)
    weights = to_arkit(model, head.expression, *poses)
    codes = looks_like(_identity(_Pair(model, embedding)), head.shape)
    own = np.array([codes[model.expression_names.index(name)] for name in ARKIT_NAMES], np.float32)
    return np.where(head.valid[:, None], weights + own, np.float32(np.nan)), own


class _Pair:
    """Model and embedding as one key of the cache: neither can be hashed by value."""

    def __init__(self, model: HeadModel, embedding: Embedding) -> None:
        self.model, self.embedding = model, embedding
        self._key = model.sha256, embedding.detector

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pair) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@functools.lru_cache(maxsize=4)
def _identity(pair: _Pair) -> NDArray[np.float64]:
    return identity_actions(pair.model, pair.embedding)
