"""Results on an object store, so that workers need no common file system; copies stay here."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from pipelines.download.uris import shown
from pipelines.lock import OWNER_NAME
from pipelines.results import ARRAYS, Result, ResultStore
from schemas.files import HIDDEN_FOLDER
from schemas.remote_folder import Folder, remote_folder

THREADS: Final = 16
BLOCK_BYTES: Final = 4 << 20


def open_results(root: Path, url: str | None) -> ResultStore:
    """The results of an output folder: inside it, or at `url` (`run.results`). Raises UsageError for an unknown URL."""
    return ResultStore(root) if url is None else RemoteResults(root, url)


class RemoteResults(ResultStore):
    """As `ResultStore`, at `<url>/<stage>/<key[:2]>/<key>.*`, with a copy here of what was read or made.

    Payloads arrive before the JSON file that names them, so a result is there whole or not at all, as on a disk. The
    copy lies in the output folder where that is in reach (the driver's machine, or a shared file system), else in the
    user's cache. Raises TalksetError not_writable where the store fails for good, after attempts.
    """

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(_place_of_copies(root, url))
        self._url = url
        self._remote = _opened(url)

    def payload(self, stage: str, key: str, suffix: str) -> Path:
        """The file of a payload, fetched where it is not here. Raises TalksetError corrupt_data where it is lost."""
        path = self.path(stage, key, suffix)
        if not path.is_file() and not self._remote.fetch(_name(stage, key, suffix), path):
            raise self._damaged(stage, key, f"{_name(stage, key, suffix)} at {self._remote.shown} is gone")
        return path

    def save(self, stage: str, key: str, unit: str, result: Result) -> None:
        """Make a result durable here, then there."""
        super().save(stage, key, unit, result)
        for suffix in [*sorted(result.files), *([ARRAYS] if result.arrays else [])]:
            self._remote.send(_name(stage, key, suffix), functools.partial(_blocks, self.path(stage, key, suffix)))
        self._remote.write(_name(stage, key, ".json"), self.path(stage, key).read_bytes())

    def forget(self, stage: str, key: str) -> None:
        """Remove a result there and here."""
        self._remote.delete(_name(stage, key, ".json"))
        super().forget(stage, key)

    def bring(self) -> int:
        """Fetch the JSON files that are not here, many at a time; returns how many there were.

        For the start of a run, which asks for all of them one after the other.
        """
        missing = [
            name for name in self._remote.tree() if name.endswith(".json") and not (self.folder / name).is_file()
        ]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda name: self._remote.fetch(name, self.folder / name), missing))
        return len(missing)

    def _found(self, stage: str, key: str) -> tuple[dict[str, Any], list[str]] | None:
        path = self.path(stage, key)
        if not path.is_file() and not self._remote.fetch(_name(stage, key, ".json"), path):
            return None
        return super()._found(stage, key)

    def _complete(self, stage: str, key: str, payloads: Sequence[str]) -> bool:
        """Payloads stay in the store until they are asked for; the JSON file came after them."""
        del stage, key, payloads
        return True


def _name(stage: str, key: str, suffix: str) -> str:
    return f"{stage}/{key[:2]}/{key}{suffix}"


def _place_of_copies(root: Path, url: str) -> Path:
    from reconstruct.cache import cache_folder

    if (root / HIDDEN_FOLDER / OWNER_NAME).is_file():  # the driver's own note
        return root
    return cache_folder() / "results" / hashlib.sha256(url.encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=4)
def _opened(url: str) -> Folder:
    """One connection for a process: a task opens the store anew for every item."""
    return remote_folder(url, shown(url), remedy="Check run.results and its credentials, then run again to resume")


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block
