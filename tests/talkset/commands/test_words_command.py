from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from dataset_builder import build

from annotate.audio import write_wav
from annotate.importers import read_words
from synthetic.speech import Voice, synthesize
from talkset import cli

TEXT = "Please bring me the blue book from the table."


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "said.wav"
    write_wav(path, synthesize(TEXT, Voice(), seed=1).samples, 16_000)
    return path


@pytest.mark.parametrize("format_", ["textgrid", "ctm", "srt", "vtt", "whisperx-json"])
def test_align_writes_every_format(wav: Path, tmp_path: Path, format_: str, capsys: pytest.CaptureFixture[str]) -> None:
    suffix = {"textgrid": "TextGrid", "whisperx-json": "json"}.get(format_, format_)
    out = tmp_path / f"said.{suffix}"
    assert cli.main(["words", "align", str(wav), "--transcript", TEXT, "-o", str(out), "-f", format_, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [word["label"] for word in printed["words"]] == TEXT.strip(".").split()
    assert printed["checks"]["flags"] == []
    assert printed["untimed"] == []
    found = read_words(out)
    assert [word.label for word in found.words] == TEXT.strip(".").split()
    assert abs(found.words[0].start_us - printed["words"][0]["start_us"]) <= 1000


def test_a_wrong_transcript_is_said_so(wav: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = tmp_path / "said.txt"
    said.write_text("Every morning my father makes a pot of coffee.")
    assert cli.main(["words", "align", str(wav), "--transcript-file", str(said)]) == 0
    assert "wrong_transcript" in capsys.readouterr().err
    both = ["words", "align", str(wav), "--transcript-file", str(said), "--transcript", TEXT]
    assert cli.main(both) == 2
    assert cli.main(["words", "align", str(wav), "--transcript", TEXT, "--language", "de"]) == 1


def test_convert(wav: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.TextGrid", tmp_path / "a.vtt"
    assert cli.main(["words", "align", str(wav), "--transcript", TEXT, "-o", str(first)]) == 0
    assert cli.main(["words", "convert", str(first), "-o", str(second), "-f", "vtt"]) == 0
    one, two = read_words(first).words, read_words(second).words
    assert [w.label for w in one] == [w.label for w in two]
    assert np.abs([a.start_us - b.start_us for a, b in zip(one, two, strict=True)]).max() <= 1000
    assert cli.main(["words", "convert", str(first), "-o", str(second), "-f", "doc"]) == 2


def test_export(tmp_path: Path) -> None:
    build(tmp_path / "data", clips=3)
    for format_, name in (("ctm", "words.ctm"), ("srt", "*.srt"), ("textgrid", "*.TextGrid")):
        out = tmp_path / format_
        assert cli.main(["words", "export", str(tmp_path / "data"), "-o", str(out), "-f", format_]) == 0
        assert list(out.glob(name))
