"""Which gesture a word asks for, in BEAT's types: none, beat, deictic, iconic, metaphoric.

Rules over a sentence's words, their parts of speech and the classes of gesture_words.txt:

1. deictic: demonstratives, `here` and `there` (not the `there` of `there is`, unless a direction stands before it),
   verbs of pointing, `me`, `us`, `you` and others as objects, `behind` and its like before one of these.
2. metaphoric: abstract nouns, by the list or by their ending; and words of size or movement whose noun is abstract
   (prices rise, a weak foundation): the physical word lends its picture to the idea.
3. iconic: words of size, shape and movement and things that hands outline, where nothing abstract is near; a direction
   after a word of movement.
4. beat: words that stress (never, really, must), and words that the voice stresses where it is heard.

Rules 1 to 4 are asked in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from annotate.semantics.lexicon import gesture_classes
from annotate.text.lemma import lemmas
from annotate.text.parts_of_speech import ADJECTIVES, NOUNS, VERBS

TYPES: Final = ("none", "beat", "deictic", "iconic", "metaphoric")

_ABSTRACT_ENDINGS: Final = (
    *("ness", "ity", "ism", "ship", "dom", "hood", "acy", "ence", "ance", "tion", "sion", "logy", "ment", "tude"),
)
# fmt: off
_CONCRETE: Final = frozenset((
    "city", "university", "station", "apartment", "document", "instrument", "ambulance", "entrance", "fence",
    "kingdom", "cement", "basement", "monument", "equipment", "pavement", "garment", "ointment", "ship",
    "television", "mansion", "lotion", "potion", "medicine", "capacity", "science",
))
# fmt: on
"""Nouns with such an ending that can be touched."""
# fmt: off
_DIRECTIONS: Final = frozenset((
    "over", "up", "down", "out", "in", "right", "back",
))
# fmt: on
# fmt: off
_TO_BE: Final = frozenset((
    "is", "are", "was", "were", "be", "been", "'s", "has",
))
# fmt: on
STRESSED: Final = 0.75
"""Emphasis of the voice from which a word without another type is a beat."""


def gesture_types(
    words: Sequence[str], tags: Sequence[str], emphasis: Sequence[float] | None = None
) -> list[tuple[str, float]]:
    """(type, how sure 0..1) of each lower-case word of a sentence with its Penn Treebank tags."""
    classes = [set(gesture_classes(word)) for word in words]
    found: list[tuple[str, float]] = []
    for place in range(len(words)):
        kind, sure = _kind(place, words, tags, classes)
        loud = None if emphasis is None else float(emphasis[place])
        if kind == "none" and loud is not None and loud >= STRESSED and tags[place] in NOUNS | VERBS | ADJECTIVES:
            kind, sure = "beat", 0.5
        if kind != "none" and loud is not None:
            sure = min(1.0, max(0.0, sure + 0.4 * (loud - 0.5)))
        found.append((kind, sure))
    _directions(words, classes, found)
    return found


def _kind(place: int, words: Sequence[str], tags: Sequence[str], classes: Sequence[set[str]]) -> tuple[str, float]:
    own, tag = classes[place], tags[place]
    if _deictic(place, words, tags, classes):
        return "deictic", 0.8 if own & {"PLACE", "POINTING"} else 0.6
    if tag in NOUNS and is_abstract(words[place]):
        return "metaphoric", 0.7 if "ABSTRACT" in own else 0.5
    if own & {"SIZE", "SHAPE", "MOTION", "THING", "ABSTRACT"} and not own & {"INTENSIFIER"}:
        noun = _noun_of(place, words, tags)
        if noun is not None and noun != place and is_abstract(words[noun]):
            return "metaphoric", 0.6
        if own & {"SIZE", "SHAPE"} and (tag in ADJECTIVES or "SHAPE" in own or tag == "RB"):
            return "iconic", 0.7
        if ("MOTION" in own and tag in VERBS) or ("THING" in own and tag in NOUNS):
            return "iconic", 0.7 if "MOTION" in own else 0.55
    if "INTENSIFIER" in own and tag not in ("DT", "PDT", "EX"):
        return "beat", 0.6
    return "none", 0.5


def _deictic(place: int, words: Sequence[str], tags: Sequence[str], classes: Sequence[set[str]]) -> bool:
    own, tag = classes[place], tags[place]
    before = words[place - 1] if place else ""
    after = words[place + 1] if place + 1 < len(words) else ""
    if "PLACE" in own:
        return before in _DIRECTIONS or not (tag == "EX" or after in _TO_BE)
    if "DEMONSTRATIVE" in own:
        return tag == "DT"
    if "POINTING" in own:
        return tag in VERBS
    if "PERSON" in own:
        pointed = place > 0 and (tags[place - 1] in VERBS | {"IN", "TO", "RP"} or before == "to")
        return pointed and tag == "PRP"
    if "RELATIVE" in own:
        return place + 1 < len(words) and bool(classes[place + 1] & {"PERSON", "DEMONSTRATIVE"})
    return False


def is_abstract(word: str) -> bool:
    """Whether a noun names nothing that can be touched, by the list or by its ending."""
    if "ABSTRACT" in gesture_classes(word):
        return True
    for lemma in lemmas(word)[:3]:
        if lemma in _CONCRETE:
            return False
        if len(lemma) > 6 and lemma.endswith(_ABSTRACT_ENDINGS):
            return True
    return False


def _noun_of(place: int, words: Sequence[str], tags: Sequence[str]) -> int | None:
    """The noun that a word says something of: of a verb its subject, else its object; of an adjective the next noun."""
    before = [at for at in range(place - 1, -1, -1) if tags[at] in NOUNS]
    after = [at for at in range(place + 1, len(words)) if tags[at] in NOUNS]
    pronoun = any(tags[at] == "PRP" for at in range(max(0, place - 3), place))
    if tags[place] in VERBS:
        if pronoun:  # a person or thing acts: what it acts on decides
            return after[0] if after and after[0] - place <= 3 else None
        return before[0] if before else (after[0] if after else None)
    if tags[place] in NOUNS:
        return place
    return after[0] if after and after[0] - place <= 3 else (before[0] if before else None)


def _directions(words: Sequence[str], classes: Sequence[set[str]], found: list[tuple[str, float]]) -> None:
    """A direction after a word of movement is shown with it; `into` and `between` go with the idea that they place."""
    for place, word in enumerate(words):
        if found[place][0] != "none" or ("PARTICLE" not in classes[place] and word not in ("between", "into")):
            continue
        last = found[place - 1] if place else ("none", 0.0)
        near = [kind for kind, _ in found[max(0, place - 1) : place]]
        if "MOTION" in (classes[place - 1] if place else set()) and last[0] in ("iconic", "metaphoric"):
            found[place] = (last[0], 0.6)
        elif word == "between" and "metaphoric" in near:
            found[place] = ("metaphoric", 0.5)
