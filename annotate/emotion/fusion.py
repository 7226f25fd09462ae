"""From opinions to one probability vector: a product of experts, each raised to how far it can be trusted.

Genest & Zidek, "Combining probability distributions", 1986: the logarithmic pool. Where a modality is missing nothing
is multiplied in, so the vector stays nearer to the prior and the confidence is lower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from annotate.emotion.base import NUM, Float64, Opinion, softmax
from schemas.labels import EMOTIONS

PRIOR: Final = dict.fromkeys(EMOTIONS, 0.06) | {"neutral": 0.46, "calm": 0.12}
"""Of people who talk before a camera: mostly nothing much."""
CIRCUMPLEX: Final = {
    "neutral": (0.0, 0.0), "happiness": (0.85, 0.45), "anger": (-0.7, 0.75), "sadness": (-0.7, -0.45),
    "contempt": (-0.55, 0.1), "surprise": (0.15, 0.7), "fear": (-0.7, 0.7), "disgust": (-0.7, 0.25),
    "calm": (0.4, -0.6),
}  # fmt: skip
"""Valence and arousal of each class at full intensity (after Russell, "A circumplex model of affect", 1980)."""
VOICE_AROUSAL: Final = 0.5
"""Share of the voice in the arousal, where it is heard and its speaker is known."""
TEXT_VALENCE: Final = 0.3


@dataclass(frozen=True)
class Fused:
    """Emotion in W windows."""

    probabilities: Float64
    """(W, 9)"""
    affect: Float64
    """(W, 3) intensity 0..1, valence -1..1, arousal -1..1."""


def fuse(opinions: Sequence[Opinion], count: int, prior: Mapping[str, float] | None = None) -> Fused:
    """What all judges together say of `count` windows; without any it is the prior, and no intensity.

    Each opinion's log probabilities (normalised) count `reliability` times.
    """
    total = np.tile(np.log([(prior or PRIOR)[name] for name in EMOTIONS]), (count, 1))
    for opinion in opinions:
        total += opinion.reliability[:, None] * np.log(softmax(opinion.log_odds) * NUM + 1e-9)
    probabilities = softmax(total)
    felt = 1 - probabilities[:, EMOTIONS.index("neutral")]
    intensity = _mean(opinions, "intensity", count)
    intensity = np.where(np.isfinite(intensity), intensity, 0.5 * felt)
    valence, arousal = (probabilities @ np.array([CIRCUMPLEX[name][axis] for name in EMOTIONS]) for axis in (0, 1))
    strength = np.sqrt(np.clip(intensity, 0, 1))  # a weak smile is more pleasant than its share of a broad one
    arousal, valence = arousal * strength, valence * strength
    for opinion in opinions:
        trust = np.minimum(1.0, opinion.reliability / 0.35)
        if opinion.arousal is not None:
            share = VOICE_AROUSAL * trust * np.isfinite(opinion.arousal)
            arousal = (1 - share) * arousal + share * np.nan_to_num(opinion.arousal)
        if opinion.valence is not None:
            share = TEXT_VALENCE * trust * np.isfinite(opinion.valence)
            valence = (1 - share) * valence + share * np.nan_to_num(opinion.valence)
    affect = np.stack([np.clip(intensity, 0, 1), np.clip(valence, -1, 1), np.clip(arousal, -1, 1)], axis=1)
    return Fused(probabilities, affect)


def _mean(opinions: Sequence[Opinion], field: str, count: int) -> Float64:
    """(count,) mean of what the opinions tell, weighted by their reliability; NaN where none does."""
    weight, total = np.zeros(count), np.zeros(count)
    for opinion in opinions:
        values = getattr(opinion, field)
        if values is None:
            continue
        share = opinion.reliability * np.isfinite(values)
        weight += share
        total += share * np.nan_to_num(values)
    return np.divide(total, weight, out=np.full(count, np.nan), where=weight > 1e-6)
