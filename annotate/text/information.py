"""How much a word tells: its information content in English, from the model that pocketsphinx carries.

The package's trigram model (BSD, trained on large text corpora) knows 19,800 words; its unigram probabilities are
frequencies of words. A word that it does not know is as rare as its rarest.
"""

from __future__ import annotations

import functools
from typing import Any, Final

import pocketsphinx

RAREST_BITS: Final = 20.0
COMMONEST_BITS: Final = 4.5
"""`the` has 4.6."""
_LOG2_PER_UNIT: Final = 1.4426950408889634 * 9.999500033330835e-05
"""The model's logarithm is to the base 1.0001, in steps of 1: ln(1.0001) / ln(2)."""
_UNKNOWN: Final = -(1 << 28)


@functools.cache
def _model() -> Any:
    return pocketsphinx.NGramModel.readfile(pocketsphinx.get_model_path("en-us/en-us.lm.bin"))


@functools.lru_cache(maxsize=50_000)
def information_bits(word: str) -> float:
    """Bits of a lower-case word, -log2 of its frequency: `the` 4.6, `box` 13, unknown words `RAREST_BITS`."""
    found = _model().prob([word])
    if found < _UNKNOWN:
        return RAREST_BITS
    return float(min(-found * _LOG2_PER_UNIT, RAREST_BITS))


def information(word: str) -> float:
    """The same from 0 (the commonest words) to 1 (the rarest)."""
    return min(max((information_bits(word) - COMMONEST_BITS) / (RAREST_BITS - COMMONEST_BITS), 0.0), 1.0)
