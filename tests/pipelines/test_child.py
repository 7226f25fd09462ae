"""Functions in a child process: results, errors, limits, crashes, and the end of either side."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import child_functions as functions
import numpy as np
import pytest

from pipelines import child as child_module
from pipelines.child import Child, ChildTracebackError, Limits, call_in_child, close_children, stream_from_child
from schemas.errors import TalksetError, UsageError

LIMITS = Limits(20.0, 800_000_000)
SHORT = Limits(0.4, 800_000_000)
SMALL = Limits(20.0, 300_000_000)
FOLDERS = os.pathsep.join(str(Path(__file__).resolve().parents[up]) for up in (1, 2))


@pytest.fixture(autouse=True, scope="module")
def no_child_stays() -> Iterator[None]:
    yield
    close_children()


def reason(limits: Limits, function: object, *args: object) -> TalksetError:
    with pytest.raises(TalksetError) as caught:
        call_in_child("the work", limits, function, *args)  # type: ignore[arg-type]
    return caught.value


def assert_ended(pid: int) -> None:
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and _state(pid) != "Z":
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def test_calls_are_answered_by_one_process_that_stays() -> None:
    pids = {call_in_child("the work", LIMITS, functions.pid) for _ in range(5)}
    assert len(pids) == 1
    assert pids != {os.getpid()}
    assert [call_in_child("the work", LIMITS, functions.double, value) for value in range(5)] == [0, 2, 4, 6, 8]


def test_a_call_costs_less_than_two_milliseconds() -> None:
    times = []
    for value in range(200):
        started = time.perf_counter()
        call_in_child("the work", LIMITS, functions.double, value)
        times.append(time.perf_counter() - started)
    assert np.median(times) < 2e-3


def test_results_come_back_as_they_were() -> None:
    found, truth = call_in_child("the work", LIMITS, functions.shapes), functions.shapes()
    assert found.keys() == truth.keys()
    for name, value in truth.items():
        np.testing.assert_array_equal(found[name], value)
        assert getattr(found[name], "dtype", None) == getattr(value, "dtype", None)


def test_arrays_of_one_call_are_not_changed_by_the_next() -> None:
    pictures = [call_in_child("the work", LIMITS, functions.picture, 400, 400, value) for value in range(4)]
    assert [(int(rgb.min()), int(rgb.max())) for rgb in pictures] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    pictures[0][:] = 9  # it is the caller's own
    assert pictures[1].max() == 1


@pytest.mark.parametrize(("count", "side"), [(0, 10), (1, 10), (500, 10), (40, 700), (3, 2000)])
def test_a_stream_gives_every_item_once_and_the_result(count: int, side: int) -> None:
    stream = stream_from_child("the work", LIMITS, functions.numbered, count, side, side)
    results: list[str] = []

    def with_result() -> Iterator[tuple[int, Any]]:
        results.append((yield from stream))

    kept = list(with_result())
    assert results == [f"{count} pictures"]
    assert [number for number, _ in kept] == list(range(count))
    assert all(rgb.shape == (side, side, 3) and (rgb == number % 256).all() for number, rgb in kept)


def test_a_stream_that_is_left_ends_and_the_process_stays(tmp_path: Path) -> None:
    before = call_in_child("the work", LIMITS, functions.pid)
    marker = tmp_path / "made"
    stream = stream_from_child("the work", LIMITS, functions.endless, marker)
    for _ in range(3):
        next(stream)
    stream.close()
    made, closed = marker.read_text().split(" ", 1)
    assert closed == "and closed"
    assert int(made) <= 20  # a window of batches ahead, not without end
    assert call_in_child("the work", LIMITS, functions.pid) == before


def test_a_call_beside_an_open_stream_has_a_process_of_its_own() -> None:
    stream = stream_from_child("the work", LIMITS, functions.numbered, 100, 300, 300)
    next(stream)
    assert call_in_child("the work", LIMITS, functions.double, 4) == 8
    assert sum(1 for _ in stream) == 99


def test_threads_have_processes_of_their_own() -> None:
    found: list[int] = []

    def work() -> None:
        for value in range(20):
            found.append(call_in_child("the work", LIMITS, functions.double, value))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted(2 * value for value in range(20) for _ in range(3))


@pytest.mark.parametrize(
    ("name", "kind"), [("key", KeyError), ("own", functions.OwnError), ("talkset", TalksetError), ("pipe", OSError)]
)
def test_an_exception_comes_with_its_class_and_where_it_was(name: str, kind: type[Exception]) -> None:
    before = call_in_child("the work", LIMITS, functions.pid)
    with pytest.raises(kind) as caught:
        call_in_child("the work", LIMITS, functions.fail, name)
    with pytest.raises(kind) as truth:
        functions.fail(name)
    assert type(caught.value) is type(truth.value)
    assert caught.value.args == truth.value.args
    assert isinstance(caught.value.__cause__, ChildTracebackError)
    assert "in fail" in str(caught.value.__cause__)
    assert call_in_child("the work", LIMITS, functions.pid) == before


def test_what_cannot_travel_is_told() -> None:
    with pytest.raises(RuntimeError, match="UnpicklableError"):
        call_in_child("the work", LIMITS, functions.fail, "unpicklable")
    with pytest.raises(TypeError, match="pickle"):
        call_in_child("the work", LIMITS, functions.unpicklable)
    assert call_in_child("the work", LIMITS, functions.double, 1) == 2


def test_an_exception_of_a_stream_comes_after_its_items() -> None:
    stream = stream_from_child("the work", LIMITS, functions.fail_after, 3)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(KeyError, match="after"):
        list(stream)


@pytest.mark.parametrize(("function", "args"), [(functions.sleep, (60,)), (functions.hang_in_native_code, ())])
def test_a_hanging_function_ends_at_its_time(function: object, args: tuple[object, ...]) -> None:
    call_in_child("the work", LIMITS, functions.double, 1)
    pid = call_in_child("the work", LIMITS, functions.pid)
    started = time.monotonic()
    error = reason(SHORT, function, *args)
    assert time.monotonic() - started < 2
    assert error.reason == "time_limit"
    assert error.message == "the work took more than 0.4 s"
    assert_ended(pid)
    assert call_in_child("the work", LIMITS, functions.double, 1) == 2


def test_a_stream_has_a_limit_for_its_next_item_and_one_for_all() -> None:
    with pytest.raises(TalksetError, match=r"nothing for 0\.4 s") as caught:
        list(stream_from_child("the work", SHORT, functions.then_hang, 100))
    assert caught.value.reason == "time_limit"
    assert len(list(stream_from_child("the work", SHORT, functions.slow, 8, 0.1))) == 8
    with pytest.raises(TalksetError) as caught:
        list(stream_from_child("the work", Limits(20, 800_000_000, 0.4), functions.slow, 80, 0.1))
    assert caught.value.reason == "time_limit"


@pytest.mark.parametrize(
    ("function", "size"), [(functions.touch, 2.0), (functions.touch_slowly, 2.0), (functions.touch, 1000.0)]
)
def test_a_memory_bomb_ends_at_its_limit(function: object, size: float) -> None:
    started = time.monotonic()
    error = reason(SMALL, function, size)
    assert (error.reason, time.monotonic() - started < 5) == ("memory_limit", True)
    assert "more than 300 MB" in error.message
    assert call_in_child("the work", SMALL, functions.double, 1) == 2


def test_memory_of_a_stream_is_limited() -> None:
    with pytest.raises(TalksetError) as caught:
        list(stream_from_child("the work", SMALL, functions.then_touch, 2.0))
    assert caught.value.reason == "memory_limit"


def test_a_process_that_has_grown_is_not_kept() -> None:
    child, limits = Child(), Limits(20.0, 250_000_000)
    pids = []
    for side in (100, 6000, 100):
        assert child.call("the work", limits, functions.picture, side, 5600, 1).shape == (side, 5600, 3)
        pids.append(child.pid)
    assert pids[0] is not None
    assert pids[1] is None
    assert pids[2] is not None
    child.close()


@pytest.mark.parametrize(
    ("function", "args", "told"),
    [
        (functions.segfault, (), "crashed with SIGSEGV"),
        (functions.abort, (), "crashed with SIGABRT"),
        (functions.kill_self, (), "crashed with SIGKILL"),
        (functions.leave, (3,), "ended its process with status 3"),
    ],
)
def test_a_crash_is_an_error_that_says_how(function: object, args: tuple[object, ...], told: str) -> None:
    error = reason(LIMITS, function, *args)
    assert error.reason == "crashed"
    assert error.message.startswith(f"the work {told}")
    assert call_in_child("the work", LIMITS, functions.double, 1) == 2


def test_a_process_that_ended_while_idle_is_replaced() -> None:
    pid = call_in_child("the work", LIMITS, functions.pid)
    os.kill(pid, signal.SIGKILL)
    assert_ended(pid)
    assert call_in_child("the work", LIMITS, functions.pid) != pid


def test_a_stream_that_does_not_end_when_told_ends_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "STOP_S", 0.2)
    child = Child()
    stream = child.stream("the work", LIMITS, functions.then_hang, 16)
    assert next(stream) == 0
    stream.close()
    assert child.pid is None


def test_output_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_module, "OUTPUT_BYTES", 1000)
    child = Child()
    for _ in range(5):
        child.call("the work", LIMITS, functions.say, "x" * 600)
        assert os.fstat(child._output).st_size < 1300
    child.close()


def test_what_a_crashing_process_said_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    child = Child()
    child.call("the work", LIMITS, functions.say, "moov atom not found")
    with caplog.at_level(logging.WARNING), pytest.raises(TalksetError):
        child.call("the work", LIMITS, functions.segfault)
    assert "moov atom not found" in caplog.text


def test_a_function_of_the_main_module_is_refused() -> None:
    function = types.FunctionType(functions.pid.__code__, {"__name__": "__main__"}, "pid")
    with pytest.raises(UsageError, match="main module"):
        call_in_child("the work", LIMITS, function)


PARENT = """
import sys, threading
import child_functions as functions
from pipelines.child import Child, Limits

child = Child()
started = []
def start():
    started.append(child.call("the work", Limits(60, 10**9), functions.pid))
thread = threading.Thread(target=start)  # a thread that ends must not take the child with it
thread.start()
thread.join()
assert child.call("the work", Limits(60, 10**9), functions.pid) == started[0]
print(started[0], flush=True)
if sys.argv[1] == "idle":
    sys.stdin.read()
child.call("the work", Limits(60, 10**9), functions.hang_in_native_code)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_dies_with_its_worker(state: str, how: signal.Signals) -> None:
    environment = {**os.environ, "PYTHONPATH": FOLDERS}
    command = [sys.executable, "-c", PARENT, state]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        if state == "busy":
            time.sleep(0.1)
        parent.send_signal(how)
        parent.wait()
        assert_ended(pid)


def test_a_child_ends_with_a_worker_that_ends_well() -> None:
    program = (
        "import child_functions as f\nfrom pipelines.child import Limits, call_in_child\n"
        "print(call_in_child('x', Limits(60, 10**9), f.pid))"
    )
    environment = {**os.environ, "PYTHONPATH": FOLDERS}
    made = subprocess.run(
        [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, check=True, timeout=30
    )
    assert_ended(int(made.stdout))
