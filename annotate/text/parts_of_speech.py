"""Parts of speech of English words: the tagger that the package gruut-lang-en carries (a CRF, MIT)."""

from __future__ import annotations

import base64
import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from schemas.errors import TalksetError

# fmt: off
CONTENT: Final = frozenset((
    "NN", "NNS", "NNP", "NNPS", "VB", "VBD", "VBG", "VBN", "VBP", "VBZ", "JJ", "JJR", "JJS", "RB", "RBR", "RBS",
    "CD", "UH", "FW",
))
# fmt: on
"""Penn Treebank tags of words that have a meaning of their own."""
# fmt: off
NOUNS: Final = frozenset((
    "NN", "NNS", "NNP", "NNPS",
))
# fmt: on
# fmt: off
VERBS: Final = frozenset((
    "VB", "VBD", "VBG", "VBN", "VBP", "VBZ",
))
# fmt: on
# fmt: off
ADJECTIVES: Final = frozenset((
    "JJ", "JJR", "JJS",
))
# fmt: on
# fmt: off
ADVERBS: Final = frozenset((
    "RB", "RBR", "RBS",
))
# fmt: on

_REACH: Final = 2


def tag(words: Sequence[str]) -> tuple[str, ...]:
    """Penn Treebank tag of each word of a sentence; a final stop is assumed.

    Raises TalksetError(missing_model) without the package's model.
    """
    if not words:
        return ()
    rows = _features([*("I" if word == "i" else word for word in words), "."])
    return tuple(_tagger().tag(rows)[: len(words)])


def _features(words: Sequence[str]) -> list[dict[str, Any]]:
    """Those that the model was trained with (`gruut/pos.py`)."""
    own = [_of_word(word) for word in words]
    rows = []
    for place in range(len(words)):
        row: dict[str, Any] = {"bias": 1.0, **own[place]}
        for offset in (*range(-_REACH, 0), *range(1, _REACH + 1)):
            if 0 <= place + offset < len(words):
                prefix = f"{offset:+d}"
                row |= {f"{prefix}:{name}": value for name, value in own[place + offset].items()}
                row[f"{prefix}:bias"] = 1.0
        if place == 0:
            row["BOS"] = True
        if place == len(words) - 1:
            row["EOS"] = True
        rows.append(row)
    return rows


_PUNCTUATION: Final = frozenset(".,;:!?\"'()-")


def _of_word(word: str) -> dict[str, Any]:
    return {
        "word": base64.b64encode(word.encode()).decode(),
        "len(word)": len(word),
        "word.ispunctuation": word in _PUNCTUATION,
        "word.isdigit()": word.isdigit(),
        **{f"word[:{size}]": word[:size] for size in (2, 3) if len(word) >= size},
        **{f"word[-{size}:]": word[-size:] for size in (2, 3) if len(word) >= size},
    }


@functools.cache
def _tagger() -> Any:
    import pycrfsuite

    package = importlib.util.find_spec("gruut_lang_en")
    folders = list(package.submodule_search_locations or []) if package else []
    path = Path(*folders[:1], "pos", "model.crf")
    if not folders or not path.is_file():
        message = "the model of parts of speech is not installed"
        raise TalksetError("missing_model", message, "Install the package gruut-lang-en, 2.0 or later")
    tagger = pycrfsuite.Tagger()
    tagger.open(str(path))
    return tagger
