"""Words of a source go to the clip that holds them whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from annotate.align import make_aligner
from pipelines.words import cut_words, speech_ratio, spoken_words, to_json, word_scores, word_warnings
from schemas.errors import TalksetError
from schemas.types import Float32, Interval, Span, Transcription, UntimedWord
from synthetic.speech import Voice, synthesize

TEXT = "Please bring me the blue book from the table."
START_US = 5_000_000
"""Where the sound lies on the source clock."""


def _interval(start: int, end: int, label: str) -> Interval:
    return Interval(start, end, label, 0.5, False, "truth")


WORDS = Transcription(
    words=(_interval(0, 100, "bin"), _interval(100, 300, "blue"), _interval(400, 500, "now")),
    phones=(
        _interval(0, 100, "B"),
        _interval(100, 200, "L"),
        _interval(200, 300, "UW"),
        _interval(400, 500, "N"),
    ),
)


def test_a_cut_word_belongs_to_no_clip() -> None:
    stored = to_json(WORDS, 1_000)  # aligned on sound that starts at 1,000 us of the source
    first, cut_first = cut_words(stored, Span(1_000, 1_200))
    second, cut_second = cut_words(stored, Span(1_200, 1_600))
    assert [(w.label, w.start_us, w.end_us) for w in first.words] == [("bin", 0, 100)]
    assert [(w.label, w.start_us, w.end_us) for w in second.words] == [("now", 200, 300)]
    assert cut_first == cut_second == ["blue"]
    assert [p.label for p in (*first.phones, *second.phones)] == ["B", "N"]


def test_one_clip_over_all_gets_all() -> None:
    words, cut = cut_words(to_json(WORDS, 0), Span(0, 600))
    assert words == WORDS
    assert cut == []


def test_a_word_without_a_time_goes_where_its_neighbours_are() -> None:
    untimed = tuple(UntimedWord(label, after, "truth") for label, after in (("so", 0), ("9", 1), ("or", 1), ("ok", 3)))
    stored = to_json(dataclasses.replace(WORDS, untimed=untimed), 0)
    whole, cut = cut_words(stored, Span(0, 600))
    assert (whole.text, cut) == ("so bin 9 or blue now ok", [])
    assert whole.untimed == untimed
    first, cut_first = cut_words(stored, Span(0, 350))
    assert (first.text, cut_first) == ("so bin 9 or blue", [])
    second, cut_second = cut_words(stored, Span(100, 600))
    assert (second.text, cut_second) == ("blue now ok", ["9", "or"])  # who knows on which side of the border
    assert [word.after for word in second.untimed] == [2]
    third, cut_third = cut_words(stored, Span(350, 360))
    assert (third.text, cut_third) == ("", [])


@pytest.fixture(scope="module")
def samples() -> Float32:
    return synthesize(TEXT, Voice(), seed=1).samples


def spoken(samples: Float32, text: str | None, folder: Path, language: str | None = "en") -> dict[str, object]:
    """What the stage stores of that sound."""

    def read(start_us: int, end_us: int) -> Float32:
        begin, end = ((time - START_US) * 16_000 // 1_000_000 for time in (start_us, end_us))
        return samples[begin:end]

    span = START_US, START_US + len(samples) * 1_000_000 // 16_000
    return spoken_words(read, span, text, language, make_aligner("pocketsphinx"), folder)


def test_words_are_on_the_source_clock_with_a_report(samples: Float32, tmp_path: Path) -> None:
    found = spoken(samples, TEXT, tmp_path)
    truth = synthesize(TEXT, Voice(), seed=1).words
    words, cut = cut_words(found, Span(START_US, START_US + 60_000_000))
    assert not cut
    apart = [abs(one.start_us - two.start_us) for one, two in zip(words.words, truth, strict=True)]
    assert max(apart) < 60_000
    assert found["reason"] is None
    assert word_warnings(found) == []
    scores = word_scores(found)
    assert scores["word_flags"] is None
    assert 60 < scores["words_per_minute"] < 300
    assert abs(scores["words_offset_ms"]) < 100
    assert scores["words_outside_speech"] < 0.2
    ratio = speech_ratio(found, Span(START_US, START_US + len(samples) * 1_000_000 // 16_000))
    assert ratio is not None
    assert 0.6 < ratio < 1
    assert speech_ratio(found, Span(START_US + 60_000_000, START_US + 61_000_000)) == 0
    assert speech_ratio({}, Span(0, 1)) is None


def test_a_wrong_transcript_is_a_warning(samples: Float32, tmp_path: Path) -> None:
    found = spoken(samples, "Every morning my father makes a pot of coffee.", tmp_path)
    assert any("wrong_transcript" in warning for warning in word_warnings(found))
    assert "wrong_transcript" in word_scores(found)["word_flags"].split()
    right = word_scores(spoken(samples, TEXT, tmp_path))
    assert word_scores(found)["transcript_mismatch"] > right["transcript_mismatch"] + 1


def test_what_cannot_be_aligned_is_a_reason_and_no_error(samples: Float32, tmp_path: Path) -> None:
    found = spoken(samples, "日本", tmp_path)
    assert (found["words"], found["reason"]) == ([], "bad_transcript")
    assert word_warnings(found) == []
    assert word_scores(found) == {}
    german = spoken(samples, TEXT, tmp_path, "de")
    assert "whisperx" in str(german["message"]) or german["reason"] == "bad_transcript"


def test_without_a_transcript_words_are_recognised(tmp_path: Path) -> None:
    silence = spoken(np.zeros(32_000, np.float32), None, tmp_path)
    assert silence["words"] == []
    assert any("recognized" in warning for warning in word_warnings(silence))


def test_other_errors_are_raised(tmp_path: Path) -> None:
    def read(start_us: int, end_us: int) -> Float32:
        raise TalksetError("missing_file", f"gone between {start_us} and {end_us}")

    with pytest.raises(TalksetError, match="gone"):
        spoken_words(read, (0, 1_000_000), TEXT, None, make_aligner("pocketsphinx"), tmp_path)
