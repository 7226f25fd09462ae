"""From a transcript as people write it to words that the pronunciation dictionary knows."""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pocketsphinx

from schemas.errors import TalksetError

Pronunciations = dict[str, tuple[str, ...]]

# fmt: off
_ONES: Final = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]
# fmt: on
_TENS: Final = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES: Final = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"), (100, "hundred"))

_PLAIN_NUMBER: Final = re.compile(r"0|[1-9]\d{0,2}|[1-9]\d{0,2}(,\d{3}){1,3}")
_DASHES: Final = re.compile(r"[‒–—―/]|--+|\.\.+")
_APOSTROPHES: Final = str.maketrans(dict.fromkeys("’‘ʼ`´＇", "'"))


@dataclass(frozen=True)
class Token:
    """One word of a transcript."""

    label: str
    """As the user spelt it (Unicode NFKC, straight apostrophes), without the punctuation around it."""
    words: tuple[str, ...]
    """What is spoken, as dictionary entries: several for a number or a hyphenated word."""


@functools.cache
def dictionary() -> Pronunciations:
    """The English dictionary that pocketsphinx carries (CMUdict, BSD): entry -> ARPAbet phones without stress.

    Lower-case entries; further pronunciations of a word are entries of their own, `word(2)`, `word(3)`.
    """
    text = Path(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict")).read_text(encoding="utf-8")
    rows = (line.split() for line in text.splitlines())
    return {row[0]: tuple(row[1:]) for row in rows if row}


def tokenize(transcript: str) -> tuple[Token, ...]:
    """Split a transcript into words of the dictionary.

    Lower-cased, punctuation stripped, apostrophes kept. Whole numbers of up to three digits, or grouped by commas, are
    read as cardinals. Anything else that leaves open what was said is refused rather than guessed: longer bare digit
    strings (years, codes), decimals, ordinals, symbols, bracketed remarks.

    Raises TalksetError(bad_transcript) naming every word that is not in the dictionary or not plain, or when no word is
    left.
    """
    tokens: list[Token] = []
    refused: list[str] = []
    text = _DASHES.sub(" ", unicodedata.normalize("NFKC", transcript.translate(_APOSTROPHES)))
    for raw in text.split():
        label = _strip(raw)
        # symbols outside the label still count: "$5" and "5%" are not "five"
        if any(unicodedata.category(sign)[0] == "S" or sign in "%&@#*[]{}\\" for sign in raw):
            refused.append(raw)
        elif label:
            words = _words(label)
            if words is None:
                refused.append(raw.strip('.,;:!?"'))
            else:
                tokens.append(Token(label, words))
    if refused:
        names = ", ".join(repr(word) for word in dict.fromkeys(refused))
        raise TalksetError(
            "bad_transcript",
            f"not in the English dictionary or not a plain word: {names}",
            "Write the transcript as spoken English words (numbers of four and more digits, symbols and remarks too)",
        )
    if not tokens:
        raise TalksetError("bad_transcript", f"the transcript {transcript!r} holds no word", "Supply what is said")
    return tuple(tokens)


def cardinal(number: int) -> tuple[str, ...]:
    """English words of a whole number, 0 <= number < 1e12, American style (no "and").

    Raises ValueError outside that range.
    """
    if not 0 <= number < 10**12:
        raise ValueError(f"no cardinal for {number}")
    if number < 20:
        return (_ONES[number],)
    for scale, name in _SCALES:
        if number >= scale:
            rest = number % scale
            return (*cardinal(number // scale), name, *(cardinal(rest) if rest else ()))
    return (_TENS[number // 10 - 2], *((_ONES[number % 10],) if number % 10 else ()))


def _strip(raw: str) -> str:
    """Without punctuation at either end, except what belongs to the word ('tis, dogs', a.m.)."""
    start, stop = 0, len(raw)
    while start < stop and not (raw[start].isalnum() or raw[start] == "'"):
        start += 1
    while stop > start and not (raw[stop - 1].isalnum() or raw[stop - 1] == "'"):
        stop -= 1
    label = raw[start:stop]
    if label + "." == raw[start : stop + 1] and "." in label and _entry(label + "."):
        return label + "."
    return label if _entry(label) else label.strip("'")


def _words(label: str) -> tuple[str, ...] | None:
    """Dictionary entries of a label, or None where one is missing."""
    if _PLAIN_NUMBER.fullmatch(label):
        return cardinal(int(label.replace(",", "")))
    parts = [_entry(label)]
    if parts == [None]:
        parts = [_entry(part) for part in label.split("-") if part]
    found = tuple(part for part in parts if part is not None)
    return found if found and len(found) == len(parts) else None


def _entry(word: str) -> str | None:
    """The dictionary's spelling of one word: as written, or without accents; None where it has neither."""
    lower = word.lower()
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", lower) if not unicodedata.combining(sign))
    for candidate in (lower, plain):
        # entries such as "<sil>" or "read(2)" are not words of a transcript
        if re.match(r"'?[a-z][^(]*$", candidate) and candidate in dictionary():
            return candidate
    return None
