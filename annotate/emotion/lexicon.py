"""English words that name or betray a feeling: written for this project, free of any other lexicon's terms.

A word stands for its inflected forms. Strength 1: the word is mostly said in or of that feeling; 0.5: often.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

_WORDS: Final[Mapping[tuple[str, float], str]] = {
    ("happiness", 1.0): """
        happy happily happiness joy joyful joyfully delight delighted delightful glad gladly cheerful thrilled ecstatic
        overjoyed wonderful hooray yay hurrah laugh giggle celebrate celebration blissful merry jolly elated euphoric
        """,
    ("happiness", 0.5): """
        love lovely great fantastic amazing awesome excellent brilliant beautiful enjoy fun funny smile win won winner
        success proud congratulation thank grateful lucky pleased perfect exciting excited best hilarious sweet gorgeous
        marvellous marvelous superb fabulous
        """,
    ("anger", 1.0): """
        angry angrily anger furious furiously fury rage mad outrage outraged outrageous infuriate infuriated infuriating
        hate hateful hatred damn bastard livid enraged irate resent resentful
        """,
    ("anger", 0.5): """
        annoy annoyed annoying unfair idiot idiotic stupid shut liar lie blame fault betray betrayed insult insulting
        irritate irritated irritating ridiculous hostile attack fight threaten sick fed unacceptable intolerable argue
        """,
    ("sadness", 1.0): """
        sad sadly sadness sorrow sorrowful grief grieve grieving mourn mourning cry crying weep weeping wept heartbroken
        miserable misery depressed depressing depression lonely loneliness hopeless despair tears unhappy
        """,
    ("sadness", 0.5): """
        miss missed lost loss lose died die dead death funeral sorry alone goodbye hurt regret disappointed
        disappointing pity tragic tragedy unfortunately broken gone ache suffer suffering abandoned
        """,
    ("contempt", 1.0): "contempt contemptible pathetic despise despicable scorn disdain laughable beneath inferior",
    (
        "contempt",
        0.5,
    ): "loser whatever worthless arrogant mediocre amateur pretentious fool foolish joke smug spineless",
    ("surprise", 1.0): """
        surprise surprised surprising surprisingly astonish astonished astonishing astound astounded wow whoa
        unbelievable unexpected unexpectedly gosh stunned stunning startled
        """,
    (
        "surprise",
        0.5,
    ): "sudden suddenly incredible shock shocked shocking really imagine strange believe never impossible",
    ("fear", 1.0): """
        afraid fear fearful feared scared scare scary terrified terrifying terror frighten frightened frightening panic
        horror horrified dread dreadful petrified
        """,
    ("fear", 0.5): """
        worry worried worrying anxious anxiety nervous danger dangerous threat risk help scream escape nightmare monster
        careful hide hiding trapped unsafe emergency
        """,
    ("disgust", 1.0): """
        disgust disgusted disgusting revolting gross yuck nauseous nauseating repulsive vile filthy putrid vomit
        sickening loathsome
        """,
    ("disgust", 0.5): "dirty rotten stink stinks stinking smelly nasty foul mouldy moldy slimy ugly garbage",
    ("calm", 1.0): "calm calmly peaceful peacefully serene relax relaxed relaxing tranquil",
    ("calm", 0.5): "quiet quietly gentle gently rest soft softly easy slowly peace breathe comfortable",
}

NEGATIONS: Final = frozenset(
    ("not", "no", "never", "cannot", "without", "hardly", "nobody", "neither", "nor", "ain't")
)
STRONGER: Final[Mapping[str, float]] = {
    "very": 1.4, "so": 1.3, "really": 1.4, "extremely": 1.6, "absolutely": 1.5, "totally": 1.4, "completely": 1.4,
    "incredibly": 1.5, "too": 1.2, "terribly": 1.4, "quite": 1.1, "slightly": 0.6, "somewhat": 0.7, "little": 0.7,
    "almost": 0.8, "rather": 1.1,
}
_ENDINGS: Final = (
    ("ies", "y"),
    ("ied", "y"),
    ("ing", ""),
    ("ing", "e"),
    ("ed", ""),
    ("ed", "e"),
    ("es", ""),
    ("s", ""),
)


@functools.lru_cache(maxsize=1)
def words() -> dict[str, tuple[str, float]]:
    """Word -> emotion and strength."""
    return {word: key for key, text in _WORDS.items() for word in text.split()}


def look_up(word: str) -> tuple[str, float] | None:
    """Emotion and strength of a lower-case word or of the word that it is a form of; None for a plain one."""
    known = words()
    if word in known:
        return known[word]
    for ending, instead in _ENDINGS:
        stem = word.removesuffix(ending) + instead
        if word.endswith(ending) and len(stem) > 2 and stem in known:
            return known[stem]
    return None
