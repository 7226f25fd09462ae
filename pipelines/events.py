"""The record of runs, `.talkset/events.jsonl`: what happened when, one JSON object a line, written as it happens.

Nothing is decided by it: results and ledger say what is done, and the data set does not depend on it. A line that a
killed run left half written is passed over. Every line has `event`, `run` and `time` (seconds since 1970):

run_start  host, pid, command, folder (where it was given), config (digest), versions, sources, workers, engine, retry
phase      phase, items: so many items are now worked on
start      phase, unit, attempt, stage: given to a worker, which begins at that stage
step       unit, stage, outcome (done, rejected, failed), reason, seconds (wall), cpu_seconds, ended, host, attempt
end        phase, unit, attempt, outcome, and retry_s where it is tried again after so many seconds
run_end    outcome (finished, stopped, failed), message, seconds, accepted, rejected, failed
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from schemas.config import RetryConfig
from schemas.files import HIDDEN_FOLDER, named_errors

EVENTS_NAME: Final = "events.jsonl"


class EventLog:
    """Appends the events of one run; use it as a context manager. Raises TalksetError disk_full or not_writable."""

    def __init__(self, root: Path) -> None:
        self.run = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(3)}"
        self._path = events_path(root)
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> EventLog:
        with named_errors(self._path):
            self._stream = self._path.open("ab")
            if self._stream.tell() and not _ends_with_newline(self._path):
                self._stream.write(b"\n")  # what a killed run began stays a line of its own
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def write(self, event: str, **values: Any) -> None:
        """Append an event and hand it to the operating system."""
        if self._stream is None:
            return
        line = {"event": event, "run": self.run, "time": round(time.time(), 3), **values}
        with named_errors(self._path):
            self._stream.write((json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n").encode())
            self._stream.flush()


class EventReader:
    """Reads the events of a folder as they come: each call of `new` gives the whole lines since the last one."""

    def __init__(self, root: Path) -> None:
        self._path = events_path(root)
        self._offset = 0

    def new(self) -> Iterator[dict[str, Any]]:
        """Events that were written since; lines that are no events are passed over."""
        try:
            stream = self._path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            if os.fstat(stream.fileno()).st_size < self._offset:
                self._offset = 0  # the file was replaced
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                event = _event(line)
                if event is not None:
                    yield event


def events_path(root: Path) -> Path:
    """Of the record of an output folder."""
    return root / HIDDEN_FOLDER / EVENTS_NAME


def resume_command(start: Mapping[str, Any]) -> str:
    """The shell command that goes on with a run, from its `run_start` event; empty where it was not a command."""
    command = start.get("command")
    if not command or not isinstance(command, list):
        return ""
    text, folder = shlex.join(map(str, command)), str(start.get("folder", ""))
    return f"cd {shlex.quote(folder)} && {text}" if folder and folder != str(Path.cwd()) else text


def last_start(root: Path) -> dict[str, Any]:
    """The `run_start` event of the last run; empty where there is none."""
    last: dict[str, Any] = {}
    for event in EventReader(root).new():
        if event["event"] == "run_start":
            last = event
    return last


def retry_settings(start: Mapping[str, Any]) -> RetryConfig:
    """`run.retry` of a run, from its `run_start` event; the defaults where the event does not say."""
    try:
        return RetryConfig(**start["retry"])
    except (KeyError, TypeError):
        return RetryConfig()


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if isinstance(value, dict) and isinstance(value.get("event"), str) and isinstance(value.get("run"), str):
        return value
    return None


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
