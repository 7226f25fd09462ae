"""Where a run is: live, finished, stopped and dead ones, and the report of where the time went."""

from __future__ import annotations

import html.parser
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from scripted_stages import config, install, write_sources

from pipelines.events import EventLog
from pipelines.ledger import DONE, FAILED, REJECTED, Entry, Ledger
from pipelines.lock import Owner
from pipelines.process import cpu_seconds, process_start, stopped_by_sigterm
from pipelines.run import run
from pipelines.status import PhaseStatus, StatusReader
from pipelines.status_report import report_html, write_report
from schemas.errors import UsageError


@pytest.fixture
def live(tmp_path: Path) -> EventLog:
    """The record and ledger of a run of this process, with 10 clips in the middle of their way."""
    with Ledger(tmp_path) as ledger:
        ledger.record([Entry(f"c{n}", "fit", "k", DONE) for n in range(4)])
        ledger.record([Entry("c4", "fit", "k", REJECTED, "poor_fit"), Entry("c5", "fit", "k", FAILED, "fit_failed")])
        ledger.record([Entry("c6", "fit", "k", FAILED, "unavailable", attempts=2)])
        ledger.record([Entry("c7", "fit", "k", FAILED, "unavailable", attempts=3)])
    owner = Owner(socket.gethostname(), os.getpid(), process_start(os.getpid()) or "", time.time())
    (tmp_path / ".talkset" / "owner.json").write_text(json.dumps(asdict(owner)))
    log = EventLog(tmp_path)
    log.__enter__()
    command = ["talkset", "run", "m.csv", "--out", "o"]
    log.write("run_start", host="h", pid=1, command=command, folder="/x", workers=2, retry={"attempts": 3})
    log.write("phase", phase="clips", items=10)
    for number in range(8):
        log.write("start", phase="clips", unit=f"c{number}", attempt=1, stage="landmarks")
        if number < 6:
            times: dict[str, Any] = {"seconds": 2.0, "cpu_seconds": 1.5, "host": "h", "attempt": 1, "reason": None}
            log.write("step", unit=f"c{number}", stage="fit", outcome="done", **times)
            again = {"retry_s": 1.0} if number == 5 else {}
            log.write("end", phase="clips", unit=f"c{number}", attempt=1, outcome="done", **again)
    return log


def test_a_live_run(tmp_path: Path, live: EventLog) -> None:
    reader = StatusReader(tmp_path)
    status = reader.read()
    assert status.state == "running"
    assert status.resume == "cd /x && talkset run m.csv --out o"
    fit = status.stages["fit"]
    assert (fit.done, fit.rejected, fit.failed, fit.quarantined, fit.made) == (4, 1, 1, 2, 6)
    assert (fit.seconds, fit.cpu_seconds) == (12.0, 9.0)
    assert status.stages["landmarks"].running == 2
    assert status.phase is not None
    assert (status.phase.ended, status.phase.queue, status.phase.waiting) == (5, 3, 1)
    assert status.eta_s == pytest.approx(5 / status.rate, rel=0.2)
    assert 0 < status.utilisation <= 1
    live.write("end", phase="clips", unit="c6", attempt=1, outcome="failed")
    again = reader.read()
    assert again.phase is not None
    assert (again.phase.ended, again.stages["landmarks"].running) == (6, 1)
    told = json.loads(json.dumps(again.to_json()))
    assert (told["phase"]["items"], told["stages"]["fit"]["quarantined"]) == (10, 2)


@pytest.mark.parametrize(("outcome", "resumable"), [("finished", True), ("stopped", True)])
def test_a_run_that_is_over(tmp_path: Path, live: EventLog, outcome: str, resumable: bool) -> None:
    live.write("run_end", outcome=outcome, message="KeyboardInterrupt: ")
    (tmp_path / ".talkset" / "owner.json").unlink()
    status = StatusReader(tmp_path).read()
    assert status.state == outcome
    assert (status.resume != "") is resumable
    assert status.eta_s is None
    assert status.stages.get("landmarks") is None  # nothing runs any more


def test_a_killed_run_is_dead(tmp_path: Path, live: EventLog) -> None:
    assert StatusReader(tmp_path).read().state == "running"
    owner = Owner(socket.gethostname(), os.getpid(), "an earlier boot", time.time())
    (tmp_path / ".talkset" / "owner.json").write_text(json.dumps(asdict(owner)))
    status = StatusReader(tmp_path).read()
    assert (status.state, status.resume) == ("died", "cd /x && talkset run m.csv --out o")
    assert live.run == status.run


def test_speed_follows_the_run() -> None:
    phase = PhaseStatus("clips", 1000, started=0.0, ended=4, ends=[1.0, 2.0, 3.0, 4.0])
    assert phase.per_second(4.0) == pytest.approx(1.0)
    slow = PhaseStatus("clips", 1000, started=0.0, ended=300, ends=[1000.0 + 10 * n for n in range(51)])
    assert slow.per_second(1500.0) == pytest.approx(0.1)
    assert PhaseStatus("clips", 10, started=0.0).per_second(5.0) == 0.0


def test_a_new_run_begins_anew(tmp_path: Path, live: EventLog) -> None:
    live.write("run_start", host="h", pid=2, command=[], workers=1)
    status = StatusReader(tmp_path).read()
    assert status.phase is None
    assert status.stages["fit"].made == 0
    assert status.stages["fit"].done == 4


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run state"):
        StatusReader(tmp_path)
    with pytest.raises(UsageError, match="no record"):
        write_report(tmp_path, tmp_path / "r.html")


class Page(html.parser.HTMLParser):
    """What a page asks for, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_needs_nothing_and_lets_nothing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    manifest = write_sources(tmp_path, {"a.mp4": "ok", "b.mp4": "bug"})
    run(manifest, tmp_path / "out", config(), command=["talkset", "run", "<script>alert(1)</script>"])
    write_report(tmp_path / "out", tmp_path / "report.html")
    page = Page()
    page.feed((tmp_path / "report.html").read_text())
    assert page.links == []
    assert "script" not in page.tags
    for part in ("<script>alert(1)</script>", "probe", "clips", "internal", "finished"):
        assert part in page.text


def test_the_report_adds_up() -> None:
    start = {"event": "run_start", "run": "r", "time": 100.0, "workers": 2}
    step = {"event": "step", "unit": "u", "stage": "fit", "outcome": "done", "host": "h", "reason": None, "attempt": 1}
    steps = [{**step, "time": 100.0 + n, "seconds": 3.0, "cpu_seconds": 2.0} for n in range(4)]
    page = Page()
    page.feed(report_html([start, *steps, {"event": "run_end", "run": "r", "time": 110.0, "outcome": "finished"}]))
    assert "12.00 s" in page.text  # of 20 s that two workers have in 10 s
    assert "8.00 s" in page.text
    page.feed(report_html([start]))
    assert "Nothing was made" in page.text


def test_cpu_time_counts_children_that_still_run() -> None:
    code = "sum(range(10_000_000)); print('ready', flush=True); input()"
    before = cpu_seconds()
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        running = cpu_seconds() - before
        child.communicate(b"\n")
    assert running > 0.05
    assert cpu_seconds() - before >= running


def test_sigterm_ends_the_work_like_ctrl_c() -> None:
    def work() -> None:
        with stopped_by_sigterm():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGTERM) == before
