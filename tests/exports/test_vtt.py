from __future__ import annotations

from pathlib import Path

from dataset_builder import build

from exports.vtt import export_vtt, vtt
from schemas.types import Interval


def test_by_hand() -> None:
    words = [
        Interval(1_000_000, 1_500_000, "R&D", 0.5, False, "x"),
        Interval(1_500_000, 2_000_000, "<now>", 0.5, False, "x"),
    ]
    assert vtt(words) == ("WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nR&amp;D <00:00:01.500>&lt;now&gt;\n")
    assert vtt([]) == "WEBVTT\n"


def test_one_file_for_each_clip(tmp_path: Path) -> None:
    build(tmp_path / "data", clips=3)
    written = export_vtt(tmp_path / "data", tmp_path / "out")
    assert written
    assert all(path.read_text().startswith("WEBVTT\n") for path in written)
