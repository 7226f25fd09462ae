"""Fetched files by content: `content/<sha256>`, beside what each URI gave, what is half fetched, and the locks.

Several processes on one or more machines may share the folder. A file that is used is open with a shared flock(2), so
the one that clears the folder sees it; the kernel gives the lock back when a process dies.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final

from filelock import FileLock

from pipelines.download.sniff import SNIFF_BYTES, sniff
from schemas.errors import TalksetError
from schemas.files import named_errors, write_atomic

OLD_PART_S: Final = 7 * 86_400
"""Half fetched files that nobody went on with for so long go first."""


@dataclass(frozen=True)
class Fetched:
    """A fetched file. It stays where it is while this object is open: use it as a context manager, or `close` it."""

    path: Path
    sha256: str
    bytes: int
    mime: str
    """By its content."""
    final_uri: str
    """Where redirects led."""
    hold: BinaryIO = field(repr=False, compare=False)
    """The open file, locked."""

    def __enter__(self) -> Fetched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the file go; from now on the cache may remove it."""
        self.hold.close()


@dataclass(frozen=True)
class Record:
    """What a URI gave."""

    uri: str
    final_uri: str
    sha256: str
    bytes: int
    mime: str
    etag: str | None
    last_modified: str | None
    checked: float
    """Seconds since 1970 when the server last said so."""

    def age_s(self) -> float:
        """Seconds since the server was asked."""
        return max(0.0, time.time() - self.checked)


class Partial:
    """A half fetched file of one URI: its bytes so far, and what says that the rest still belongs to them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._facts = path.with_suffix(".json")
        with named_errors(path):
            self._file = path.open("ab")
        self.validator: str | None = self._read_facts()
        if self.validator is None:
            self.restart(None)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return os.fstat(self._file.fileno()).st_size

    def restart(self, validator: str | None) -> None:
        """Throw away what is there; `validator` (ETag or time) is that of what comes now, None where nothing is."""
        self._file.truncate(0)
        self.validator = validator
        if validator is None:
            self._facts.unlink(missing_ok=True)
        else:
            write_atomic(self._facts, json.dumps({"validator": validator}).encode())

    def write(self, block: bytes | memoryview) -> None:
        """Add bytes. Raises TalksetError disk_full."""
        with named_errors(self.path):
            self._file.write(block)
            self._file.flush()

    def take(self, path: Path) -> None:
        """Take the content of a file that another program fetched; the file is gone afterwards."""
        with named_errors(self.path):
            os.replace(path, self.path)
            self._file.close()
            self._file = self.path.open("ab")

    def head(self) -> bytes:
        """The first bytes."""
        with self.path.open("rb") as stream:
            return stream.read(SNIFF_BYTES)

    def sync(self) -> None:
        """Make the bytes durable."""
        with named_errors(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing of an empty one stays."""
        empty = self.size == 0
        self._file.close()
        if empty:
            self.path.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove what is there for good."""
        self.restart(None)
        self.path.unlink(missing_ok=True)

    def _read_facts(self) -> str | None:
        try:
            return str(json.loads(self._facts.read_bytes())["validator"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


class Cache:
    """The folder of fetched files; raises TalksetError disk_full or not_writable."""

    def __init__(self, folder: Path, limit_bytes: float) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        with named_errors(folder):
            for name in ("content", "uris", "partial", "locks", "hosts"):
                (folder / name).mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "locks" / "content.lock")

    def path(self, sha256: str) -> Path:
        """Where the content is, if it is."""
        return self.folder / "content" / sha256[:2] / sha256

    def recall(self, uri: str) -> Record | None:
        """What the URI gave when it was last asked, None where that is not known."""
        try:
            return Record(**json.loads(self._record_path(uri).read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def remember(self, record: Record) -> None:
        """Note what a URI gave."""
        path = self._record_path(record.uri)
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(dataclasses.asdict(record)).encode())

    def open(self, sha256: str, facts: Mapping[str, Any] | None = None) -> Fetched | None:
        """The content with that hash, held; None where it is not there. `facts` are mime and final_uri."""
        path = self.path(sha256)
        with self._lock:
            try:
                hold = path.open("rb")
            except FileNotFoundError:
                return None
            fcntl.flock(hold, fcntl.LOCK_SH)
        stat = os.fstat(hold.fileno())
        with contextlib.suppress(OSError):  # of another user: it then counts as older than it is
            os.utime(path, ns=(time.time_ns(), stat.st_mtime_ns))
        given = dict(facts or {})
        mime = given.get("mime") or sniff(hold.read(SNIFF_BYTES))
        return Fetched(path, sha256, stat.st_size, mime, given.get("final_uri", ""), hold)

    @contextlib.contextmanager
    def partial(self, uri: str) -> Iterator[Partial]:
        """What is fetched of a URI, for one process at a time; the others wait."""
        name = _name(uri)
        with FileLock(self.folder / "locks" / f"{name}.lock"):
            path = self.folder / "partial" / f"{name}.part"
            with named_errors(path):
                path.parent.mkdir(exist_ok=True)
            partial = Partial(path)
            try:
                yield partial
            finally:
                partial.close()

    def commit(self, partial: Partial, record: Record) -> Fetched:
        """Make a whole file content, note its record, and make room; returns it held."""
        partial.sync()
        path = self.path(record.sha256)
        with named_errors(path), self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() and path.stat().st_size == record.bytes:
                os.utime(path)
                partial.path.unlink()
            else:
                os.replace(partial.path, path)
            hold = path.open("rb")
            fcntl.flock(hold, fcntl.LOCK_SH)
            self._evict()
        partial.path.with_suffix(".json").unlink(missing_ok=True)
        self.remember(record)
        return Fetched(path, record.sha256, record.bytes, record.mime, record.final_uri, hold)

    def _evict(self) -> None:
        """Remove the least recently used files beyond the limit; those in use stay."""
        files: list[tuple[float, int, Path]] = []
        for path in (*self.folder.glob("content/??/*"), *self.folder.glob("partial/*.part")):
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                used = stat.st_atime if path.suffix != ".part" else stat.st_mtime
                files.append((used, stat.st_size, path))
        total = sum(size for _, size, _ in files)
        now = time.time()
        for used, size, path in sorted(files):
            old_part = path.suffix == ".part" and now - used > OLD_PART_S
            if total <= self.limit_bytes and not old_part:
                continue
            if self._remove(path):
                total -= size

    def _remove(self, path: Path) -> bool:
        if path.suffix == ".part":
            lock = FileLock(self.folder / "locks" / f"{path.stem}.lock")
            with contextlib.suppress(TimeoutError), lock.acquire(timeout=0):
                path.unlink(missing_ok=True)
                return True
            return False
        with contextlib.suppress(OSError), path.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            return True
        return False

    def _record_path(self, uri: str) -> Path:
        name = _name(uri)
        return self.folder / "uris" / name[:2] / f"{name}.json"


def check_hash(uri: str, expected: str | None, found: str) -> None:
    """Raise TalksetError (sha256_mismatch) where the content is not what the manifest describes."""
    if expected is not None and expected.lower() != found:
        message = f"{uri} gives content with the sha256 {found}, expected is {expected.lower()}"
        raise TalksetError("sha256_mismatch", message, "Mend the manifest, or run again where the content has changed")


def _name(uri: str) -> str:
    return hashlib.sha256(uri.encode("utf-8", "backslashreplace")).hexdigest()[:40]
