"""What an answer must be, checked before anything of it is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from annotate.language_model.question import CAPTION_LENGTH
from annotate.semantics.gesture_types import TYPES
from schemas.labels import EMOTIONS
from schemas.types import Event, Interval

_FENCED: Final = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]+")


class MalformedAnswerError(ValueError):
    """The text is not the JSON object that was asked for; the message names the first fault."""


@dataclass(frozen=True)
class WordOpinion:
    """What the model says of one word."""

    number: int
    relevance: float
    gesture: str


@dataclass(frozen=True)
class Answer:
    """A checked answer."""

    caption: str
    emotion: str | None
    emotion_confidence: float
    words: tuple[WordOpinion, ...]


def parse_answer(text: str, num_words: int) -> Answer:
    """The answer in a model's text, a fence around it allowed. Raises MalformedAnswerError."""
    fenced = _FENCED.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except ValueError as error:
        raise MalformedAnswerError(f"not JSON ({error})") from error
    if not isinstance(value, dict):
        raise MalformedAnswerError(f"a {type(value).__name__}, expected an object")
    unknown = sorted(set(value) - {"caption", "emotion", "emotion_confidence", "words"})
    if unknown:
        raise MalformedAnswerError(f"unknown key {unknown[0]!r}")
    caption = value.get("caption")
    if not isinstance(caption, str) or not caption.strip():
        raise MalformedAnswerError("caption is no text")
    caption = " ".join(_CONTROL.sub(" ", caption).split())
    if len(caption) > CAPTION_LENGTH:
        raise MalformedAnswerError(f"caption has {len(caption)} letters, expected at most {CAPTION_LENGTH}")
    emotion = value.get("emotion")
    if emotion is not None and emotion not in EMOTIONS:
        raise MalformedAnswerError(f"emotion {emotion!r} is none of {', '.join(EMOTIONS)}")
    confidence = _part(value.get("emotion_confidence", 0.0), "emotion_confidence")
    words = value.get("words", [])
    if not isinstance(words, list):
        raise MalformedAnswerError("words is no list")
    return Answer(caption, emotion, confidence, tuple(_word(entry, num_words) for entry in words))


def _word(entry: Any, num_words: int) -> WordOpinion:
    if not isinstance(entry, dict) or set(entry) != {"number", "relevance", "gesture"}:
        raise MalformedAnswerError(f"the word {entry!r} has not exactly number, relevance and gesture")
    number = entry["number"]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < num_words:
        raise MalformedAnswerError(f"word number {number!r} is outside 0..{num_words - 1}")
    if entry["gesture"] not in TYPES:
        raise MalformedAnswerError(f"gesture {entry['gesture']!r} is none of {', '.join(TYPES)}")
    return WordOpinion(number, _part(entry["relevance"], "relevance"), entry["gesture"])


def _part(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise MalformedAnswerError(f"{name} is {value!r}, expected a number from 0 to 1")
    return float(value)


def answer_events(answer: Answer, words: Sequence[Interval], duration_us: int, source: str) -> list[Event]:
    """An answer as events; `source` names model and prompt."""

    def event(kind: str, label: str, span: tuple[int, int], score: float) -> Event:
        return Event(*span, label, score, False, source, kind)

    whole = (0, duration_us)
    found = [event("caption", answer.caption, whole, float("nan"))]
    if answer.emotion is not None:
        found.append(event("emotion", answer.emotion, whole, answer.emotion_confidence))
    for each in answer.words:
        word = words[each.number]
        span = (word.start_us, word.end_us)
        found.append(event("semantic", word.label, span, each.relevance))
        if each.gesture != "none":
            found.append(event("gesture", f"{each.gesture}:low", span, each.relevance))
    return found
