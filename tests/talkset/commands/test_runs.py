"""The commands around a run: status, quarantine and retry, as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripted_stages import attempts, install, options, write_sources

from talkset import cli


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run over a good source and three bad ones."""
    install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    scripts = {"good.mp4": "ok", "text.mp4": "not_a_video", "busy.mp4": "time_limit time_limit ok", "bug.mp4": "bug"}
    write_sources(tmp_path, scripts)
    assert cli.main(["run", "manifest.jsonl", "--out", "out", *options()]) == 1
    return tmp_path / "out"


def told(capfd: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capfd.readouterr().out)


def listed(out: Path, capfd: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capfd.readouterr()
    assert cli.main(["quarantine", "list", str(out), "--json", *more]) == 0
    return {failure["uri"]: failure for failure in told(capfd)}


def test_the_error_budget_decides_the_exit_status(out: Path) -> None:
    run = ["run", "manifest.jsonl", "--out", "out"]
    assert cli.main([*run, *options(["run.error_budget=1"])]) == 0
    assert cli.main([*run, *options(["run.error_budget=0.7"])]) == 1


def test_quarantine_lists_what_failed(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = listed(out, capfd)
    assert {uri: (f["reason"], f["class"], f["attempts"]) for uri, f in found.items()} == {
        "text.mp4": ("not_a_video", "deterministic", 1),
        "busy.mp4": ("time_limit", "uncertain", 2),
        "bug.mp4": ("internal", "uncertain", 2),
    }
    assert all(failure["quarantined"] for failure in found.values())
    assert set(listed(out, capfd, "--reason", "uncertain")) == {"busy.mp4", "bug.mp4"}
    assert set(listed(out, capfd, "--reason", "time_limit", "--reason", "not_a_video")) == {"busy.mp4", "text.mp4"}
    assert set(listed(out, capfd, "--stage", "segment")) == set()
    assert cli.main(["quarantine", "list", str(out)]) == 0
    assert "3 in quarantine" in capfd.readouterr().err
    assert cli.main(["quarantine", "list", str(out), "--reason", "nonsense"]) == 2


def test_quarantine_shows_a_traceback(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["quarantine", "show", str(out), "bug.mp4"]) == 0
    shown = capfd.readouterr().err
    for part in ("ZeroDivisionError: a bug in the code", "in run", "internal (uncertain)", "in quarantine"):
        assert part in shown
    unit = listed(out, capfd)["bug.mp4"]["unit"]
    assert cli.main(["quarantine", "show", str(out), unit[:8], "--json"]) == 0
    [failure] = told(capfd)
    assert "Traceback" in failure["traceback"]
    assert cli.main(["quarantine", "show", str(out), "nobody"]) == 2


def test_what_is_released_is_tried_again_and_nothing_else(out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["quarantine", "release", str(out)]) == 2
    assert cli.main(["quarantine", "release", str(out), "busy.mp4", "--json"]) == 0
    capfd.readouterr()
    assert set(listed(out, capfd)) == {"text.mp4", "bug.mp4"}
    assert cli.main(["run", "manifest.jsonl", "--out", "out", *options()]) == 1
    counts = {name: attempts(out.parent, f"{name}.mp4") for name in ("good", "text", "busy", "bug")}
    assert counts == {"good": 1, "text": 1, "busy": 3, "bug": 2}
    assert set(listed(out, capfd)) == {"text.mp4", "bug.mp4"}


def test_retry_starts_the_last_run_again(
    out: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert cli.main(["retry", str(out)]) == 2
    assert cli.main(["retry", str(out), "--failed", "--reason", "transient"]) == 0
    assert attempts(out.parent, "busy.mp4") == 2
    assert cli.main(["retry", str(out), "--failed", "--reason", "time_limit"]) == 1  # two others are still bad
    assert Path.cwd() == elsewhere
    assert attempts(out.parent, "busy.mp4") == 3
    assert set(listed(out, capfd)) == {"text.mp4", "bug.mp4"}


def test_status_says_what_became_of_it(out: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["status", str(out), "--json", "--report", str(tmp_path / "report.html")]) == 0
    status = told(capfd)
    assert status["state"] == "finished"
    probe = status["stages"]["probe"]
    assert (probe["done"], probe["quarantined"], probe["failed"], probe["running"]) == (1, 3, 0, 0)
    assert status["phase"]["ended"] == 4
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
    assert cli.main(["status", str(out), "--watch"]) == 0  # of a finished run it ends at once
    assert "quarantined" in capfd.readouterr().err
    assert cli.main(["status", str(tmp_path / "elsewhere")]) == 2


def test_a_stopped_run_says_how_to_go_on(out: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["run", "manifest.jsonl", "--out", "out", *options()]
    (tmp_path / "good.mp4").write_text("stop ok\nstopped")
    (tmp_path / "good.attempts").unlink()
    assert cli.main(command) == 130
    shown = capfd.readouterr().err
    assert "talkset run manifest.jsonl --out out --set run.engine=local" in shown
    assert cli.main(["status", str(out)]) == 0
    shown = capfd.readouterr().err
    assert "stopped after" in shown
    assert "talkset run manifest.jsonl --out out" in shown.replace("\n", " ")
    (tmp_path / "good.mp4").write_text("disk_full ok\nfull")
    (tmp_path / "good.attempts").unlink()
    assert cli.main(command) == 1
    assert "talkset run manifest.jsonl --out out" in capfd.readouterr().err
