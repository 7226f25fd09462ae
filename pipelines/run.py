"""A run: manifest in, data set out; what is stored already is not made again."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from pipelines.assemble import Draft, build_digest, drafts
from pipelines.build import REVIEW_STAGES
from pipelines.checks import check_config
from pipelines.copies import find_copies_of_run
from pipelines.digests import MODELS_FOLDER, bundled_models, describe_models, library_versions, model_digests
from pipelines.engines.make import make_engine
from pipelines.events import EventLog
from pipelines.finished import FinishedNote
from pipelines.keys import output_digest
from pipelines.ledger import DONE, FAILED, REJECTED, Entry, Ledger
from pipelines.output import BuildNote, files_differ, locked_output, place_files
from pipelines.people import take_clips_of_people
from pipelines.remote_results import RemoteResults, open_results
from pipelines.report import NoProgress, Problem, Progress, RunReport
from pipelines.session import ERRORS_FOLDER, Session, SourceState
from pipelines.stage import ClipItem
from pipelines.work import Step
from schemas.config import Config
from schemas.errors import TalksetError, UsageError
from schemas.files import HIDDEN_FOLDER, MANIFEST_NAME, named_errors, refresh_manifest, write_atomic
from schemas.manifest import read_manifest
from schemas.shards import DatasetWriter
from schemas.tables import SCHEMA_VERSION
from schemas.types import Source

VIDEO_SUFFIXES: Final = frozenset(
    {".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".ogv", ".ts", ".webm", ".wmv"}
)
MEDIA: Final = {"media": "media", "overlays": "overlay"}
"""Folder of the data set -> stage whose files it holds."""
MANIFEST_SUFFIXES: Final = frozenset({".csv", ".jsonl", ".parquet"})


def run(
    manifest: Path | Sequence[Source],
    output: Path,
    config: Config,
    *,
    base: Path | None = None,
    progress: Progress | None = None,
    command: Sequence[str] = (),
) -> RunReport:
    """Build or bring up to date the data set of a manifest in a folder.

    `manifest` is a manifest file, a video, a folder of videos, or sources whose relative URIs start at `base` (by
    default the working directory). `command` is how to start the same run again, for the record. What is stored under
    an unchanged key is not made again; a killed run goes on where it was. A bad source or clip becomes a row with its
    reason and never stops the others.

    Raises UsageError for a manifest or configuration that cannot be used, TalksetError disk_full, not_writable,
    missing_model or corrupt_data: the folder then holds the previous data set, and the same run can be started again.
    """
    check_config(config)
    sources, base = _sources(manifest, base)
    engine = make_engine(config.run)
    report = RunReport(output, sources=len(sources))
    started = time.perf_counter()
    output = Path(os.path.abspath(output))  # workers and their decoders may be in other folders
    with locked_output(output):
        digests = model_digests(config)
        store = open_results(output, config.run.results)
        store.clear_scratch()
        if isinstance(store, RemoteResults):
            store.bring()
        with Ledger(output) as ledger, EventLog(output) as events, engine, _recorded(events, report):
            _record_start(events, config, len(sources), command)
            finished = FinishedNote(output, config, digests, sources, base)
            if (known := finished.report(ledger)) is not None:
                vars(report).update({**vars(known), "output": report.output}, seconds=time.perf_counter() - started)
                return report
            finished.clear()
            session = Session(output, config, digests, ledger, store, engine, report, events, progress or NoProgress())
            states = session.take_sources(sources, base)
            clips = _distinct([clip for state in states for clip in state.clips])
            clips, steps = take_clips_of_people(session, clips)
            fitted = {clip.unit: clip for clip in clips}
            for state in states:
                state.clips = [fitted[clip.unit] for clip in state.clips]
            rows, problems = drafts(states, steps, find_copies_of_run(session, clips, steps), config)
            report.problems += problems
            _tally(report, states, rows, clips, steps)
            note, digest = BuildNote(output), build_digest(rows, _facts(config, digests))
            _write(session, rows, note, digest)
            report.seconds = time.perf_counter() - started
            started = time.perf_counter()
            _overlay(session, rows, note, digest)
            report.overlay_seconds = time.perf_counter() - started
            _close(session, states)
            finished.write(report, ledger)
    return report


@contextlib.contextmanager
def _recorded(events: EventLog, report: RunReport) -> Iterator[None]:
    """Record how the run ends, however it ends."""
    started = time.perf_counter()
    outcome, message = "finished", ""
    try:
        yield
    except BaseException as error:
        outcome = "failed" if isinstance(error, Exception) else "stopped"
        message = f"{type(error).__name__}: {error}"
        raise
    finally:
        counts = {"accepted": report.accepted, "rejected": report.rejected, "failed": report.failed}
        seconds = round(time.perf_counter() - started, 3)
        with contextlib.suppress(TalksetError):  # a full disk has ended the run by now
            events.write("run_end", outcome=outcome, message=message, seconds=seconds, **counts)


def _record_start(events: EventLog, config: Config, sources: int, command: Sequence[str]) -> None:
    events.write(
        "run_start",
        host=socket.gethostname(),
        pid=os.getpid(),
        command=list(command),
        folder=os.getcwd(),
        config=output_digest(config),
        versions=library_versions(),
        sources=sources,
        engine=config.run.engine,
        retry=dataclasses.asdict(config.run.retry),
        workers=1 if config.run.engine == "local" else config.run.workers or len(os.sched_getaffinity(0)),
    )


def read_sources(path: Path) -> tuple[list[Source], Path]:
    """Sources of a manifest, a video, or a folder of videos (searched through), and the folder of relative URIs.

    Raises UsageError when there is nothing to read.
    """
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
        if not found:
            raise UsageError(f"the folder {path} holds no video", f"Known endings: {', '.join(sorted(VIDEO_SUFFIXES))}")
        return [Source(_uri(p, path), row) for row, p in enumerate(found, start=1)], path
    if path.suffix.lower() in MANIFEST_SUFFIXES:
        return read_manifest(path), path.parent
    if path.suffix.lower() in VIDEO_SUFFIXES or path.is_file():
        return [Source(_uri(path, path.parent), 1)], path.parent
    raise UsageError(f"{path} is no manifest, video or folder", "Give a .csv, .jsonl or .parquet manifest, or a video")


def dataset_yaml(config: Config) -> str:
    """The configuration as it is saved in the data set: without the run section, which cannot change a byte of it."""
    values = dataclasses.asdict(config)
    del values["run"]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _sources(manifest: Path | Sequence[Source], base: Path | None) -> tuple[list[Source], Path]:
    if isinstance(manifest, Path):
        sources, folder = read_sources(manifest)
        return sources, base or folder
    if not manifest:
        raise UsageError("there are no sources", "Give at least one video")
    return list(manifest), base or Path.cwd()


def _uri(path: Path, base: Path) -> str:
    """Relative to the base where that is text, else file:// with the bytes of the name."""
    name = path.relative_to(base).as_posix()
    return name if name.isprintable() and "://" not in name else path.resolve().as_uri()


def _distinct(clips: Sequence[ClipItem]) -> list[ClipItem]:
    """The first clip of each id: rows of the manifest may overlap on one source."""
    first: dict[str, ClipItem] = {}
    for clip in clips:
        first.setdefault(clip.unit, clip)
    return list(first.values())


def _facts(config: Config, digests: Mapping[str, str]) -> dict[str, Any]:
    return {
        "config": output_digest(config),
        "models": describe_models(config, digests),
        "libraries": library_versions(),
        "schema": SCHEMA_VERSION,
    }


def _write(session: Session, rows: Sequence[Draft], note: BuildNote, digest: str) -> None:
    """Put media in place and write the tables, unless all is as the last build left it."""
    current = note.is_current(digest)
    media = {folder: _files(session, rows, stage) for folder, stage in MEDIA.items()}
    moved = [folder for folder, wanted in media.items() if files_differ(session.root / folder, wanted)]
    if current and not moved:
        return
    note.clear()
    if current:
        _place(session.root, media)
        refresh_manifest(session.root, moved)
    else:
        session.progress.begin("write", len(rows))
        with _writer(session) as writer:
            for row in rows:
                _add(writer, row, session)
                session.progress.step()
            (session.root / MANIFEST_NAME).unlink(missing_ok=True)  # what comes now is seen as unfinished
            _place(session.root, media)
            _place_models(session, rows)
            writer.finish()
        session.report.written = True
    note.write(digest)


def _place_models(session: Session, rows: Sequence[Draft]) -> None:
    """Copies, not links: the data set must not change with the user's cache, nor keep its permissions."""
    folder = session.root / MODELS_FOLDER
    fitted = any(row.clip is not None for row in rows)
    wanted = bundled_models(session.config, session.digests) if fitted else {}
    with named_errors(folder):
        if wanted:
            folder.mkdir(exist_ok=True)
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name not in wanted:
                path.unlink()
    for name, stored in wanted.items():
        write_atomic(folder / name, stored.read_bytes())


def _place(root: Path, media: Mapping[str, Mapping[str, Path]]) -> None:
    for folder, wanted in media.items():
        place_files(root / folder, wanted)


def _writer(session: Session) -> DatasetWriter:
    config = session.config
    return DatasetWriter(
        session.root,
        name=config.name,
        version=config.version,
        licence=config.licence,
        config_yaml=dataset_yaml(config),
        config_digest=output_digest(config),
        models=describe_models(config, session.digests),
        shards=config.shards,
        generator=library_versions(),
    )


def _add(writer: DatasetWriter, row: Draft, session: Session) -> None:
    """Add a row; one that the tables refuse becomes a failed row."""
    try:
        writer.add(row.record(session.store))
    except ValueError as error:
        index = {**row.index, "status": "failed", "reason": "internal", "warnings": str(error), "num_frames": 0}
        writer.add(Draft(index).record(session.store))
        report = session.report
        report.problems.append(Problem(str(index["source_uri"]), 0, row.clip_id, "write", "internal", str(error)))
        report.accepted, report.failed = report.accepted - 1, report.failed + 1


def _files(session: Session, rows: Sequence[Draft], stage: str) -> dict[str, Path]:
    """Name in the data set -> stored file, for the clips that have it."""
    section = getattr(session.config, stage)
    if not section.enabled:
        return {}
    wanted = {}
    for row in rows:
        key = row.keys.get(stage) or _overlay_key(session, row, stage)
        value = session.store.value(stage, key) if key else None
        for suffix in value["suffixes"] if value else ():
            wanted[f"{row.clip_id}{suffix}"] = session.store.payload(stage, key or "", suffix)
    return wanted


def _overlay_key(session: Session, row: Draft, stage: str) -> str | None:
    """Key of a review stage, which is not among the keys of the row because the tables do not depend on it."""
    if row.clip is None or stage != "overlay":
        return None
    return session.key_of_review(row.clip)


def _overlay(session: Session, rows: Sequence[Draft], note: BuildNote, digest: str) -> None:
    """Render the overlays that are missing and put them in place."""
    if not session.config.overlay.enabled:
        return
    clips = [row.clip for row in rows if row.clip is not None]
    steps = session.take_clips(clips, "overlays", REVIEW_STAGES, counted=REVIEW_STAGES[:-1])
    by_id = {row.clip_id: row for row in rows}
    for clip_id, taken in steps.items():
        last, uri = taken[-1], str(by_id[clip_id].index["source_uri"])
        if last.state != DONE:
            problem = Problem(uri, 0, clip_id, last.stage, last.reason or "internal", last.message or "")
            session.report.problems.append(problem)
    wanted = _files(session, rows, "overlay")
    if files_differ(session.root / "overlays", wanted):
        note.clear()
        place_files(session.root / "overlays", wanted)
        refresh_manifest(session.root, ["overlays"])
        note.write(digest)


def _tally(
    report: RunReport,
    states: Sequence[SourceState],
    rows: Sequence[Draft],
    clips: Sequence[ClipItem],
    steps: Mapping[str, Sequence[Step]],
) -> None:
    """Fill in the counts."""
    statuses = [row.index["status"] for row in rows]
    report.accepted, report.rejected = statuses.count("accepted"), statuses.count("rejected")
    report.failed = statuses.count("failed")
    report.frames = sum(row.index["num_frames"] for row in rows if row.accepted)
    report.sources_failed = sum((state.duplicate_of or state).accepted == 0 for state in states)
    made = (step for clip in clips for step in steps[clip.unit] if step.stage == "landmarks" and step.fresh)
    report.frames_made = sum(step.value.get("num_frames", 0) for step in made)


def _close(session: Session, states: Sequence[SourceState]) -> None:
    """Note the duplicates and drop from the ledger what this manifest and configuration do not ask for."""
    repeated = [
        Entry(state.unit, "manifest", "", REJECTED, "duplicate", f"repeats row {state.duplicate_of.source.row}")
        for state in states
        if state.duplicate_of is not None
    ]
    session.ledger.record(repeated)
    session.used.update({(entry.unit, entry.stage, entry.key): entry.state for entry in repeated})
    session.ledger.keep(session.used)
    _drop_tracebacks(session)


def _drop_tracebacks(session: Session) -> None:
    """Remove the tracebacks of what has not failed after all, or is not asked for any more."""
    folder = session.root / HIDDEN_FOLDER / ERRORS_FOLDER
    if not folder.is_dir():
        return
    failed = {f"{entry.unit}-{entry.stage}" for entry in session.ledger.entries(FAILED)}
    for path in folder.iterdir():
        if path.stem.rpartition("-")[0] not in failed:
            path.unlink()
