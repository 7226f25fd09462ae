"""A note of the last finished run: where all that it rested on is as it was, the same run has nothing to do.

Without it a run looks at every stored result of every clip, a millisecond for each clip. The note is only believed
whole: one source, setting, model, version of a stage, table, medium or folder of results that differs, or one failure
that has an attempt left, and the run looks at everything.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pipelines.build import stage_versions
from pipelines.digests import library_versions
from pipelines.download import is_remote, known_sha256
from pipelines.keys import digest_of
from pipelines.ledger import FAILED, Ledger
from pipelines.output import MEDIA_FOLDERS, BuildNote
from pipelines.report import Problem, RunReport, StageCount
from pipelines.retry import conditions_of, worth_a_try
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.files import HIDDEN_FOLDER, named_errors, write_atomic
from schemas.manifest import local_path
from schemas.settings import to_dict
from schemas.tables import SCHEMA_VERSION
from schemas.types import Source

RUN_ONLY: Final = ("engine", "workers", "address", "error_budget", "gpu_fraction", "time_scale")
"""Settings of `run` that a run with nothing to do does not feel."""


class FinishedNote:
    """The note of one output folder, `.talkset/finished.json`; only for who holds the lock of the folder."""

    def __init__(self, root: Path, config: Config, digests: Mapping[str, str], sources: Sequence[Source], base: Path):
        self._root, self._config, self._digests = root, config, digests
        self._sources, self._base = sources, base
        self._path = root / HIDDEN_FOLDER / "finished.json"

    def report(self, ledger: Ledger) -> RunReport | None:
        """What the run would report that has nothing to do, or None where there may be something to do."""
        try:
            note = json.loads(self._path.read_bytes())
            if note["stamp"] != self._stamp(ledger):
                return None
            values: dict[str, Any] = note["report"]
            stages = {name: StageCount(**count) for name, count in values.pop("stages").items()}
            problems = [Problem(**problem) for problem in values.pop("problems")]
            return RunReport(self._root, **values, stages=stages, problems=problems)
        except (OSError, ValueError, KeyError, TypeError):  # no note, or one of an earlier release
            return None

    def write(self, report: RunReport, ledger: Ledger) -> None:
        """Note a finished run."""
        stamp = self._stamp(ledger)
        if stamp is None:
            self.clear()
            return
        values = dataclasses.asdict(report)
        for name in ("output", "seconds", "overlay_seconds", "frames_made", "written"):
            del values[name]
        for count in values["stages"].values():
            count |= {"made": 0, "reused": count["made"] + count["reused"], "seconds": 0.0}
        write_atomic(self._path, (json.dumps({"stamp": stamp, "report": values}) + "\n").encode())

    def clear(self) -> None:
        """Forget the note, before anything that it speaks of is touched."""
        with named_errors(self._path):
            self._path.unlink(missing_ok=True)

    def _stamp(self, ledger: Ledger) -> str | None:
        """Digest of all that a run rests on, or None where it cannot be told or is to be tried again."""
        failures = list(ledger.entries(FAILED))
        if any(worth_a_try(entry, self._config) for entry in failures):
            return None
        built = BuildNote(self._root).digest()
        if built is None:
            return None
        config = to_dict(self._config)
        for name in RUN_ONLY:
            del config["run"][name]
        told = [
            built,
            digest_of([config, dict(self._digests), library_versions(), SCHEMA_VERSION, stage_versions()]),
            conditions_of(self._config),
            str(ledger.identity),
            *(f"{entry.unit} {entry.stage} {entry.key} {entry.attempts}" for entry in failures),
            *_folders(self._root / HIDDEN_FOLDER / "results"),
            *(line for name in MEDIA_FOLDERS for line in _files(self._root / name)),
        ]
        digest = hashlib.sha256("\n".join(told).encode("utf-8", "backslashreplace"))
        for source in self._sources:
            looked = self._look(source)
            if looked is None:
                return None
            digest.update(f"{source!r} {looked}\n".encode("utf-8", "backslashreplace"))
        return digest.hexdigest()

    def _look(self, source: Source) -> str | None:
        """What a source's file looks like from outside; None for a remote one that must be asked for."""
        try:
            if is_remote(source.uri):
                return known_sha256(source.uri, source.sha256, self._config.run.download)
            path = os.path.abspath(local_path(source.uri, self._base))
        except TalksetError as error:
            return error.reason
        try:
            stat = os.stat(path)
        except (OSError, ValueError):
            return f"{path} missing"
        return f"{path} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}"


def _folders(root: Path) -> Iterator[str]:
    """Folders of results with the time of their last change: a file that came or went."""
    for stage in sorted(_scan(root), key=lambda entry: entry.name):
        for folder in sorted(_scan(Path(stage.path)), key=lambda entry: entry.name):
            yield f"{stage.name}/{folder.name} {folder.stat().st_mtime_ns}"


def _files(folder: Path) -> Iterator[str]:
    for entry in sorted(_scan(folder), key=lambda entry: entry.name):
        stat = entry.stat()
        yield f"{folder.name}/{entry.name} {stat.st_size} {stat.st_mtime_ns}"


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
