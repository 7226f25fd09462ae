"""Punctuation of a transcript that ends sentences, found again at the words that were said."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Final

from annotate.text.readings import ABBREVIATIONS

_WORD: Final = re.compile(r"\w+(?:['’.-]\w+)*")
_ENDS: Final = re.compile(r"[.!?…。！？]")


def end_marks(transcript: str, labels: Sequence[str]) -> list[str] | None:
    """For each word said the mark that ends its sentence after it (`.`, `!`, `?`), empty where none does.

    `labels` are the words of a clip, in their order; a transcript may hold more than was said, and other spellings.
    None for a transcript without any such mark: it says nothing of sentences. The full stop of an abbreviation or an
    initial ends nothing, but at the end of the transcript.
    """
    found = list(_WORD.finditer(transcript))
    borders = [*(match.start() for match in found), len(transcript)][1:]
    written = [match.group().lower() for match in found]
    marks = []
    for match, word, border in zip(found, written, borders, strict=True):
        ends = "".join(_ENDS.findall(transcript[match.end() : border]))
        inside = border < len(transcript) and _is_short(word, transcript[border : border + 1])
        marks.append("" if ends == "." and inside else _one(ends))
    if not any(marks):
        return None
    said = [label.lower() for label in labels]
    at = [""] * len(said)
    for block in difflib.SequenceMatcher(None, written, said, autojunk=False).get_matching_blocks():
        at[block.b : block.b + block.size] = marks[block.a : block.a + block.size]
    return at


def _is_short(word: str, following: str) -> bool:
    """Whether a full stop after a lower-case word belongs to it: that of an abbreviation or an initial."""
    if word == "no":  # number 5, or a refusal
        return following.isdigit()
    return word in ABBREVIATIONS or f"{word}." in ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i")


def _one(ends: str) -> str:
    """The strongest of several marks."""
    for mark, signs in (("?", "?？"), ("!", "!！"), (".", ".…。")):
        if set(ends) & set(signs):
            return mark
    return ""
