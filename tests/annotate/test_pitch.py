"""The pitch of sounds whose pitch is known."""

from __future__ import annotations

import numpy as np
import pytest

from annotate.pitch import pitch_track

RATE = 16_000


def tone(hz: float, seconds: float = 1.0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A buzz with twenty falling harmonics."""
    time = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 21) if hz * k < 7000)
    return np.asarray(0.1 * wave, dtype=np.float32)


@pytest.mark.parametrize("hz", [80.0, 110.0, 155.5, 220.0, 310.0, 440.0])
def test_a_buzz_has_its_pitch(hz: float) -> None:
    found = pitch_track(tone(hz))
    voiced = np.isfinite(found)
    assert voiced[5:-5].all()
    assert np.median(found[voiced]) == pytest.approx(hz, rel=0.01)


def test_a_glide_is_followed_and_pauses_and_noise_have_none() -> None:
    time = np.arange(RATE) / RATE
    glide = np.sin(2 * np.pi * (120 * time + 40 * time**2)) + 0.5 * np.sin(4 * np.pi * (120 * time + 40 * time**2))
    hiss = 0.3 * np.random.default_rng(0).normal(size=RATE // 2)
    found = pitch_track(np.concatenate([glide, np.zeros(RATE // 2), hiss]).astype(np.float32))
    inside = np.arange(10, 90)
    assert found[inside] == pytest.approx(120 + 80 * inside / 100, rel=0.04)
    assert np.isnan(found[105:145]).all()
    assert np.isnan(found[155:195]).mean() > 0.8


def test_silence_and_nothing_have_no_pitch() -> None:
    assert np.isnan(pitch_track(np.zeros(RATE, np.float32))).all()
    assert len(pitch_track(np.zeros(0, np.float32))) == 0
