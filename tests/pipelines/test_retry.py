"""Failures in whole runs: transient ones are tried again, others are not, and quarantine keeps what has no hope."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted_stages import attempts, config, content, install, write_sources

from pipelines.engine import Crash
from pipelines.events import EventReader
from pipelines.ledger import FAILED, Ledger
from pipelines.quarantine import failures
from pipelines.retry import allowed_attempts, wait_s
from pipelines.run import run
from pipelines.session import merged
from pipelines.work import Step
from schemas.config import RetryConfig
from schemas.errors import DETERMINISTIC, ERROR_CLASSES, REASONS, TRANSIENT, UNCERTAIN, error_class


@pytest.fixture(autouse=True)
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)


def test_every_reason_has_a_class() -> None:
    assert set(ERROR_CLASSES) <= set(REASONS)
    assert {error_class(reason) for reason in REASONS} == {TRANSIENT, UNCERTAIN, DETERMINISTIC}
    assert error_class("unavailable") == TRANSIENT
    assert error_class("time_limit") == UNCERTAIN
    assert error_class("not_a_video") == DETERMINISTIC


def test_waits_double_up_to_a_limit_and_are_the_same_in_every_run() -> None:
    retry = RetryConfig(wait_s=2, max_wait_s=60)
    waits = [wait_s("unit", attempt, retry) for attempt in range(1, 9)]
    assert waits == [wait_s("unit", attempt, retry) for attempt in range(1, 9)]
    for attempt, wait in enumerate(waits):
        base = min(2.0 * 2**attempt, 60.0)
        assert base <= wait <= 1.5 * base
    spread = {round(wait_s(f"unit {n}", 1, retry), 1) for n in range(100)}
    assert len(spread) >= 9  # tenths of a second between 2 and 3
    assert wait_s("unit", 5000, retry) <= 90


@pytest.mark.parametrize(("reason", "most"), [("unavailable", 5), ("crashed", 2), ("not_a_video", 1)])
def test_attempts_by_class(tmp_path: Path, reason: str, most: int) -> None:
    assert allowed_attempts(reason, "fit", RetryConfig(attempts=5)) == most
    manifest = write_sources(tmp_path, {"bad.mp4": reason, "good.mp4": "ok"})
    report = run(manifest, tmp_path / "out", config("run.retry.attempts=5"))
    assert attempts(tmp_path, "bad.mp4") == most
    assert attempts(tmp_path, "good.mp4") == 1
    assert report.failed == 1
    [failure] = failures(tmp_path / "out")
    assert failure.quarantined
    entry = failure.entry
    assert (entry.stage, entry.reason, entry.attempts, entry.uri) == ("probe", reason, most, "bad.mp4")
    assert entry.host
    assert entry.ended > 1.7e9


def test_what_goes_away_by_itself_leaves_no_trace_in_the_data_set(tmp_path: Path) -> None:
    manifest = write_sources(tmp_path, {"a.mp4": "unavailable too_slow ok", "b.mp4": "ok"})
    report = run(manifest, tmp_path / "shaken", config())
    assert attempts(tmp_path, "a.mp4") == 3
    assert (report.failed, report.stages["probe"].made) == (0, 2)
    assert failures(tmp_path / "shaken") == []
    assert list((tmp_path / "shaken" / ".talkset" / "errors").iterdir()) == []
    run(manifest, tmp_path / "calm", config())
    assert content(tmp_path / "shaken") == content(tmp_path / "calm")


def test_what_is_new_is_not_kept_waiting(tmp_path: Path) -> None:
    manifest = write_sources(tmp_path, {"a.mp4": "unavailable ok", "b.mp4": "ok", "c.mp4": "ok"})
    run(manifest, tmp_path / "out", config())
    taken = [event["unit"] for event in EventReader(tmp_path / "out").new() if event["event"] == "start"]
    assert taken == [*dict.fromkeys(taken), taken[0]]
    assert len(taken) == 4


def test_quarantine_lasts_until_input_or_limits_change(tmp_path: Path) -> None:
    manifest = write_sources(tmp_path, {"bad.mp4": "memory_limit"})
    out = tmp_path / "out"
    run(manifest, out, config())
    report = run(manifest, out, config())
    assert attempts(tmp_path, "bad.mp4") == 2  # left alone
    assert [problem.reason for problem in report.problems] == ["memory_limit"]
    run(manifest, out, config("run.decode.memory_mb=9000"))
    assert attempts(tmp_path, "bad.mp4") == 4  # other limits: as if for the first time
    run(manifest, out, config("run.decode.memory_mb=9000"))
    assert attempts(tmp_path, "bad.mp4") == 4
    (tmp_path / "bad.mp4").write_text("memory_limit memory_limit memory_limit memory_limit ok")
    report = run(manifest, out, config("run.decode.memory_mb=9000"))
    assert report.failed == 0
    assert failures(out) == []


def test_attempts_of_a_killed_run_count(tmp_path: Path) -> None:
    manifest = write_sources(tmp_path, {"a.mp4": "unavailable stop unavailable unavailable ok"})
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run(manifest, out, config("run.retry.attempts=3"))
    [failure] = failures(out)
    assert (failure.entry.attempts, failure.quarantined) == (1, False)
    run(manifest, out, config("run.retry.attempts=3"))
    [failure] = failures(out)
    assert (failure.entry.attempts, failure.quarantined) == (3, True)
    assert attempts(tmp_path, "a.mp4") == 4  # the interrupted one was no failure


def test_a_traceback_is_kept_as_long_as_its_failure(tmp_path: Path) -> None:
    manifest = write_sources(tmp_path, {"a.mp4": "bug"})
    out = tmp_path / "out"
    run(manifest, out, config())
    [failure] = failures(out)
    assert failure.entry.attempts == 2
    assert failure.entry.message == "ZeroDivisionError: a bug in the code"
    texts = [path.read_text() for path in sorted((out / ".talkset" / "errors").iterdir())]
    assert len(texts) == 2
    assert all("raise ZeroDivisionError" in text for text in texts)
    (tmp_path / "a.mp4").write_text("ok")
    run(manifest, out, config())
    assert list((out / ".talkset" / "errors").iterdir()) == []


def test_a_reason_that_everybody_would_meet_ends_the_run(tmp_path: Path) -> None:
    from schemas.errors import TalksetError

    manifest = write_sources(tmp_path, {"a.mp4": "disk_full ok"})
    with pytest.raises(TalksetError, match="told to fail"):
        run(manifest, tmp_path / "out", config())
    assert failures(tmp_path / "out") == []
    assert run(manifest, tmp_path / "out", config()).failed == 0


def test_a_dead_worker_is_charged_to_the_stage_it_was_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.work import SourceTask

    real = SourceTask.__call__

    def dies(self: SourceTask, row: object) -> object:
        real(self, row)  # type: ignore[arg-type]
        monkeypatch.setattr(SourceTask, "__call__", real)
        return Crash("its worker process died 2 times", "", 2, "crashed")

    manifest = write_sources(tmp_path, {"a.mp4": "ok"})
    run(manifest, tmp_path / "out", config())  # the hash is known, so the stored results are found
    for path in (tmp_path / "out" / ".talkset" / "results" / "clips").rglob("*.json"):
        path.unlink()
    monkeypatch.setattr(SourceTask, "__call__", dies)
    monkeypatch.setattr("scripted_stages.Clips.run", lambda self, job: (_ for _ in ()).throw(KeyError("gone")))
    run(manifest, tmp_path / "out", config())
    with Ledger(tmp_path / "out") as ledger:
        [entry] = list(ledger.entries(FAILED))
    assert (entry.stage, entry.reason, entry.attempts) == ("clips", "crashed", 2)


def test_what_an_earlier_attempt_made_counts_as_made() -> None:
    made = Step("landmarks", "k", "done", fresh=True, seconds=2.0)
    found = Step("landmarks", "k", "done")
    failed, done = Step("fit", "f", "failed", fresh=True), Step("fit", "f", "done", fresh=True)
    assert merged((made, failed), (found, done)) == (made, done)
    assert merged((Step("fit", "f", "open"),), (done,)) == (done,)
