"""Relevance and gesture types of words against hand-made truth."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from reconstruction_parts.limits import Limits, table
from scipy.stats import spearmanr

from annotate.semantics.gesture_types import TYPES, gesture_types
from annotate.semantics.relevance import relevance
from annotate.text.parts_of_speech import tag
from labels_parts.clips import Clips

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

RANK, TYPE_F1 = 0.6, 0.7


def meaning(limits: Limits, clips: Clips) -> None:
    """Print rank correlation and F1 on the sentences that the rules were made with, and on those put aside."""
    from semantic_sentences import FIRST, SECOND

    del clips
    rows: list[tuple[str, list[float | str]]] = []
    figures = {}
    for name, sentences in (("first ten", FIRST), ("second ten, put aside", SECOND)):
        truth = [kind for sentence in sentences for kind in sentence.types]
        wanted = [value for sentence in sentences for value in sentence.relevance]
        kinds: list[str] = []
        scores: list[float] = []
        for sentence in sentences:
            tags = tag(sentence.words)
            own = [kind for kind, _ in gesture_types(sentence.words, tags)]
            kinds += own
            scores += relevance(sentence.words, tags, own).tolist()
        rank = float(spearmanr(wanted, scores)[0])
        figures[name] = rank, _f1(truth, kinds, TYPES[1:])
        rows.append((name, [rank, figures[name][1], *(_f1(truth, kinds, [kind]) for kind in TYPES[1:])]))
        chance = np.random.default_rng(0)
        guessed = [_f1(truth, list(chance.permutation(kinds)), TYPES[1:]) for _ in range(200)]
        rows.append(("  types dealt at random", ["", float(np.mean(guessed))]))
    table("words of sentences without sound", ["rank corr.", "type F1", *TYPES[1:]], rows)
    for name, (rank, score) in figures.items():
        limits.check(f"{name}: rank correlation of relevance", rank, RANK, "", at_least=True)
        limits.check(f"{name}: F1 of types, all but none", score, TYPE_F1, "", at_least=True)


def _f1(truth: Sequence[str], found: Sequence[str], kinds: Sequence[str]) -> float:
    """Over the words of some types: micro F1."""
    hits = sum(a == b and a in kinds for a, b in zip(truth, found, strict=True))
    named = sum(kind in kinds for kind in truth) + sum(kind in kinds for kind in found)
    return 2 * hits / named if named else float("nan")
