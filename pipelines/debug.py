"""One stage on one item of a run's folder, with the inputs that are stored there; nothing of the run is changed."""

from __future__ import annotations

import contextlib
import difflib
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipelines import build
from pipelines.build import stages_named
from pipelines.checks import check_config
from pipelines.digests import model_digests
from pipelines.download import is_remote
from pipelines.engines.local import LocalEngine
from pipelines.events import EventLog
from pipelines.ledger import DONE, FAILED, REJECTED, Ledger
from pipelines.people import stored_people
from pipelines.process import cpu_seconds
from pipelines.quarantine import check_run_folder
from pipelines.remote_results import open_results
from pipelines.report import RunReport
from pipelines.results import Result, ResultStore
from pipelines.session import Session, SourceState
from pipelines.stage import ClipItem, Job, Models, SourceItem, Stage, View, key_of
from schemas.config import Config
from schemas.errors import TalksetError, UsageError
from schemas.files import sha256_file
from schemas.types import Source

MAX_NAMED: Final = 5
"""Names that an error suggests."""
Item = SourceItem | ClipItem


@dataclass(frozen=True)
class Case:
    """A stage, what it works on, and everything that it reads."""

    stage: str
    item: Item
    config: Config
    values: Mapping[str, Mapping[str, Any]]
    """JSON values of earlier stages."""
    results: Mapping[str, Result]
    """Whole results of the stages that it needs."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Role -> content hash or versioned name, of the models it uses."""


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    state: str
    """done, rejected (the result is there and not good enough) or failed."""
    result: Result | None
    """Its files lie in a scratch folder while the context of `worked` lasts."""
    reason: str | None = None
    message: str | None = None
    traceback: str = ""
    seconds: float = 0.0
    """Wall time; loading the models is part of it."""
    cpu_seconds: float = 0.0

    def summary(self) -> dict[str, Any]:
        """JSON values that tell what was made, in a few lines."""
        told: dict[str, Any] = {"state": self.state, "seconds": round(self.seconds, 3)}
        told |= {"cpu_seconds": round(self.cpu_seconds, 3), "reason": self.reason, "message": self.message}
        if self.result is not None:
            told["value"] = {name: _short(value) for name, value in self.result.value.items()}
            told["arrays"] = {name: [str(a.dtype), list(a.shape)] for name, a in self.result.arrays.items()}
            told["files"] = {suffix: path.stat().st_size for suffix, path in self.result.files.items()}
        return told


def find_case(
    root: Path,
    sources: Sequence[Source],
    base: Path,
    config: Config,
    stage: str,
    name: str,
    changed: Config | None = None,
) -> tuple[Case, Result | None]:
    """The case of a stage on a clip (or on a source, by unit or URI), and its stored result, where there is one.

    `sources`, `base` and `config` are those of the run, by which inputs are looked up; `changed` is the configuration
    that the stage itself is given. A source stage takes the source of a clip; of a name its beginning is enough.
    Raises UsageError for names that are not there and inputs that are not stored.
    """
    check_run_folder(root)
    check_config(changed or config)
    chosen, chain = _stage_named(stage)
    digests = model_digests(config)
    with Ledger(root) as ledger:
        store = open_results(root, config.run.results)
        parts = (ledger, store, LocalEngine(), RunReport(root), EventLog(root))
        session = Session(root, config, digests, *parts)
        states = session.look_at_sources(sources, base)
        item = _item_named(name, states, session, of_source=chain == build.SOURCE_STAGES)
    keys, values = _stored(chain[: chain.index(stage)], item, config, digests, store)
    for need in chosen.needed(config):
        if need not in values:
            message = f"{stage} of {item.unit} reads the result of {need}, which is not stored in {root}"
            remedy = "Run the data set first; `talkset quarantine list` says what failed"
            raise UsageError(message, remedy)
    results = {need: store.load(need, keys[need]) for need in chosen.needed(config)}
    given = changed or config
    roles = model_digests(given) if changed else digests
    key = key_of(chosen, item, given, roles, keys)
    kept = _with_files(store, stage, key) if store.value(stage, key) is not None else None
    return Case(stage, item, given, values, results, {role: roles[role] for role in chosen.models}), kept


@contextlib.contextmanager
def worked(case: Case) -> Iterator[Outcome]:
    """Run a case in this process, in a scratch folder of the system; errors become part of the outcome."""
    [stage] = stages_named([case.stage])
    with tempfile.TemporaryDirectory(prefix="talkset-debug-") as folder:
        item: Any = case.item
        job = Job(item, case.config, case.values, case.results, Models(case.config), Path(folder))
        started, cpu_before = time.perf_counter(), cpu_seconds()
        result, told = None, {}
        try:
            result = stage.run(job)
        except Exception as error:
            reason = error.reason if isinstance(error, TalksetError) else "internal"
            told = {"reason": reason, "message": str(error) or type(error).__name__}
            told["traceback"] = traceback.format_exc()
        seconds, cpu = time.perf_counter() - started, cpu_seconds() - cpu_before
        state = FAILED
        if result is not None:
            state, told = _judged(stage, case, result)
        yield Outcome(state, result, **told, seconds=seconds, cpu_seconds=cpu)


def _judged(stage: Stage[Any], case: Case, result: Result) -> tuple[str, dict[str, str]]:
    try:
        stage.judge(View(case.item, case.config, {**case.values, stage.name: result.value}))
    except TalksetError as error:
        return REJECTED, {"reason": error.reason, "message": str(error)}
    return DONE, {}


def _stage_named(name: str) -> tuple[Stage[Any], tuple[str, ...]]:
    """A stage and the chain that it is in."""
    chains = (build.SOURCE_STAGES, build.LABEL_STAGES, build.PERSON_STAGES, build.REVIEW_STAGES)
    for chain in chains:
        if name in chain:
            [stage] = stages_named([name])
            return stage, chain
    known = tuple(dict.fromkeys(stage for chain in chains for stage in chain))
    raise UsageError(f"unknown stage {name!r}", _suggested(name, known))


def _item_named(name: str, states: Sequence[SourceState], session: Session, of_source: bool) -> Item:
    """The clip or source that a name means."""
    clips = {clip.unit: clip for state in reversed(states) for clip in state.clips}
    by_unit = {state.unit: state for state in states}
    owners = {clip.unit: state for state in reversed(states) for clip in state.clips}
    names = {**{state.source.uri: state.unit for state in states}, **{unit: unit for unit in (*by_unit, *clips)}}
    found = {names[name]} if name in names else {unit for text, unit in names.items() if text.startswith(name)}
    if len(found) != 1:
        what = f"is the beginning of {len(found)} names" if found else "is no clip and no source of this run"
        raise UsageError(f"{name!r} {what}", _suggested(name, sorted(found) or sorted(names)))
    [unit] = found
    if of_source:
        state = owners[unit] if unit in owners else by_unit[unit]
        return _source_item(state.duplicate_of or state)
    if unit not in clips:
        here = sorted(clip.unit for clip in (by_unit[unit].duplicate_of or by_unit[unit]).clips)
        known = f"Its clips: {', '.join(here[:MAX_NAMED])}" if here else "It has no clip so far"
        raise UsageError(f"{name!r} is a source, and the stage works on clips", known)
    people = stored_people(session, list(clips.values()))
    return next(clip for clip in people if clip.unit == unit)


def _source_item(state: SourceState) -> SourceItem:
    path, uri = state.path, state.source.uri
    if path is None or (state.sha256 is None and (is_remote(uri) or not path.is_file())):
        raise UsageError(f"the source {uri} is not here", "Run the data set first, which fetches it, or mend its path")
    return SourceItem(state.unit, state.source, path, state.sha256 or sha256_file(path))


def _stored(
    stages: Sequence[str], item: Any, config: Config, digests: Mapping[str, str], store: ResultStore
) -> tuple[dict[str, str], dict[str, Mapping[str, Any]]]:
    """Keys of the stages before, and the JSON values of those that are stored, good enough or not."""
    keys: dict[str, str] = {}
    values: dict[str, Mapping[str, Any]] = {}
    for stage in stages_named(stages):
        if not set(stage.needed(config)) <= keys.keys() or not stage.wanted(View(item, config, values)):
            continue
        keys[stage.name] = key_of(stage, item, config, digests, keys)
        value = store.value(stage.name, keys[stage.name])
        if value is not None:
            values[stage.name] = value
    return keys, values


def _with_files(store: ResultStore, stage: str, key: str) -> Result:
    """A stored result with its media."""
    result = store.load(stage, key)
    suffixes = result.value.get("suffixes", ())
    return Result(result.value, result.arrays, {suffix: store.payload(stage, key, suffix) for suffix in suffixes})


def _suggested(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    more = ", ..." if len(known) > 2 * MAX_NAMED else ""
    return f"{hint}Known: {', '.join(known[: 2 * MAX_NAMED])}{more}"


def _short(value: Any) -> Any:
    """A value without the middle of what is long."""
    if isinstance(value, Mapping):
        return {name: _short(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value[:3]] + ([f"... {len(value)} in all"] if len(value) > 3 else [])
    return value
