from __future__ import annotations

import itertools
import time

import numpy as np
import pocketsphinx
import pytest
from numpy.typing import NDArray
from scipy import signal

from annotate.align.pocketsphinx import PocketsphinxAligner
from annotate.text import dictionary, tokenize
from schemas.errors import TalksetError, UsageError
from synthetic.phonetics import DURATIONS_MS
from synthetic.speech import Utterance, Voice, synthesize

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "She sells sea shells by the sea shore, but he only buys fish.",
    "My father thought that the weather was very pleasant yesterday.",
    "Good morning everyone, today we measure how the mouth moves.",
)
VOICES = (
    Voice(),
    Voice(f0_hz=205.0, formant_scale=1.16, breathiness=0.3),
    Voice(f0_hz=95.0, formant_scale=0.94, breathiness=0.05, speaking_rate=1.2),
    Voice(f0_hz=240.0, formant_scale=1.22, breathiness=0.4, speaking_rate=0.9),
)


@pytest.fixture(scope="module")
def spoken() -> list[tuple[str, Voice, Utterance]]:
    return [(text, voice, synthesize(text, voice, seed=1)) for voice in VOICES for text in TEXTS]


def part(utterance: Utterance, start_us: int, end_us: int) -> NDArray[np.float32]:
    return utterance.samples[start_us * utterance.rate // 1_000_000 : end_us * utterance.rate // 1_000_000]


def test_every_phone_of_the_dictionary_can_be_spoken() -> None:
    assert {phone for entry in dictionary().values() for phone in entry} == set(DURATIONS_MS)
    utterance = synthesize("Beige judge, thing church vision, boy who yacht put zoo cow the.", Voice(), seed=0)
    assert np.isfinite(utterance.samples).all()


def test_truth_spells_the_text_and_tiles_the_words() -> None:
    text = "Hello, 21 blue-green birds fly."
    utterance = synthesize(text, Voice(), seed=5)
    tokens = tokenize(text)
    assert [word.label for word in utterance.words] == [token.label for token in tokens]
    assert [phone.label for phone in utterance.phones] == [
        phone for token in tokens for word in token.words for phone in dictionary()[word]
    ]
    for word in utterance.words:
        inside = [p for p in utterance.phones if word.start_us <= p.start_us and p.end_us <= word.end_us]
        assert (inside[0].start_us, inside[-1].end_us) == (word.start_us, word.end_us)
        assert all(one.end_us == two.start_us for one, two in itertools.pairwise(inside))
    assert all(interval.source == "truth" for interval in (*utterance.words, *utterance.phones))
    assert utterance.words[-1].end_us <= len(utterance.samples) * 1_000_000 // utterance.rate


def test_sound_is_in_the_words_and_silence_is_not() -> None:
    utterance = synthesize("Bin blue, set green.", Voice(), seed=2)
    comma = part(utterance, utterance.words[1].end_us + 15_000, utterance.words[2].start_us - 15_000)
    edge = part(utterance, 0, utterance.words[0].start_us - 15_000)
    speech = np.concatenate([part(utterance, word.start_us, word.end_us) for word in utterance.words])
    assert len(comma) > 1_600
    for quiet in (comma, edge):
        assert 0 < np.std(quiet) < 0.005 * np.std(speech)


def test_phones_sound_like_their_class() -> None:
    """Hiss is high, vowels are low and loud, closures are quiet, at exactly the times the truth says."""
    utterance = synthesize("A sassy puppy sees a seat, a copper pot.", Voice(), seed=4)
    for phone in utterance.phones:
        middle = part(utterance, phone.start_us + 15_000, phone.end_us - 15_000)
        frequency, power = signal.periodogram(middle, utterance.rate)
        centroid = float(np.sum(frequency * power) / np.sum(power))
        if phone.label == "S":
            assert centroid > 4_000
        elif phone.label in ("AE", "AA", "IY", "AH"):
            assert centroid < 1_800
            assert np.std(middle) > 0.02
        elif phone.label in ("P", "T", "K"):
            closure = part(utterance, phone.start_us + 10_000, phone.start_us + 30_000)
            assert np.std(closure) < 0.01


def test_formants_of_vowels_are_those_of_the_table() -> None:
    """Linear prediction finds the first two resonances of long steady vowels."""
    for word, expected in {"saw": (590, 890), "see": (300, 2250), "sue": (315, 1000), "spa": (735, 1140)}.items():
        utterance = synthesize(word, Voice(f0_hz=80.0, breathiness=0.0, speaking_rate=0.6), seed=0)
        vowel = utterance.phones[-1]
        middle = part(utterance, (2 * vowel.start_us + vowel.end_us) // 3, (vowel.start_us + 2 * vowel.end_us) // 3)
        frame = signal.lfilter([1.0, -0.95], [1.0], middle) * np.hamming(len(middle))
        lags = np.correlate(frame, frame, "full")[len(frame) - 1 :][:19]
        order = len(lags) - 1
        matrix = lags[np.abs(np.subtract.outer(np.arange(order), np.arange(order)))]
        roots = np.roots([1.0, *-np.linalg.solve(matrix, lags[1:])])
        roots = roots[(roots.imag > 0.01) & (np.abs(roots) > 0.9)]
        found = np.sort(np.angle(roots) * utterance.rate / (2 * np.pi))
        for formant in expected:
            assert np.abs(found - formant).min() < max(0.12 * formant, 70), (word, expected, found)


def test_pitch_and_vocal_tract_follow_the_voice() -> None:
    for f0_hz in (90.0, 140.0, 220.0):
        utterance = synthesize("Are you all here now.", Voice(f0_hz=f0_hz, breathiness=0.1), seed=0)
        found = []
        for word in utterance.words:
            piece = part(utterance, word.start_us, word.end_us).astype(np.float64)
            lags = np.correlate(piece, piece, "full")[len(piece) - 1 :]
            low, high = int(16_000 / (1.6 * f0_hz)), int(16_000 / (0.6 * f0_hz))
            found.append(16_000 / (low + int(np.argmax(lags[low:high]))))
        assert abs(np.median(found) / f0_hz - 1) < 0.15
    small, large = (synthesize("see", Voice(formant_scale=scale), seed=0) for scale in (0.9, 1.3))
    centroids = []
    for utterance in (small, large):
        hiss = part(utterance, utterance.phones[0].start_us, utterance.phones[0].end_us)
        frequency, power = signal.periodogram(hiss, utterance.rate)
        centroids.append(float(np.sum(frequency * power) / np.sum(power)))
    assert centroids[1] > centroids[0] + 500


def test_an_aligner_finds_the_words_where_the_truth_says(spoken: list[tuple[str, Voice, Utterance]]) -> None:
    aligner = PocketsphinxAligner()
    for voice in VOICES:
        errors_us = []
        for text, speaker, utterance in spoken:
            if speaker == voice:
                words = aligner.align(utterance.samples, text).words
                for found, known in zip(words, utterance.words, strict=True):
                    assert found.label == known.label
                    errors_us += [abs(found.start_us - known.start_us), abs(found.end_us - known.end_us)]
        assert np.mean(errors_us) < 25_000, voice


def test_a_recogniser_without_the_text_hears_the_phones(spoken: list[tuple[str, Voice, Utterance]]) -> None:
    """Phone accuracy of a free phone loop: chance is near 0; the same loop gets about 0.5 on real read speech."""
    model = pocketsphinx.get_model_path("en-us/en-us-phone.lm.bin")
    decoder = pocketsphinx.Decoder(lm=None, allphone=model, lw=2.0, beam=1e-20, pbeam=1e-20, loglevel="FATAL")
    accuracy = []
    for _, _, utterance in spoken[:8:2]:
        decoder.start_utt()
        decoder.process_raw((utterance.samples * 32767).astype("<i2").tobytes(), full_utt=True)
        decoder.end_utt()
        heard = [segment.word for segment in decoder.seg() if segment.word[0] not in "<[+" and segment.word != "SIL"]
        truth = [phone.label for phone in utterance.phones]
        accuracy.append(1.0 - edit_distance(truth, heard) / len(truth))
    assert np.mean(accuracy) > 0.4


def edit_distance(one: list[str], two: list[str]) -> int:
    row = list(range(len(two) + 1))
    for index, left in enumerate(one, start=1):
        previous, row[0] = row[0], index
        for place, right in enumerate(two, start=1):
            previous, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, previous + (left != right))
    return row[-1]


def test_the_seed_decides_everything() -> None:
    one, two, other = (synthesize(TEXTS[0], Voice(), seed) for seed in (7, 7, 8))
    assert np.array_equal(one.samples, two.samples)
    assert one.words == two.words
    assert one.words != other.words
    assert one.samples.dtype == np.float32
    assert np.abs(one.samples).max() == pytest.approx(0.5)


def test_a_higher_rate_is_the_same_speech_at_the_same_times() -> None:
    base, high = (synthesize("Bin blue at f two now.", Voice(), 3, rate) for rate in (16_000, 48_000))
    assert high.rate == 48_000
    assert (high.words, high.phones) == (base.words, base.phones)
    assert len(high.samples) == 3 * len(base.samples)
    back = signal.resample_poly(high.samples, 1, 3)
    assert np.corrcoef(back, base.samples)[0, 1] > 0.99


def test_speaking_rate_shortens_the_speech() -> None:
    slow, fast = (synthesize(TEXTS[1], Voice(speaking_rate=rate), seed=1) for rate in (0.8, 1.4))
    assert fast.words[-1].end_us < 0.7 * slow.words[-1].end_us


def test_filters_never_click() -> None:
    """Steady vowels through moving formants hold no broadband transient: the top octave stays far below."""
    utterance = synthesize("why are you away", Voice(breathiness=0.0), seed=0)
    spoken_part = part(utterance, utterance.words[0].start_us, utterance.words[-1].end_us)
    high = signal.sosfilt(signal.butter(6, 6_500, "high", fs=16_000, output="sos"), spoken_part)
    assert np.abs(high).max() < 0.05 * np.abs(spoken_part).max()


def test_faster_than_ten_times_real_time() -> None:
    text = " ".join(TEXTS)
    synthesize(text, Voice(), seed=0)
    start = time.process_time()
    utterance = synthesize(text, Voice(), seed=1)
    assert len(utterance.samples) / utterance.rate > 10 * (time.process_time() - start)


@pytest.mark.parametrize(
    "values", [{"f0_hz": 20.0}, {"formant_scale": 2.0}, {"breathiness": -0.1}, {"speaking_rate": 3.0}]
)
def test_impossible_voices_are_refused_by_name(values: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        Voice(**values)


def test_unspeakable_text_and_rate_are_refused() -> None:
    with pytest.raises(TalksetError, match=r"'blorfq', 'Xyzzyq'"):
        synthesize("hello blorfq, and. Xyzzyq", Voice(), seed=0)
    with pytest.raises(UsageError, match="4000"):
        synthesize("hello", Voice(), seed=0, rate=4000)
