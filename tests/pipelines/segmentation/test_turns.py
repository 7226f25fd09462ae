"""The course of speakers through the speech of a shot."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.segmentation.turns import Candidate, mean_odds, turns_of
from schemas.config import SpeakerConfig
from schemas.types import Span

CONFIG = SpeakerConfig()
SHOT = Span(1_000_000, 11_000_000)
TIMES = np.arange(SHOT.start_us, SHOT.end_us, 40_000)


def candidate(*parts: tuple[float, float], reach: Span = SHOT) -> Candidate:
    """Log odds by parts of (seconds, value)."""
    values = np.concatenate([np.full(round(seconds * 25), value) for seconds, value in parts])
    return Candidate(reach, TIMES, values.astype(np.float32))


def seconds(speech: list[tuple[float, float]]) -> list[Span]:
    return [Span(round(a * 1e6), round(b * 1e6)) for a, b in speech]


def test_turns_follow_the_odds_and_bridge_no_pause() -> None:
    faces = {3: candidate((5, 4.0), (5, -4.0)), 7: candidate((5, -3.0), (5, 3.0))}
    turns = turns_of(seconds([(0.5, 4), (6.5, 9), (10, 12)]), SHOT, faces, CONFIG)
    assert [(turn.number, turn.span) for turn in turns] == [
        (3, Span(1_000_000, 4_000_000)),
        (7, Span(6_500_000, 9_000_000)),
        (7, Span(10_000_000, 11_000_000)),
    ]


def test_a_change_within_speech_is_found_and_a_glitch_is_not() -> None:
    faces = {0: candidate((4, 4.0), (6, -4.0)), 1: candidate((1, -4.0), (0.2, 5.0), (2.8, -4.0), (6, 4.0))}
    turns = turns_of([SHOT], SHOT, faces, CONFIG)
    assert [turn.number for turn in turns] == [0, 1]
    assert turns[0].span.end_us == pytest.approx(5_000_000, abs=80_000)


def test_when_no_lips_fit_nobody_speaks() -> None:
    faces = {0: candidate((10, -4.0)), 1: candidate((10, -3.0))}
    assert [turn.number for turn in turns_of([SHOT], SHOT, faces, CONFIG)] == [None]
    assert [turn.number for turn in turns_of([SHOT], SHOT, {}, CONFIG)] == [None]


def test_a_face_alone_is_believed_more() -> None:
    weak = {0: candidate((10, -2.0))}
    assert [turn.number for turn in turns_of([SHOT], SHOT, weak, CONFIG)] == [0]
    assert [turn.number for turn in turns_of([SHOT], SHOT, {**weak, 1: candidate((10, -3.0))}, CONFIG)] == [None]
    assert [turn.number for turn in turns_of([SHOT], SHOT, {0: candidate((10, -4.0))}, CONFIG)] == [None]


def test_who_is_not_seen_does_not_speak() -> None:
    late = Span(6_000_000, 11_000_000)
    turns = turns_of([SHOT], SHOT, {0: candidate((10, 5.0), reach=late)}, CONFIG)
    assert [turn.number for turn in turns] == [None, 0]
    assert turns[1].span.start_us == pytest.approx(6_000_000, abs=40_000)


def test_means_are_over_speech_and_sight() -> None:
    face = candidate((5, 4.0), (5, -2.0), reach=Span(1_000_000, 8_000_000))
    found = mean_odds(face, seconds([(2, 3), (6.5, 7.5), (9, 10)]), SHOT)
    assert found is not None
    assert found[0] == pytest.approx(1.0, abs=0.1)
    assert found[1] == pytest.approx(-2.0)
    assert mean_odds(face, [], SHOT) is None
