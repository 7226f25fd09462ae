"""Measures of sound against sounds made to have them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from annotate.fingerprint import HOP, WINDOW, sound_codes
from annotate.sound_quality import clipped, sound_quality
from synthetic.speech import Voice, synthesize

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> NDArray[np.float32]:
    spoken = synthesize("Bob may buy a map, and a big blue boat.", Voice(), 1).samples
    return np.pad(spoken, RATE // 2)


def noise(count: int, rms: float) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, rms, count).astype(np.float32)


def test_noise_of_a_known_level_is_measured(speech: NDArray[np.float32]) -> None:
    inside = speech[RATE // 2 : -RATE // 2]
    rms = float(np.sqrt((inside**2).mean()))
    found = []
    for ratio_db in (30, 20, 10):
        noisy = speech + noise(len(speech), rms * 10 ** (-ratio_db / 20))
        values = sound_quality(noisy)["snr_db"]
        found.append(float(values[0]))
        assert values.min() <= values[0] + 3
    np.testing.assert_allclose(np.diff(found), -10, atol=1.5)
    assert found[1] == pytest.approx(20, abs=4)  # a few dB more, where pauses do not count as speech


def test_speech_swells_and_noise_and_chords_do_not(speech: NDArray[np.float32]) -> None:
    times = np.arange(4 * RATE) / RATE
    chord = sum(0.1 * np.sin(2 * np.pi * hz * times) for hz in (220.0, 277.2, 329.6))
    spoken, steady, music = (
        sound_quality(np.asarray(x, np.float32))["speech_modulation"] for x in (speech, noise(4 * RATE, 0.1), chord)
    )
    assert spoken[0] > 0.8
    assert steady.max() < 0.2
    assert music.max() < 0.2
    half = np.concatenate([speech, noise(3 * RATE, 0.05)])
    mixed = sound_quality(half)["speech_modulation"]
    assert mixed.min() < 0.3 < spoken[0]


def test_without_speech_or_sound_there_is_no_ratio() -> None:
    assert len(sound_quality(noise(2 * RATE, 0.1))["snr_db"]) == 0
    silent = sound_quality(np.zeros(RATE, np.float32))
    assert len(silent["snr_db"]) == len(silent["speech_modulation"]) == 0
    assert len(sound_quality(np.zeros(10, np.float32))["snr_db"]) == 0


def test_clipped_samples_are_counted(speech: NDArray[np.float32]) -> None:
    peak = float(np.abs(speech).max())
    shares = []
    for level in (1.2, 0.5, 0.3):
        cut = np.clip(speech, -level * peak, level * peak)
        truth = float((np.abs(speech) >= level * peak).mean())
        found = clipped(np.stack([cut * 0.5 / min(level, 1.0) / peak, 0 * cut]), RATE)  # turned down later
        shares.append(found[0])
        assert found[0] == pytest.approx(truth, abs=0.003)
        assert found.max() >= found[0]
    assert shares[0] < 0.001 < shares[1] < shares[2]
    assert clipped(np.zeros((1, RATE), np.float32), RATE)[0] == 0


def test_codes_survive_level_and_noise_and_tell_sounds_apart(speech: NDArray[np.float32]) -> None:
    codes = sound_codes(speech)
    assert len(codes) == (len(speech) - WINDOW) // HOP + 1
    assert (codes != 0).mean() > 0.5
    other = sound_codes(0.3 * speech + noise(len(speech), 0.0005))
    both = (codes != 0) & (other != 0)
    assert np.unpackbits((codes ^ other)[both].view(np.uint8)).mean() < 0.12
    foreign = sound_codes(np.roll(speech, RATE))
    both = (codes != 0) & (foreign != 0)
    assert np.unpackbits((codes ^ foreign)[both].view(np.uint8)).mean() > 0.35
    assert not sound_codes(np.zeros(2 * RATE, np.float32)).any()
    assert len(sound_codes(speech[:1000])) == 0
