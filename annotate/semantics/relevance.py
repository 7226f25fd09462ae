"""How much each word of a sentence means: rare words, words of content, those that hands show or the voice stresses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.text.information import information
from annotate.text.parts_of_speech import CONTENT

Float64 = NDArray[np.float64]

# fmt: off
LIGHT: Final = frozenset((
    "be", "is", "are", "was", "were", "am", "been", "being", "have", "has", "had", "do", "does", "did", "go",
    "goes", "going", "went", "get", "gets", "got", "make", "made", "come", "came", "put", "say", "says", "said",
    "let", "please",
))
# fmt: on
"""Verbs and words that mean little by themselves; a tagger takes them for content."""
FUNCTION: Final = 0.3
"""Part of its information that a function word keeps."""
LIGHT_PART: Final = 0.4
SHOWN: Final = {"none": 0.0, "beat": 0.15, "deictic": 0.22, "iconic": 0.18, "metaphoric": 0.18}
"""What a word gains that a gesture goes with: its sense is also seen."""
STRESS: Final = 0.25
"""What the stress of the voice adds or takes, from one end to the other."""


def relevance(
    words: Sequence[str],
    tags: Sequence[str],
    kinds: Sequence[str],
    emphasis: Sequence[float] | None = None,
) -> Float64:
    """(W,) 0 to 1 for the lower-case words of a sentence; `kinds` are their types of gesture."""
    scores = []
    for place, word in enumerate(words):
        told = information(word)
        part = FUNCTION if tags[place] not in CONTENT else LIGHT_PART if word in LIGHT else 1.0
        score = part * (0.25 + told) + SHOWN[kinds[place]]
        if emphasis is not None:
            score += STRESS * (float(emphasis[place]) - 0.5)
        scores.append(score / 1.25)
    return np.clip(np.array(scores), 0.0, 1.0)
