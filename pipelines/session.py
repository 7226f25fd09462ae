"""The driver's side of the work: what is to do goes to the engine, what comes back goes to the ledger."""

from __future__ import annotations

import dataclasses
import functools
import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pipelines.build import REVIEW_STAGES, SOURCE_STAGES, stages_named
from pipelines.declarations import Needs
from pipelines.download import content_path, is_remote, known_sha256, public
from pipelines.engine import Crash, Engine, Task
from pipelines.events import EventLog
from pipelines.keys import source_unit
from pipelines.ledger import FAILED, Entry, Ledger
from pipelines.passes import Pass, passes
from pipelines.report import NoProgress, Progress, RunReport
from pipelines.results import ResultStore
from pipelines.retry import allowed_attempts, conditions_of, wait_s, worth_a_try
from pipelines.segmentation.clip_json import clip_from_json
from pipelines.stage import ClipItem
from pipelines.stages.probe import video_info
from pipelines.words import spoken_near
from pipelines.work import (
    DOWNLOAD,
    OPEN,
    ClipTask,
    SourceOutcome,
    SourceRow,
    SourceTask,
    Step,
    advance,
    check_sha256,
    download_key,
    failed_step,
)
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.files import HIDDEN_FOLDER, named_errors, write_atomic
from schemas.manifest import local_path
from schemas.types import Source

FATAL: Final = frozenset({"disk_full", "not_writable", "missing_model"})
"""Reasons that every other item would meet too: they end the run."""
ERRORS_FOLDER: Final = "errors"
"""Folder of tracebacks in the run folder."""
Steps = tuple[Step, ...]
ItemT = TypeVar("ItemT", SourceRow, ClipItem)


@dataclass
class SourceState:
    """A row of the manifest on its way."""

    unit: str
    source: Source
    path: Path | None = None
    sha256: str | None = None
    steps: Steps = ()
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
    events: EventLog
    progress: Progress = field(default_factory=NoProgress)
    used: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """(unit, stage, key) of everything this run rests on -> its state."""

    @functools.cached_property
    def conditions(self) -> str:
        """Digest of the limits of this run."""
        return conditions_of(self.config)

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
                self._record(state.unit, state.source.uri, state.steps)
            else:
                rows.append(row)

        def receive(row: SourceRow, outcome: SourceOutcome | Crash) -> Steps:
            return self._receive_source(by_unit[row.unit], row, outcome)

        for number, part in enumerate(passes(stages_named(SOURCE_STAGES), self.config)):
            if number:
                rows = [self._renewed(by_unit[row.unit], row) for row in rows]
            due = [row for row in rows if self._is_due(by_unit[row.unit].steps, part)]
            task = SourceTask(self.root, self.config, self.digests, part.stages)
            self._work("sources", task, due, {row.unit: by_unit[row.unit].steps for row in due}, receive, part.needs)
        self._mark_duplicates(states)
        for state in states:
            if state.duplicate_of is None:
                self._settle(state.unit, state.steps)
                state.clips = clips_of(state)
        return states

    def look_at_sources(self, sources: Sequence[Source], base: Path) -> list[SourceState]:
        """States of the sources, with their clips, as far as the stored results tell; nothing is made or recorded."""
        states = self._open_sources(sources, base)
        for state in states:
            if state.duplicate_of is None:
                self._look(state)
                state.clips = clips_of(state) if state.value("clips") else []
        return states

    def look_at_clips(self, clips: Sequence[ClipItem], stages: tuple[str, ...]) -> dict[str, Steps]:
        """Stored steps of clips, by clip id; nothing is made or recorded."""
        return {clip.unit: self._plan(stages, clip) for clip in clips}

    def take_clips(
        self, clips: Sequence[ClipItem], phase: str, stages: tuple[str, ...], counted: Collection[str] = ()
    ) -> dict[str, Steps]:
        """Take clips through stages; steps by clip id. `counted` are the stages that are in the report already."""
        if not clips:
            return {}
        found = {clip.unit: self._plan(stages, clip) for clip in clips}

        def receive(clip: ClipItem, outcome: Steps | Crash) -> Steps:
            if isinstance(outcome, Crash):
                outcome = self._crashed(self._plan(stages, clip), outcome)
            self._record(clip.unit, clip.uri, outcome)
            found[clip.unit] = merged(found[clip.unit], outcome)
            return outcome

        for number, part in enumerate(passes(stages_named(stages), self.config)):
            if number:
                found = {clip.unit: merged(found[clip.unit], self._plan(stages, clip)) for clip in clips}
            due = [clip for clip in clips if self._is_due(found[clip.unit], part)]
            task = ClipTask(self.root, self.config, self.digests, part.stages)
            self._work(phase, task, due, found, receive, part.needs)
        for unit, steps in found.items():
            self._settle(unit, [step for step in steps if step.stage not in counted])
        return found

    def _work(
        self,
        phase: str,
        task: Task,
        items: Sequence[ItemT],
        steps: Mapping[str, Steps],
        receive: Callable[[ItemT, Any], Steps],
        needs: Needs,
    ) -> None:
        """Have items worked on, and again, after a while, what failed and may go away by itself.

        What is tried again comes after all that is new, so that nobody waits for it. `steps` are those so far, the last
        open; `receive` records an outcome and returns its steps.
        """
        self.progress.begin(phase, len(items))
        if items:
            self.events.write("phase", phase=phase, items=len(items))
        begins = {item.unit: steps[item.unit][-1] for item in items}
        attempts = {item.unit: self._attempts(item.unit, begins[item.unit]) + 1 for item in items}
        round_: list[tuple[float, ItemT]] = [(0.0, item) for item in items]
        while round_:
            again: list[tuple[float, ItemT]] = []
            for item, outcome in self.engine.map(task, self._given(phase, round_, attempts, begins), needs):
                last = receive(item, outcome)[-1]
                pause = self._pause(item.unit, last)
                end: dict[str, Any] = {"unit": item.unit, "attempt": attempts[item.unit], "outcome": last.state}
                if pause is None:
                    self.progress.step()
                else:
                    again.append((time.monotonic() + pause, item))
                    attempts[item.unit], begins[item.unit] = self._attempts(item.unit, last) + 1, last
                    end["retry_s"] = round(pause, 3)
                self.events.write("end", phase=phase, **end)
            round_ = sorted(again, key=lambda due: due[0])

    def _given(
        self,
        phase: str,
        round_: Sequence[tuple[float, ItemT]],
        attempts: Mapping[str, int],
        begins: Mapping[str, Step],
    ) -> Iterator[ItemT]:
        """Items as they are due; the engine asks for the next one when a worker is free."""
        for due, item in round_:
            time.sleep(max(0.0, due - time.monotonic()))
            attempt, stage = attempts[item.unit], begins[item.unit].stage
            self.events.write("start", phase=phase, unit=item.unit, attempt=attempt, stage=stage)
            yield item

    def _is_due(self, steps: Steps, part: Pass) -> bool:
        """Whether the open step of an item, if there is one, is for a pass; a file without a hash is for the first."""
        last = steps[-1]
        return last.state == OPEN and (last.stage in part.stages or last.stage == DOWNLOAD)

    def _renewed(self, state: SourceState, row: SourceRow) -> SourceRow:
        """The row after a pass, with the steps of its source up to what is open now."""
        if state.sha256 is None or state.steps[-1].state == FAILED:
            return row
        row = dataclasses.replace(row, sha256=state.sha256, path=state.path or row.path)
        state.steps = merged(state.steps, self._plan(SOURCE_STAGES, row.item(state.sha256)))
        return row

    def _attempts(self, unit: str, step: Step) -> int:
        """Failed attempts so far at a step."""
        entry = self.ledger.find(unit, step.stage, step.key)
        failed = entry is not None and entry.state == FAILED and entry.conditions == self.conditions
        return entry.attempts if failed and entry is not None else 0

    def _pause(self, unit: str, step: Step) -> float | None:
        """Seconds until a failed step is tried again in this run, or None where it is not."""
        if step.state != FAILED or step.reason is None:
            return None
        attempts = self._attempts(unit, step)
        if attempts >= allowed_attempts(step.reason, step.stage, self.config.run.retry):
            return None
        return wait_s(unit, attempts, self.config.run.retry)

    def key_of_review(self, clip: ClipItem) -> str | None:
        """Key of the overlay of a clip, or None while what it shows is not stored."""
        steps = self._plan(REVIEW_STAGES, clip)
        return steps[-1].key if steps[-1].stage == REVIEW_STAGES[-1] else None

    def _open_sources(self, sources: Sequence[Source], base: Path) -> list[SourceState]:
        """States with their files; a row that repeats the file and span of an earlier one is its duplicate."""
        states: list[SourceState] = []
        seen: dict[tuple[str, int | None, int | None], int] = {}
        asked: dict[tuple[Path | str, int | None, int | None, str | None], SourceState] = {}
        for source in map(_storable, sources):
            name = source.uri, source.start_us, source.end_us
            occurrence = seen.get(name, 0)
            seen[name] = occurrence + 1
            state = SourceState(source_unit(source, occurrence), source)
            try:
                remote = is_remote(source.uri)
                state.path = None if remote else Path(os.path.abspath(local_path(source.uri, base)))
            except TalksetError as error:
                state.steps = (failed_step(error.reason, str(error)),)
            else:
                place = state.path or source.uri
                state.duplicate_of = asked.setdefault((place, *name[1:], source.sha256), state)
                if state.duplicate_of is state:
                    state.duplicate_of = None
            states.append(state)
        return states

    def _look(self, state: SourceState) -> SourceRow | None:
        """The row to work on, or None where the state says already how it ends."""
        if is_remote(state.source.uri):
            return self._look_remote(state)
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

    def _look_remote(self, state: SourceState) -> SourceRow | None:
        """As `_look`; what is known of a URI and stored needs neither a request nor the file."""
        settings = self.config.run.download
        state.sha256 = known_sha256(state.source.uri, state.source.sha256, settings)
        state.path = None if state.sha256 is None else content_path(state.sha256, settings)
        row = SourceRow(state.unit, state.source, state.path or Path(), state.sha256, 0, 0)
        if state.sha256 is not None:
            state.steps = self._plan(SOURCE_STAGES, row.item(state.sha256))
        else:
            key = download_key(state.source)
            entry, step = self.ledger.find(state.unit, DOWNLOAD, key), Step(DOWNLOAD, key, OPEN)
            if entry is not None and entry.state == FAILED and not worth_a_try(entry, self.config):
                step = Step(DOWNLOAD, key, FAILED, {}, entry.reason, entry.message)
            state.steps = (step,)
        return row if state.steps[-1].state == OPEN else None

    def _plan(self, stages: tuple[str, ...], item: Any) -> Steps:
        """Stored steps; the last is open where there is work, or failed where that work is known to fail."""
        steps = advance(stages_named(stages), item, self.config, self.digests, self.store, None)
        last = steps[-1]
        if last.state == OPEN:
            entry = self.ledger.find(item.unit, last.stage, last.key)
            if entry is not None and entry.state == FAILED and not worth_a_try(entry, self.config):
                steps[-1] = Step(last.stage, last.key, FAILED, {}, entry.reason, entry.message)
        return tuple(steps)

    def _receive_source(self, state: SourceState, row: SourceRow, outcome: SourceOutcome | Crash) -> Steps:
        if isinstance(outcome, Crash):
            planned = state.steps if row.sha256 is None else self._plan(SOURCE_STAGES, row.item(row.sha256))
            steps = self._crashed(planned, outcome)
        else:
            state.sha256, steps = outcome.sha256, outcome.steps
            if is_remote(row.source.uri):
                settings = self.config.run.download
                state.path = None if outcome.sha256 is None else content_path(outcome.sha256, settings)
            elif outcome.sha256 is not None:
                self.ledger.remember_sha256(row.path, row.size, row.mtime_ns, outcome.sha256)
        self._record(state.unit, state.source.uri, steps)
        state.steps = merged(state.steps, steps)
        return steps

    def _record(self, unit: str, uri: str, steps: Collection[Step]) -> None:
        """Write fresh steps into the record and the ledger; end the run for a reason that every item would meet."""
        fresh = [step for step in steps if step.fresh]
        entries = [self._entry(unit, uri, step) for step in fresh]
        for step, entry in zip(fresh, entries, strict=True):
            self.events.write(
                "step",
                unit=unit,
                stage=step.stage,
                outcome=step.state,
                reason=step.reason,
                attempt=self._attempts(unit, step) + step.attempts,
                seconds=round(step.seconds, 4),
                cpu_seconds=round(step.cpu_seconds, 4),
                ended=round(step.ended, 3),
                host=step.host,
                trace=entry.trace,
            )
        for step in fresh:
            if step.reason in FATAL:
                raise TalksetError(step.reason, step.message or step.reason)
        self.ledger.record(entries)

    def _entry(self, unit: str, uri: str, step: Step) -> Entry:
        """The ledger's entry of a step; a traceback goes into a file of its own first."""
        trace = ""
        if step.traceback:
            trace = f"{ERRORS_FOLDER}/{unit}-{step.stage}-{self._attempts(unit, step) + step.attempts}.txt"
            with named_errors(self.root / HIDDEN_FOLDER / ERRORS_FOLDER):
                (self.root / HIDDEN_FOLDER / ERRORS_FOLDER).mkdir(exist_ok=True)
            write_atomic(self.root / HIDDEN_FOLDER / trace, step.traceback.encode("utf-8", "backslashreplace"))
        return Entry(
            unit,
            step.stage,
            step.key,
            step.state,
            step.reason,
            step.message,
            step.attempts,
            step.seconds,
            step.cpu_seconds,
            step.ended,
            step.host,
            public(uri) if step.state == FAILED else "",
            trace,
            self.conditions if step.state == FAILED else "",
        )

    def _crashed(self, planned: Steps, crash: Crash) -> Steps:
        """The steps of an item whose worker died at the first that is open, as far as the stored results tell."""
        last = planned[-1]
        step = Step(
            last.stage,
            last.key,
            FAILED,
            {},
            crash.reason,
            crash.message,
            crash.traceback,
            ended=time.time(),
            host=socket.gethostname(),
            fresh=True,
            attempts=crash.attempts,
        )
        return (*planned[:-1], step)

    def _settle(self, unit: str, steps: Collection[Step]) -> None:
        self.report.count(steps)
        self.used.update({(unit, step.stage, step.key): step.state for step in steps})

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


def clips_of(state: SourceState) -> list[ClipItem]:
    """The clips of a source whose stages are done; none of one that failed."""
    if state.failure is not None or state.path is None or state.sha256 is None:
        return []
    info = video_info(state.value("probe"))
    clips = [clip_from_json(value) for value in state.value("clips")["clips"]]
    source, words = state.source, state.value("words")
    item = functools.partial(
        ClipItem, path=state.path, sha256=state.sha256, info=info, speaker=source.speaker, uri=source.uri,
        transcript=source.transcript,
    )  # fmt: skip
    return [item(clip, spoken=spoken_near(words, clip.span)) for clip in clips]


def merged(before: Steps, after: Steps) -> Steps:
    """The steps of the last attempt; what an earlier attempt of this run made counts as made, not as found."""
    made = {(step.stage, step.key, step.state): step for step in before if step.fresh}
    return tuple(step if step.fresh else made.get((step.stage, step.key, step.state), step) for step in after)
