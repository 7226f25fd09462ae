from __future__ import annotations

from pathlib import Path

import pytest
from dataset_builder import build

from exports.cues import MAX_LETTERS, MAX_US, cues, stamp
from exports.srt import export_srt, srt
from schemas.types import Interval, Transcription, UntimedWord


def word(label: str, start_ms: int, end_ms: int) -> Interval:
    return Interval(start_ms * 1000, end_ms * 1000, label, 0.5, False, "x")


def said(*words: Interval) -> Transcription:
    return Transcription(words, ())


@pytest.mark.parametrize(
    ("time_us", "text"),
    [(0, "00:00:00,000"), (1_499, "00:00:00,001"), (1_500, "00:00:00,002"), (3_723_004_000, "01:02:03,004")],
)
def test_stamps(time_us: int, text: str) -> None:
    assert stamp(time_us, ",") == text


def test_cues_end_at_pauses_and_before_they_grow_too_long() -> None:
    words = [word(f"word{number:02d}", 300 * number, 300 * number + 250) for number in range(30)]
    words += [word("after", 12_000, 12_500), word("slow", 12_600, 19_000)]
    lines = list(cues(said(*words)))
    assert [w for line in lines for w in line.words] == words
    assert all(len(line.text) <= MAX_LETTERS for line in lines)
    assert all(line.end_us - line.start_us <= MAX_US or len(line.words) == 1 for line in lines)
    assert lines[-2].words[0].label == "after"


def test_words_without_times_stand_with_their_neighbours() -> None:
    words = (word("there", 1000, 1500), word("you", 4000, 4100))
    untimed = tuple(UntimedWord(label, after, "x") for label, after in (("Hello", 0), ("my", 1), ("dear", 1), ("9", 2)))
    lines = list(cues(Transcription(words, (), untimed)))
    assert [(line.text, line.start_us, line.end_us) for line in lines] == [
        ("Hello there my dear", 1_000_000, 1_500_000),
        ("you 9", 4_000_000, 4_100_000),
    ]
    assert list(cues(Transcription((), (), untimed))) == []


def test_by_hand() -> None:
    assert srt(said(word("Hello", 1000, 1500), word("there", 1500, 2000), word("you", 4000, 4100))) == (
        "1\n00:00:01,000 --> 00:00:02,000\nHello there\n\n2\n00:00:04,000 --> 00:00:04,100\nyou\n"
    )
    assert srt(said()) == ""


def test_one_file_for_each_clip(tmp_path: Path) -> None:
    clips = build(tmp_path / "data", clips=3)
    written = export_srt(tmp_path / "data", tmp_path / "out")
    assert sorted(path.name for path in written) == sorted(
        f"{c.index['clip_id']}.srt" for c in clips if c.index["status"] == "accepted"
    )
    assert any("-->" in path.read_text() for path in written)
