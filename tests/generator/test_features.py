"""What the generator hears: tones where they are, clicks when they are, at any place of a long sound."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from generator.features import MELS, PARTS, RATE_HZ, WIDTH, log_mel, make_extractor, mel_filters
from generator.onsets import OWN, onsets_s
from schemas.errors import UsageError


def tone(hz: float, seconds: float) -> NDArray[np.float32]:
    return np.asarray(0.3 * np.sin(2 * np.pi * hz * np.arange(int(RATE_HZ * seconds)) / RATE_HZ), np.float32)


def test_a_tone_is_in_the_band_of_its_pitch() -> None:
    for hz in (300.0, 1000.0, 4000.0):
        found = log_mel(tone(hz, 1.0), 25, Fraction(25))[12].reshape(PARTS, MELS).mean(0)
        filters = mel_filters(MELS, 512, RATE_HZ)
        assert abs(int(found.argmax()) - int(filters[:, round(hz / RATE_HZ * 512)].argmax())) <= 1


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30), Fraction(30000, 1001)])
def test_a_click_is_in_the_frame_of_its_time_after_a_minute_too(fps: Fraction) -> None:
    frame = int(60 * fps)
    sound = np.zeros(61 * RATE_HZ, np.float32)
    sound[round(frame / fps * RATE_HZ)] = 1.0
    energy = log_mel(sound, int(61 * fps), fps).reshape(-1, PARTS, MELS).mean(2)
    assert np.unravel_index(energy.argmax(), energy.shape)[0] == frame
    centre = np.exp(energy[frame])
    assert centre[1] + centre[2] > centre[0] + centre[3]  # the middle of the step is its time


def test_a_part_of_a_sound_gives_the_same_as_the_whole() -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 3 * RATE_HZ).astype(np.float32)
    whole = log_mel(sound, 75, Fraction(25))
    part = log_mel(sound[RATE_HZ - 1600 :], 30, Fraction(25), first=25, origin=RATE_HZ - 1600)
    assert np.allclose(part, whole[25:55], atol=1e-5)


def test_silence_and_nothing_are_finite() -> None:
    assert np.isfinite(log_mel(np.zeros(0, np.float32), 10, Fraction(25))).all()
    assert log_mel(np.zeros(100, np.float32), 10, Fraction(25)).shape == (10, WIDTH)


def test_bad_sound_and_unknown_features_are_errors() -> None:
    with pytest.raises(UsageError, match="Average the channels"):
        log_mel(np.zeros((10, 2), np.float32), 1, Fraction(25))
    with pytest.raises(UsageError, match="not finite"):
        log_mel(np.full(1000, np.nan, np.float32), 1, Fraction(25))
    with pytest.raises(UsageError, match="transformers"):
        make_extractor("/no/such/model")


def test_our_onsets_are_where_tones_begin() -> None:
    sound = np.zeros(3 * RATE_HZ, np.float32)
    for start in (0.5, 1.25, 2.0):
        at = int(start * RATE_HZ)
        sound[at : at + 3200] += tone(500, 0.2) * np.linspace(1, 0, 3200, dtype=np.float32)  # no click at its end
    found, name = onsets_s(sound, "own")
    assert name == OWN
    assert len(found) == 3
    assert np.abs(found - [0.5, 1.25, 2.0]).max() < 0.04
    assert len(onsets_s(np.zeros(RATE_HZ, np.float32), "own")[0]) == 0
    with pytest.raises(UsageError, match="unknown onset detector"):
        onsets_s(sound, "other")
