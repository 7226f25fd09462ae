"""The driver's side of the work: what is to do goes to the engine, what comes back goes to the ledger."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipelines.build import REVIEW_STAGES, SOURCE_STAGES, stages_named, video_info
from pipelines.engine import Crash, Engine, Task
from pipelines.keys import source_unit
from pipelines.ledger import FAILED, Entry, Ledger
from pipelines.report import NoProgress, Progress, RunReport
from pipelines.results import ResultStore
from pipelines.segment import clip_from_json
from pipelines.stage import ClipItem
from pipelines.work import (
    OPEN,
    ClipTask,
    SourceOutcome,
    SourceRow,
    SourceTask,
    Step,
    advance,
    check_sha256,
    failed_step,
)
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.files import HIDDEN_FOLDER, write_atomic
from schemas.manifest import local_path
from schemas.types import Source

RETRIED: Final = frozenset({"internal", "corrupt_data"})
"""Reasons that may go away by themselves."""
MAX_TRIES: Final = 4
"""Attempts, over all runs, at a result that fails for such a reason."""
FATAL: Final = frozenset({"disk_full", "not_writable", "missing_model"})
"""Reasons that every other item would meet too: they end the run."""


@dataclass
class SourceState:
    """A row of the manifest on its way."""

    unit: str
    source: Source
    path: Path | None = None
    sha256: str | None = None
    steps: tuple[Step, ...] = ()
    duplicate_of: SourceState | None = None
    clips: list[ClipItem] = field(default_factory=list)
    accepted: int = 0

    @property
    def failure(self) -> Step | None:
        """The step at which the source failed, if it did."""
        return self.steps[-1] if self.steps and self.steps[-1].state == FAILED else None

    def value(self, stage: str) -> Mapping[str, Any]:
        """JSON value of a source stage; empty where it did not run."""
        return next((step.value for step in self.steps if step.stage == stage), {})


@dataclass
class Session:
    """One run over one output folder."""

    root: Path
    config: Config
    digests: Mapping[str, str]
    ledger: Ledger
    store: ResultStore
    engine: Engine
    report: RunReport
    progress: Progress = field(default_factory=NoProgress)
    used: set[tuple[str, str, str]] = field(default_factory=set)
    """(unit, stage, key) of everything this run rests on."""

    def take_sources(self, sources: Sequence[Source], base: Path) -> list[SourceState]:
        """Take every source through the source stages; states in the order of the manifest, duplicates marked."""
        states = self._open_sources(sources, base)
        rows: list[SourceRow] = []
        by_unit = {state.unit: state for state in states}
        for state in states:
            if state.duplicate_of is not None:
                continue
            row = self._look(state)
            if row is None:
                self._record(state.unit, state.steps)
            else:
                rows.append(row)
        self.progress.begin("sources", len(rows))
        task = SourceTask(self.root, self.config, self.digests, SOURCE_STAGES)
        for row, outcome in self.engine.map(task, rows):
            self._receive_source(by_unit[row.unit], row, outcome)
            self.progress.step()
        self._mark_duplicates(states)
        for state in states:
            if state.duplicate_of is None:
                self._settle(state.unit, state.steps)
                state.clips = _clips(state)
        return states

    def take_clips(
        self, clips: Sequence[ClipItem], phase: str, stages: tuple[str, ...], counted: Collection[str] = ()
    ) -> dict[str, tuple[Step, ...]]:
        """Take clips through stages; steps by clip id. `counted` are the stages that are in the report already."""
        found: dict[str, tuple[Step, ...]] = {}
        to_do: list[ClipItem] = []
        for clip in clips:
            found[clip.unit] = self._plan(stages, clip)
            if found[clip.unit][-1].state == OPEN:
                to_do.append(clip)
        self.progress.begin(phase, len(to_do))
        task: Task = ClipTask(self.root, self.config, self.digests, stages)
        for clip, outcome in self.engine.map(task, to_do):
            if isinstance(outcome, Crash):
                outcome = _crashed(found[clip.unit], outcome)
            found[clip.unit] = outcome
            self._record(clip.unit, outcome)
            self.progress.step()
        for unit, steps in found.items():
            self._settle(unit, [step for step in steps if step.stage not in counted])
        return found

    def key_of_review(self, clip: ClipItem) -> str | None:
        """Key of the overlay of a clip, or None while what it shows is not stored."""
        steps = self._plan(REVIEW_STAGES, clip)
        return steps[-1].key if steps[-1].stage == REVIEW_STAGES[-1] else None

    def _open_sources(self, sources: Sequence[Source], base: Path) -> list[SourceState]:
        """States with their files; a row that repeats the file and span of an earlier one is its duplicate."""
        states: list[SourceState] = []
        seen: dict[tuple[str, int | None, int | None], int] = {}
        asked: dict[tuple[Path, int | None, int | None, str | None], SourceState] = {}
        for source in map(_storable, sources):
            name = source.uri, source.start_us, source.end_us
            occurrence = seen.get(name, 0)
            seen[name] = occurrence + 1
            state = SourceState(source_unit(source, occurrence), source)
            try:
                state.path = Path(os.path.abspath(local_path(source.uri, base)))
            except TalksetError as error:
                state.steps = (failed_step(error.reason, str(error)),)
            else:
                state.duplicate_of = asked.setdefault((state.path, *name[1:], source.sha256), state)
                if state.duplicate_of is state:
                    state.duplicate_of = None
            states.append(state)
        return states

    def _look(self, state: SourceState) -> SourceRow | None:
        """The row to work on, or None where the state says already how it ends."""
        if state.path is None:
            return None
        try:
            stat = state.path.stat()
        except (OSError, ValueError) as error:
            missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
            message = f"{state.path} does not exist" if missing else f"{state.path} cannot be read ({error})"
            remedy = "Check the path in the manifest" if missing else "Check its permissions"
            step = failed_step("missing_file" if missing else "unreadable_file", f"{message}. {remedy}")
        else:
            sha256 = self.ledger.known_sha256(state.path, stat)
            row = SourceRow(state.unit, state.source, state.path, sha256, stat.st_size, stat.st_mtime_ns)
            if sha256 is None:
                step = Step("probe", "", OPEN)
                state.steps = (step,)
                return _readable(state, row)
            state.sha256 = sha256
            try:
                check_sha256(row, sha256)
            except TalksetError as error:
                step = failed_step(error.reason, str(error))
            else:
                state.steps = self._plan(SOURCE_STAGES, row.item(sha256))
                return row if state.steps[-1].state == OPEN else None
        state.steps = (step,)
        return None

    def _plan(self, stages: tuple[str, ...], item: Any) -> tuple[Step, ...]:
        """Stored steps; the last is open where there is work, or failed where that work is known to fail."""
        steps = advance(stages_named(stages), item, self.config, self.digests, self.store, None)
        last = steps[-1]
        if last.state == OPEN:
            entry = self.ledger.find(item.unit, last.stage, last.key)
            if entry is not None and entry.state == FAILED and not _worth_a_try(entry):
                steps[-1] = Step(last.stage, last.key, FAILED, {}, entry.reason, entry.message)
        return tuple(steps)

    def _receive_source(self, state: SourceState, row: SourceRow, outcome: SourceOutcome | Crash) -> None:
        if isinstance(outcome, Crash):
            state.steps = _crashed(state.steps, outcome)
        else:
            state.sha256, state.steps = outcome.sha256, outcome.steps
            if outcome.sha256 is not None:
                self.ledger.remember_sha256(row.path, row.size, row.mtime_ns, outcome.sha256)
        self._record(state.unit, state.steps)

    def _record(self, unit: str, steps: Collection[Step]) -> None:
        """Write fresh steps into the ledger; end the run for a reason that every item would meet."""
        for step in steps:
            if step.reason in FATAL:
                raise TalksetError(step.reason, step.message or step.reason)
        self.ledger.record(
            Entry(unit, step.stage, step.key, step.state, step.reason, step.message, step.attempts, step.seconds)
            for step in steps
            if step.fresh
        )
        for step in steps:
            if step.traceback:
                folder = self.root / HIDDEN_FOLDER / "errors"
                folder.mkdir(exist_ok=True)
                write_atomic(folder / f"{unit}-{step.stage}.txt", step.traceback.encode())

    def _settle(self, unit: str, steps: Collection[Step]) -> None:
        self.report.count(steps)
        self.used.update((unit, step.stage, step.key) for step in steps)

    def _mark_duplicates(self, states: Sequence[SourceState]) -> None:
        """Mark rows with the content and span of an earlier row."""
        first: dict[tuple[str, int | None, int | None], SourceState] = {}
        for state in states:
            if state.sha256 is None or state.duplicate_of is not None:
                continue
            if state.failure is not None and state.failure.reason == "sha256_mismatch":
                continue
            original = first.setdefault((state.sha256, state.source.start_us, state.source.end_us), state)
            state.duplicate_of = None if original is state else original
        for state in states:
            while state.duplicate_of is not None and state.duplicate_of.duplicate_of is not None:
                state.duplicate_of = state.duplicate_of.duplicate_of


def _storable(source: Source) -> Source:
    """The source with text that UTF-8 can hold; JSON may carry halves of surrogate pairs."""

    def clean(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode("utf-8")

    texts: dict[str, Any] = {name: clean(value) for name, value in vars(source).items() if isinstance(value, str)}
    labels = {clean(name): clean(value) for name, value in source.labels.items()}
    return dataclasses.replace(source, **texts, labels=labels)


def _readable(state: SourceState, row: SourceRow) -> SourceRow | None:
    """The row, unless its file is empty or no plain file: nothing a worker should look at."""
    if not row.path.is_file():  # a folder, or a pipe that would never end
        state.steps = (failed_step("unreadable_file", f"{row.path} is no file. Give the path of a video file"),)
        return None
    if row.size == 0:
        state.steps = (failed_step("empty_file", f"{row.path} has zero bytes. Fetch the file again"),)
        return None
    return row


def _clips(state: SourceState) -> list[ClipItem]:
    if state.failure is not None or state.path is None or state.sha256 is None:
        return []
    info = video_info(state.value("probe"))
    clips = [clip_from_json(value) for value in state.value("segment")["clips"]]
    return [ClipItem(clip, state.path, state.sha256, info, state.source.speaker) for clip in clips]


def _worth_a_try(entry: Entry) -> bool:
    return entry.reason in RETRIED and entry.attempts < MAX_TRIES


def _crashed(planned: Sequence[Step], crash: Crash) -> tuple[Step, ...]:
    """The steps of an item whose worker died at the first open one."""
    last = planned[-1]
    step = Step(
        last.stage,
        last.key,
        FAILED,
        {},
        "internal",
        crash.message,
        crash.traceback,
        fresh=True,
        attempts=crash.attempts,
    )
    return (*planned[:-1], step)
