from __future__ import annotations

import difflib
import itertools
from pathlib import Path

import numpy as np
import pytest

from annotate.align import Aligner, Alignment, aligner_version, make_aligner
from annotate.audio import read_audio
from annotate.importers import read_words
from annotate.text import dictionary
from annotate.word_checks import WRONG_TRANSCRIPT
from schemas.config import AlignConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import Float32, Transcription
from synthetic.speech import Utterance, Voice, synthesize

TEXT = "She had 21 blue-green boats, and Bob's dog chased the red one."


@pytest.fixture(scope="module", params=["pocketsphinx"])  # whisperx: tests/annotate/test_whisperx_backend.py
def aligner(request: pytest.FixtureRequest) -> Aligner:
    return make_aligner(request.param)


@pytest.fixture(scope="module")
def utterance() -> Utterance:
    return synthesize(TEXT, Voice(), seed=3)


@pytest.fixture(scope="module")
def aligned(aligner: Aligner, utterance: Utterance) -> Transcription:
    return aligner.align(utterance.samples, TEXT)


def grid_truth(folder: Path) -> list[tuple[Path, str, list[tuple[int, int]]]]:
    """Clip, transcript, and (start, end) of its words in microseconds; the labels' unit is 1/25000 s."""
    rows = []
    for path in sorted(folder.glob("*.align")):
        lines = [line.split() for line in path.read_text().splitlines()]
        words = [(int(start) * 40, int(end) * 40, word) for start, end, word in lines if word != "sil"]
        text = " ".join(word for _, _, word in words)
        rows.append((path.with_suffix(".mpg"), text, [(start, end) for start, end, _ in words]))
    return rows


def test_words_of_real_speech_are_where_the_corpus_says(aligner: Aligner, eval_data: Path) -> None:
    rows = grid_truth(eval_data / "grid") + grid_truth(eval_data / "grid_s1")
    assert len(rows) == 12
    errors_us = []
    for path, text, truth in rows:
        words = aligner.align(read_audio(path, 0, 3_000_000), text).words
        assert [word.label for word in words] == text.split()
        errors_us += [
            abs(found - known)
            for word, span in zip(words, truth, strict=True)
            for found, known in zip((word.start_us, word.end_us), span, strict=True)
        ]
    assert len(errors_us) == 144
    assert np.mean(errors_us) < 25_000
    assert np.mean(np.array(errors_us) <= 50_000) >= 0.9


def test_words_labelled_by_hand_are_found(aligner: Aligner, eval_data: Path) -> None:
    truth_s = {"mary": (0.315, 0.676), "rolled": (0.676, 0.984), "the": (0.984, 1.064), "barrel": (1.064, 1.518)}
    words = aligner.align(read_audio(eval_data / "speech" / "mary.wav", 0, 1_869_687), "Mary rolled the barrel").words
    errors_us = [
        abs(found - 1e6 * known)
        for word, span in zip(words, truth_s.values(), strict=True)
        for found, known in zip((word.start_us, word.end_us), span, strict=True)
    ]
    assert np.mean(errors_us) < 20_000


def test_words_and_phones_of_synthetic_speech_are_where_they_were_spoken(
    aligned: Transcription, utterance: Utterance
) -> None:
    assert [word.label for word in aligned.words] == [word.label for word in utterance.words]
    for found, known in zip(aligned.words, utterance.words, strict=True):
        assert abs(found.start_us - known.start_us) < 80_000
        assert abs(found.end_us - known.end_us) < 80_000
    errors = [abs(found.start_us - known.start_us) for found, known in zip(aligned.words, utterance.words, strict=True)]
    assert np.mean(errors) < 30_000


def test_labels_keep_the_spelling(aligned: Transcription) -> None:
    expected = ["She", "had", "21", "blue-green", "boats", "and", "Bob's", "dog", "chased", "the", "red", "one"]
    assert [word.label for word in aligned.words] == expected


def test_intervals_are_ordered_inside_the_sound_and_nested(aligned: Transcription, utterance: Utterance) -> None:
    duration_us = len(utterance.samples) * 1_000_000 // 16_000
    for intervals in (aligned.words, aligned.phones):
        assert intervals[0].start_us >= 0
        assert intervals[-1].end_us <= duration_us
        assert all(one.start_us < one.end_us for one in intervals)
        assert all(one.end_us <= two.start_us for one, two in itertools.pairwise(intervals))
        assert all(0.0 <= one.score <= 1.0 and not one.interpolated and one.source for one in intervals)
    for phone in aligned.phones:
        assert any(word.start_us <= phone.start_us and phone.end_us <= word.end_us for word in aligned.words)


def test_phones_spell_a_pronunciation_of_each_word(aligned: Transcription) -> None:
    assert "SIL" not in {phone.label for phone in aligned.phones}
    for word in aligned.words:
        if word.label in ("21", "blue-green"):
            continue
        inside = [
            phone.label for phone in aligned.phones if word.start_us <= phone.start_us and phone.end_us <= word.end_us
        ]
        variants = [word.label.lower(), *(f"{word.label.lower()}({number})" for number in range(2, 6))]
        assert tuple(inside) in [dictionary().get(variant) for variant in variants]


def test_silence_added_in_front_moves_the_words_by_as_much(
    aligner: Aligner, aligned: Transcription, utterance: Utterance
) -> None:
    room = np.random.default_rng(1).normal(0, 1e-4, 8_000).astype(np.float32)
    later = aligner.align(np.concatenate([room, utterance.samples]), TEXT)
    shifts = [two.start_us - one.start_us for one, two in zip(aligned.words, later.words, strict=True)]
    assert abs(np.median(shifts) - 500_000) <= 10_000


def test_speech_that_touches_the_edges_is_aligned(aligner: Aligner, utterance: Utterance) -> None:
    first, last = utterance.words[0].start_us, utterance.words[-1].end_us
    cut = utterance.samples[first * 16_000 // 1_000_000 : last * 16_000 // 1_000_000]
    words = aligner.align(cut, TEXT).words
    errors = [abs(word.start_us - known.start_us + first) for word, known in zip(words, utterance.words, strict=True)]
    assert np.mean(errors) < 40_000
    assert words[-1].end_us <= last - first


def test_digital_silence_around_speech_is_no_obstacle(aligner: Aligner, utterance: Utterance) -> None:
    zeros = np.zeros(16_000, dtype=np.float32)
    words = aligner.align(np.concatenate([zeros, utterance.samples, zeros]), TEXT).words
    errors = [abs(word.start_us - 1_000_000 - k.start_us) for word, k in zip(words, utterance.words, strict=True)]
    assert np.mean(errors) < 40_000


def test_same_input_same_output_whatever_came_before(
    aligner: Aligner, aligned: Transcription, utterance: Utterance
) -> None:
    other = synthesize("lay green by q four please", Voice(f0_hz=210.0, formant_scale=1.16), seed=9)
    alone = make_aligner("pocketsphinx").align(other.samples, "lay green by q four please")
    assert aligner.align(other.samples, "lay green by q four please") == alone
    with pytest.raises(TalksetError):
        aligner.align(np.zeros(1_600, dtype=np.float32), TEXT)
    assert aligner.align(utterance.samples, TEXT) == aligned
    assert aligner.align(other.samples, "lay green by q four please") == alone


def test_scores_tell_a_right_transcript_from_a_wrong_one(aligner: Aligner, eval_data: Path) -> None:
    samples = read_audio(eval_data / "grid" / "bbaf2n.mpg", 0, 3_000_000)
    right = [word.score for word in aligner.align(samples, "bin blue at f two now").words]
    wrong = [word.score for word in aligner.align(samples, "lay green with g three soon").words]
    assert np.median(right) > 5 * np.median(wrong)


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (np.zeros(0, np.float32), "hello world"),
        (np.zeros(800, np.float32), "hello world"),
        (np.zeros(48_000, np.float32), ""),
        (np.zeros(48_000, np.float32), "日本"),
        (np.zeros(48_000, np.float32), "ich spreche kein Englisch und verstehe nichts"),
        (np.zeros(8_000, np.float32), TEXT),
        (np.zeros(48_000, np.float32), TEXT * 200),
    ],
)
def test_what_cannot_be_aligned_is_a_bad_transcript(aligner: Aligner, samples: Float32, text: str) -> None:
    with pytest.raises(TalksetError) as caught:
        aligner.align(samples, text)
    assert caught.value.reason == "bad_transcript"


def test_wrong_samples_are_a_usage_error(aligner: Aligner) -> None:
    for samples in (np.zeros((2, 100), np.float32), np.full(16_000, np.nan, np.float32)):
        with pytest.raises(UsageError):
            aligner.align(samples, "hello")


def test_phones_labelled_by_hand_are_found(aligner: Aligner, eval_data: Path) -> None:
    truth = read_words(eval_data / "speech" / "mary.TextGrid")
    samples = read_audio(eval_data / "speech" / "mary.wav", 0, 1_869_687)
    found = aligner.align(samples, "Mary rolled the barrel")
    # "barrel" has one phone more in the dictionary: its last vowel is part of the hand's "l"
    starts = [phone.start_us for phone in found.phones]
    del starts[-1]
    errors = np.abs(np.array([*starts, found.phones[-1].end_us]) - [*[p.start_us for p in truth.phones], 1_518_254])
    assert np.mean(errors) < 20_000


def test_what_is_said_in_several_ways_is_found_as_it_was_said(aligner: Aligner) -> None:
    for said in ("nineteen eighty four", "one thousand nine hundred eighty four"):
        made = synthesize(f"It was {said} when they came.", Voice(), seed=5)
        found = aligner.align(made.samples, "It was 1984 when they came.")
        assert [word.label for word in found.words] == ["It", "was", "1984", "when", "they", "came"]
        number = [w for w in made.words if w.label in said.split()]
        assert abs(found.words[2].start_us - number[0].start_us) < 60_000
        assert abs(found.words[2].end_us - number[-1].end_us) < 60_000


def test_unknown_words_are_aligned(aligner: Aligner) -> None:
    found = aligner.align(
        synthesize("A plain sentence of five words", Voice(), seed=1).samples, "Zendaya blorfs in Wakanda"
    )
    assert [word.label for word in found.words] == ["Zendaya", "blorfs", "in", "Wakanda"]


def test_mismatch_tells_a_wrong_transcript(aligner: Aligner, utterance: Utterance, aligned: Transcription) -> None:
    wrong = aligner.align(utterance.samples, "Every morning my father makes a pot of coffee and reads the news.")
    assert isinstance(aligned, Alignment)
    assert aligned.mismatch < WRONG_TRANSCRIPT < wrong.mismatch


def test_another_language_is_refused(aligner: Aligner, utterance: Utterance) -> None:
    with pytest.raises(TalksetError, match="whisperx"):
        aligner.align(utterance.samples, TEXT, "de")
    with pytest.raises(TalksetError, match="whisperx"):
        aligner.recognize(utterance.samples, "fr")
    assert aligner.align(utterance.samples, TEXT, "en-GB").words


def test_speech_is_recognised_and_marked_so(aligner: Aligner, eval_data: Path) -> None:
    path = eval_data / "speech" / "sense_and_sensibility_01_austen_64kb-0890.wav"
    samples = read_audio(path, 0, 5_300_000)
    found = aligner.recognize(samples)
    truth = path.with_suffix(".txt").read_text().split()
    same = difflib.SequenceMatcher(None, [word.label for word in found.words], truth, autojunk=False)
    assert same.ratio() > 0.6
    assert found.recognised
    assert all("recognized" in interval.source for interval in (*found.words, *found.phones))


def test_silence_is_recognised_as_nothing(aligner: Aligner) -> None:
    assert aligner.recognize(np.zeros(32_000, np.float32)).words == ()
    assert aligner.recognize(np.zeros(0, np.float32)).words == ()


def test_unknown_aligner_is_named_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"'pocketsfinx'.*pocketsphinx"):
        make_aligner("pocketsfinx")
    with pytest.raises(UsageError, match=r"'pocketsfinx'.*pocketsphinx"):
        aligner_version(AlignConfig(backend="pocketsfinx"))
    assert make_aligner("pocketsphinx").name.startswith(aligner_version(AlignConfig()))
