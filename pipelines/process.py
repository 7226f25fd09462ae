"""What a worker process is set to before it works: one thread, and memory that stays with the process."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from schemas.errors import TalksetError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt(3)."""
KEEP_BYTES = (1 << 31) - 1
LARGE_BYTES = 1 << 30


def settle_process() -> None:
    """Keep BLAS, torch and OpenCV to one thread, and freed memory in the process.

    One thread gives the same floats whatever the machine and no fight over its cores. By default glibc maps every block
    of 128 KB and more anew, so that each tensor of a fit pays for its pages again: 15 % of a fit.
    """
    import cv2
    import scipy.linalg  # noqa: F401 - loads the BLAS libraries, so that the limit reaches them
    import torch
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
            mallopt(M_TRIM_THRESHOLD, KEEP_BYTES)


def cpu_seconds() -> float:
    """CPU time of this process and of its children, ended or (on Linux) running: decoding happens in one that stays."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    return total + sum(_cpu_of(pid) for pid in _children())


def process_start(pid: int) -> str | None:
    """When a process of this machine began, as text that no other process with its number shares; None without one."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.is_file():
        try:
            return f"{boot.read_text().strip()} {_stat_of(pid)[19]}"
        except (OSError, IndexError):
            return None
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise TalksetError time_limit in the main thread after so many seconds, at the next step of Python."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise over_time(seconds)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def over_time(seconds: float) -> TalksetError:
    """The error of an item that took longer than its stages may."""
    return TalksetError("time_limit", f"it took longer than {seconds:g} s", "Raise run.time_scale")


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, which schedulers send before they kill, end the work as Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise KeyboardInterrupt("SIGTERM")

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _children() -> list[int]:
    found: list[int] = []
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, listed.read_text().split())
    return found


def _cpu_of(pid: int) -> float:
    """CPU time of a process and of its own ended children; 0 where it is gone."""
    try:
        return sum(map(int, _stat_of(pid)[11:15])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


def _stat_of(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the third (state) on: the second may hold spaces. Source: proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
