"""Twenty sentences with the truth made by hand, before there was anything to compare with it.

Every word is word/type/relevance. Types are BEAT's: n none, b beat (stressed, nothing to show), d deictic (points at a
person, place or thing), i iconic (size, shape, movement or action that hands can show), m metaphoric (an abstract thing
shown as if it had size, place or movement). Relevance is 0 (could be left out) to 3 (carries the sentence).

`FIRST` is what the rules were made with. `SECOND` was put aside and looked at once, when they were done; its figure is
in docs/labels_style.md. Both are one person's judgement of written text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TYPES: Final = {"n": "none", "b": "beat", "d": "deictic", "i": "iconic", "m": "metaphoric"}


@dataclass(frozen=True)
class Judged:
    """A sentence and what a person says of each of its words."""

    words: tuple[str, ...]
    types: tuple[str, ...]
    relevance: tuple[float, ...]


def _judged(line: str) -> Judged:
    rows = [part.split("/") for part in line.split()]
    return Judged(
        tuple(word for word, _, _ in rows),
        tuple(TYPES[kind] for _, kind, _ in rows),
        tuple(float(value) for _, _, value in rows),
    )


FIRST: Final = tuple(
    _judged(line)
    for line in (
        "the/n/0 box/i/2 over/n/1 there/d/2 is/n/0 huge/i/3",
        "we/n/0 must/b/2 never/b/3 forget/n/2 this/d/1 lesson/n/2",
        "prices/n/2 will/n/0 rise/m/3 and/n/0 fall/m/3 with/n/0 the/n/0 market/n/2",
        "she/n/0 climbed/i/3 up/i/2 the/n/0 ladder/i/2 and/n/0 jumped/i/3",
        "give/n/1 that/d/1 book/n/2 to/n/0 me/d/1 please/n/0",
        "his/n/0 idea/m/2 grew/m/2 into/n/1 a/n/0 whole/m/1 new/n/1 theory/m/3",
        "you/n/1 should/n/0 throw/i/3 the/n/0 ball/i/2 like/n/0 this/d/2",
        "it/n/0 was/n/0 really/b/2 very/b/1 expensive/n/3",
        "look/n/1 at/n/0 the/n/0 small/i/2 round/i/2 table/n/2 behind/d/1 you/d/1",
        "our/n/0 future/m/3 depends/n/2 on/n/0 the/n/0 balance/m/3 between/m/1 work/n/2 and/n/0 freedom/m/3",
    )
)

SECOND: Final = tuple(
    _judged(line)
    for line in (
        "come/n/1 here/d/2 and/n/0 sit/i/2 on/n/0 this/d/1 chair/n/2",
        "the/n/0 tall/i/2 tower/i/3 fell/i/3 to/n/0 the/n/0 ground/n/1",
        "i/n/0 absolutely/b/2 refuse/n/3 to/n/0 pay/n/2 so/b/1 much/n/1",
        "their/n/0 relationship/m/3 is/n/0 going/m/1 nowhere/m/2",
        "he/n/0 turned/i/2 the/n/0 wheel/i/2 and/n/0 pushed/i/3 the/n/0 door/n/2",
        "those/d/1 people/n/2 are/n/0 pointing/d/2 at/n/0 you/d/1",
        "the/n/0 argument/m/3 rests/m/2 on/n/0 a/n/0 weak/m/2 foundation/m/3",
        "it/n/0 is/n/0 always/b/2 cold/n/3 in/n/0 winter/n/3",
        "a/n/0 long/i/2 thin/i/2 line/i/2 runs/n/1 across/i/2 the/n/0 page/n/2",
        "democracy/m/3 means/n/1 that/n/0 everyone/n/2 has/n/0 a/n/0 voice/m/3",
    )
)
