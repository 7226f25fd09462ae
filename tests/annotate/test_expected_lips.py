"""What sound asks of lips: the labels of a hand-labelled sentence, found from the sound alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotate.audio import read_audio
from annotate.expected_lips import CHANNELS, STEP_US, expected_lips
from annotate.importers import read_words
from schemas.errors import UsageError
from schemas.types import Float32


@pytest.fixture(scope="module")
def sentence(eval_data: Path) -> Float32:
    return read_audio(eval_data / "speech" / "mary.wav", 0, 1_860_000)


def test_open_vowels_open_and_lips_close_for_m_and_b(eval_data: Path, sentence: Float32) -> None:
    lips = expected_lips(sentence)
    found = read_words(eval_data / "speech" / "mary.TextGrid", None, None)
    assert lips.shape == (-(-len(sentence) // 160), len(CHANNELS))
    assert found.words
    first, last = found.words[0].start_us // STEP_US, found.words[-1].end_us // STEP_US
    opening = lips[:, CHANNELS.index("opening")]
    assert opening[first:last].mean() > 2 * opening[: max(1, first - 2)].mean()
    closure = lips[:, CHANNELS.index("closure")]
    start = found.words[0].start_us // STEP_US  # "Mary" begins with closed lips
    assert closure[start : start + 8].max() > 0.5
    assert closure[start : start + 8].max() > 3 * np.median(closure[first:last])


def test_long_sound_is_the_same_in_its_blocks(eval_data: Path) -> None:
    sound = read_audio(eval_data / "speech" / "silero_test_60s.wav", 0, 40_000_000)
    whole = expected_lips(sound)
    part = expected_lips(sound[: 29 * 16_000])
    assert np.corrcoef(whole[100:2800, 0], part[100:2800, 0])[0, 1] > 0.97


def test_little_and_no_sound() -> None:
    assert expected_lips(np.zeros(0, np.float32)).shape == (0, 3)
    assert np.isfinite(expected_lips(np.zeros(100, np.float32))).all()
    with pytest.raises(UsageError):
        expected_lips(np.full(10, np.nan, np.float32))
