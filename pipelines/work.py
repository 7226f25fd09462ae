"""Taking one item through its stages: reuse what is stored, make what is missing, stop at the first that is not good.

The same function plans (without models: nothing is run) and works (with them), so both always agree on what is to do.
"""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.build import stages_named
from pipelines.ledger import DONE, FAILED, REJECTED
from pipelines.results import Result, ResultStore
from pipelines.stage import ClipItem, ItemT, Job, Models, SourceItem, Stage, View, key_of, loaded_models
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.files import sha256_file
from schemas.types import Source

OPEN = "open"
"""State of a step that is still to do."""


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
    fresh: bool = False
    """Whether it was made or tried now."""
    attempts: int = 1


@dataclass(frozen=True)
class SourceRow:
    """A row of the manifest with its file; the hash is None where it is not known yet."""

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
        try:
            sha256 = sha256 or sha256_file(row.path)
            check_sha256(row, sha256)
        except OSError as error:
            message = f"{row.path} cannot be read ({error.strerror or error})"
            return SourceOutcome(None, (failed_step("unreadable_file", message),))
        except TalksetError as error:
            return SourceOutcome(sha256, (failed_step(error.reason, str(error)),))
        models = loaded_models(self.config)
        stages = stages_named(self.stages)
        steps = advance(stages, row.item(sha256), self.config, self.digests, ResultStore(self.root), models)
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
        return tuple(advance(stages, item, self.config, self.digests, ResultStore(self.root), models))


def check_sha256(row: SourceRow, sha256: str) -> None:
    """Raise TalksetError (sha256_mismatch) where the manifest describes another file."""
    expected = (row.source.sha256 or sha256).lower()
    if expected != sha256:
        message = f"{row.path} has the sha256 {sha256}, the manifest says {expected}"
        raise TalksetError("sha256_mismatch", message, "Fetch the file again, or mend the manifest")


def failed_step(reason: str, message: str) -> Step:
    """A source that failed before any stage: no key, so it is looked at again in every run."""
    return Step("probe", "", FAILED, {}, reason, message, fresh=True)


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
            step = _make(stage, view, keys, store, models)
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


def _make(stage: Stage[ItemT], view: View[ItemT], keys: Mapping[str, str], store: ResultStore, models: Models) -> Step:
    """Run a stage and store its result; every error becomes a failed step."""
    key, item = keys[stage.name], view.item
    started = time.perf_counter()
    try:
        results: dict[str, Result] = {name: store.load(name, keys[name]) for name in stage.needs}
        with store.scratch() as scratch:
            result = stage.run(Job(item, view.config, view.values, results, models, scratch))
            store.save(stage.name, key, item.unit, result)
        value = store.load(stage.name, key).value
    except TalksetError as error:
        reason, message, trace = error.reason, str(error), ""
    except Exception as error:
        reason, message, trace = "internal", f"{type(error).__name__}: {error}", traceback.format_exc()
    else:
        done = Step(stage.name, key, DONE, value, seconds=time.perf_counter() - started, fresh=True)
        return _judged(stage, view, done)
    return Step(stage.name, key, FAILED, {}, reason, message, trace, time.perf_counter() - started, fresh=True)
