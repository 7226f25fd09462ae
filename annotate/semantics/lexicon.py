"""The lexicons of this folder: words by what they evoke, looked up by any form of the word."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from annotate.text.lemma import lemmas

_FOLDER = Path(__file__).parent


@functools.cache
def _read(name: str) -> Mapping[str, tuple[str, ...]]:
    """Lemma -> the classes whose lines have it, in the file's order."""
    found: dict[str, list[str]] = {}
    for line in (_FOLDER / name).read_text(encoding="utf-8").splitlines():
        label, colon, words = line.partition(":")
        if line.startswith("#") or not colon:
            continue
        for word in dict.fromkeys(words.split()):
            found.setdefault(word, []).append(label)
    return {word: tuple(labels) for word, labels in found.items()}


def _classes(name: str, word: str) -> tuple[str, ...]:
    table = _read(name)
    return tuple(dict.fromkeys(label for lemma in lemmas(word) for label in table.get(lemma, ())))


def gesture_classes(word: str) -> tuple[str, ...]:
    """Classes of gesture_words.txt that a lower-case word is in; empty for most words."""
    return _classes("gesture_words.txt", word)


def image_schemas(word: str) -> tuple[str, ...]:
    """Image schemas that a lower-case word evokes, the main one first."""
    return _classes("image_schemas.txt", word)


def schema_names() -> tuple[str, ...]:
    """All image schemas."""
    return tuple(dict.fromkeys(label for labels in _read("image_schemas.txt").values() for label in labels))
