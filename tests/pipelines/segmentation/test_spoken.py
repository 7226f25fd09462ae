"""Clips where exactly one visible person speaks, and the reasons for the rest, on made-up shots."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.segmentation.pieces import Piece
from pipelines.segmentation.spoken import MESSAGES, Voice, spoken_pieces
from schemas.config import SegmentConfig, SpeakerConfig
from schemas.errors import REASONS
from schemas.types import FaceTrack, Span

CONFIG, SPEAKER = SegmentConfig(), SpeakerConfig()
STEP = 40_000


def face(start_s: float, end_s: float, width: float = 100.0) -> FaceTrack:
    times = np.arange(round(start_s * 5), round(end_s * 5)) * 200_000
    return FaceTrack(times, np.tile(np.array([[10, 10, width, width]], np.float32), (len(times), 1)))


def divided(
    length_s: float,
    faces: Sequence[FaceTrack],
    speech: Sequence[tuple[float, float]],
    odds: Sequence[float | Sequence[tuple[float, float]]],
    config: SegmentConfig = CONFIG,
) -> list[Piece]:
    """A shot; odds are a constant for each face, or (until second, value)."""
    count = round(length_s * 25)
    borders = np.arange(count + 1) * STEP
    courses = {}
    for number, value in enumerate(odds):
        steps = [(length_s, value)] if isinstance(value, float) else value
        ends = np.array([end for end, _ in steps]) * 1e6
        place = np.minimum(np.searchsorted(ends, borders[:-1], "right"), len(steps) - 1)
        courses[number] = borders[:-1], np.array([steps[i][1] for i in place], np.float32)
    voice = Voice(tuple(Span(round(a * 1e6), round(b * 1e6)) for a, b in speech), courses)
    pieces = spoken_pieces(dict(enumerate(faces)), 0, count, borders, voice, config, SPEAKER)
    assert_covers(pieces, count)
    return pieces


def assert_covers(pieces: list[Piece], count: int) -> None:
    assert [piece.first for piece in pieces] == [0, *(piece.last for piece in pieces[:-1])]
    assert pieces[-1].last == count
    assert all(piece.last > piece.first for piece in pieces)
    assert all((piece.number is None) == (piece.reason is not None) for piece in pieces)


def told(pieces: list[Piece]) -> list[tuple[float, float, int | str | None]]:
    return [(p.first / 25, p.last / 25, p.reason if p.number is None else p.number) for p in pieces]


def test_a_sentence_between_two_breaths_stays_whole() -> None:
    (piece,) = divided(3, [face(0, 3)], [(0.8, 2.2)], [3.0])
    assert (piece.number, piece.first, piece.last) == (0, 0, 75)
    assert piece.scores["speech_ratio"] == pytest.approx(1.4 / 3)
    assert piece.scores["speaker_score"] == pytest.approx(3.0)
    assert piece.scores["speaker_margin"] is None
    assert (piece.scores["num_faces"], piece.scores["single_face_ratio"]) == (1, 1.0)


def test_two_who_take_turns_give_a_clip_each_with_the_border_in_the_pause() -> None:
    first, second = [(5.0, 4.0), (10.0, -4.0)], [(5.0, -4.0), (10.0, 4.0)]
    pieces = divided(10, [face(0, 10), face(0, 10)], [(0.5, 4.5), (5.1, 9.5)], [first, second])
    assert told(pieces) == [(0, 4.8, 0), (4.8, 10, 1)]
    assert pieces[0].scores["num_faces"] == 2
    assert pieces[0].scores["speaker_margin"] == pytest.approx(8.0, abs=0.3)


@pytest.mark.parametrize(
    ("faces", "odds", "reason"),
    [
        ([face(0, 4), face(0, 4)], [-4.0, -3.5], "voice_over"),
        ([face(0, 4)], [-4.0], "voice_over"),
        ([face(0, 4), face(0, 4)], [1.0, -4.0], "voice_over"),
        ([face(0, 4), face(0, 4)], [4.0, 3.0], "two_speakers"),
        ([face(0, 4), face(0, 4)], [3.0, 2.0], "ambiguous_faces"),
        ([face(0, 4, 30.0)], [3.0], "face_too_small"),
        ([], [], "off_screen"),
    ],
)
def test_reasons_of_speech_without_a_clip(faces: list[FaceTrack], odds: list[float], reason: str) -> None:
    pieces = divided(4, faces, [(0.0, 4.0)], odds)
    assert told(pieces) == [(0, 4, reason)]
    assert reason in REASONS


def test_reasons_of_silence() -> None:
    assert told(divided(4, [face(0, 4)], [], [])) == [(0, 4, "no_speech")]
    assert told(divided(4, [], [], [])) == [(0, 4, "no_face")]
    assert told(divided(0.8, [face(0, 0.8)], [(0, 0.8)], [4.0])) == [(0, 0.8, "too_short")]
    assert set(MESSAGES) <= set(REASONS)


def test_a_word_in_a_long_silence_is_too_little() -> None:
    found = told(divided(20, [face(0, 20)], [(10, 10.1)], [4.0]))
    assert {reason for _, _, reason in found} <= {"no_speech", "too_short"}


def test_long_silence_ends_a_clip_and_keeps_its_border() -> None:
    pieces = told(divided(16, [face(0, 16)], [(1, 4), (10, 15)], [4.0]))
    assert pieces == [(0, 4.52, 0), (4.52, 9.52, "no_speech"), (9.52, 16, 0)]


def test_the_speaker_who_leaves_ends_the_clip() -> None:
    pieces = told(divided(10, [face(0, 5)], [(0.5, 9.5)], [5.0]))
    assert pieces[0][2] == 0
    assert pieces[0][1] == pytest.approx(4.9, abs=0.2)
    assert [reason for _, _, reason in pieces[1:]] == ["off_screen", "no_face"] or pieces[1][2] == "off_screen"


def test_a_long_talk_is_cut_in_its_pauses() -> None:
    pauses = [6.0, 14.0, 25.0, 31.0, 44.0, 58.0]
    edges = [0.2, *itertools.chain.from_iterable((p - 0.15, p + 0.15) for p in pauses), 69.8]
    speech = list(zip(edges[::2], edges[1::2], strict=True))
    pieces = told(divided(70, [face(0, 70)], speech, [5.0]))
    assert all(number == 0 for _, _, number in pieces)
    assert all(1 <= end - start <= 30 for start, end, _ in pieces)
    for _, end, _ in pieces[:-1]:
        assert min(abs(end - pause) for pause in pauses) <= 0.05


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_pieces_cover_every_shot(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 40))
    edges = sorted(data.draw(st.sets(st.integers(0, length * 10), max_size=12)))
    speech = [(a / 10, b / 10) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    faces, odds = [], []
    for _ in range(data.draw(st.integers(0, 3))):
        start = data.draw(st.integers(0, length - 1))
        faces.append(face(start, data.draw(st.integers(start + 1, length)), data.draw(st.sampled_from([30.0, 100.0]))))
        steps = st.tuples(st.integers(0, length), st.sampled_from([-5.0, 0.0, 5.0]))
        odds.append(data.draw(st.lists(steps, min_size=1)))
    config = replace(CONFIG, max_clip_s=data.draw(st.sampled_from([2.0, 7.0, 30.0])))
    courses = [sorted((float(end), value) for end, value in course) for course in odds]
    for piece in divided(float(length), faces, speech, courses, config):
        if piece.number is not None:
            assert config.min_clip_s <= (piece.last - piece.first) / 25 <= config.max_clip_s
            assert (piece.scores["speech_ratio"] or 0) >= config.min_speech_ratio


def test_the_longer_lips_contradict_the_less_is_believed() -> None:
    """Lips that are a little off say nothing in a sentence, and enough in ten."""
    assert told(divided(3, [face(0, 3)], [(0.5, 2.5)], [-1.5])) == [(0, 3, 0)]
    assert told(divided(12, [face(0, 12)], [(0.5, 11.5)], [-1.5])) == [(0, 12, "voice_over")]
    assert told(divided(12, [face(0, 12)], [(0.5, 11.5)], [-0.2])) == [(0, 12, 0)]
