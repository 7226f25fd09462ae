"""Not more requests to a host than it bears, over all threads and processes that share the cache folder."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from filelock import FileLock, Timeout

POLL_S: Final = 0.05


class Hosts:
    """Turns at hosts: lock files that the kernel releases when a process dies, and the time of the next request."""

    def __init__(self, folder: Path, per_host: int, interval_s: float) -> None:
        self._folder = folder
        self._per_host = max(1, per_host)
        self._interval_s = interval_s

    @contextlib.contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Wait until the host may be asked, and hold one of its places."""
        folder = self._of(host)
        slots = [FileLock(folder / f"slot-{number}.lock") for number in range(self._per_host)]
        held = next(iter(_first_free(slots)))
        try:
            time.sleep(self._reserve(folder))
            yield
        finally:
            held.release()

    def hold_off(self, host: str, seconds: float) -> None:
        """Let nobody ask the host for so long, as it asked for."""
        folder = self._of(host)
        with FileLock(folder / "next.lock"):
            _write_time(folder / "next.json", max(_read_time(folder / "next.json"), time.time() + seconds))

    def _of(self, host: str) -> Path:
        folder = self._folder / quote(host, safe="")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _reserve(self, folder: Path) -> float:
        """Seconds until the moment that is now this caller's."""
        with FileLock(folder / "next.lock"):
            now = time.time()
            moment = max(now, _read_time(folder / "next.json"))
            _write_time(folder / "next.json", moment + self._interval_s)
        return moment - now


def _first_free(slots: list[FileLock]) -> Iterator[FileLock]:
    while True:
        for slot in slots:
            with contextlib.suppress(Timeout):
                slot.acquire(timeout=0)
                yield slot
                return
        time.sleep(POLL_S * (0.5 + random.random()))


def _read_time(path: Path) -> float:
    try:
        return float(json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, TypeError):  # a process was killed while it wrote
        return 0.0


def _write_time(path: Path, moment: float) -> None:
    path.write_text(json.dumps(moment))
