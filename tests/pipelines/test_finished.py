"""The note of a finished run: believed where nothing changed, and only there."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from scripted_stages import config, install, write_sources

from pipelines.report import RunReport
from pipelines.run import run
from pipelines.session import Session
from schemas.config import Config


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each run that looked at its sources."""
    found: list[int] = []
    take = Session.take_sources

    def counted(self: Session, *args: object) -> object:
        found.append(1)
        return take(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "take_sources", counted)
    return found


@dataclasses.dataclass
class Finished:
    folder: Path
    manifest: Path
    report: RunReport
    looked: list[int]

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def again(self, settings: Config | None = None) -> RunReport:
        return run(self.manifest, self.out, settings or config())


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: list[int]) -> Finished:
    install(monkeypatch)
    manifest = write_sources(tmp_path, {"a.mp4": "ok", "b.mp4": "not_a_video"})
    report = run(manifest, tmp_path / "out", config())
    looked.clear()
    return Finished(tmp_path, manifest, report, looked)


def test_a_run_with_nothing_to_do_looks_at_nothing_and_reports_the_same(finished: Finished) -> None:
    report = finished.again()
    assert finished.looked == []
    assert not report.written
    for name in ("sources", "sources_failed", "accepted", "rejected", "failed", "frames", "problems"):
        assert getattr(report, name) == getattr(finished.report, name), name
    assert {name: count.made for name, count in report.stages.items() if count.made} == {}
    told, first = report.stages, finished.report.stages
    assert {name: count.reused for name, count in told.items()} == {name: count.made for name, count in first.items()}
    assert {problem.reason for problem in report.problems} == {"no_face", "not_a_video"}


def _source_changed(run: Finished) -> None:
    write_sources(run.folder, {"a.mp4": "ok "})


def _source_gone(run: Finished) -> None:
    (run.folder / "a.mp4").unlink()


def _row_added(run: Finished) -> None:
    write_sources(run.folder, {"a.mp4": "ok", "b.mp4": "not_a_video", "c.mp4": "ok"})


def _table_touched(run: Finished) -> None:
    (run.out / "index.parquet").write_bytes(b"gone")


def _result_gone(run: Finished) -> None:
    next((run.out / ".talkset" / "results").rglob("*.json")).unlink()


def _ledger_gone(run: Finished) -> None:
    for path in (run.out / ".talkset").glob("ledger*"):
        path.unlink()


def _note_torn(run: Finished) -> None:
    path = run.out / ".talkset" / "finished.json"
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    "change", [_source_changed, _source_gone, _row_added, _table_touched, _result_gone, _ledger_gone, _note_torn]
)
def test_any_change_makes_the_run_look(finished: Finished, change: Callable[[Finished], None]) -> None:
    change(finished)
    finished.again()
    assert finished.looked == [1]
    finished.again()
    assert finished.looked == [1]


def test_settings_and_versions_make_the_run_look(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    finished.again(config("run.workers=1", "run.error_budget=0.5"))
    assert finished.looked == []
    finished.again(config("run.decode.total_s=77"))
    assert finished.looked == [1]
    from pipelines import build

    stage = build._STAGES["probe"]
    monkeypatch.setattr(type(stage), "version", stage.version + 1)
    finished.again(config("run.decode.total_s=77"))
    assert finished.looked == [1, 1]


def test_a_failure_with_an_attempt_left_makes_the_run_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: list[int]
) -> None:
    install(monkeypatch)
    manifest = write_sources(tmp_path, {"a.mp4": "unavailable unavailable unavailable unavailable"})
    run(manifest, tmp_path / "out", config("run.retry.attempts=2"))
    run(manifest, tmp_path / "out", config("run.retry.attempts=2"))
    assert looked == [1]
    run(manifest, tmp_path / "out", config("run.retry.attempts=3"))
    assert looked == [1, 1]


def test_a_killed_run_leaves_no_note(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.run.drafts", killed)
    write_sources(finished.folder, {"a.mp4": "ok", "b.mp4": "ok"})
    with pytest.raises(KeyboardInterrupt):
        finished.again()
    assert not (finished.out / ".talkset" / "finished.json").exists()
    assert os.listdir(finished.out / ".talkset")
    assert json.loads((finished.out / "dataset.json").read_bytes())
