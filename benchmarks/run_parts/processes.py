"""The workers of a run and their memory, as /proc tells them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

WORKER: Final = "ray::_Host"
"""How Ray names the processes of the engine's actors."""


def workers_of(pid: int) -> list[int]:
    """Processes of Ray's actors below a driver."""
    parents = _parents()
    return [worker for worker, (_, name) in parents.items() if name.startswith(WORKER) and _below(worker, pid, parents)]


def resident_mb(pid: int) -> float:
    """Resident memory of a process; 0 where it is gone."""
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return 0.0


def tree_mb(pid: int) -> float:
    """Resident memory of a process and all below it."""
    parents = _parents()
    return sum(resident_mb(other) for other in parents if other == pid or _below(other, pid, parents))


def _below(pid: int, ancestor: int, parents: dict[int, tuple[int, str]]) -> bool:
    while pid in parents:
        pid = parents[pid][0]
        if pid == ancestor:
            return True
    return False


def _parents() -> dict[int, tuple[int, str]]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                found[int(folder.name)] = (int(stat[1]), (folder / "cmdline").read_bytes().decode("utf-8", "replace"))
    return found
