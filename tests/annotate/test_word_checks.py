from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from annotate.align import Alignment, make_aligner
from annotate.audio import read_audio
from annotate.word_checks import FLAGS, check_words, repeated_words
from schemas.types import Float32, Interval, UntimedWord
from synthetic.speech import Voice, synthesize

TEXT = "We have been away for more than five weeks. Please bring me the blue book."


@pytest.fixture(scope="module")
def sound() -> Float32:
    room = np.zeros(32_000, np.float32)
    return np.concatenate([room, synthesize(TEXT, Voice(), seed=2).samples, room])


@pytest.fixture(scope="module")
def truth(sound: Float32) -> Alignment:
    made = synthesize(TEXT, Voice(), seed=2)
    return Alignment(tuple(shifted(word, 2_000_000) for word in made.words), (), mismatch=0.9)


def shifted(word: Interval, by_us: int) -> Interval:
    return dataclasses.replace(word, start_us=word.start_us + by_us, end_us=word.end_us + by_us)


def test_true_words_raise_no_flag(sound: Float32, truth: Alignment) -> None:
    report = check_words(sound, truth)
    assert report.flags == ()
    assert abs(report.offset_ms) <= 64
    assert report.outside_speech == 0
    assert report.uncovered_speech < 0.15
    assert report.repeated == ()
    spoken = sum(word.end_us - word.start_us for word in truth.words)
    assert report.speech_ratio == pytest.approx(spoken / (len(sound) / 0.016), abs=0.08)
    assert 150 < report.words_per_minute < 300


@pytest.mark.parametrize("by_us", [-400_000, 320_000, 800_000])
def test_a_known_shift_is_measured(sound: Float32, truth: Alignment, by_us: int) -> None:
    moved = dataclasses.replace(truth, words=tuple(shifted(word, by_us) for word in truth.words))
    before, after = check_words(sound, truth), check_words(sound, moved)
    assert after.offset_ms - before.offset_ms == pytest.approx(by_us / 1000, abs=64)


def test_a_known_drift_is_measured(sound: Float32, truth: Alignment) -> None:
    long_sound = np.concatenate([sound] * 4)
    length_us = len(sound) * 1_000_000 // 16_000
    words = [shifted(word, length_us * turn) for turn in range(4) for word in truth.words]
    slow = [dataclasses.replace(w, start_us=round(w.start_us * 1.02), end_us=round(w.end_us * 1.02)) for w in words]
    right = check_words(long_sound, dataclasses.replace(truth, words=tuple(words)))
    wrong = check_words(long_sound, dataclasses.replace(truth, words=tuple(slow)))
    assert abs(right.drift_ms) <= 64
    assert "drift" not in right.flags
    assert wrong.drift_ms == pytest.approx(0.02 * 0.67 * len(long_sound) / 16, rel=0.35)
    assert "drift" in wrong.flags


def test_words_in_silence_are_flagged(sound: Float32, truth: Alignment) -> None:
    early = [Interval(100_000 * i, 100_000 * i + 90_000, "hello", 0.5, False, "x") for i in range(1, 6)]
    report = check_words(sound, dataclasses.replace(truth, words=(*early, *truth.words)))
    assert report.outside_speech == pytest.approx(5 / (5 + len(truth.words)))
    assert "words_outside_speech" in report.flags


def test_speech_that_no_word_covers_is_flagged(sound: Float32, truth: Alignment) -> None:
    report = check_words(sound, dataclasses.replace(truth, words=truth.words[:4]))
    assert report.uncovered_speech > 0.5
    assert "speech_without_words" in report.flags


def test_other_flags(sound: Float32, truth: Alignment) -> None:
    start = truth.words[0].start_us
    fast = tuple(Interval(start + 30_000 * i, start + 30_000 * (i + 1), f"w{i}", 0.5, False, "x") for i in range(40))
    assert "implausible_rate" in check_words(sound, Alignment(fast, ())).flags
    assert "recognized" in check_words(sound, dataclasses.replace(truth, recognised=True)).flags
    untimed = check_words(sound, dataclasses.replace(truth, untimed=(UntimedWord("9", 2, ""),)))
    assert untimed.untimed == 1
    assert "untimed_words" in untimed.flags
    assert "wrong_transcript" in check_words(sound, dataclasses.replace(truth, mismatch=4.0)).flags
    assert "wrong_transcript" not in check_words(sound, dataclasses.replace(truth, mismatch=math.nan)).flags
    assert {"untimed_words", "drift", "repeated_words"} <= set(FLAGS)


def test_nothing_is_no_error() -> None:
    report = check_words(np.zeros(0, np.float32), Alignment((), ()))
    assert report.flags == ()
    assert report.speech_ratio == 0
    assert math.isnan(report.words_per_minute)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no no no", ()),
        ("no no no no", ("no",)),
        ("thank you thank you", ()),
        ("Thank you. thank you thank you, and then thank you", ("thank you",)),
        ("we go to the sea " * 3, ("we go to the sea",)),
        ("a b c d e f g h i j k l m n", ()),
    ],
)
def test_repetitions(text: str, found: tuple[str, ...]) -> None:
    assert repeated_words(text.split()) == found


def test_wrong_transcripts_of_real_speech_are_flagged_and_right_ones_are_not(eval_data: Path) -> None:
    """A third of all pairs; the benchmark takes all of them."""
    lines = [line.split("\t") for line in (eval_data / "grid" / "transcripts.tsv").read_text().splitlines()]
    aligner = make_aligner("pocketsphinx")
    right, wrong = [], []
    for number, (name, text) in enumerate(lines):
        samples = read_audio(eval_data / "grid" / f"{name}.mpg", 0, 3_000_000)
        right.append("wrong_transcript" in check_words(samples, aligner.align(samples, text)).flags)
        for other in (1, 3):
            report = check_words(samples, aligner.align(samples, lines[(number + other) % len(lines)][1]))
            wrong.append("wrong_transcript" in report.flags)
    assert sum(right) == 0
    assert np.mean(wrong) >= 0.9
