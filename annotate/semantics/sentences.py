"""Sentences of a clip, their dialogue acts and sentiment.

Sentences end where the transcript says so; without its punctuation (recognised words have none), at a pause. What one
does is told by its question mark, else by its words:

- thanks, apology, greeting, agreement, disagreement: by the words that it begins with
- question: a question word or an inverted verb at the start, or a voice that rises at the end of a short one
- command: begins with a verb in its base form, or with please, let's or don't
- statement: all others
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np

from annotate.style.voice import Voice
from schemas.types import Interval

ACTS: Final = (*("statement", "question", "command", "thanks", "apology", "greeting", "agreement", "disagreement"),)
PAUSE_US: Final = 350_000
LONGEST: Final = 40
"""Words after which a sentence ends at the longest pause inside it."""
_OPENINGS: Final = (
    ("thanks", ("thank", "thanks")),
    ("apology", ("sorry", "excuse me", "i'm sorry", "i am sorry", "pardon", "i apologize", "i apologise")),
    ("greeting", ("hello", "hi", "hey", "good morning", "good evening", "good afternoon", "welcome", "goodbye", "bye")),
    ("agreement", ("yes", "yeah", "yep", "okay", "ok", "right", "exactly", "of course", "sure", "i agree", "true")),
    ("disagreement", ("no", "nope", "never mind", "not really", "i disagree", "wrong")),
)
# fmt: off
_ASKING: Final = frozenset((
    "what", "who", "whom", "whose", "where", "when", "why", "which", "how",
))
# fmt: on
# fmt: off
_INVERTED: Final = frozenset((
    "is", "are", "was", "were", "am", "do", "does", "did", "have", "has", "had", "can", "could", "will", "would",
    "shall", "should", "may", "might", "must", "isn't", "aren't", "wasn't", "weren't", "don't", "doesn't", "didn't",
    "haven't", "hasn't", "can't", "couldn't", "won't", "wouldn't", "shouldn't",
))
# fmt: on
# fmt: off
_SUBJECTS: Final = frozenset((
    "i", "you", "he", "she", "it", "we", "they", "this", "that", "there", "these", "those", "the", "a", "anyone",
    "anybody", "someone",
))
# fmt: on
RISE_ST: Final = 2.5
"""Semitones by which a voice rises over the last word of a question."""


def split(words: Sequence[Interval], marks: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """Half-open spans of words that make a sentence each; `marks` as `annotate.text.marks.end_marks` gives them."""
    cuts = [0]
    for at in range(1, len(words)):
        paused = words[at].start_us - words[at - 1].end_us >= PAUSE_US
        if paused if marks is None else marks[at - 1]:
            cuts.append(at)
    cuts.append(len(words))
    spans: list[tuple[int, int]] = []
    for start, stop in itertools.pairwise(cuts):
        spans += _short(words, start, stop)
    return spans


def _short(words: Sequence[Interval], start: int, stop: int) -> list[tuple[int, int]]:
    if stop - start <= LONGEST:
        return [(start, stop)] if stop > start else []
    inner = range(start + LONGEST // 4, stop - LONGEST // 4)
    at = max(inner, key=lambda index: words[index].start_us - words[index - 1].end_us)
    return _short(words, start, at) + _short(words, at, stop)


def dialogue_act(
    labels: Sequence[str], tags: Sequence[str], rise_st: float | None = None, mark: str = ""
) -> tuple[str, float]:
    """(act, how sure 0..1) of a sentence of lower-case words.

    `rise_st` is how much the voice rises at its end, `mark` the punctuation there, empty where it is not known.
    """
    if mark == "?":
        return "question", 0.95
    text = " ".join(labels)
    for act, openings in _OPENINGS:
        if any(text == opening or text.startswith(f"{opening} ") for opening in openings):
            return act, 0.8 if len(labels) <= 4 else 0.6
    first, second = labels[0], labels[1] if len(labels) > 1 else ""
    if first in _INVERTED and second in _SUBJECTS:
        return "question", 0.85
    if first in _ASKING and len(labels) > 1 and not text.startswith(("what a ", "how very ", "when i ", "when we ")):
        return "question", 0.7
    if first in ("please", "let's", "don't") or tags[0] == "VB":
        return "command", 0.7 if first in ("please", "let's", "don't") else 0.6
    if not mark and rise_st is not None and rise_st >= RISE_ST and len(labels) <= 8:
        return "question", 0.5
    return "statement", 0.7


def final_rise_st(word: Interval, voice: Voice) -> float | None:
    """Semitones from the first to the second half of the last word; None where the voice is not heard in both."""
    middle = (word.start_us + word.end_us) // 2
    halves = []
    for start, end in ((word.start_us, middle), (middle, word.end_us)):
        values = voice.pitch_hz[start // 10_000 : max(end // 10_000, start // 10_000 + 1)]
        known = values[np.isfinite(values)]
        if len(known) < 3:
            return None
        halves.append(float(np.median(known)))
    return float(12 * np.log2(halves[1] / halves[0]))
