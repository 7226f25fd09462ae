from __future__ import annotations

from pathlib import Path

from dataset_builder import build

from exports.vtt import export_vtt, vtt
from schemas.types import Interval, Transcription, UntimedWord


def test_by_hand() -> None:
    words = (
        Interval(1_000_000, 1_500_000, "R&D", 0.5, False, "x"),
        Interval(1_500_000, 2_000_000, "<now>", 0.5, False, "x"),
    )
    begin = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\n"
    assert vtt(Transcription(words, ())) == f"{begin}R&amp;D <00:00:01.500>&lt;now&gt;\n"
    assert vtt(Transcription((), ())) == "WEBVTT\n"
    untimed = (UntimedWord("our", 0, "x"), UntimedWord("&", 1, "x"))
    assert vtt(Transcription(words, (), untimed)) == f"{begin}our R&amp;D &amp; <00:00:01.500>&lt;now&gt;\n"


def test_one_file_for_each_clip(tmp_path: Path) -> None:
    build(tmp_path / "data", clips=3)
    written = export_vtt(tmp_path / "data", tmp_path / "out")
    assert written
    assert all(path.read_text().startswith("WEBVTT\n") for path in written)
