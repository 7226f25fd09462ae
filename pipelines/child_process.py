"""What runs in the child process of a worker: it takes calls from a socket until the worker is gone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import resource
import select
import signal
import socket
import time
import traceback
from collections.abc import Generator
from typing import Any, Final

from pipelines import child_wire as wire

BATCH_BYTES: Final = 4 << 20
BATCH_ITEMS: Final = 16
BATCH_S: Final = 0.05
"""Items of a generator travel together up to so many bytes and so long, because each message costs about 0.1 ms."""


def main(connection_fd: int, lifeline_fd: int) -> None:
    """Serve calls; returns when the worker closes the connection."""
    _die_with_worker(lifeline_fd)
    worker = Worker(socket.socket(fileno=connection_fd))
    worker.sender.send(wire.VALUE, None)  # ready: what comes now counts against limits
    while True:
        try:
            kind, call = worker.receiver.receive()
            if kind in (wire.MORE, wire.STOP):
                continue  # for a generator that had ended by then
            _serve(worker, kind, call)
        except wire.ClosedError:
            return


class Worker:
    """The connection to the worker."""

    def __init__(self, connection: socket.socket) -> None:
        self.sender, self.receiver = wire.Sender(connection), wire.Receiver(connection)
        self._connection = connection

    def has_written(self) -> bool:
        """Whether a message is there."""
        return bool(select.select([self._connection], [], [], 0)[0])


def _serve(worker: Worker, kind: bytes, call: tuple[bytes, int]) -> None:
    """Make one call; what it raises goes back like a result."""
    pickled, memory_bytes = call
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        function, args, kwargs = pickle.loads(pickled)
        made = function(*args, **kwargs)
        value = made if kind == wire.CALL else _stream(worker, made)
        worker.sender.send(wire.VALUE, value, wire.RESULT_SLOT)
    except wire.ClosedError:
        raise
    except Exception as error:
        text = traceback.format_exc()
        worker.sender.send(wire.ERROR, (_portable(error), text), wire.RESULT_SLOT)


def _stream(worker: Worker, items: Generator[Any, None, Any]) -> Any:
    """Send what a generator yields until it ends or the worker wants no more; returns what the generator returns."""
    outlet = _Outlet(worker)
    with contextlib.closing(items):
        while True:
            try:
                item = next(items)
            except StopIteration as end:
                outlet.flush()
                return end.value
            except Exception:
                outlet.flush()  # what was yielded before comes before the error
                raise
            if not outlet.put(item):
                return None


class _Outlet:
    """Items on their way to the worker, in batches, never more than a window of batches ahead of it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._slot = 0
        self._credit = wire.WINDOW
        self._batch: list[Any] = []
        self._bytes = 0
        self._begun = time.monotonic()

    def put(self, item: Any) -> bool:
        """Take an item; False where the worker wants no more."""
        self._batch.append(item)
        self._bytes += sum(int(getattr(part, "nbytes", 0)) for part in (item if isinstance(item, tuple) else (item,)))
        full = self._bytes >= BATCH_BYTES or len(self._batch) >= BATCH_ITEMS
        return self.flush() if full or time.monotonic() - self._begun > BATCH_S else True

    def flush(self) -> bool:
        """Send what is there; False where the worker wants no more."""
        while self._credit == 0 or self._worker.has_written():
            if self._worker.receiver.receive()[0] == wire.STOP:
                return False
            self._credit += 1
        if self._batch:
            self._worker.sender.send(wire.BATCH, self._batch, self._slot)
            self._credit -= 1
            self._slot = (self._slot + 1) % wire.WINDOW
        self._batch, self._bytes, self._begun = [], 0, time.monotonic()
        return True


def _portable(error: Exception) -> Exception:
    """The exception, or where it cannot travel one of our own that names it."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # a class of any library may fail in any way here
        return RuntimeError(f"{type(error).__name__}: {error}")
    return RuntimeError(f"{type(error).__name__}: {error}")


def _die_with_worker(lifeline_fd: int) -> None:
    """Let the kernel end this process when the worker is gone, whatever native code is doing here.

    The worker holds the other end of a pipe and never writes. When it dies, however it dies, the kernel sends SIGIO,
    whose default action ends the process; unlike prctl(PR_SET_PDEATHSIG) this does not depend on the thread that
    started us. Source: fcntl(2), O_ASYNC.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC | os.O_NONBLOCK)
    if select.select([lifeline_fd], [], [], 0)[0]:
        os._exit(1)  # it was gone before the signal was set
