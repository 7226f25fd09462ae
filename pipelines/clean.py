"""Removing stored results that the data set no longer rests on: those of sources, settings and models of the past."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pipelines.events import EventReader
from pipelines.ledger import Ledger
from pipelines.output import locked_output
from pipelines.quarantine import check_run_folder
from pipelines.results import ResultStore
from schemas.errors import UsageError
from schemas.files import HIDDEN_FOLDER, named_errors

LEFTOVERS: Final = ("tmp", "pilot")
"""Folders of the run state that hold something only while a run or a plan is at work."""


@dataclass
class Cleaned:
    """What was removed, or would be."""

    results: int = 0
    files: int = 0
    bytes: int = 0
    """Freed on the disk; a file that the data set links to frees nothing."""
    kept: int = 0
    """Results that stay."""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def clean(root: Path, dry_run: bool = False) -> Cleaned:
    """Remove the stored results of an output folder to which no key of its last finished run refers.

    Going back to an earlier manifest or configuration then makes them again. The folder is locked meanwhile. A result's
    JSON file goes before its payloads, so one that is cut short leaves whole results, and is finished by the next call.
    Results on an object store (`run.results`) stay: other folders may rest on them.

    Raises UsageError for a folder without run state or whose last run did not finish, TalksetError not_writable while
    another run holds the folder.
    """
    check_run_folder(root)
    with locked_output(root):
        _check_finished(root)
        with Ledger(root) as ledger:
            used = {(entry.stage, entry.key) for entry in ledger.entries()}
        cleaned = Cleaned()
        for path in _stored_files(root):
            stage, key = path.parts[-3], path.name.lstrip(".").partition(".")[0]
            whole = path.suffix == ".json" and not path.name.startswith(".")
            if (stage, key) in used:
                cleaned.kept += whole
            else:
                cleaned.results += whole
                _remove(path, cleaned, dry_run)
        for name in LEFTOVERS:
            _remove_folder(root / HIDDEN_FOLDER / name, cleaned, dry_run)
        if not dry_run:
            _remove_empty_folders(ResultStore(root).folder)
    return cleaned


def _check_finished(root: Path) -> None:
    """Raise UsageError unless the last run is on record as finished: only then the ledger names all that is used."""
    outcome = ""
    for event in EventReader(root).new():
        if event["event"] in ("run_start", "run_end"):
            outcome = str(event.get("outcome", "killed"))
    if outcome != "finished":
        what = f"ended as {outcome}" if outcome else "is not on record"
        message = f"the last run of {root} {what}, so what it needs of the stored results is not known"
        raise UsageError(message, "Run it again to its end, which makes nothing anew, then clean")


def _stored_files(root: Path) -> Iterator[Path]:
    """Files of all results, also of half-written ones; of each result the JSON file comes first."""
    folder = ResultStore(root).folder
    for part in sorted(folder.glob("*/??")):
        yield from sorted(part.iterdir(), key=lambda path: (path.suffix != ".json", path.name))


def _remove(path: Path, cleaned: Cleaned, dry_run: bool) -> None:
    stat = path.lstat()
    if not dry_run:
        with named_errors(path):
            path.unlink()
    cleaned.files += 1
    cleaned.bytes += stat.st_blocks * 512 if stat.st_nlink == 1 else 0


def _remove_folder(folder: Path, cleaned: Cleaned, dry_run: bool) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            _remove(path, cleaned, dry_run)
    if not dry_run:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_empty_folders(folder: Path) -> None:
    for path in sorted(folder.glob("*/??")) + sorted(folder.glob("*")):
        with contextlib.suppress(OSError):  # it holds results
            path.rmdir()
