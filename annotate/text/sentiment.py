"""Sentiment of a sentence: words that judge, turned by negations and weighed by adverbs of degree.

The words are of our own choosing; the rules of negation and degree follow Hutto & Gilbert, "VADER" (2014). The package
vaderSentiment has far more words, but its last release is of 2020, so it is no dependency.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from annotate.text.lemma import lemmas

_VALENCE: Final = {
    word: value
    for value, words in {
        2.0: """
            love wonderful excellent amazing fantastic perfect brilliant great best beautiful delightful superb awesome
            magnificent joy happy adore thrilled marvellous marvelous incredible outstanding win triumph
            """,
        1.0: """
            good nice fine like enjoy fun useful helpful kind friend thank thanks welcome pleasant pleased glad hope
            smile laugh calm safe easy free fair honest brave clever smart strong success succeed improve benefit gain
            support agree trust peace healthy warm fresh bright sweet interesting exciting valuable important please
            comfortable pretty lovely proud lucky rich better well care protect comfort solve
            """,
        -1.0: """
            bad wrong poor problem hard difficult sad sorry lose loss fail failure fear afraid worry worried tired sick
            weak cold boring bored lonely angry annoy annoying hurt pain harm damage danger dangerous risk cheap dirty
            ugly stupid silly lie cheat steal fight refuse doubt mistake fault blame guilty shame unfair crisis conflict
            broken break miss lack worse expensive slow noisy rude unhappy upset trouble nervous complain reject
            """,
        -2.0: """
            hate terrible horrible awful worst disgusting evil cruel disaster tragedy kill death die murder war terror
            miserable furious despise dreadful hopeless nightmare destroy horrific catastrophe vicious torture
            """,
    }.items()
    for word in words.split()
}
# fmt: off
_NEGATIONS: Final = frozenset((
    "not", "no", "never", "none", "nobody", "nothing", "neither", "nor", "without", "hardly", "cannot",
))
# fmt: on
_MORE: Final = {
    "very": 1.4,
    "really": 1.4,
    "so": 1.3,
    "too": 1.2,
    "extremely": 1.6,
    "absolutely": 1.6,
    "totally": 1.5,
    "completely": 1.5,
    "truly": 1.4,
    "quite": 1.1,
    "rather": 0.9,
    "fairly": 0.9,
    "slightly": 0.6,
    "somewhat": 0.7,
}  # fmt: skip
REACH: Final = 3
"""Words before one that turn or weigh it."""
TURNED: Final = -0.74
"""What a negation makes of a valence: not good is less bad than bad (VADER's factor)."""
SOFTENING: Final = 2.0


def sentiment(words: Sequence[str]) -> float:
    """-1 (bad) to 1 (good) of a sentence of lower-case words; 0 where nothing judges."""
    total = 0.0
    for place, word in enumerate(words):
        value = next((_VALENCE[lemma] for lemma in lemmas(word) if lemma in _VALENCE), 0.0)
        if not value:
            continue
        before = words[max(0, place - REACH) : place]
        if any(other in _NEGATIONS or other.endswith("n't") for other in before):
            value *= TURNED
        for other in before[-2:]:
            value *= _MORE.get(other, 1.0)
        total += value
    return total / (abs(total) + SOFTENING)
