"""The output folder: ours, writable, used by one run at a time; and what the last build left in it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pipelines.lock import run_lock
from schemas.errors import UsageError
from schemas.files import (
    HIDDEN_FOLDER,
    MANIFEST_NAME,
    list_files,
    named_errors,
    partial_path,
    remove_partials,
    sync_folder,
    write_atomic,
)
from schemas.sink import link_or_copy

MEDIA_FOLDERS: Final = ("media", "overlays")


@contextlib.contextmanager
def locked_output(root: Path) -> Iterator[None]:
    """Create the folder where it is missing and keep other runs out of it.

    Raises UsageError for a folder that holds something else than a data set, TalksetError not_writable (also when
    another run holds the folder, see `pipelines.lock`) or disk_full.
    """
    hidden = root / HIDDEN_FOLDER
    with named_errors(root):
        if root.is_dir() and not hidden.is_dir() and not (root / "dataset.json").is_file() and any(root.iterdir()):
            message = f"the folder {root} is not empty and holds no data set of talkset"
            raise UsageError(message, "Give a new or empty folder with --out")
        hidden.mkdir(parents=True, exist_ok=True)
    with run_lock(hidden):
        yield


def files_differ(folder: Path, wanted: Mapping[str, Path]) -> bool:
    """Whether a folder holds something else than the wanted files (name -> stored file)."""
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return present != set(wanted) or not all(_same(folder / name, stored) for name, stored in wanted.items())


def place_files(folder: Path, wanted: Mapping[str, Path]) -> None:
    """Make a folder hold exactly the wanted files (name -> stored file).

    Files are linked to the stored ones where the file system can, else copied. Raises TalksetError disk_full or
    not_writable.
    """
    with named_errors(folder):
        if wanted:
            folder.mkdir(exist_ok=True)
        if folder.is_dir():
            remove_partials(folder)
            for path in sorted(folder.iterdir()):
                if path.name not in wanted:
                    path.unlink()
        for name, stored in sorted(wanted.items()):
            target = folder / name
            if not _same(target, stored):
                _link_or_copy(stored, target)
        if folder.is_dir():
            sync_folder(folder)
            if not wanted:
                folder.rmdir()


def _same(target: Path, stored: Path) -> bool:
    try:
        here, there = target.stat(), stored.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(here, there) or (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)


def _link_or_copy(stored: Path, target: Path) -> None:
    temporary = partial_path(target)
    try:
        link_or_copy(stored, temporary)
        temporary.replace(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


class BuildNote:
    """What the finished data set was made of, `.talkset/build.json`: equal again means there is nothing to write."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / HIDDEN_FOLDER / "build.json"

    def is_current(self, digest: str) -> bool:
        """Whether the data set was built from the same, and its tables are as they were written."""
        try:
            note: dict[str, Any] = json.loads(self._path.read_bytes())
            return bool(note["digest"] == digest and note["files"] == self._stamps(note["files"]))
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def digest(self) -> str | None:
        """The digest of the last finished build whose tables are untouched, or None."""
        try:
            digest = str(json.loads(self._path.read_bytes())["digest"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return digest if self.is_current(digest) else None

    def clear(self) -> None:
        """Forget the build, before anything of it is touched."""
        with named_errors(self._path):
            self._path.unlink(missing_ok=True)

    def write(self, digest: str) -> None:
        """Note a finished build."""
        names = [name for name in list_files(self._root) if name.partition("/")[0] not in (*MEDIA_FOLDERS, "review")]
        note = {"digest": digest, "files": self._stamps([*names, MANIFEST_NAME])}
        write_atomic(self._path, (json.dumps(note, indent=1) + "\n").encode())

    def _stamps(self, names: Iterable[str]) -> dict[str, list[int]]:
        stats = {name: (self._root / name).stat() for name in names}
        return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
