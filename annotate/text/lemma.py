"""Base forms that an English word may be of: by rules of spelling and a table of irregular forms.

Lexicons are looked up with all candidates, so nothing is decided here; a candidate that is no word hits no lexicon.
"""

from __future__ import annotations

import functools
from typing import Final

_IRREGULAR: Final = {
    form: base
    for base, forms in {
        "be": "am is are was were been being", "have": "has had", "do": "does did done", "go": "goes went gone",
        "say": "said", "make": "made", "know": "knew known", "think": "thought", "take": "took taken",
        "see": "saw seen", "come": "came", "give": "gave given", "find": "found", "tell": "told", "become": "became",
        "leave": "left", "feel": "felt", "bring": "brought", "begin": "began begun", "keep": "kept", "hold": "held",
        "write": "wrote written", "stand": "stood", "hear": "heard", "mean": "meant", "meet": "met", "run": "ran",
        "pay": "paid", "sit": "sat", "speak": "spoke spoken", "lie": "lay lain", "lead": "led", "grow": "grew grown",
        "lose": "lost", "fall": "fell fallen", "send": "sent", "build": "built", "understand": "understood",
        "draw": "drew drawn", "break": "broke broken", "spend": "spent", "rise": "rose risen", "drive": "drove driven",
        "buy": "bought", "wear": "wore worn", "choose": "chose chosen", "throw": "threw thrown", "catch": "caught",
        "fly": "flew flown", "swim": "swam swum", "sing": "sang sung", "drink": "drank drunk", "sink": "sank sunk",
        "swing": "swung", "spin": "spun", "stick": "stuck", "strike": "struck", "hang": "hung", "fight": "fought",
        "hide": "hid hidden", "ride": "rode ridden", "eat": "ate eaten", "bite": "bit bitten", "shake": "shook shaken",
        "blow": "blew blown", "tear": "tore torn", "bend": "bent", "sweep": "swept", "shoot": "shot", "slide": "slid",
        "dig": "dug", "bind": "bound", "wind": "wound", "teach": "taught", "seek": "sought", "sell": "sold",
        "sleep": "slept", "win": "won", "forget": "forgot forgotten", "freeze": "froze frozen", "steal": "stole stolen",
        "weave": "wove woven", "dive": "dove", "kneel": "knelt", "leap": "leapt", "creep": "crept", "cling": "clung",
        "man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth", "knife": "knives",
        "life": "lives", "leaf": "leaves", "person": "people", "good": "better best", "bad": "worse worst",
        "far": "farther further farthest furthest", "little": "less least", "much": "more most",
    }.items()
    for form in forms.split()
}  # fmt: skip
_ENDINGS: Final = (
    ("ies", "y"), ("ves", "f"), ("es", ""), ("es", "e"), ("s", ""), ("ied", "y"), ("ed", ""), ("ed", "e"), ("ing", ""),
    ("ing", "e"), ("iest", "y"), ("ier", "y"), ("est", ""), ("est", "e"), ("er", ""), ("er", "e"), ("ily", "y"),
    ("ly", ""), ("ically", "ic"), ("bly", "ble"),
)  # fmt: skip
_SHORTEST: Final = 3


@functools.lru_cache(maxsize=20_000)
def lemmas(word: str) -> tuple[str, ...]:
    """The word itself and base forms that it may be of, the likeliest first; lower case."""
    found = [word]
    if word in _IRREGULAR:
        found.append(_IRREGULAR[word])
    if word.endswith("'s"):
        found.append(word[:-2])
    for ending, instead in _ENDINGS:
        stem = word[: -len(ending)]
        if not word.endswith(ending) or len(stem) < 2 or len(stem + instead) < _SHORTEST:
            continue
        found.append(stem + instead)
        if not instead and len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "aeiou":
            found.append(stem[:-1])  # stopped: stop
    return tuple(dict.fromkeys(found))
