"""The commands of the review: opening, status, apply, and what they say when something is missing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from review_pages import small_dataset

from review.decisions import Decision, content_sha256
from review.journal import Journal
from talkset import cli
from talkset.dataset import open_dataset


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("command") / "data")


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "data"))


def say(root: Path, clip: str, verdict: str, reviewer: str = "anna") -> None:
    digest = content_sha256(open_dataset(root)[clip])
    Journal(root).append(Decision(clip, digest, reviewer, verdict, decision_id=f"{clip}-{reviewer}"))


def test_status_tells_conflicts_and_agreement(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(root, "clip_0000", "accept")
    say(root, "clip_0001", "accept")
    say(root, "clip_0001", "reject", "ben")
    assert cli.main(["review", "status", str(root), "--json"]) == 0
    told = capsys.readouterr()
    facts = json.loads(told.out)
    assert facts["conflicting"] == {"clip_0001": {"anna": "accept", "ben": "reject"}}
    assert facts["agreement"]["clips"] == 1
    assert "conflict clip_0001" in told.err


def test_apply_makes_the_next_version(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say(root, "clip_0000", "accept")
    say(root, "clip_0001", "reject")
    say(root, "clip_0002", "accept")
    say(root, "clip_0002", "reject", "ben")
    arguments = ["review", "apply", str(root), "--out"]
    assert cli.main([*arguments, str(tmp_path / "a"), "--conflicts", "stop"]) == 2
    assert not (tmp_path / "a").exists()
    assert cli.main([*arguments, str(tmp_path / "b"), "--json"]) == 0
    kept = {clip.clip_id for clip in open_dataset(tmp_path / "b")}
    assert {"clip_0001", "clip_0002"}.isdisjoint(kept)
    assert "clip_0003" in kept
    assert cli.main([*arguments, str(tmp_path / "c"), "--keep-rejected", "--conflicts", "keep"]) == 0
    marks = {clip.clip_id: clip.index["review"] for clip in open_dataset(tmp_path / "c")}
    assert marks["clip_0001"] == "reject"
    assert marks["clip_0002"] is None
    assert cli.main(["review", "status", str(tmp_path / "c"), "--json"]) == 0
    out = capsys.readouterr().out
    assert '"judged": 3' in out


def test_nothing_judged_is_said(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["review", "apply", str(root), "--out", str(tmp_path / "a")]) == 2
    assert "nothing of" in capsys.readouterr().err
    assert cli.main(["review", str(tmp_path / "missing")]) == 2
    assert cli.main(["review", str(root), "--host", "0.0.0.0", "--token", "short", "--no-browser"]) == 2


def test_the_server_starts_answers_and_ends(root: Path) -> None:
    code = "import sys; from talkset.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["review", str(root), "--port", "0", "--no-browser", "--json", "--reviewer", "zoë"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        assert child.stdout is not None
        address = json.loads(child.stdout.readline())["address"]
        assert address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{address}api/session", timeout=20) as answer:
            assert json.load(answer)["reviewer"] == "zoë"
        child.send_signal(signal.SIGINT)
        _, told = child.communicate(timeout=30)
    assert "Traceback" not in told
    assert child.returncode in (0, 130)
