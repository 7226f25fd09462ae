from __future__ import annotations

import json
import math
from pathlib import Path

from dataset_builder import build

from exports.whisperx_json import export_whisperx_json, whisperx_json
from schemas.types import Interval, Transcription, UntimedWord


def test_placed_words_have_no_times() -> None:
    words = (Interval(0, 500_000, "in", 0.25, False, "x"), Interval(500_000, 900_000, "2014", math.nan, True, "x"))
    value = json.loads(whisperx_json(Transcription(words, (), (UntimedWord("9", 2, "x"),))))
    (segment,) = value["segments"]
    assert segment["words"] == [
        {"word": "in", "start": 0.0, "end": 0.5, "score": 0.25},
        {"word": "2014"},
        {"word": "9"},
    ]
    assert (segment["start"], segment["end"], segment["text"]) == (0.0, 0.9, "in 2014 9")
    assert value["word_segments"] == segment["words"]
    assert value["language"] == "en"


def test_measured_words_without_score_have_none() -> None:
    value = json.loads(whisperx_json(Transcription((Interval(0, 500_000, "in", math.nan, False, "x"),), ())))
    assert value["word_segments"] == [{"word": "in", "start": 0.0, "end": 0.5}]


def test_one_file_for_each_clip(tmp_path: Path) -> None:
    build(tmp_path / "data", clips=3)
    written = export_whisperx_json(tmp_path / "data", tmp_path / "out")
    assert written
    assert all("segments" in json.loads(path.read_text()) for path in written)
