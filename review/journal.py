"""Decisions on disk: append-only files, one for each run of the server, each decision synced before it is confirmed.

Nothing is ever rewritten, so a crash, a second tab or a second server cannot lose what was saved. A damaged line is
reported with its place and stays where it is; all others count.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from review.decisions import Decision, checked, from_line, now, to_line
from schemas.errors import TalksetError
from schemas.files import HIDDEN_FOLDER, named_errors, sync_folder

FOLDER: Final = f"{HIDDEN_FOLDER}/review"
"""Where a data set's journal lies: beside the run state, outside of what the checksums cover."""
TABLE: Final = "review/decisions.parquet"
"""The decisions that came with a version."""
SUFFIX: Final = ".jsonl"
MAX_LINE: Final = 1 << 20

SCHEMA: Final = pa.schema(
    [
        pa.field("decision_id", pa.string(), False),
        pa.field("clip_id", pa.string(), False),
        pa.field("content_sha256", pa.string(), False),
        pa.field("reviewer", pa.string(), False),
        pa.field("round", pa.int32(), False),
        pa.field("time", pa.timestamp("us", "UTC"), False),
        pa.field("verdict", pa.string()),
        pa.field("reasons", pa.list_(pa.string()), False),
        pa.field("marks", pa.string(), False, {"meaning": "JSON list of start_us, end_us, reason"}),
        pa.field("comment", pa.string(), False),
        pa.field("emotion", pa.string(), metadata={"meaning": "the corrected value"}),
        pa.field("transcript", pa.string(), metadata={"meaning": "the corrected value"}),
        pa.field("sync_offset_ms", pa.float64(), metadata={"meaning": "the corrected value", "unit": "ms"}),
        pa.field("seconds", pa.float64(), metadata={"unit": "s"}),
        pa.field("undoes", pa.string()),
        pa.field("dataset", pa.string(), False),
        pa.field("shard", pa.string()),
        pa.field("shard_sha256", pa.string()),
        pa.field("counts", pa.bool_(), False, {"meaning": "whether it is the reviewer's last word on the clip"}),
    ],
    metadata={b"talkset.table": b"decisions"},
)


@dataclass(frozen=True)
class Damage:
    """A line that could not be read."""

    file: str
    line: int
    message: str


class Journal:
    """The decisions about one data set: those that came with it, and those of every server that ran on it.

    Args: root: the data set; folder: where the journal lies, by default inside the data set. Thread safe. Reading
    raises TalksetError corrupt_data only for a damaged `review/decisions.parquet`, which one can restore from where
    the version came.
    """

    def __init__(self, root: Path, folder: Path | None = None) -> None:
        self.root = root
        self.folder = folder or root / FOLDER
        self.damage: list[Damage] = []
        self._lock = threading.RLock()
        self._decisions: list[Decision] = []
        self._ids: set[str] = set()
        self._offsets: dict[Path, tuple[int, int]] = {}
        self._file: Path | None = None
        self._torn = False
        self._last_time = ""
        self._take(read_table(root / TABLE))
        self.refresh()

    @property
    def decisions(self) -> list[Decision]:
        """All records, oldest first."""
        with self._lock:
            return list(self._decisions)

    def refresh(self) -> list[Decision]:
        """Read what other servers have written since; returns the new records."""
        with self._lock:
            new: list[Decision] = []
            paths = sorted(self.folder.glob(f"*{SUFFIX}")) if self.folder.is_dir() else []
            for path in paths:
                if path != self._file:
                    new += self._read(path)
            self._take(new)
            return new

    def problem(self) -> str | None:
        """Why decisions cannot be saved here, None where they can. Nothing is left behind."""
        try:
            with named_errors(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                probe = self.folder / f".{os.getpid()}.probe"
                probe.write_bytes(b"")
                probe.unlink()
        except TalksetError as error:
            return error.message
        except OSError as error:
            return f"cannot write {self.folder} ({error.strerror or error})"
        return None

    def append(self, decision: Decision) -> Decision:
        """Save a decision; it is on the disk when this returns. One whose id is known is saved already.

        The time is that of the saving, later than that of any decision before. Returns the saved record. Raises
        TalksetError disk_full or not_writable; nothing is saved then, and the next call begins a new line.
        """
        with self._lock:
            if decision.decision_id in self._ids:
                return next(item for item in reversed(self._decisions) if item.decision_id == decision.decision_id)
            stamped = replace(decision, time=self._next_time())
            data = (("\n" if self._torn else "") + to_line(stamped) + "\n").encode()
            path = self._file or self._new_file(stamped)
            with named_errors(path):
                fresh = not path.exists()
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                try:
                    self._torn = True
                    _write_all(descriptor, data)
                    os.fsync(descriptor)
                    self._torn = False
                finally:
                    os.close(descriptor)
                if fresh:
                    sync_folder(path.parent)
            self._file = path
            self._take([stamped])
            return stamped

    def _next_time(self) -> str:
        moment = now()
        if moment <= self._last_time:  # a clock that was set back must not change which decision is the last
            later = datetime.fromisoformat(self._last_time) + timedelta(microseconds=1)
            moment = later.isoformat(timespec="microseconds")
        return moment

    def _new_file(self, decision: Decision) -> Path:
        who = re.sub(r"[^A-Za-z0-9]+", "-", decision.reviewer).strip("-")[:40] or "reviewer"
        stamp = re.sub(r"[^0-9]", "", decision.time)[:14]
        return self.folder / f"{stamp}-{who}-{decision.decision_id[:8]}{SUFFIX}"

    def _take(self, new: Iterable[Decision]) -> None:
        added = [item for item in new if item.decision_id not in self._ids]
        for item in added:
            if item.decision_id not in self._ids:
                self._ids.add(item.decision_id)
                self._decisions.append(item)
        self._decisions.sort(key=lambda item: item.time)
        if self._decisions:
            self._last_time = self._decisions[-1].time

    def _read(self, path: Path) -> list[Decision]:
        """The complete new lines of a file."""
        start, number = self._offsets.get(path, (0, 0))
        found = []
        try:
            if path.stat().st_size <= start:
                return []
            with path.open("rb") as stream:
                stream.seek(start)
                data = stream.read()
        except OSError as error:
            self._report(Damage(path.name, number, f"cannot be read ({error.strerror or error})"))
            return []
        complete, _, rest = data.rpartition(b"\n")
        lines = complete.split(b"\n") if complete else []
        for line in lines:
            number += 1
            if line.strip():
                found += self._parsed(path, number, line)
        self._offsets[path] = (start + len(data) - len(rest), number)
        if rest.strip():
            # a line without its end: another server may be writing it, or died; it is read again next time
            self._report(Damage(path.name, number + 1, "the line is not complete"))
        else:
            self.damage = [item for item in self.damage if (item.file, item.line) != (path.name, number + 1)]
        return found

    def _parsed(self, path: Path, number: int, line: bytes) -> list[Decision]:
        self.damage = [item for item in self.damage if (item.file, item.line) != (path.name, number)]
        try:
            if len(line) > MAX_LINE:
                raise ValueError(f"a line of {len(line)} bytes")
            return [from_line(line.decode("utf-8"))]
        except (TalksetError, ValueError) as error:
            message = error.message if isinstance(error, TalksetError) else str(error)
            self._report(Damage(path.name, number, message))
            return []

    def _report(self, damage: Damage) -> None:
        if not any((item.file, item.line) == (damage.file, damage.line) for item in self.damage):
            self.damage.append(damage)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def last_words(decisions: Iterable[Decision]) -> dict[tuple[str, str, int], Decision]:
    """Of each clip, reviewer and round the decision that counts; those that were taken back are none."""
    last = {item.key: item for item in sorted(decisions, key=lambda item: item.time)}
    return {key: item for key, item in last.items() if item.verdict is not None}


def to_table(decisions: Sequence[Decision]) -> pa.Table:
    """All records as the table that travels with a version, oldest first."""
    counting = {item.decision_id for item in last_words(decisions).values()}
    rows = [_row(item, item.decision_id in counting) for item in sorted(decisions, key=lambda item: item.time)]
    return pa.Table.from_pylist(rows, SCHEMA)


def _row(item: Decision, counts: bool) -> dict[str, Any]:
    values = {name: value for name, value in asdict(item).items() if name not in ("marks", "corrections")}
    return {
        **values,
        **{name: item.corrections.get(name) for name in ("emotion", "transcript", "sync_offset_ms")},
        "marks": json.dumps([asdict(mark) for mark in item.marks]),
        "reasons": list(item.reasons),
        "time": datetime.fromisoformat(item.time),
        "counts": counts,
    }


def read_table(path: Path) -> list[Decision]:
    """The records of a decisions.parquet, none where there is no such file. Raises TalksetError corrupt_data."""
    if not path.is_file():
        return []
    try:
        found = []
        for row in pq.read_table(path, schema=SCHEMA).to_pylist():
            row.pop("counts")
            given = {name: row.pop(name) for name in ("emotion", "transcript", "sync_offset_ms")}
            row["corrections"] = {name: value for name, value in given.items() if value is not None}
            row["marks"] = json.loads(row["marks"])
            row["time"] = row["time"].isoformat()
            found.append(checked(row))
    except (OSError, ValueError, KeyError, pa.ArrowException, TalksetError) as error:
        message = f"{path} is damaged ({error})"
        raise TalksetError(
            "corrupt_data", message, "Restore it from where the version came, or move it away"
        ) from error
    return found
