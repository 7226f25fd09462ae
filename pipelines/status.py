"""Where a run is, from its ledger and record: live, finished, stopped or dead; nothing here disturbs the run."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from pipelines.build import stage_versions
from pipelines.events import EventReader, resume_command, retry_settings
from pipelines.ledger import DONE, FAILED, REJECTED
from pipelines.lock import read_owner
from pipelines.quarantine import check_run_folder
from pipelines.retry import allowed_attempts
from pipelines.work import DOWNLOAD
from schemas.files import HIDDEN_FOLDER

RECENT: Final = 50
"""Items whose ends the speed is measured over, so that it follows the run."""
RUNNING, FINISHED, STOPPED, FAILED_RUN, DIED = "running", "finished", "stopped", "failed", "died"


@dataclass
class StageStatus:
    """One stage, over everything that the ledger knows."""

    done: int = 0
    rejected: int = 0
    running: int = 0
    """Items that a worker took up at this stage; by now it may be at a later one."""
    failed: int = 0
    """With attempts left."""
    quarantined: int = 0
    made: int = 0
    """Results that the last run made."""
    seconds: float = 0.0
    """Wall time of the workers in the last run."""
    cpu_seconds: float = 0.0


@dataclass
class PhaseStatus:
    """A part of the last run: its items on their way through some stages."""

    name: str
    items: int
    started: float
    ended: int = 0
    waiting: int = 0
    """Failed items that are tried again after a while."""
    running: dict[str, str] = field(default_factory=dict)
    """Unit -> stage at which a worker took it up."""
    ends: list[float] = field(default_factory=list)
    """When the last items ended."""
    busy_s: float = 0.0
    """Wall time of the workers."""

    @property
    def queue(self) -> int:
        """Items that no worker has taken up."""
        return max(0, self.items - self.ended - len(self.running))

    def per_second(self, now: float) -> float:
        """Items a second, lately."""
        if not self.ends:
            return 0.0
        begun, count = (self.started, self.ended) if self.ended <= RECENT else (self.ends[0], len(self.ends) - 1)
        return count / max(now - begun, 1e-3)


@dataclass(frozen=True)
class Status:
    """A folder's last run."""

    state: str
    """running, finished, stopped (by Ctrl-C or SIGTERM), failed, died (killed, or its machine went down)."""
    message: str
    run: str
    owner: str
    started: float
    seconds: float
    workers: int
    phase: PhaseStatus | None
    """The one that the run is in; of a run that is over, the last."""
    stages: Mapping[str, StageStatus]
    resume: str
    """The command that goes on with the run; empty where it is not known."""

    @property
    def rate(self) -> float:
        """Items a second of the phase."""
        if self.phase is None:
            return 0.0
        now = time.time() if self.state == RUNNING else max(self.phase.ends, default=self.started + self.seconds)
        return self.phase.per_second(now)

    @property
    def eta_s(self) -> float | None:
        """Seconds until the phase is through at the present speed; None where it cannot be told."""
        if self.state != RUNNING or self.phase is None or not self.rate:
            return None
        return (self.phase.items - self.phase.ended) / self.rate

    @property
    def utilisation(self) -> float:
        """Share of the phase in which workers were at work on stages that have ended, 0 to 1."""
        if self.phase is None:
            return 0.0
        until = time.time() if self.state == RUNNING else max(self.phase.ends, default=self.phase.started)
        return min(1.0, self.phase.busy_s / max(1e-3, (until - self.phase.started) * max(1, self.workers)))

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        phase = self.phase
        told = {
            "state": self.state,
            "message": self.message,
            "run": self.run,
            "owner": self.owner,
            "started": self.started,
            "seconds": round(self.seconds, 3),
            "workers": self.workers,
            "stages": {name: asdict(stage) for name, stage in self.stages.items()},
            "phase": None,
            "resume": self.resume,
        }
        if phase is not None:
            counts = {"name": phase.name, "items": phase.items, "ended": phase.ended, "running": len(phase.running)}
            speed = {"per_second": round(self.rate, 4), "eta_s": self.eta_s, "utilisation": round(self.utilisation, 3)}
            told["phase"] = {**counts, "waiting": phase.waiting, "queue": phase.queue, **speed}
        return told


class StatusReader:
    """Follows the runs of a folder; each `read` costs what is new. Raises UsageError for a folder without run state."""

    def __init__(self, root: Path) -> None:
        check_run_folder(root)
        self._root = root
        self._events = EventReader(root)
        self._reset({})

    def read(self) -> Status:
        """The state at this moment."""
        for event in self._events.new():
            self._take(event)
        owner = read_owner(self._root / HIDDEN_FOLDER)
        state, message = self._state(owner is not None and owner.is_alive)
        begun, over = float(self._start.get("time", 0.0)), state != RUNNING
        where = f"host {self._start.get('host')}, process {self._start.get('pid')}" if self._start else ""
        return Status(
            state=state,
            message=message,
            run=str(self._start.get("run", "")),
            owner=str(owner) if owner is not None and not over else where,
            started=begun,
            seconds=max(0.0, (self._last if over else time.time()) - begun) if self._start else 0.0,
            workers=int(self._start.get("workers", 1)),
            phase=self._phase,
            stages=self._stages(over),
            resume=resume_command(self._start),
        )

    def _reset(self, start: Mapping[str, Any]) -> None:
        self._start = start
        self._end: Mapping[str, Any] = {}
        self._phase: PhaseStatus | None = None
        self._made: dict[str, StageStatus] = {}
        self._last = float(start.get("time", 0.0))

    def _take(self, event: Mapping[str, Any]) -> None:
        kind = event["event"]
        self._last = float(event.get("time", self._last))
        if kind == "run_start":
            self._reset(event)
        elif kind == "run_end":
            self._end = event
        elif kind == "phase":
            self._phase = PhaseStatus(str(event["phase"]), int(event["items"]), self._last)
        elif kind == "step":
            made = self._made.setdefault(str(event["stage"]), StageStatus())
            made.made += event["outcome"] != FAILED
            made.seconds += event["seconds"]
            made.cpu_seconds += event["cpu_seconds"]
            if self._phase is not None:
                self._phase.busy_s += event["seconds"]
        elif self._phase is not None and kind == "start":
            self._phase.running[event["unit"]] = str(event["stage"])
            self._phase.waiting -= event["attempt"] > 1 and self._phase.waiting > 0
        elif self._phase is not None and kind == "end":
            self._phase.running.pop(event["unit"], None)
            if "retry_s" in event:
                self._phase.waiting += 1
            else:
                self._phase.ended += 1
                self._phase.ends = [*self._phase.ends[-RECENT:], self._last]

    def _state(self, alive: bool) -> tuple[str, str]:
        if self._end:
            return str(self._end["outcome"]), str(self._end.get("message", ""))
        if alive or not self._start:
            return (RUNNING, "") if alive else (FINISHED, "")
        return DIED, "the run ended without notice: it was killed, or its machine went down"

    def _stages(self, over: bool) -> dict[str, StageStatus]:
        found: dict[str, StageStatus] = {}
        retry = retry_settings(self._start)
        for stage, state, reason, attempts, units in _counts(self._root):
            status = found.setdefault(stage, StageStatus())
            status.done += units * (state == DONE)
            status.rejected += units * (state == REJECTED)
            if state == FAILED:
                exhausted = attempts >= allowed_attempts(reason or "internal", stage, retry)
                status.quarantined += units * exhausted
                status.failed += units * (not exhausted)
        for stage, made in self._made.items():
            status = found.setdefault(stage, StageStatus())
            status.made, status.seconds, status.cpu_seconds = made.made, made.seconds, made.cpu_seconds
        if self._phase is not None and not over:
            for stage in self._phase.running.values():
                found.setdefault(stage, StageStatus()).running += 1
        order = {name: place for place, name in enumerate((DOWNLOAD, *stage_versions()))}
        return {name: found[name] for name in sorted(found, key=lambda name: (order.get(name, len(order)), name))}


def _counts(root: Path) -> list[tuple[str, str, str | None, int, int]]:
    """(stage, state, reason, attempts, number of units), read without a lock that a run would wait for."""
    path = root / HIDDEN_FOLDER / "ledger.sqlite"
    query = "SELECT stage, state, reason, attempts, COUNT(*) FROM work GROUP BY stage, state, reason, attempts"
    with closing(sqlite3.connect(path, timeout=30)) as database:
        return list(database.execute(query))
