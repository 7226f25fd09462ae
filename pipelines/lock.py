"""The run lock: one run at a time in an output folder, and nobody locked out by a run that is dead.

A lock of the operating system (flock) keeps two runs of one machine apart and goes with its process, however that ends.
It says nothing on file systems that do not carry it from machine to machine, so the owner also leaves a note of who it
is: host, process with its start time (process numbers are used again), and since when.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from pipelines.process import process_start
from schemas.errors import TalksetError
from schemas.files import named_errors, write_atomic

LOGGER = logging.getLogger(__name__)
LOCK_NAME: Final = "lock"
OWNER_NAME: Final = "owner.json"


@dataclass(frozen=True)
class Owner:
    """The process that writes an output folder."""

    host: str
    pid: int
    started: str
    """`process_start` of the process."""
    since: float
    """When it took the folder, seconds since 1970."""

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"host {self.host}, process {self.pid}, since {since}"

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs; True for one of another machine, which cannot be asked."""
        return not self.is_here or process_start(self.pid) == self.started


def read_owner(folder: Path) -> Owner | None:
    """The owner that the note in a run folder names; None without a note or with a torn one."""
    try:
        return Owner(**json.loads((folder / OWNER_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder (`.talkset`, which exists).

    The lock of a dead owner of this machine is taken over with a warning. Raises TalksetError not_writable that names
    the owner while another run holds the folder, or where it cannot be told whether a run on another machine is over.
    """
    lock = FileLock(folder / LOCK_NAME)
    with named_errors(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise _held(folder, read_owner(folder)) from error
    try:
        _check_note(folder)
        owner = Owner(socket.gethostname(), os.getpid(), process_start(os.getpid()) or "", time.time())
        write_atomic(folder / OWNER_NAME, (json.dumps(asdict(owner)) + "\n").encode())
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (folder / OWNER_NAME).unlink(missing_ok=True)
    finally:
        lock.release()


def _check_note(folder: Path) -> None:
    """Look at a note that was left though the lock is free: its owner is dead, or the lock does not reach it."""
    owner = read_owner(folder)
    if owner is None:
        return
    if owner.is_alive:
        raise _held(folder, owner)
    LOGGER.warning("taking over %s from a run that ended without notice (%s)", folder.parent, owner)


def _held(folder: Path, owner: Owner | None) -> TalksetError:
    message = f"another run is writing {folder.parent} ({owner or 'a process that is not known'})"
    if owner is None or owner.is_here:
        return TalksetError("not_writable", message, "Wait for it or stop it, then run again")
    release = shlex.join(["rm", str(folder / OWNER_NAME)])
    remedy = f"Wait for it or stop it. Where it is over (see `talkset status`), release the folder: {release}"
    return TalksetError("not_writable", message, remedy)
