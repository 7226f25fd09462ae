"""What failed and is not tried again: listed, shown with its traceback, released for another try."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.events import last_start, retry_settings
from pipelines.ledger import FAILED, Entry, Ledger
from pipelines.retry import is_quarantined
from schemas.errors import DETERMINISTIC, REASONS, TRANSIENT, UNCERTAIN, UsageError, error_class
from schemas.files import HIDDEN_FOLDER

CLASSES = (TRANSIENT, UNCERTAIN, DETERMINISTIC)


@dataclass(frozen=True)
class Failure:
    """Work that failed."""

    entry: Entry
    quarantined: bool
    """Whether later runs leave it alone; False where one has attempts left."""

    @property
    def error_class(self) -> str:
        """transient, uncertain or deterministic."""
        return error_class(self.entry.reason or "internal")

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**vars(self.entry), "class": self.error_class, "quarantined": self.quarantined}


def failures(root: Path) -> list[Failure]:
    """What failed in a data set's runs, in a fixed order. Raises UsageError for a folder without run state."""
    check_run_folder(root)
    retry = retry_settings(last_start(root))
    with Ledger(root) as ledger:
        return [Failure(entry, is_quarantined(entry, retry)) for entry in ledger.entries(FAILED)]


def selected(
    found: Iterable[Failure], units: Collection[str] = (), reasons: Collection[str] = (), stages: Collection[str] = ()
) -> list[Failure]:
    """Failures of those units (or beginnings of their names, or URIs), reasons or classes, and stages; empty means all.

    Raises UsageError for a reason that does not exist, a unit that did not fail, and one that means several.
    """
    found = list(found)
    for reason in reasons:
        if reason not in REASONS and reason not in CLASSES:
            known = sorted({failure.entry.reason or "internal" for failure in found})
            raise UsageError(f"unknown reason {reason!r}", f"Known: {', '.join((*CLASSES, *known))}")
    names = {name for unit in units for name in _meant(unit, found)}
    return [
        failure
        for failure in found
        if (not units or failure.entry.unit in names)
        and (not reasons or failure.entry.reason in reasons or failure.error_class in reasons)
        and (not stages or failure.entry.stage in stages)
    ]


def release(root: Path, chosen: Iterable[Failure]) -> int:
    """Let the next run try failures as if for the first time; returns how many there were."""
    check_run_folder(root)
    with Ledger(root) as ledger:
        return ledger.release(failure.entry for failure in chosen)


def traceback_of(root: Path, failure: Failure) -> str:
    """The traceback of the last attempt; empty where there is none."""
    if not failure.entry.trace:
        return ""
    path = root / HIDDEN_FOLDER / failure.entry.trace
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def check_run_folder(root: Path) -> None:
    """Raise UsageError for a folder in which nothing was run."""
    if not (root / HIDDEN_FOLDER / "ledger.sqlite").is_file():
        message = f"{root} has no run state ({HIDDEN_FOLDER})"
        raise UsageError(message, "Give the folder that `talkset run` wrote; a copy of the data set has none")


def _meant(name: str, found: Collection[Failure]) -> set[str]:
    exact = {failure.entry.unit for failure in found if name in (failure.entry.unit, failure.entry.uri)}
    if exact:
        return exact
    close = {failure.entry.unit for failure in found if failure.entry.unit.startswith(name)}
    if len(close) == 1:
        return close
    if close:
        raise UsageError(
            f"{name!r} is the beginning of {len(close)} units", f"Write one: {', '.join(sorted(close)[:5])}"
        )
    raise UsageError(f"nothing named {name!r} failed", "See `talkset quarantine list`; give a unit or a URI")
