"""What a generator has to beat: the mean face, the nearest neighbour in sound, another clip's motion, rules of visemes.

All give normalised motion vectors (T, D) on the generator's frame grid, so that every metric reads them alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from generator.features import MELS, PARTS
from schemas.errors import UsageError

Float32 = NDArray[np.float32]

REACH: Final = 2
"""Frames on either side that belong to what is compared: 0.2 s of sound at 25 frames a second."""
QUERIES: Final = 512


@dataclass(frozen=True)
class Heard:
    """A clip as a pair of sound and motion on the frame grid."""

    clip_id: str
    features: Float32
    """(T, F)"""
    motion: Float32
    """(T, D) normalised."""
    valid: NDArray[np.bool_]
    """(T,)"""


def mean_face(train: list[Heard]) -> Float32:
    """(D,) mean of all valid training frames."""
    frames = np.concatenate([clip.motion[clip.valid] for clip in train])
    return np.asarray(frames.mean(axis=0), np.float32)


class NearestInSound:
    """For every frame the 0.2 s of training motion whose sound is nearest, overlapping pieces averaged.

    Sound is compared as log-mel energies without their mean over the clip (a louder or duller voice is no other sound);
    features of pretrained networks as they are, likewise without their mean.
    """

    def __init__(self, train: list[Heard]) -> None:
        banks = [(_contexts(_level(clip.features)), clip) for clip in train if len(clip.features) > 2 * REACH]
        if not banks:
            raise UsageError("no training clip is long enough for nearest neighbours", "Train on longer clips")
        self._keys = np.concatenate([keys for keys, _ in banks])
        self._half = 0.5 * (self._keys**2).sum(1)
        steps = np.arange(-REACH, REACH + 1)
        pieces = []
        for keys, clip in banks:
            at = np.arange(len(keys))[:, None] + REACH + steps
            pieces.append(clip.motion[at])
            bad = ~clip.valid[at].all(axis=1)
            self._half[sum(len(p) for p in pieces[:-1]) :][: len(keys)][bad] = np.inf
        self._pieces = np.concatenate(pieces)

    def __call__(self, features: Float32) -> Float32:
        """(T, D) for features (T, F)."""
        keys = _contexts(np.pad(_level(features), ((REACH, REACH), (0, 0)), mode="edge"))
        nearest = np.concatenate(
            [
                (keys[start : start + QUERIES] @ self._keys.T - self._half).argmax(1)
                for start in range(0, len(keys), QUERIES)
            ]
        )
        total = np.zeros((len(features) + 2 * REACH, self._pieces.shape[2]), np.float64)
        count = np.zeros(len(total))
        for shift in range(2 * REACH + 1):
            span = slice(shift, shift + len(features))
            total[span] += self._pieces[nearest, shift]
            count[span] += 1
        return np.asarray((total / count[:, None])[REACH:-REACH], np.float32)


def _level(features: Float32) -> Float32:
    """(T, C) what is compared of a frame, without its mean over the clip."""
    width = features.shape[1]
    level = features.reshape(len(features), PARTS, MELS).mean(1) if width == PARTS * MELS else features
    return np.asarray(level - level.mean(axis=0), np.float32)


def _contexts(level: Float32) -> Float32:
    """(T - 2 REACH, C) the 0.2 s around each frame but the outermost."""
    count = len(level) - 2 * REACH
    return np.concatenate([level[k : k + count] for k in range(2 * REACH + 1)], axis=1)


def copied(other: Float32, frames: int) -> Float32:
    """(T, D) another clip's motion from its start on, forwards and backwards in turn until it is long enough."""
    there_and_back = np.concatenate([other, other[::-1]])
    return np.asarray(there_and_back[np.arange(frames) % len(there_and_back)])
