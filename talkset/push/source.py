"""The local side of a push: the files of a finished data set, proved to be what its list of hashes says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from schemas.errors import TalksetError, UsageError
from schemas.files import HIDDEN_FOLDER, MANIFEST_NAME, format_checksums, read_checksums, sha256_file

if TYPE_CHECKING:
    from pipelines.report import Progress

FACTS_NAME: Final = "dataset.json"
"""The file by which a data set is visible: the last to arrive, the first to go."""
RECORD_FOLDER: Final = ".push"
"""What an unfinished push knows about its destination, kept there; not part of a data set."""
BLOCK: Final = 8 << 20
THREADS: Final = 8
AGAIN: Final = "Check the address, the rights and the network, then push again: what has arrived is not sent again"

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class PushReport:
    """What a push did."""

    files: int
    """Files that were sent, the list of hashes included."""
    bytes: int
    """Their size."""
    skipped: int
    """Files whose content was there already."""
    url: str
    """The destination without passwords."""


@dataclass(frozen=True)
class ListedFile:
    """What is known about a file of the data set."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Source:
    """A finished data set on this machine."""

    root: Path
    files: Mapping[str, ListedFile]
    """Every listed file by its relative path; the list itself is not among them."""

    @property
    def manifest(self) -> bytes:
        """The content of MANIFEST.sha256."""
        return format_checksums({name: file.sha256 for name, file in self.files.items()}).encode()

    def blocks(self, name: str) -> Iterator[bytes]:
        """Content of a file. Raises TalksetError unreadable_file: the fault is here, not at the destination."""
        try:
            with (self.root / name).open("rb") as stream:
                while block := stream.read(BLOCK):
                    yield block
        except OSError as error:
            raise _unreadable(self.root, name, error) from error

    def expect(self, name: str, found: str) -> None:
        """Raise TalksetError corrupt_data where what was sent has another hash than the list says."""
        expected = self.files[name].sha256
        if found != expected:
            raise _altered(self.root, name, found, expected)


def open_source(root: Path, progress: Progress) -> Source:
    """Compare every listed file with MANIFEST.sha256.

    Raises TalksetError: missing_file or unreadable_file, corrupt_data for another content or a list that cannot be
    that of a data set.
    """
    hashes = read_checksums(root)
    if FACTS_NAME not in hashes:
        message = f"{root / MANIFEST_NAME} does not list {FACTS_NAME}"
        raise TalksetError("corrupt_data", message, f"Give a finished data set; run `talkset verify {root}`")
    for name in hashes:
        if name.partition("/")[0] in (HIDDEN_FOLDER, RECORD_FOLDER):
            message = f"{root / MANIFEST_NAME} lists {name}, which is no part of a data set"
            raise TalksetError("corrupt_data", message, f"Run `talkset verify {root}` and build the data set again")
    progress.begin("check", len(hashes))
    files: dict[str, ListedFile] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for name, size in in_threads(pool, lambda name: _check(root, name, hashes[name]), hashes):
            files[name] = ListedFile(hashes[name], size)
            progress.step()
    return Source(root, files)


def occupied(shown: str) -> UsageError:
    """The error of a destination that holds a data set."""
    message = f"{shown} already holds a data set ({FACTS_NAME})"
    return UsageError(message, "Give --replace to put this one in its place, or another destination")


def in_threads(
    pool: ThreadPoolExecutor, action: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
    """(item, result) in order, a limited number ahead; the first error ends it."""
    waiting = iter(items)
    running: list[tuple[Item, Future[Result]]] = []
    try:
        while True:
            for item in itertools.islice(waiting, 4 * THREADS - len(running)):
                running.append((item, pool.submit(action, item)))
            if not running:
                return
            item, future = running.pop(0)
            yield item, future.result()
    finally:
        for _, future in running:
            future.cancel()


def _check(root: Path, name: str, expected: str) -> int:
    """Size of a file whose content is as listed."""
    path = root / name
    try:
        size, found = path.stat().st_size, sha256_file(path)
    except FileNotFoundError as error:
        raise TalksetError("missing_file", f"{path} does not exist; nothing was published", _verify(root)) from error
    except OSError as error:
        raise _unreadable(root, name, error) from error
    if found != expected:
        raise _altered(root, name, found, expected)
    return size


def _altered(root: Path, name: str, found: str, expected: str) -> TalksetError:
    message = f"{root / name} has sha256 {found}, {MANIFEST_NAME} says {expected}; nothing was published"
    return TalksetError("corrupt_data", message, _verify(root))


def _unreadable(root: Path, name: str, error: OSError) -> TalksetError:
    message = f"{root / name} cannot be read ({error.strerror or error}); nothing was published"
    return TalksetError("unreadable_file", message, _verify(root))


def _verify(root: Path) -> str:
    return f"Run `talkset verify {root}`, restore or build what it names, then push again"
