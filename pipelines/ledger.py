"""The ledger: what became of every (unit, stage), in SQLite; a unit is a source row or a clip.

Only the driver writes it, and only after the result itself is durable, so it never claims more than there is. A lost
ledger is rebuilt from the results; failures are then simply tried again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from types import TracebackType

from pipelines.results import ResultStore
from schemas.errors import TalksetError
from schemas.files import HIDDEN_FOLDER, named_errors

LOGGER = logging.getLogger(__name__)
DONE, FAILED, REJECTED = "done", "failed", "rejected"
_TABLES = """
CREATE TABLE IF NOT EXISTS work (
  unit TEXT NOT NULL, stage TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
  reason TEXT, message TEXT, attempts INTEGER NOT NULL, seconds REAL NOT NULL, cpu_seconds REAL NOT NULL DEFAULT 0,
  ended REAL NOT NULL DEFAULT 0, host TEXT NOT NULL DEFAULT '', uri TEXT NOT NULL DEFAULT '',
  trace TEXT NOT NULL DEFAULT '', conditions TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (unit, stage, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
  path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, sha256 TEXT NOT NULL
) WITHOUT ROWID;
"""
_ADDED = {
    "cpu_seconds": "REAL NOT NULL DEFAULT 0",
    "ended": "REAL NOT NULL DEFAULT 0",
    **dict.fromkeys(("host", "uri", "trace", "conditions"), "TEXT NOT NULL DEFAULT ''"),
}
"""Columns that ledgers of earlier releases lack."""


@dataclass(frozen=True)
class Entry:
    """What became of one stage of one unit."""

    unit: str
    stage: str
    key: str
    state: str
    """done, failed (the stage raised) or rejected (its result was judged not good enough)."""
    reason: str | None = None
    message: str | None = None
    attempts: int = 1
    seconds: float = 0.0
    """Wall time of the last attempt."""
    cpu_seconds: float = 0.0
    ended: float = 0.0
    """When the last attempt ended, seconds since 1970."""
    host: str = ""
    """The machine of the last attempt."""
    uri: str = ""
    """Of the source, as the manifest has it; for failures."""
    trace: str = ""
    """Path of the last attempt's traceback, relative to the run folder; empty where there is none."""
    conditions: str = ""
    """Digest of the limits under which it failed (`pipelines.retry.conditions_of`)."""


_COLUMNS = ", ".join(field.name for field in fields(Entry))
_UPDATES = ", ".join(
    f"{field.name}=excluded.{field.name}"
    for field in fields(Entry)
    if field.name not in ("unit", "stage", "key", "attempts")
)


class Ledger:
    """The ledger of one output folder, `<root>/.talkset/ledger.sqlite`; use it as a context manager.

    Raises TalksetError disk_full or not_writable.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / HIDDEN_FOLDER / "ledger.sqlite"
        with named_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not self.path.is_file()
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise _named(self.path, error) from error
            LOGGER.warning("%s is damaged (%s); it is rebuilt from the results", self.path, error)
            for name in (self.path, *(Path(f"{self.path}{end}") for end in ("-wal", "-shm"))):
                name.unlink(missing_ok=True)
            fresh = True
            with self._named_errors():
                self._open()
        if fresh:
            self.record(Entry(row.unit, row.stage, row.key, DONE, attempts=0) for row in ResultStore(root).scan())

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        self._database = sqlite3.connect(self.path, isolation_level=None)
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_TABLES)
            if not self._database.execute("PRAGMA user_version").fetchone()[0]:
                self._database.execute(f"PRAGMA user_version={1 + secrets.randbelow(2**31 - 1)}")
            present = {row[1] for row in self._database.execute("PRAGMA table_info(work)")}
            for name, kind in _ADDED.items():
                if name not in present:
                    self._database.execute(f"ALTER TABLE work ADD COLUMN {name} {kind}")
        except sqlite3.Error:
            self._database.close()
            raise

    @property
    def identity(self) -> int:
        """A number that another ledger in the same place does not share."""
        return int(self._database.execute("PRAGMA user_version").fetchone()[0])

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def record(self, entries: Iterable[Entry]) -> None:
        """Write entries; attempts add up over runs with the same conditions, the rest is replaced."""
        rows = [astuple(entry) for entry in entries]
        if not rows:
            return
        with self._transaction():
            self._database.executemany(
                f"INSERT INTO work ({_COLUMNS}) VALUES ({','.join('?' * len(fields(Entry)))})"
                f" ON CONFLICT (unit, stage, key) DO UPDATE SET {_UPDATES}, attempts="
                "CASE WHEN conditions=excluded.conditions THEN attempts ELSE 0 END + excluded.attempts",
                rows,
            )

    def find(self, unit: str, stage: str, key: str) -> Entry | None:
        """The entry of exactly this work, or None."""
        query = f"SELECT {_COLUMNS} FROM work WHERE unit=? AND stage=? AND key=?"
        found = self._database.execute(query, (unit, stage, key)).fetchone()
        return None if found is None else Entry(*found)

    def entries(self, state: str | None = None) -> Iterator[Entry]:
        """All entries, or those of a state, in a fixed order."""
        query = f"SELECT {_COLUMNS} FROM work WHERE ? IS NULL OR state=? ORDER BY unit, stage, key"
        for row in self._database.execute(query, (state, state)):
            yield Entry(*row)

    def release(self, entries: Iterable[Entry]) -> int:
        """Forget failures, so that the next run tries them as if for the first time; returns how many."""
        keys = [(entry.unit, entry.stage, entry.key, FAILED) for entry in entries]
        with self._transaction():
            query = "DELETE FROM work WHERE unit=? AND stage=? AND key=? AND state=?"
            return max(0, self._database.executemany(query, keys).rowcount)

    def summary(self) -> list[tuple[str, str, str | None, int, float]]:
        """(stage, state, reason, number of units, seconds) for all that is recorded."""
        query = (
            "SELECT stage, state, reason, COUNT(*), SUM(seconds) FROM work GROUP BY stage, state, reason ORDER BY 1,2,3"
        )
        return list(self._database.execute(query))

    def keep(self, current: Mapping[tuple[str, str, str], str]) -> None:
        """Make the entries those of `current`, (unit, stage, key) -> state.

        Work of another manifest or configuration is dropped; results that were found, not made (of a pilot, or of a run
        that was killed before it could note them), are added.
        """
        present = {(entry.unit, entry.stage, entry.key) for entry in self.entries()}
        stale = present.difference(current)
        if stale:
            with self._transaction():
                self._database.executemany("DELETE FROM work WHERE unit=? AND stage=? AND key=?", sorted(stale))
        found = [name for name in current if name not in present and current[name] in (DONE, REJECTED)]
        self.record(Entry(*name, current[name], attempts=0) for name in found)

    def known_sha256(self, path: Path, stat: os.stat_result) -> str | None:
        """The recorded hash of a file that still has the same size and modification time."""
        row = self._database.execute(
            "SELECT sha256 FROM files WHERE path=? AND size=? AND mtime_ns=?",
            (os.fsencode(path).decode("utf-8", "backslashreplace"), stat.st_size, stat.st_mtime_ns),
        ).fetchone()
        return None if row is None else str(row[0])

    def remember_sha256(self, path: Path, size: int, mtime_ns: int, sha256: str) -> None:
        """Record the hash of a file as it was at that size and modification time."""
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO files VALUES (?,?,?,?)", (name, size, mtime_ns, sha256))

    def paths_of(self, sha256: str) -> list[Path]:
        """Files that had this content when they were read."""
        rows = self._database.execute("SELECT path FROM files WHERE sha256=? ORDER BY path", (sha256,))
        return [Path(row[0]) for row in rows]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._named_errors():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise _named(self.path, error) from error


def _named(path: Path, error: sqlite3.OperationalError) -> TalksetError:
    if "disk is full" in str(error):  # Python 3.10 has no error code to ask for
        return TalksetError("disk_full", f"no space is left to write {path}", "Free space, then run again to resume")
    return TalksetError("not_writable", f"cannot write {path} ({error})", "Check the folder and its permissions")
