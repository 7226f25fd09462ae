"""Taking one item through its stages: reuse what is stored, make what is missing, stop at the first that is not good.

The same function plans (without models: nothing is run) and works (with them), so both always agree on what is to do.
"""

from __future__ import annotations

import dataclasses
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.build import stages_named
from pipelines.download import content_path, fetch, is_remote
from pipelines.keys import digest_of
from pipelines.ledger import DONE, FAILED, REJECTED
from pipelines.process import cpu_seconds
from pipelines.remote_results import open_results
from pipelines.results import Result, ResultStore
from pipelines.stage import ClipItem, ItemT, Job, Models, SourceItem, Stage, View, key_of, loaded_models
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.files import sha256_file
from schemas.types import Source

OPEN = "open"
"""State of a step that is still to do."""
DOWNLOAD = "download"
"""What the fetching of a remote source is called where stages are listed."""


@dataclass(frozen=True)
class Step:
    """What became of one stage of one item."""

    stage: str
    key: str
    state: str
    value: Mapping[str, Any] = field(default_factory=dict)
    """JSON value of the result; empty where there is none."""
    reason: str | None = None
    message: str | None = None
    traceback: str = ""
    seconds: float = 0.0
    """Wall time."""
    cpu_seconds: float = 0.0
    """Of the worker and its child processes."""
    ended: float = 0.0
    """Seconds since 1970."""
    host: str = ""
    fresh: bool = False
    """Whether it was made or tried now."""
    attempts: int = 1


@dataclass(frozen=True)
class SourceRow:
    """A row of the manifest with its file; the hash is None where it is not known yet.

    A remote row has no size and time, and the path where the cache has or will have its content.
    """

    unit: str
    source: Source
    path: Path
    sha256: str | None
    size: int
    mtime_ns: int

    def item(self, sha256: str) -> SourceItem:
        """The row once its content is known."""
        return SourceItem(self.unit, self.source, self.path, sha256)


@dataclass(frozen=True)
class SourceOutcome:
    """What became of a source: its hash, and the steps it took."""

    sha256: str | None
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class SourceTask:
    """Takes a `SourceRow` through the source stages; runs in a worker."""

    root: Path
    config: Config
    digests: Mapping[str, str]
    stages: tuple[str, ...]

    def __call__(self, row: SourceRow) -> SourceOutcome:
        """Hash the file where that is needed, then run the stages."""
        sha256 = row.sha256
        started, cpu_before = time.perf_counter(), cpu_seconds()
        try:
            if is_remote(row.source.uri):
                if sha256 is None:
                    with fetch(row.source.uri, row.source.sha256, self.config.run.download) as fetched:
                        sha256 = fetched.sha256
                row = dataclasses.replace(row, path=content_path(sha256, self.config.run.download))
            sha256 = sha256 or sha256_file(row.path)
            check_sha256(row, sha256)
        except OSError as error:
            message = f"{row.path} cannot be read ({error.strerror or error})"
            return SourceOutcome(None, (failed_step("unreadable_file", message, traceback.format_exc()),))
        except TalksetError as error:
            step = failed_step(error.reason, str(error), traceback.format_exc())
            if is_remote(row.source.uri) and row.sha256 is None:
                seconds, spent = time.perf_counter() - started, cpu_seconds() - cpu_before
                key = download_key(row.source)
                step = dataclasses.replace(step, stage=DOWNLOAD, key=key, seconds=seconds, cpu_seconds=spent)
            return SourceOutcome(sha256, (step,))
        models = loaded_models(self.config)
        stages = stages_named(self.stages)
        steps = advance(
            stages,
            row.item(sha256),
            self.config,
            self.digests,
            open_results(self.root, self.config.run.results),
            models,
        )
        return SourceOutcome(sha256, tuple(steps))


@dataclass(frozen=True)
class ClipTask:
    """Takes a `ClipItem` through the named stages; runs in a worker."""

    root: Path
    config: Config
    digests: Mapping[str, str]
    stages: tuple[str, ...]

    def __call__(self, item: ClipItem) -> tuple[Step, ...]:
        """Run what is missing."""
        models = loaded_models(self.config)
        stages = stages_named(self.stages)
        return tuple(
            advance(stages, item, self.config, self.digests, open_results(self.root, self.config.run.results), models)
        )


def check_sha256(row: SourceRow, sha256: str) -> None:
    """Raise TalksetError (sha256_mismatch) where the manifest describes another file."""
    expected = (row.source.sha256 or sha256).lower()
    if expected != sha256:
        message = f"{row.path} has the sha256 {sha256}, the manifest says {expected}"
        raise TalksetError("sha256_mismatch", message, "Fetch the file again, or mend the manifest")


def failed_step(reason: str, message: str, traceback_: str = "") -> Step:
    """A file that failed before any stage: no key, so it is looked at again in every run, which is how it changes."""
    host = socket.gethostname()
    return Step("probe", "", FAILED, {}, reason, message, traceback_, ended=time.time(), host=host, fresh=True)


def download_key(source: Source) -> str:
    """Key of the work of fetching a source: what is asked for. What is fetched has its own key, by content."""
    return digest_of([source.uri, source.sha256 or ""])


def advance(
    stages: Sequence[Stage[ItemT]],
    item: ItemT,
    config: Config,
    digests: Mapping[str, str],
    store: ResultStore,
    models: Models | None,
) -> list[Step]:
    """The steps of an item up to the first that is not done.

    Without `models` nothing is run, and the first stage without a stored result is the last step, with the state open.
    """
    steps: list[Step] = []
    view = View(item, config, {})
    keys: dict[str, str] = {}
    for stage in stages:
        if not stage.wanted(view):
            continue
        keys[stage.name] = key = key_of(stage, item, config, digests, keys)
        value = store.value(stage.name, key)
        if value is not None:
            step = _judged(stage, view, Step(stage.name, key, DONE, value))
        elif models is None:
            step = Step(stage.name, key, OPEN)
        else:
            step = _make(stage, view, keys, digests, store, models)
        steps.append(step)
        if step.state != DONE:
            break
        view = View(item, config, {**view.values, stage.name: step.value})
    return steps


def _judged(stage: Stage[ItemT], view: View[ItemT], step: Step) -> Step:
    """A done step, or the same one rejected."""
    try:
        stage.judge(View(view.item, view.config, {**view.values, stage.name: step.value}))
    except TalksetError as error:
        return dataclasses.replace(step, state=REJECTED, reason=error.reason, message=str(error))
    return step


def _make(
    stage: Stage[ItemT],
    view: View[ItemT],
    keys: Mapping[str, str],
    digests: Mapping[str, str],
    store: ResultStore,
    models: Models,
) -> Step:
    """Run a stage and store its result; every error becomes a failed step."""
    key, item = keys[stage.name], view.item
    started, cpu_before = time.perf_counter(), cpu_seconds()
    try:
        if "head_model" in stage.models:
            _check_head(models, digests["head_model"])
        results: dict[str, Result] = {name: store.load(name, keys[name]) for name in stage.needed(view.config)}
        with store.scratch() as scratch:
            result = stage.run(Job(item, view.config, view.values, results, models, scratch))
            if missing := set(stage.outputs) - result.value.keys():
                raise ValueError(f"the result of {stage.name} lacks {', '.join(sorted(missing))}")
            store.save(stage.name, key, item.unit, result)
        step = Step(stage.name, key, DONE, store.load(stage.name, key).value)
    except Exception as error:
        reason, message = _named(error)
        step = Step(stage.name, key, FAILED, {}, reason, message, traceback.format_exc())
    step = dataclasses.replace(
        step,
        seconds=time.perf_counter() - started,
        cpu_seconds=cpu_seconds() - cpu_before,
        ended=time.time(),
        host=socket.gethostname(),
        fresh=True,
    )
    return _judged(stage, view, step) if step.state == DONE else step


def _check_head(models: Models, wanted: str) -> None:
    """Refuse to work with another head than the driver has: results would be stored under its hash.

    Raises TalksetError missing_model. The open head is built on each machine, from what its linear algebra gives.
    """
    if models.head.sha256 != wanted:
        message = f"{socket.gethostname()} has another {models.head.name} ({models.head.sha256[:16]}) than the driver"
        raise TalksetError("missing_model", f"{message} ({wanted[:16]})", "Copy the driver's model cache there")


def _named(error: Exception) -> tuple[str, str]:
    """Reason and message of an error."""
    if isinstance(error, TalksetError):
        return error.reason, str(error)
    if isinstance(error, MemoryError):
        return "memory_limit", f"the worker has no memory left ({error})"
    return "internal", f"{type(error).__name__}: {error}"
