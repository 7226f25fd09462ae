"""A folder of an object store or of any other file system that pyarrow knows, with faults that pass tried again."""

from __future__ import annotations

import errno
import functools
import hashlib
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa
import pyarrow.fs as pafs

from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, partial_path

BATCH_NAMES: Final = 256
BLOCK_BYTES: Final = 4 << 20
AGAIN: Final = "Run it again to go on where it stopped"
WAITS_S: Final = (0.5, 1.0, 2.0, 4.0)
"""Waits between the attempts of one call."""
ATOMIC_STORES: Final = frozenset({"s3", "gcs", "abfs"})
"""File systems without folders, in which a small object appears whole or not at all."""
_PERMANENT: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
_PERMANENT_ERRNO: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENAMETOOLONG})
_PERMANENT_TEXT: Final = re.compile(
    r"AWS Error (ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY_ID|INVALID_CLIENT_TOKEN_ID|SIGNATURE_DOES_NOT_MATCH"
    r"|MISSING_AUTHENTICATION_TOKEN|UNRECOGNIZED_CLIENT)"
)

Result = TypeVar("Result")


class Folder:
    """A folder of some file system; every call is tried again while its fault may pass.

    All methods raise TalksetError (not_writable) when a call fails for good.
    """

    def __init__(self, filesystem: pafs.FileSystem, base: str, shown: str, remedy: str = AGAIN) -> None:
        self._filesystem, self._base, self.shown, self._remedy = filesystem, base, shown, remedy
        self._atomic = filesystem.type_name in ATOMIC_STORES
        self._made: set[str] = set()

    @property
    def local(self) -> Path | None:
        """Its path where it is a folder of this machine."""
        return Path(self._base) if isinstance(self._filesystem, pafs.LocalFileSystem) else None

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """Size of those of the named files that exist."""
        sizes: dict[str, int] = {}
        for start in range(0, len(names), BATCH_NAMES):
            batch = names[start : start + BATCH_NAMES]
            paths = [f"{self._base}/{name}" for name in batch]
            infos = self._attempt("looking at", batch[0], functools.partial(self._filesystem.get_file_info, paths))
            for name, info in zip(batch, infos, strict=True):
                if info.type == pafs.FileType.File:
                    sizes[name] = int(info.size)
        return sizes

    def read(self, name: str) -> bytes | None:
        """Content of a small file, None where it does not exist."""

        def whole() -> bytes | None:
            try:
                with self._filesystem.open_input_stream(f"{self._base}/{name}", compression=None) as stream:
                    data: bytes = stream.read()
            except FileNotFoundError:
                return None
            return data

        return self._attempt("reading", name, whole)

    def write(self, name: str, data: bytes) -> None:
        """Write a small file that appears whole or not at all."""
        path = f"{self._base}/{name}"
        parent, _, last = path.rpartition("/")
        first = path if self._atomic else f"{parent}/.{last}.partial"

        def whole() -> None:
            self._make(parent)
            with self._filesystem.open_output_stream(first, compression=None) as stream:
                stream.write(data)
            if first != path:
                self._filesystem.move(first, path)

        self._attempt("writing", name, whole)

    def send(self, name: str, blocks: Callable[[], Iterable[bytes]]) -> str:
        """Write a file block by block; returns the hash of what was sent."""
        path = f"{self._base}/{name}"

        def whole() -> str:
            self._make(path.rpartition("/")[0])
            digest = hashlib.sha256()
            with self._filesystem.open_output_stream(path, compression=None) as stream:
                for block in blocks():
                    digest.update(block)
                    stream.write(block)
            return digest.hexdigest()

        return self._attempt("writing", name, whole)

    def fetch(self, name: str, target: Path) -> bool:
        """Bring a file here, whole or not at all; False where it does not exist there."""
        temporary = partial_path(target)

        def whole() -> bool:
            try:
                with (
                    self._filesystem.open_input_stream(f"{self._base}/{name}", compression=None) as stream,
                    temporary.open("wb") as copy,
                ):
                    while block := stream.read(BLOCK_BYTES):
                        copy.write(block)
            except FileNotFoundError:
                return False
            return True

        with named_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                there = self._attempt("reading", name, whole)
                if there:
                    temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        return there

    def delete(self, name: str) -> None:
        """Remove a file if it is there."""
        self._attempt("removing", name, lambda: self._gone(self._filesystem.delete_file, name))

    def files(self, name: str) -> list[str]:
        """The files in a subfolder, sorted."""
        selector = pafs.FileSelector(f"{self._base}/{name}", allow_not_found=True)
        infos = self._attempt("listing", name, lambda: self._filesystem.get_file_info(selector))
        return sorted(f"{name}/{info.base_name}" for info in infos if info.type == pafs.FileType.File)

    def tree(self) -> list[str]:
        """Every file below, as sorted paths relative to the folder."""
        selector = pafs.FileSelector(self._base, allow_not_found=True, recursive=True)
        infos = self._attempt("listing", "all files", lambda: self._filesystem.get_file_info(selector))
        start = len(self._base) + 1
        return sorted(info.path[start:] for info in infos if info.type == pafs.FileType.File)

    def remove_subfolder(self, name: str) -> None:
        """Remove a subfolder with what is in it, if it is there."""
        self._attempt("removing", name, lambda: self._gone(self._filesystem.delete_dir, name))

    def _gone(self, remove: Callable[[str], None], name: str) -> None:
        try:
            remove(f"{self._base}/{name}")
        except FileNotFoundError:
            return

    def _make(self, path: str) -> None:
        if not self._atomic and path not in self._made:
            self._filesystem.create_dir(path, recursive=True)
            self._made.add(path)

    def _attempt(self, verb: str, name: str, action: Callable[[], Result]) -> Result:
        for wait in (*WAITS_S, None):
            try:
                return action()
            except (OSError, pa.ArrowException) as error:
                if wait is None or not _may_pass(error):
                    message = f"{verb} {name} at {self.shown} failed ({error})"
                    raise TalksetError("not_writable", message, self._remedy) from error
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help."""
    if not isinstance(error, OSError) or isinstance(error, _PERMANENT):
        return False
    return error.errno not in _PERMANENT_ERRNO and _PERMANENT_TEXT.search(str(error)) is None


def remote_folder(url: str, shown: str, others: str = "", remedy: str = AGAIN) -> Folder:
    """The folder behind a URL, which messages call `shown` and which need not exist.

    Raises UsageError for a URL that is not known; `others` are more kinds that the caller takes,
    `remedy` is what its messages advise when a call fails for good.
    """
    try:
        filesystem, base = pafs.FileSystem.from_uri(url)
    except (pa.ArrowException, OSError, ValueError, ImportError) as error:
        message = f"{shown} is no destination ({str(error).replace(url, shown)})"
        remedy = f"Give s3://bucket/prefix, gs://bucket/prefix, file:///folder {others}".rstrip()
        raise UsageError(message, remedy) from None  # the first error may show a password
    if not base.strip("/"):
        raise UsageError(f"{shown} names no bucket or folder", "Give a folder in it, such as s3://bucket/name")
    return Folder(filesystem, base.rstrip("/"), shown, remedy)
