"""Sound longer than a window: every word once, in order, where it was spoken."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from annotate.align import Alignment, make_aligner
from annotate.sound import FileSound
from annotate.word_checks import check_words
from schemas.types import Float32, Interval
from synthetic.speech import Voice, synthesize
from synthetic.talker import SENTENCES

EXTRA = "Nobody has ever spoken this sentence in here."


@dataclass(frozen=True)
class Lecture:
    samples: Float32
    words: tuple[Interval, ...]
    texts: tuple[str, ...]


@pytest.fixture(scope="module")
def lecture() -> Lecture:
    """A minute of sentences, one pause of eight seconds among them."""
    rng = np.random.default_rng(0)
    parts: list[Float32] = []
    words: list[Interval] = []
    texts = []
    for number in range(15):
        text = SENTENCES[number % len(SENTENCES)]
        made = synthesize(text, Voice(f0_hz=100.0 + 5 * number, speaking_rate=1.0), seed=number)
        offset = sum(map(len, parts)) * 1_000_000 // 16_000
        words += [Interval(w.start_us + offset, w.end_us + offset, w.label, 1.0, False, "") for w in made.words]
        pause = np.zeros(128_000 if number == 6 else int(rng.uniform(0, 12_000)), np.float32)
        parts += [made.samples, pause]
        texts.append(text)
    samples = np.concatenate(parts)
    samples += rng.normal(0, 3e-4, len(samples)).astype(np.float32)
    return Lecture(samples, tuple(words), tuple(texts))


@pytest.fixture(scope="module")
def aligned(lecture: Lecture) -> Alignment:
    return make_aligner("pocketsphinx").align(lecture.samples, " ".join(lecture.texts))


def assert_near(found: list[Interval], truth: list[Interval]) -> None:
    assert [word.label for word in found] == [word.label for word in truth]
    errors = [abs(one.start_us - two.start_us) for one, two in zip(found, truth, strict=True)]
    assert np.mean(errors) < 25_000
    assert max(errors) < 200_000


def test_no_word_is_lost_or_doubled_at_seams(lecture: Lecture, aligned: Alignment) -> None:
    assert len(lecture.samples) > 50 * 16_000
    assert not aligned.untimed
    assert_near(list(aligned.words), list(lecture.words))
    for intervals in (aligned.words, aligned.phones):
        assert all(one.end_us <= two.start_us for one, two in itertools.pairwise(intervals))


def test_right_words_of_a_long_sound_raise_no_flag(lecture: Lecture, aligned: Alignment) -> None:
    report = check_words(lecture.samples, aligned)
    assert report.flags == ()
    assert abs(report.offset_ms) <= 64
    assert abs(report.drift_ms) <= 64


def test_a_file_gives_what_memory_gives(lecture: Lecture, aligned: Alignment, tmp_path: Path) -> None:
    path = tmp_path / "sound.raw"
    path.write_bytes(np.rint(lecture.samples * 32768).astype("<i2").tobytes())
    found = make_aligner("pocketsphinx").align(FileSound(path), " ".join(lecture.texts))
    apart = [abs(one.start_us - two.start_us) for one, two in zip(found.words, aligned.words, strict=True)]
    assert max(apart) < 30_000


def test_speech_without_words_and_words_without_speech_cost_only_themselves(lecture: Lecture) -> None:
    texts = list(lecture.texts)
    missing = texts.pop(9)
    begin = sum(len(text.split()) for text in lecture.texts[:9])
    spoken = [*lecture.words[:begin], *lecture.words[begin + len(missing.split()) :]]
    texts.insert(12, EXTRA)
    found = make_aligner("pocketsphinx").align(lecture.samples, " ".join(texts))
    count = len(EXTRA.split())
    labels = [word.label for word in found.words]
    assert len(labels) + len(found.untimed) == len(spoken) + count
    # the words that nobody spoke may be squeezed in, placed or untimed; all others are where they were
    left_out = EXTRA.strip(".").split()
    kept = [word for word in found.words if word.label not in left_out]
    truth = [word for word in spoken if word.label not in left_out]
    assert_near(kept, truth)
