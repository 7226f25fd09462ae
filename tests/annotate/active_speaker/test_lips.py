"""The judge of lips on mouths made of the sound itself, and on recordings that swap their voices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotate.active_speaker.base import Face, Heard
from annotate.active_speaker.lips import MOST, LipJudge, log_odds_of
from annotate.audio import read_audio
from annotate.expected_lips import expected_lips
from annotate.sound import HeldSound
from annotate.speech_activity import speech_probability, speech_spans
from schemas.types import Float32

TIMES = np.arange(0, 12_000_000, 40_000)


@pytest.fixture(scope="module")
def heard(eval_data: Path) -> Heard:
    sound = read_audio(eval_data / "speech" / "silero_test_60s.wav", 0, 12_000_000)
    return Heard(HeldSound(sound), speech_spans(speech_probability(sound)), expected_lips(sound))


def mouth(heard: Heard, delay_ms: float = 0.0, noise: float = 0.01, seed: int = 0) -> Float32:
    """What a face shows that does what the sound asks, some ms after it, with noise of the landmarks."""
    rng = np.random.default_rng(seed)
    grid = np.arange(len(heard.lips)) * 10_000
    opening, rounding, _ = (np.interp(TIMES - delay_ms * 1000, grid, heard.lips[:, c]) for c in range(3))
    inner = np.maximum(0, 0.4 * opening + rng.normal(0, noise, len(TIMES)))
    width = 0.6 - 0.1 * rounding + rng.normal(0, noise, len(TIMES))
    return np.stack([inner, width, inner + 0.2, np.full(len(TIMES), 80.0), np.ones(len(TIMES))], 1, dtype=np.float32)


def still(seed: int = 1) -> Float32:
    rng = np.random.default_rng(seed)
    rows = np.array([0.01, 0.6, 0.2, 80.0, 1.0]) + rng.normal(0, [0.003, 0.003, 0.003, 0, 0], (len(TIMES), 5))
    return np.asarray(np.abs(rows), np.float32)


def spoken(heard: Heard) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([any(s.start_us <= t < s.end_us for s in heard.speech) for t in TIMES])


def test_the_mouth_of_the_voice_is_told_from_a_still_and_a_wrong_one(heard: Heard) -> None:
    wrong = mouth(heard)[::-1].copy()
    own, other, quiet = LipJudge().log_odds([Face(TIMES, m) for m in (mouth(heard), wrong, still())], heard)
    inside = spoken(heard)
    assert own[inside].mean() > 3
    assert other[inside].mean() < 0
    assert quiet[inside].mean() < -2
    assert (own > other)[inside].mean() > 0.95


@pytest.mark.parametrize("delay_ms", [-400, -120, 0, 200, 400])
def test_sound_that_comes_late_or_early_is_found(heard: Heard, delay_ms: int) -> None:
    (scores,), offset = LipJudge().scores([Face(TIMES, mouth(heard, -delay_ms))], heard)
    assert offset == pytest.approx(delay_ms, abs=20)
    assert log_odds_of(scores)[spoken(heard)].mean() > 2


def test_lost_frames_cost_little_and_a_lost_face_gives_nothing(heard: Heard) -> None:
    holes = mouth(heard)
    holes[50:56] = np.nan
    (odds,) = LipJudge().log_odds([Face(TIMES, holes)], heard)
    assert odds[spoken(heard)].mean() > 2.5
    (nothing,) = LipJudge().log_odds([Face(TIMES, np.full_like(holes, np.nan))], heard)
    assert np.isfinite(nothing).all()
    assert nothing.max() <= 0
    assert LipJudge().log_odds([], heard) == []


def test_log_odds_grow_with_the_score_and_are_bounded() -> None:
    odds = log_odds_of(np.linspace(-1, 2, 50).astype(np.float32))
    assert (np.diff(odds) >= 0).all()
    assert (odds[0], odds[-1]) == (-MOST, MOST)
