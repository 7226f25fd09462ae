"""How English words are spoken: the dictionary that pocketsphinx carries, and a model for words that it lacks."""

from __future__ import annotations

import base64
import functools
import importlib.util
from pathlib import Path
from typing import Any, Final

import pocketsphinx

from annotate.phones import arpabet_of
from schemas.errors import TalksetError

Pronunciations = dict[str, tuple[str, ...]]

_MAX_VARIANTS: Final = 8
_VOICELESS: Final = frozenset(("P", "T", "K", "F", "TH"))
_SIBILANT: Final = frozenset(("S", "Z", "SH", "ZH", "CH", "JH"))
_REACH: Final = 3
"""Letters on either side that the grapheme model looks at."""


@functools.cache
def dictionary() -> Pronunciations:
    """The English dictionary that pocketsphinx carries (CMUdict, BSD): entry -> ARPAbet phones without stress.

    Lower-case entries; further pronunciations of a word are entries of their own, `word(2)`, `word(3)`.
    """
    return {word: tuple(phones.split()) for word, phones in _entries().items()}


def is_known(word: str) -> bool:
    """Whether the dictionary has an entry of that name."""
    return word in _entries()


@functools.cache
def _entries() -> dict[str, str]:
    """Entry -> phones as text: a clip needs a dozen of its 134,000."""
    text = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8")
    return dict(line.split(" ", 1) for line in text.splitlines() if line)


def pronunciations(word: str) -> tuple[tuple[str, ...], ...]:
    """ARPAbet pronunciations of a lower-case word, the most usual first.

    From the dictionary where it is there; a genitive from its noun; else one guess of the grapheme-to-phoneme model in
    the package gruut-lang-en (a conditional random field trained on CMUdict, MIT).

    Raises TalksetError(bad_transcript) for a word without a letter from a to z.
    """
    known = _known(word)
    if known:
        return known
    stem = word[:-2] if word.endswith("'s") else word[:-1] if word.endswith("s'") else ""
    if stem and (found := _known(stem)):
        return tuple((*phones, *_genitive(phones[-1])) if word.endswith("'s") else phones for phones in found)
    letters = "".join(sign for sign in word if "a" <= sign <= "z")
    if not letters:
        message = f"the word {word!r} has no letter from a to z, so nobody knows how it sounds in English"
        raise TalksetError("bad_transcript", message, "Write the transcript as spoken English words")
    return (_guess(letters),)


def _known(word: str) -> tuple[tuple[str, ...], ...]:
    entries = _entries()
    names = (word, *(f"{word}({number})" for number in range(2, _MAX_VARIANTS + 1)))
    return tuple(dict.fromkeys(tuple(entries[name].split()) for name in names if name in entries))


def _genitive(last: str) -> tuple[str, ...]:
    if last in _SIBILANT:
        return ("IH", "Z")
    return ("S",) if last in _VOICELESS else ("Z",)


@functools.lru_cache(maxsize=20_000)
def _guess(letters: str) -> tuple[str, ...]:
    """Phones of a spelling; the features are those that gruut's models were trained with (`gruut/g2p.py`)."""
    coded = [base64.b64encode(letter.encode()).decode() for letter in letters]
    rows = []
    for place, letter in enumerate(coded):
        row: dict[str, str | float | bool] = {"bias": 1.0, "grapheme": letter}
        for offset in range(1, _REACH + 1):
            if place >= offset:
                row[f"grapheme-{offset}"] = coded[place - offset]
            if place + offset < len(coded):
                row[f"grapheme+{offset}"] = coded[place + offset]
        if place == 0:
            row["begin"] = True
        if place == len(coded) - 1:
            row["end"] = True
        rows.append(row)
    symbols = [base64.b64decode(symbol).decode() for symbol in _grapheme_model().tag(rows)]
    sounds = [sound for symbol in symbols for sound in symbol.split("|") if sound != "_"]
    phones = tuple(phone for sound in sounds for phone in arpabet_of(sound))
    # a lone consonant letter may come out mute: then it is spelt
    return phones or tuple(phone for letter in letters for phone in dictionary()[letter])


@functools.cache
def _grapheme_model() -> Any:
    import pycrfsuite

    package = importlib.util.find_spec("gruut_lang_en")
    folders = list(package.submodule_search_locations or []) if package else []
    path = Path(*folders[:1], "g2p", "model.crf")
    if not folders or not path.is_file():
        message = "the model that guesses how unknown words are spoken is not installed"
        raise TalksetError("missing_model", message, "Install the package gruut-lang-en, 2.0 or later")
    tagger = pycrfsuite.Tagger()
    tagger.open(str(path))
    return tagger
