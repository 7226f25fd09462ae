"""Splits a transcript into words, keeps how they were written, and says how they are spoken."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from annotate.text.pronounce import is_known
from annotate.text.readings import ABBREVIATIONS, Words, money_scale, readings, unit
from schemas.errors import TalksetError

_DASHES: Final = re.compile(r"[‒–—]|--+|\.\.+")
_REMARK: Final = re.compile(r"\[[^\[\]]*\]|<[^<>]*>|\{[^{}]*\}|\*[^*\s][^*]*\*|♪[^♪]*♪")
"""What a transcript says of the sound: [laughs], <sil>, *sighs*, sung lines. Nothing in it is a word."""
_APOSTROPHES: Final = str.maketrans(dict.fromkeys("’‘ʼ`´＇", "'"))

_UNKNOWN_SHARE: Final = 0.5
"""A transcript of which more words than this are in no English dictionary is taken for another language."""
_ENOUGH_WORDS: Final = 6


@dataclass(frozen=True)
class Token:
    """One word of a transcript."""

    label: str
    """As the user spelt it (Unicode NFKC, straight apostrophes), without the punctuation around it."""
    words: Words
    """What is spoken, in lower case: several words for a number or a hyphenated word."""
    others: tuple[Words, ...] = ()
    """Other ways to say it: a year may be a number, an abbreviation may be spelt."""
    before: str = ""
    """Punctuation in front of the label."""
    after: str = ""
    """Punctuation behind it."""


def tokenize(transcript: str, guess: bool = False) -> tuple[Token, ...]:
    """Split a transcript into words that can be spoken.

    Punctuation, case and remarks such as [laughs] are kept apart from the words. Numbers, dates, times, money, units
    and abbreviations become the words that are said, with all usual readings. Words that are not in the dictionary are
    refused, or with `guess` left to `annotate.text.pronunciations`, as long as most words are English.

    Raises TalksetError(bad_transcript) naming every word that is refused, when no word is left, and with `guess` when
    the transcript is not English.
    """
    tokens: list[Token] = []
    refused: list[str] = []
    unknown = 0
    text = _DASHES.sub(" ", unicodedata.normalize("NFKC", transcript.translate(_APOSTROPHES)))
    for raw in _REMARK.sub(" ", text).split():
        if not any(sign.isalnum() or sign in "&+=@%" for sign in raw):
            if _is_odd(raw):
                refused.append(raw)
            elif tokens:
                tokens[-1] = _with_after(tokens[-1], raw)
            continue
        for part in _parts(raw):
            token, known = _token(part)
            if tokens and token is not None:
                tokens[-1], token, known = _together(tokens[-1], token, known)
            if token is None or (not known and not guess):
                refused.append(part.strip('.,;:!?"'))
            else:
                tokens.append(token)
                unknown += not known
    if refused:
        names = ", ".join(repr(word) for word in dict.fromkeys(refused))
        raise TalksetError(
            "bad_transcript",
            f"not in the English dictionary or not a plain word: {names}",
            "Write the transcript as spoken English words; for another language choose align.backend=whisperx",
        )
    if not tokens:
        raise TalksetError("bad_transcript", f"the transcript {transcript!r} holds no word", "Supply what is said")
    if len(tokens) >= _ENOUGH_WORDS and unknown > _UNKNOWN_SHARE * len(tokens):
        message = f"{unknown} of {len(tokens)} words of the transcript are not English"
        raise TalksetError("bad_transcript", message, "For another language choose align.backend=whisperx")
    return tuple(tokens)


def is_english(language: str | None) -> bool:
    """Whether a language tag (BCP 47 or a name; None for not given) names English."""
    return (language or "en").lower().replace("_", "-").partition("-")[0] in ("en", "eng", "english")


def _parts(raw: str) -> list[str]:
    """A raw word, divided where a slash stands for a pause between words (and/or), not in 1/2 or km/h."""
    if "/" in raw and not any(sign.isdigit() for sign in raw) and not unit(raw):
        return [part for part in raw.split("/") if part]
    return [raw]


def _together(last: Token, token: Token, known: bool) -> tuple[Token, Token, bool]:
    """Two neighbouring words where the second changes what is said: sums of money, units after a number."""
    if last.after:
        return last, token, known
    if (sums := money_scale(last.label, token.label)) is not None:
        (first, *others), (second,) = sums
        return _respoken(last, first, *others), _respoken(token, second), True
    if last.label[-1:].isdigit() and (units := unit(token.label)):
        return last, _respoken(token, *units), True
    return last, token, known


def _respoken(token: Token, words: Words, *others: Words) -> Token:
    return Token(token.label, words, others, token.before, token.after)


def _with_after(token: Token, sign: str) -> Token:
    return Token(token.label, token.words, token.others, token.before, f"{token.after} {sign}")


def _token(raw: str) -> tuple[Token | None, bool]:
    """The word in a raw one, None where it cannot be spoken; and whether English dictionaries know it."""
    start, stop = _inner(raw)
    label = raw[start:stop]
    if not label or _is_odd(raw):
        return None, False
    found, known = _said(label)
    if not found:
        return None, False
    return Token(label, found[0], found[1:], raw[:start], raw[stop:]), known


def _is_odd(raw: str) -> bool:
    """Whether a sign in it leaves open what is said."""
    spoken = "$£€¥₹+=#" if any(sign.isalnum() for sign in raw) else ""
    return any(
        (unicodedata.category(sign)[0] == "S" and sign not in f"{spoken}`^´¨+=")
        or sign in "[]{}<>*\\|~"
        or (sign == "#" and not spoken)
        for sign in raw
    )


def _inner(raw: str) -> tuple[int, int]:
    """Span of the label: without punctuation at either end, except what belongs to it ('tis, dogs', a.m., $5, 5%)."""
    start, stop = 0, len(raw)
    while start < stop and not (raw[start].isalnum() or raw[start] in "'$£€¥₹#-.&+=@%"):
        start += 1
    while stop > start and not (raw[stop - 1].isalnum() or raw[stop - 1] in "'%£€&+=@"):
        stop -= 1
    while start < stop and raw[start] in "-." and not raw[start + 1 : start + 2].isdigit():
        start += 1
    label = raw[start:stop]
    dotted = f"{label}.".lower()
    if raw[stop : stop + 1] == "." and label and (dotted in ABBREVIATIONS or ("." in label and _entry(dotted))):
        return start, stop + 1
    if not _entry(label):
        while start < stop and raw[start] == "'":
            start += 1
        while stop > start and raw[stop - 1] == "'":
            stop -= 1
    return start, stop


def _said(label: str) -> tuple[tuple[Words, ...], bool]:
    """Ways to say a label, empty where there is none, and whether they are of the dictionary."""
    lower = label.lower()
    if (lower in ABBREVIATIONS and not is_known(lower)) or lower in ("dr.", "dr", "rep."):
        return ABBREVIATIONS[lower], True
    if any(sign.isdigit() for sign in label):
        return _with_digits(label)
    if (entry := _entry(label)) is not None:
        return ((entry,),), True
    pieces = [piece for piece in re.split(r"[-_]", label) if piece]
    if len(pieces) > 1:
        said = [_said(piece) for piece in pieces]
        if all(ways for ways, _ in said):
            return (tuple(word for ways, _ in said for word in ways[0]),), all(known for _, known in said)
        return (), False
    if "/" in label and unit(label):
        return unit(label), True
    plain = _plain(label).replace(".", "")
    if not re.fullmatch(r"[a-z']+", plain) or not plain.strip("'"):
        return (), False
    if (entry := _entry(plain)) is not None:
        return ((entry,),), True
    spelt = tuple(plain.replace("'", ""))
    if (label.isupper() and len(spelt) <= 6) or "." in label:
        return (spelt, (plain,)), True
    return ((plain,),), False


def _with_digits(label: str) -> tuple[tuple[Words, ...], bool]:
    found = readings(label)
    if found:
        return found, True
    pieces = re.findall(r"[^\W\d_]+|\d+(?:[.,]\d+)*", label)
    if len(pieces) < 2 or not re.fullmatch(r"[\w.,'-]+", label):
        return (), False
    words: list[str] = []
    known = True
    for piece in pieces:  # r2d2, covid-19, B12: what is written, one after the other
        ways, sure = (readings(piece), True) if piece[0].isdigit() else _said(piece)
        if not ways:
            return (), False
        words += ways[0]
        known &= sure
    return (tuple(words),), known


def _plain(word: str) -> str:
    """Lower case, without accents."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", word.lower()) if not unicodedata.combining(sign))


def _entry(word: str) -> str | None:
    """The dictionary's spelling of one word: as written, or without accents; None where it has neither."""
    for candidate in (word.lower(), _plain(word)):
        # entries such as "<sil>" or "read(2)" are not words of a transcript
        if re.match(r"'?[a-z][^(]*$", candidate) and is_known(candidate):
            return candidate
    return None
