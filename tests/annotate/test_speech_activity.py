from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotate.sound import HeldSound
from annotate.speech_activity import FRAME, FRAME_US, overlap_us, speech_probability, speech_spans
from schemas.errors import UsageError
from schemas.types import Float32, Span
from synthetic.speech import Voice, synthesize


@pytest.fixture(scope="module")
def sound() -> Float32:
    made = synthesize("Every morning my father makes a pot of coffee.", Voice(), seed=1).samples
    gap = np.random.default_rng(0).normal(0, 1e-4, 24_000).astype(np.float32)
    return np.concatenate([gap, made, gap, made, gap])


def test_speech_is_found_where_it_is(sound: Float32) -> None:
    made = synthesize("Every morning my father makes a pot of coffee.", Voice(), seed=1)
    length_us = len(made.samples) * 1_000_000 // 16_000
    spans = speech_spans(speech_probability(sound), min_pause_ms=500)
    assert len(spans) == 2
    for number, span in enumerate(spans):
        offset = 1_500_000 * (number + 1) + number * length_us
        assert abs(span.start_us - offset - made.words[0].start_us) < 100_000
        assert abs(span.end_us - offset - made.words[-1].end_us) < 200_000


def test_the_network_computes_what_the_wheels_own_torch_model_does(sound: Float32) -> None:
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    from silero_vad import load_silero_vad

    model = load_silero_vad()
    frames = [torch.from_numpy(sound[i : i + FRAME]) for i in range(0, len(sound) - FRAME, FRAME)]
    with torch.no_grad():
        expected = np.array([float(model(frame, 16_000)) for frame in frames])
    torch.set_num_threads(threads)
    np.testing.assert_allclose(speech_probability(sound)[: len(expected)], expected, atol=1e-4)


def test_blocks_do_not_show(sound: Float32) -> None:
    """Forty seconds are three blocks; a tail with another start state would differ at their seams."""
    long_sound = np.tile(sound, 4)
    whole = speech_probability(HeldSound(long_sound))
    assert len(whole) == -(-len(long_sound) // FRAME)
    np.testing.assert_array_equal(speech_probability(long_sound[: FRAME * 700])[:600], whole[:600])


def test_silence_and_no_sound() -> None:
    assert speech_spans(speech_probability(np.zeros(32_000, np.float32))) == ()
    assert len(speech_probability(np.zeros(0, np.float32))) == 0
    with pytest.raises(UsageError):
        speech_probability(np.zeros((2, 100), np.float32))


def test_spans_by_hand() -> None:
    probability = np.array([0, 0.6, 0.4, 0.36, 0.1, 0.9, 0.9, 0, 0, 0, 0, 0, 0.8, 0], np.float32)
    assert speech_spans(probability, min_speech_ms=0, min_pause_ms=0) == (
        Span(1 * FRAME_US, 4 * FRAME_US),
        Span(5 * FRAME_US, 7 * FRAME_US),
        Span(12 * FRAME_US, 13 * FRAME_US),
    )
    assert speech_spans(probability, min_speech_ms=40, min_pause_ms=50) == (Span(1 * FRAME_US, 7 * FRAME_US),)
    assert speech_spans(np.ones(3, np.float32), 0, 0) == (Span(0, 3 * FRAME_US),)


def test_overlap() -> None:
    assert overlap_us((Span(0, 10), Span(20, 30)), 5, 25) == 10
    assert overlap_us((), 0, 10) == 0


def test_real_speech(eval_data: Path) -> None:
    from annotate.audio import read_audio

    spans = speech_spans(speech_probability(read_audio(eval_data / "grid" / "bbaf2n.mpg", 0, 3_000_000)))
    assert abs(spans[0].start_us - 950_000) < 120_000
    assert abs(spans[-1].end_us - 2_120_000) < 120_000
