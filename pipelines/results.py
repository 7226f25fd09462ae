"""The store of results: one JSON file for each, with arrays and media beside it, under the key of what made it.

Payloads are in place and durable before the JSON file appears, so a result is there whole or not at all. There is no
pickle, no time stamp and no host name in it: the same result is the same bytes wherever it was made.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.errors import TalksetError
from schemas.files import HIDDEN_FOLDER, named_errors, sync_folder

LOGGER = logging.getLogger(__name__)
ARRAYS = ".npz"
Record = TypeVar("Record")


@dataclass(frozen=True)
class Result:
    """What a stage made."""

    value: Mapping[str, Any] = field(default_factory=dict)
    """JSON values."""
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    """Media by suffix (".mp4"): files in the scratch folder, moved into the store by `save`."""


@dataclass(frozen=True)
class Stored:
    """One line of `ResultStore.scan`."""

    unit: str
    stage: str
    key: str


class ResultStore:
    """Results of one output folder, `<root>/.talkset/results/<stage>/<key[:2]>/<key>.*`; safe for many processes."""

    def __init__(self, root: Path) -> None:
        self.folder = root / HIDDEN_FOLDER / "results"
        self.scratch_folder = root / HIDDEN_FOLDER / "tmp"

    def path(self, stage: str, key: str, suffix: str = ".json") -> Path:
        """Where a result or one of its payloads is, or would be."""
        return Path(f"{self.folder}/{stage}/{key[:2]}/{key}{suffix}")  # in one go: a run asks for millions

    def payload(self, stage: str, key: str, suffix: str) -> Path:
        """The file of a payload on this machine; it does not exist where the result has none of that suffix."""
        return self.path(stage, key, suffix)

    def value(self, stage: str, key: str) -> dict[str, Any] | None:
        """The JSON value of a result, or None where there is no whole one; a damaged one is removed with a warning."""
        found = self._found(stage, key)
        return None if found is None else found[0]

    def load(self, stage: str, key: str) -> Result:
        """A whole result.

        Raises TalksetError: missing_file when there is none, corrupt_data for arrays that cannot be read; the damaged
        result is removed, so that the next run makes it again.
        """
        found = self._found(stage, key)
        if found is None:
            raise TalksetError("missing_file", f"no result at {self.path(stage, key)}", "Run the same command again")
        value, payloads = found
        if ARRAYS not in payloads:
            return Result(value)
        path = self.payload(stage, key, ARRAYS)
        try:
            with np.load(path, allow_pickle=False) as stored:
                return Result(value, {name: stored[name] for name in stored.files})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise self._damaged(stage, key, f"{path} is damaged ({error})") from error

    def save(self, stage: str, key: str, unit: str, result: Result) -> None:
        """Make a result durable; raises TalksetError disk_full or not_writable."""
        target = self.path(stage, key)
        with named_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            payloads = sorted(result.files)
            for suffix in payloads:
                _sync(result.files[suffix])
                os.replace(result.files[suffix], self.path(stage, key, suffix))
            if result.arrays:
                payloads.append(ARRAYS)
                self._write(self.path(stage, key, ARRAYS), _npz(result.arrays))
            sync_folder(target.parent)
            meta = {"unit": unit, "stage": stage, "key": key, "payloads": payloads, "value": dict(result.value)}
            self._write(target, (json.dumps(meta, sort_keys=True, ensure_ascii=False) + "\n").encode())
            sync_folder(target.parent)

    def forget(self, stage: str, key: str) -> None:
        """Remove a result; its payloads are overwritten when it is made again."""
        self.path(stage, key).unlink(missing_ok=True)

    def scan(self) -> Iterator[Stored]:
        """Every result in the store, in a fixed order."""
        for path in sorted(self.folder.glob("*/??/*.json")):
            try:
                stored = json.loads(path.read_bytes())
                yield Stored(stored["unit"], stored["stage"], stored["key"])
            except (ValueError, KeyError, TypeError) as error:
                LOGGER.warning("%s is damaged (%s) and is left out", path, error)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A fresh folder on the store's own file system, gone afterwards."""
        with named_errors(self.scratch_folder):
            self.scratch_folder.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self.scratch_folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def clear_scratch(self) -> None:
        """Remove what a killed run left behind; only while no other run works on the folder."""
        shutil.rmtree(self.scratch_folder, ignore_errors=True)

    def _found(self, stage: str, key: str) -> tuple[dict[str, Any], list[str]] | None:
        """JSON value and payloads of a whole result."""
        path = self.path(stage, key)
        try:
            stored = json.loads(path.read_bytes())
            value, payloads = dict(stored["value"]), list(stored["payloads"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            LOGGER.warning("%s is damaged (%s) and will be made again", path, error)
            self.forget(stage, key)
            return None
        if not self._complete(stage, key, payloads):
            LOGGER.warning("%s has lost a payload and will be made again", path)
            self.forget(stage, key)
            return None
        return value, payloads

    def _damaged(self, stage: str, key: str, message: str) -> TalksetError:
        self.forget(stage, key)
        remedy = "Run the same command again to make it anew"
        return TalksetError("corrupt_data", f"the stored result {message} and was removed", remedy)

    def _complete(self, stage: str, key: str, payloads: Sequence[str]) -> bool:
        """Whether all payloads of a result are there."""
        return all(self.path(stage, key, suffix).is_file() for suffix in payloads)

    def _write(self, path: Path, data: bytes) -> None:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def pack(record: Any) -> Result:
    """A flat dataclass of arrays and JSON scalars as a result."""
    arrays = {name: value for name, value in vars(record).items() if isinstance(value, np.ndarray)}
    return Result({name: value for name, value in vars(record).items() if name not in arrays}, arrays)


def unpack(kind: type[Record], result: Result) -> Record:
    """The dataclass that `pack` was given."""
    return kind(**result.value, **result.arrays)


def _npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **{name: arrays[name] for name in sorted(arrays)})  # numpy dates its entries 1980-01-01
    return buffer.getvalue()


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())
