"""Whether words are to be believed: against the speech in the sound, against one another, against how people talk."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.align.base import Alignment
from annotate.sound import RATE, Sound, as_sound
from annotate.speech_activity import FRAME_US, RELEASE, overlap_us, speech_probability, speech_spans
from schemas.types import Float32, Interval, Span

FLAGS: Final[dict[str, str]] = {
    "wrong_transcript": "the sound does not say these words",
    "recognized": "nobody gave the words: a recogniser heard them",
    "words_outside_speech": "words stand where nobody speaks",
    "speech_without_words": "much of the speech has no words",
    "repeated_words": "the same words again and again, as recognisers do that lost the thread",
    "drift": "words and speech move apart",
    "implausible_rate": "nobody speaks that fast or that slowly",
    "untimed_words": "words of the transcript were not found in the sound",
}
"""Every flag that may be raised, with its meaning."""

WRONG_TRANSCRIPT: Final = 2.5
"""Mismatch in nats per 10 ms from which a transcript is taken for wrong: right ones are below 2 on clean speech and
below 3.1 at 5 dB of noise, wrong ones are seldom below 3."""

_LEAST_OVERLAP: Final = 0.2
"""A word is outside speech when less of it than this is inside."""
_SLACK_US: Final = 100_000
"""Speech activity sees weak first and last sounds late and early by about as much."""
_MOST_OUTSIDE: Final = 0.1
_MOST_UNCOVERED: Final = 0.5
_RATE_WPM: Final = (30.0, 400.0)
_LEAST_WORDS: Final = 3
"""Fewer words tell nothing of a rate."""
_MAX_LAG: Final = 31
"""Frames of 32 ms: one second either way."""
_MOST_DRIFT_MS: Final = 250.0
_LONG_US: Final = 20_000_000
"""Drift shows only in sound of this length."""


@dataclass(frozen=True)
class WordReport:
    """What can be said of the words of one piece of sound; shares are 0..1."""

    mismatch: float
    """`Alignment.mismatch`; NaN where the engine cannot tell."""
    words_per_minute: float
    """Over the time from the first word to the last, pauses of more than a second left out; NaN without words."""
    speech: tuple[Span, ...]
    """Where somebody speaks."""
    speech_ratio: float
    """Share of the sound in which somebody speaks."""
    outside_speech: float
    """Share of the words that stand where nobody speaks; NaN without words."""
    uncovered_speech: float
    """Share of the speech that no word covers; 0 without speech."""
    offset_ms: float
    """How much later than the speech the words are, in steps of 32 ms; NaN where there is too little of either."""
    drift_ms: float
    """How much that grows from the first third to the last; NaN in short sound."""
    interpolated: int
    """Words that were placed between others."""
    untimed: int
    """Words without time."""
    repeated: tuple[str, ...]
    """Word sequences that come again and again."""
    flags: tuple[str, ...]
    """Keys of `FLAGS`."""


def check_words(samples: Float32 | Sound, alignment: Alignment) -> WordReport:
    """Compare the words of an alignment with the voice activity of its sound at 16 kHz and with one another."""
    sound = as_sound(samples)
    probability = speech_probability(sound)
    spans = speech_spans(probability)
    duration_us = sound.num_samples * 1_000_000 // RATE
    words = alignment.words
    measured = [word for word in words if not word.interpolated]
    speaking = sum(span.end_us - span.start_us for span in spans)
    covered = sum(_overlap(words, span) for span in spans)
    outside = _mean([_is_outside(word, spans) for word in measured])
    uncovered = 1.0 - covered / speaking if speaking else 0.0
    offset, drift = _offsets_ms(words, probability)
    rate = _words_per_minute(words)
    repeated = repeated_words([word.label for word in alignment.spoken])
    raised = {
        "wrong_transcript": alignment.mismatch > WRONG_TRANSCRIPT,
        "recognized": alignment.recognised,
        "words_outside_speech": outside > _MOST_OUTSIDE,
        "speech_without_words": bool(words) and uncovered > _MOST_UNCOVERED,
        "repeated_words": bool(repeated),
        "drift": abs(drift) > _MOST_DRIFT_MS,
        "implausible_rate": len(words) >= _LEAST_WORDS and not _RATE_WPM[0] <= rate <= _RATE_WPM[1],
        "untimed_words": bool(alignment.untimed),
    }
    return WordReport(
        mismatch=alignment.mismatch,
        words_per_minute=rate,
        speech=spans,
        speech_ratio=min(1.0, speaking / duration_us) if duration_us else 0.0,
        outside_speech=outside,
        uncovered_speech=uncovered,
        offset_ms=offset,
        drift_ms=drift,
        interpolated=len(words) - len(measured),
        untimed=len(alignment.untimed),
        repeated=repeated,
        flags=tuple(name for name, is_raised in raised.items() if is_raised),
    )


def repeated_words(labels: Sequence[str]) -> tuple[str, ...]:
    """Sequences of up to eight words that follow one another at least three times, single words at least four times.

    People say "no no no"; recognisers that lost the thread say the same sentence until the window ends.
    """
    lower = [label.lower().strip(".,!?;:") for label in labels]
    found: dict[str, None] = {}
    start = 0
    while start < len(lower):
        step = 1
        for length in range(1, 9):
            unit = lower[start : start + length]
            count = 1
            while lower[start + count * length : start + (count + 1) * length] == unit:
                count += 1
            if len(unit) == length and count >= (4 if length == 1 else 3):
                found[" ".join(unit)] = None
                step = count * length
                break
        start += step
    return tuple(found)


def _overlap(words: Sequence[Interval], span: Span) -> int:
    own = tuple(Span(word.start_us, word.end_us) for word in words)
    return overlap_us(own, span.start_us, span.end_us)


def _is_outside(word: Interval, spans: Sequence[Span]) -> float:
    wide = tuple(Span(span.start_us - _SLACK_US, span.end_us + _SLACK_US) for span in spans)
    inside = min(overlap_us(wide, word.start_us, word.end_us), word.end_us - word.start_us)
    return float(inside < _LEAST_OVERLAP * (word.end_us - word.start_us))


def _words_per_minute(words: Sequence[Interval]) -> float:
    if not words:
        return math.nan
    talking = sum(word.end_us - word.start_us for word in words)
    for one, two in itertools.pairwise(words):
        pause = two.start_us - one.end_us
        talking += pause if 0 < pause <= 1_000_000 else 0
    return 60e6 * len(words) / max(talking, 1)


def _offsets_ms(words: Sequence[Interval], probability: Float32) -> tuple[float, float]:
    """Lag of words behind speech over all frames, and its growth from the first third to the last."""
    mask = np.zeros(len(probability))
    for word in words:
        first, last = word.start_us // FRAME_US, min(-(-word.end_us // FRAME_US), len(mask))
        edges = np.arange(first, last) * FRAME_US
        mask[first:last] += (np.minimum(edges + FRAME_US, word.end_us) - np.maximum(edges, word.start_us)) / FRAME_US
    offset = _lag_ms(mask, probability)
    third = len(mask) // 3
    if len(mask) * FRAME_US < _LONG_US:
        return offset, math.nan
    early, late = (_lag_ms(mask[part], probability[part]) for part in (slice(third), slice(-third, None)))
    return offset, late - early


def _lag_ms(mask: NDArray[np.float64], probability: Float32) -> float:
    """Shift at which words and speech agree in most frames, silence beyond both ends; NaN without either."""
    if not (mask.any() and (probability > RELEASE).any()):
        return math.nan
    speech = np.pad(2.0 * probability - 1.0, _MAX_LAG, constant_values=-1.0)
    spoken = np.pad(2.0 * np.minimum(mask, 1.0) - 1.0, 2 * _MAX_LAG, constant_values=-1.0)
    lags = sorted(range(-_MAX_LAG, _MAX_LAG + 1), key=abs)
    alike = [float(np.dot(speech, spoken[_MAX_LAG + lag : _MAX_LAG + lag + len(speech)])) for lag in lags]
    return lags[int(np.argmax(alike))] * FRAME_US / 1000


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
