"""Functions that behave badly, for the tests of child processes; a child imports them by name."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.errors import TalksetError


def double(value: int) -> int:
    return 2 * value


def pid() -> int:
    return os.getpid()


def picture(height: int, width: int, value: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def shapes() -> dict[str, Any]:
    """Arrays of every kind that may come back."""
    whole = np.arange(60_000, dtype=np.float64).reshape(100, 600)
    return {
        "whole": whole,
        "transposed": whole.T,
        "strided": whole[::2, ::3],
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.float32(1.5),
        "large": np.arange(3_000_000, dtype=np.int32),
        "text": "x" * 100_000,
        "nothing": None,
    }


def numbered(count: int, height: int, width: int) -> Generator[tuple[int, NDArray[np.uint8]], None, str]:
    """Pictures that hold their number, all in the same memory."""
    rgb = np.zeros((height, width, 3), np.uint8)
    for number in range(count):
        rgb = np.full_like(rgb, number % 256)
        yield number, rgb
    return f"{count} pictures"


def endless(marker: Path) -> Generator[NDArray[np.uint8], None, None]:
    """Pictures without end; the file tells how many were made, and that the end was seen."""
    made = 0
    try:
        while True:
            made += 1
            marker.write_text(str(made))
            yield np.full((1000, 1000), made % 256, np.uint8)
    finally:
        marker.write_text(f"{made} and closed")


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def then_hang(count: int) -> Generator[int, None, None]:
    yield from range(count)
    time.sleep(60)


def slow(count: int, seconds: float) -> Generator[int, None, None]:
    for number in range(count):
        time.sleep(seconds)
        yield number


def hang_in_native_code() -> None:
    """Never gives the interpreter back, so no Python thread or handler can run."""
    ctypes.PyDLL(None).pause()


def touch(gigabytes: float) -> int:
    return int(np.ones(int(gigabytes * 1e9), np.uint8).size)


def touch_slowly(gigabytes: float) -> int:
    blocks = [np.ones(10_000_000, np.uint8) for _ in range(int(gigabytes * 100))]
    return len(blocks)


def then_touch(gigabytes: float) -> Generator[int, None, None]:
    yield 1
    touch_slowly(gigabytes)
    yield 2


def segfault() -> None:
    ctypes.string_at(0)


def abort() -> None:
    os.abort()


def leave(status: int) -> None:
    os._exit(status)


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail(name: str) -> None:
    errors: dict[str, Exception] = {
        "talkset": TalksetError("decode_error", "a.mp4 is bad", "Replace it"),
        "key": KeyError("k"),
        "pipe": BrokenPipeError("not the child's own pipe"),
        "own": OwnError(1, "two"),
        "unpicklable": UnpicklableError(threading.Lock()),
    }
    raise errors[name]


class OwnError(Exception):
    """An error that pickle can rebuild."""


class UnpicklableError(Exception):
    """An error that pickle cannot take."""


def fail_after(count: int) -> Generator[int, None, None]:
    yield from range(count)
    raise KeyError("after")


def unpicklable() -> Any:
    return threading.Lock()


def say(text: str) -> None:
    print(text, flush=True)
