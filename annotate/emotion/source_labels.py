"""Emotions that a source's own labels name, mapped to our classes by a versioned table; an unknown one is no guess.

Names are those of RAVDESS (Livingstone & Russo 2018), MEAD (Wang et al. 2020), CREMA-D (Cao et al. 2014) and BEAT (Liu
et al. 2022), and our own. Codes mean something only together with the corpus they come from.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from schemas.labels import EMOTIONS

VERSION: Final = 1
"""Raised when a label comes to mean something else."""

NAMES: Final[Mapping[str, str]] = {
    **{name: name for name in EMOTIONS},
    "happy": "happiness", "joy": "happiness", "angry": "anger", "sad": "sadness", "contemptuous": "contempt",
    "surprised": "surprise", "fearful": "fear", "afraid": "fear", "disgusted": "disgust",
}
"""Names that mean one class in every corpus."""

CODES: Final[Mapping[str, Mapping[str, str]]] = {
    "ravdess": {
        "01": "neutral", "02": "calm", "03": "happiness", "04": "sadness",
        "05": "anger", "06": "fear", "07": "disgust", "08": "surprise",
    },
    "crema-d": {
        "ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness",
    },
    "beat": dict(zip("01234567", EMOTIONS, strict=False)),
    "mead": {},
}
"""Corpus -> its code -> our class."""

INTENSITIES: Final[Mapping[str, Mapping[str, float]]] = {
    "": {"low": 1 / 3, "medium": 2 / 3, "high": 1.0},
    "ravdess": {"01": 0.5, "02": 1.0, "normal": 0.5, "strong": 1.0},
    "crema-d": {"LO": 1 / 3, "MD": 2 / 3, "HI": 1.0},
    "mead": {"level_1": 1 / 3, "level_2": 2 / 3, "level_3": 1.0, "1": 1 / 3, "2": 2 / 3, "3": 1.0},
    "beat": {},
}
"""Corpus (or none) -> its name or code -> intensity. CREMA-D's XX is not specified, and BEAT has none."""
UNSPECIFIED: Final = frozenset(("", "XX", "unspecified"))

ALIASES: Final[Mapping[str, str]] = {"cremad": "crema-d", "crema_d": "crema-d", "crema": "crema-d", "beat2": "beat"}
_RAVDESS: Final = re.compile(r"0[1-3]-0[12]-(0[1-8])-(0[12])-0[12]-0[12]-\d\d")
_CREMA_D: Final = re.compile(r"\d{4}_[A-Z]{3}_([A-Z]{3})_([A-Z]{2})")
_MEAD: Final = re.compile(r"(?:^|[/_])([a-z]+)[/_](level_[1-3])(?:[/_]|$)")


@dataclass(frozen=True)
class Given:
    """What a source's labels say."""

    emotion: str | None = None
    """One of `schemas.labels.EMOTIONS`."""
    intensity: float | None = None
    """0 to 1."""
    warning: str | None = None
    """What could not be understood."""


def given_emotion(labels: Mapping[str, str], uri: str) -> Given:
    """The emotion of a source by the labels of its manifest row.

    Read are `emotion` (a name, or a code of the corpus), `emotion_intensity` or `intensity` (a name or code of the
    corpus, or a number 0 to 1), and `corpus` or `dataset`. A row that names its corpus but no emotion is read by the
    name of its file, where the corpus has its codes there (RAVDESS, CREMA-D, MEAD). No label is no warning; a label
    that is not in the table is one, and no emotion.
    """
    corpus = _corpus(labels)
    label = labels.get("emotion", "").strip()
    strength = (labels.get("emotion_intensity") or labels.get("intensity") or "").strip()
    if not label and corpus:
        label, strength = _of_file(corpus, uri, strength)
    if not label:
        return Given()
    emotion = CODES.get(corpus, {}).get(label) or CODES.get(corpus, {}).get(label.upper()) or NAMES.get(label.lower())
    if emotion is None:
        where = f" of {corpus}" if corpus in CODES else ""
        known = ", ".join([*CODES.get(corpus, {}), *NAMES])
        return Given(warning=f"the label emotion={label!r}{where} is not known and was left out; known: {known}")
    if emotion == "neutral":
        return Given(emotion, 0.0)
    intensity = _intensity(corpus, strength)
    if intensity is None and strength not in UNSPECIFIED:
        return Given(emotion, None, f"the intensity {strength!r} is not known and was left out")
    return Given(emotion, intensity)


def _corpus(labels: Mapping[str, str]) -> str:
    name = (labels.get("corpus") or labels.get("dataset") or "").strip().lower()
    return ALIASES.get(name, name)


def _intensity(corpus: str, text: str) -> float | None:
    for table in (INTENSITIES.get(corpus, {}), INTENSITIES[""]):
        for name, value in table.items():
            if name.lower() == text.lower():
                return value
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _of_file(corpus: str, uri: str, strength: str) -> tuple[str, str]:
    """Label and intensity that the name of a file of the corpus carries; empty where it carries none."""
    path = PurePosixPath(urlsplit(uri).path or uri)
    pattern, text = {
        "ravdess": (_RAVDESS, path.stem),
        "crema-d": (_CREMA_D, path.stem),
        "mead": (_MEAD, path.as_posix()),
    }.get(corpus, (None, ""))
    found = pattern.search(text) if pattern else None
    return (found.group(1), strength or found.group(2)) if found else ("", strength)
