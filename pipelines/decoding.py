"""Decoding of sources in a worker's child process: the functions of `reconstruct.video`, with limits on what they cost.

Besides their own errors they raise TalksetError: time_limit, memory_limit, crashed (`pipelines.child`), and too_large
for a picture beyond `max_megapixels`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.child import Limits, call_in_child, stream_from_child
from schemas.config import DecodeConfig
from schemas.errors import TalksetError
from schemas.types import VideoInfo

UInt8 = NDArray[np.uint8]
Value = TypeVar("Value")
TIME_SETTING: Final = "run.decode.stall_s and total_s"
MEMORY_SETTING: Final = "run.decode.memory_mb"


def probe(path: Path, config: DecodeConfig) -> VideoInfo:
    """What `reconstruct.video.probe` says of a file whose picture is not too large."""
    return call_in_child(f"opening {path}", limits_of(config), _probe, path, config.max_megapixels)


def frames(path: Path, start_us: int, end_us: int, config: DecodeConfig) -> Iterator[tuple[int, UInt8]]:
    """Yield (pts_us, rgb) of a span of the source clock, as `reconstruct.video.frames`."""
    with GuardedReader(path, config) as reader:
        yield from reader.frames(start_us, end_us)


def guarded(path: Path, config: DecodeConfig, function: Callable[..., Value], *args: Any, **kwargs: Any) -> Value:
    """Result of a function that decodes a file in one go, such as `read_audio`: `function(path, *args, **kwargs)`."""
    limits = limits_of(config)
    whole = dataclasses.replace(limits, seconds=limits.total_seconds)
    return call_in_child(f"decoding {path}", whole, function, path, *args, **kwargs)


def limits_of(config: DecodeConfig) -> Limits:
    """The limits of one call. A limit of 0 or less stands for none."""
    seconds, total = (value if value > 0 else math.inf for value in (config.stall_s, config.total_s))
    memory = round(config.memory_mb * 1e6) if config.memory_mb > 0 else 1 << 60
    return Limits(seconds, memory, total, (TIME_SETTING, MEMORY_SETTING))


class GuardedReader:
    """What `reconstruct.video.Reader` is to one pass over the frames; the file is opened with the first frame.

    `info` (unless it was given), `corrupt_packets`, `truncated` and `end_us` have the meaning they have there once all
    frames were taken.
    """

    info: VideoInfo

    def __init__(self, path: Path, config: DecodeConfig, info: VideoInfo | None = None) -> None:
        self.path = path
        self.config = config
        if info is not None:
            self.info = info
        self.corrupt_packets = 0
        self.truncated = False
        self.end_us = 0
        self._open: list[Generator[Any, None, Any]] = []

    def __enter__(self) -> GuardedReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._open.pop().close()

    def frames(
        self, start_us: int | None = None, end_us: int | None = None, size: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, UInt8]]:
        """Yield (pts_us, rgb) for every frame with start_us <= pts_us < end_us, as `Reader.frames`."""
        what, limits = f"decoding {self.path}", limits_of(self.config)
        largest = self.config.max_megapixels
        stream = stream_from_child(what, limits, _frames, self.path, start_us, end_us, size, largest)
        self._open.append(stream)
        self.info, self.corrupt_packets, self.truncated, self.end_us = yield from stream


def _probe(path: Path, max_megapixels: float) -> VideoInfo:
    from reconstruct.video import probe

    return _checked(path, probe(path), max_megapixels)


def _frames(
    path: Path, start_us: int | None, end_us: int | None, size: tuple[int, int] | None, max_megapixels: float
) -> Generator[tuple[int, UInt8], None, tuple[VideoInfo, int, bool, int]]:
    from reconstruct.video import Reader

    with Reader(path) as reader:
        _checked(path, reader.info, max_megapixels)
        yield from reader.frames(start_us, end_us, size)
        return reader.info, reader.corrupt_packets, reader.truncated, reader.end_us


def _checked(path: Path, info: VideoInfo, max_megapixels: float) -> VideoInfo:
    if max_megapixels > 0 and info.width * info.height > max_megapixels * 1e6:
        size = f"{info.width} x {info.height} pixels"
        message = f"the picture of {path} has {size}, run.decode.max_megapixels is {max_megapixels:g}"
        raise TalksetError("too_large", message, "Scale the video down, or raise the limit")
    return info
