"""The command that shows how a source would be divided, on two people of whom one is heard."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from annotate.audio import read_audio
from reconstruct.video import frames, write_video
from talkset import cli


@pytest.fixture(scope="module")
def video(eval_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    paths = sorted((eval_data / "grid").glob("*.mpg"))[3:5]
    panels = [[rgb for _, rgb in frames(path)] for path in paths]
    pictures = [np.concatenate(row, axis=1) for row in zip(*panels, strict=True)]
    path = tmp_path_factory.mktemp("segment") / "two <people>.mp4"
    sound = read_audio(paths[0], 0, 3_000_000), 16_000
    write_video(path, ((i * 40_000, rgb) for i, rgb in enumerate(pictures)), Fraction(25), sound)
    return path


def test_the_one_who_is_heard_gives_the_clip_and_the_sheet_shows_it(
    video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.html"
    assert cli.main(["segment", str(video), "--report", str(sheet), "--json"]) == 0
    (told,) = json.loads(capfd.readouterr().out)
    (clip,) = told["clips"]
    assert clip["track"]["box_xywh"][0][0] < 360
    assert told["scores"][clip["clip_id"]]["num_faces"] == 2
    assert told["scores"][clip["clip_id"]]["speaker_margin"] > 2.5
    page = sheet.read_text(encoding="utf-8")
    assert "two &lt;people&gt;.mp4" in page
    assert "<people>" not in page
    assert len(re.findall("data:image/jpeg;base64,", page)) == 2
    assert not re.findall(r"(?:src|href)='(?!data:)", page)  # it needs no other file
    assert "speech_ratio" in page
    assert "1 shot, 0 fades, 2 faces, 1 clip with" in page
    assert "nobody speaks</span>" in page  # the colours are explained


def test_a_run_takes_over_what_was_found(video: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert cli.main(["segment", str(video), "--out", str(out)]) == 0
    assert "1 clips" in capfd.readouterr().err
    stored = sorted(path.parent.parent.name for path in (out / ".talkset" / "results").rglob("*.json"))
    assert stored == ["clips", "probe", "segment", "speakers", "speech"]
    assert cli.main(["segment", str(video), "--out", str(out), "--set", "segment.require_speech=false"]) == 0
    assert "ambiguous_faces" in capfd.readouterr().err
    again = list((out / ".talkset" / "results").rglob("*.json"))
    assert len(again) == len(stored) + 1  # only the clips were chosen anew


def test_a_broken_source_is_told_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"nothing of use")
    assert cli.main(["segment", str(tmp_path), "--report", str(tmp_path / "a.html")]) == 1
    assert "not_a_video" in capfd.readouterr().err
    assert "failed at probe" in (tmp_path / "a.html").read_text()
