"""Native code at arm's length: functions run in a child process with limits on time and memory.

A video file may make its decoder hang, crash, or fill the memory. In a child this costs the one file, with a reason
that says which: time_limit, memory_limit, or crashed with the signal. A worker keeps its child from call to call, so a
call costs a fraction of a millisecond; after a failure the next call starts a fresh one (a third of a second).

The child is a new interpreter (posix_spawn and exec, no fork), so it is safe in processes with threads, in Ray actors
and in scripts: unlike with multiprocessing's spawn the worker's `__main__` is not imported again. It isolates faults;
it is no sandbox against a file that takes over the decoder.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import json
import logging
import math
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from pipelines import child_wire as wire
from schemas.errors import TalksetError, UsageError

LOGGER = logging.getLogger(__name__)
TICK_S: Final = 0.02
"""How often a child that is waited for is looked at: at most about 50 MB can be written meanwhile."""
STOP_S: Final = 5.0
"""How long a generator that is no longer wanted may take to end; then its process is ended."""
OUTPUT_BYTES: Final = 1 << 20
"""What a child may have written to its outputs before they are emptied; they are only read after a crash."""
BACKSTOP_BYTES: Final = 4 << 30
"""The kernel refuses memory so far beyond the limit. libav takes a refusal for damaged data, so it must come after the
looks, and its largest picture has 2 GiB."""
BOOT: Final = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]);"
    "from pipelines.child_process import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
Value = TypeVar("Value")


@dataclass(frozen=True)
class Limits:
    """What a call may take; beyond it the child is killed."""

    seconds: float
    """Until the result is there; of a stream, until the next items are there."""
    memory_bytes: int
    """Resident memory of the child, about 90 MB of which are its own."""
    total_seconds: float = math.inf
    """Of a stream, from its start to its end, whoever is slow."""
    settings: tuple[str, str] = ("its time limit", "its memory limit")
    """What to raise where a file needs more, for messages."""


START_LIMITS: Final = Limits(120.0, 1 << 40)


class ChildTracebackError(Exception):
    """Where in the child an error came from: the cause of an error that a child passed on."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def call_in_child(subject: str, limits: Limits, function: Callable[..., Value], *args: Any, **kwargs: Any) -> Value:
    """Call a function in this worker's child process and return its result; `subject` says in errors what was done.

    The function, its arguments and its result are pickled (the function by name, so it must be importable); arrays
    come back through shared memory. An exception is raised here with its class, a `ChildTracebackError` as cause.
    Raises TalksetError: time_limit, memory_limit, crashed.
    """
    with _leased() as child:
        return child.call(subject, limits, function, *args, **kwargs)


def stream_from_child(
    subject: str, limits: Limits, function: Callable[..., Generator[Any, None, Value]], *args: Any, **kwargs: Any
) -> Generator[Any, None, Value]:
    """Yield what a generator function yields in this worker's child process; returns what it returns.

    The child works a few megabytes ahead. Closing the generator early ends the one in the child.
    Raises as `call_in_child`.
    """
    with _leased() as child:
        return (yield from child.stream(subject, limits, function, *args, **kwargs))


class Child:
    """One child process; not for several threads at a time. It starts with the first call and after a failure."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket
        self._sender: wire.Sender
        self._receiver: wire.Receiver
        self._lifeline: int
        self._output: int
        self._statm: int
        self._looked = 0.0
        self.owner = os.getpid()

    @property
    def pid(self) -> int | None:
        """Of the running process, None without one."""
        return None if self._process is None else self._process.pid

    def call(self, subject: str, limits: Limits, function: Callable[..., Value], *args: Any, **kwargs: Any) -> Value:
        """See `call_in_child`."""
        with self._guarded(subject):
            self._send(wire.CALL, limits, function, args, kwargs)
            seconds = min(limits.seconds, limits.total_seconds)
            kind, value = self._receive(subject, limits, time.monotonic() + seconds, f"took more than {seconds:g} s")
        if kind == wire.ERROR:
            raise _passed_on(subject, limits, *value)
        self._retire(limits)
        return cast("Value", value)

    def stream(
        self, subject: str, limits: Limits, function: Callable[..., Generator[Any, None, Value]], *args: Any, **kw: Any
    ) -> Generator[Any, None, Value]:
        """See `stream_from_child`."""
        with self._guarded(subject):
            self._send(wire.STREAM, limits, function, args, kw)
            end = time.monotonic() + limits.total_seconds
        while True:
            with self._guarded(subject):
                next_ = time.monotonic() + limits.seconds
                late = f"gave nothing for {limits.seconds:g} s"
                if end < next_:
                    next_, late = end, f"took more than {limits.total_seconds:g} s"
                kind, value = self._receive(subject, limits, next_, late)
            if kind == wire.ERROR:
                raise _passed_on(subject, limits, *value)
            if kind == wire.VALUE:
                self._retire(limits)
                return cast("Value", value)
            try:
                yield from value
            except BaseException:
                with contextlib.suppress(TalksetError), self._guarded(subject):
                    self._stop(subject, limits)
                raise
            with self._guarded(subject):
                self._sender.send(wire.MORE, None)

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        process, self._process = self._process, None
        process.kill()
        self._connection.close()
        for descriptor in (self._lifeline, self._output, self._statm):
            os.close(descriptor)
        process.wait()

    def resident_bytes(self) -> int:
        """Memory of the process that is in use; 0 when it has ended."""
        try:
            return int(os.pread(self._statm, 200, 0).split()[1]) * PAGE_BYTES
        except (OSError, IndexError):
            return 0

    def _send(
        self, kind: bytes, limits: Limits, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if getattr(function, "__module__", None) == "__main__":
            raise UsageError(f"{function!r} is in the main module", "Put it into a module that can be imported")
        pickled = pickle.dumps((function, args, kwargs), protocol=5)
        if self._process is not None and self._process.poll() is not None:
            self.close()  # it ended while it had nothing to do: not the fault of what comes now
        if self._process is None:
            self._start()
            late = f"took more than {START_LIMITS.seconds:g} s"
            self._receive("starting a child", START_LIMITS, time.monotonic() + START_LIMITS.seconds, late)
        self._sender.send(kind, (pickled, limits.memory_bytes + BACKSTOP_BYTES))

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        hold, self._lifeline = os.pipe()
        self._output = os.memfd_create("talkset-output")
        fcntl.fcntl(self._output, fcntl.F_SETFL, fcntl.fcntl(self._output, fcntl.F_GETFL) | os.O_APPEND)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, json.dumps(sys.path), str(theirs.fileno()), str(hold)],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=(theirs.fileno(), hold),
                start_new_session=True,  # Ctrl-C is for the worker, which then ends the child
            )
        except BaseException:
            ours.close()
            os.close(self._lifeline)
            os.close(self._output)
            raise
        finally:
            theirs.close()
            os.close(hold)
        self._connection = ours
        self._sender, self._receiver = wire.Sender(ours), wire.Receiver(ours)
        self._statm = os.open(f"/proc/{self._process.pid}/statm", os.O_RDONLY)

    def _receive(self, subject: str, limits: Limits, deadline: float, late: str) -> tuple[bytes, Any]:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)

        def wait() -> None:
            while True:
                ready = poll.poll(0) or poll.poll(1000 * TICK_S)
                now = time.monotonic()
                if not ready or now - self._looked > TICK_S:
                    self._looked = now
                    self._check_memory(subject, limits)
                if ready:
                    return
                if now > deadline:
                    remedy = f"Raise {limits.settings[0]}, or drop the file"
                    raise TalksetError("time_limit", f"{subject} {late}", remedy)

        return self._receiver.receive(wait)

    def _check_memory(self, subject: str, limits: Limits) -> None:
        if self.resident_bytes() > limits.memory_bytes:
            raise _too_much_memory(subject, limits)

    def _retire(self, limits: Limits) -> None:
        """End a process that has kept so much memory that the next call might be blamed for it."""
        if os.fstat(self._output).st_size > OUTPUT_BYTES:
            os.ftruncate(self._output, 0)
        if 2 * self.resident_bytes() > limits.memory_bytes:
            self.close()

    def _stop(self, subject: str, limits: Limits) -> None:
        """End the running generator and throw away what is on its way."""
        self._sender.send(wire.STOP, None)
        deadline = time.monotonic() + min(limits.seconds, STOP_S)
        while self._receive(subject, limits, deadline, "does not end")[0] == wire.BATCH:
            pass

    @contextlib.contextmanager
    def _guarded(self, subject: str) -> Iterator[None]:
        """End the process after anything that leaves it in an unknown state; name how it ended where it did."""
        try:
            yield
        except (pickle.PicklingError, UsageError):
            raise
        except wire.ClosedError:
            raise self._crashed(subject) from None
        except BaseException:
            self.close()
            raise

    def _crashed(self, subject: str) -> TalksetError:
        process = self._process
        if process is None:
            return TalksetError("crashed", f"{subject} ended its process")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        code = process.poll()
        said = os.pread(self._output, 4000, max(0, os.fstat(self._output).st_size - 4000)).decode(errors="replace")
        self.close()
        if said:
            LOGGER.warning("the process that failed over %s said: %s", subject, said)
        if code is not None and code < 0:
            how = f"crashed with {signal.Signals(-code).name}"
            if -code == signal.SIGKILL:
                how += " (killed from outside, most likely by the system for want of memory)"
        else:
            how = f"ended its process with status {code}"
        return TalksetError("crashed", f"{subject} {how}", "Play the file with ffplay to see the damage, or drop it")


def _passed_on(subject: str, limits: Limits, error: Exception, text: str) -> Exception:
    if isinstance(error, MemoryError):
        error = _too_much_memory(subject, limits)
    error.__cause__ = ChildTracebackError(text)
    return error


def _too_much_memory(subject: str, limits: Limits) -> TalksetError:
    message = f"{subject} needs more than {limits.memory_bytes / 1e6:.0f} MB"
    return TalksetError("memory_limit", message, f"Raise {limits.settings[1]}, or drop the file")


_IDLE: list[Child] = []
_LOCK: Final = threading.Lock()


@contextlib.contextmanager
def _leased() -> Iterator[Child]:
    """An idle child of this process, or a new one; kept for the next call."""
    with _LOCK:
        _IDLE[:] = [child for child in _IDLE if child.owner == os.getpid()]  # a fork's copies are not its own
        child = _IDLE.pop() if _IDLE else Child()
    try:
        yield child
    finally:
        if child.owner == os.getpid():
            with _LOCK:
                _IDLE.append(child)


def idle_children() -> list[Child]:
    """The running child processes of this process that are not at work."""
    with _LOCK:
        return [child for child in _IDLE if child.owner == os.getpid() and child.pid is not None]


@atexit.register
def close_children() -> None:
    """End the idle child processes of this process; the next call starts a new one."""
    with _LOCK:
        while _IDLE:
            child = _IDLE.pop()
            if child.owner == os.getpid():
                child.close()
