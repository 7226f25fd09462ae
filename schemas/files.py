"""Files that are either complete or absent, and the list of hashes that proves a data set unchanged.

A file is written under a hidden temporary name in its own folder, flushed to the disk and only then renamed, so a
killed process leaves a leftover that the next build removes, never half a file under a real name.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Final

from schemas.errors import TalksetError

MANIFEST_NAME: Final = "MANIFEST.sha256"
HIDDEN_FOLDER: Final = ".talkset"
"""Run state beside the data (ledger, logs); not part of the data set."""
PARTIAL: Final = ".partial"
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
_LINE: Final = re.compile(r"([0-9a-f]{64})  (.+)")
_SEAL: Final = re.compile(r"# sha256 of the lines above: ([0-9a-f]{64})")


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """Turn "disk full" and "may not write" of the operating system into TalksetError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            message = f"no space is left to write {path} ({error.strerror or error})"
            raise TalksetError(
                "disk_full", message, "Free space or choose another output folder, then resume"
            ) from error
        if error.errno in _DENIED:
            message = f"cannot write {path} ({error.strerror or error})"
            raise TalksetError("not_writable", message, "Check the folder and its permissions, then resume") from error
        raise


def partial_path(path: Path) -> Path:
    """Temporary name of a file while it is written: hidden, in the same folder."""
    return path.with_name(f".{path.name}{PARTIAL}")


def remove_partials(folder: Path) -> None:
    """Remove what a killed build left in `folder`."""
    for leftover in sorted(folder.glob(f".*{PARTIAL}")):
        leftover.unlink()


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a small file completely or not at all. Raises TalksetError disk_full or not_writable."""
    temporary = partial_path(path)
    with named_errors(path):
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to report
                temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def sha256_file(path: Path, block: int = 1 << 20) -> str:
    """Hash of a file's content as 64 hex digits, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while data := stream.read(block):
            digest.update(data)
    return digest.hexdigest()


def list_files(root: Path) -> list[str]:
    """Every file of a data set as sorted relative POSIX paths, without the list of hashes and the hidden run folder.

    Raises TalksetError (corrupt_data) for a linked folder, whose content would be outside what the hashes cover.
    """
    names = []
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        if here == root:
            folders[:] = [name for name in folders if name != HIDDEN_FOLDER]
        for name in folders:
            if (here / name).is_symlink():
                message = f"{here / name} is a link to a folder"
                raise TalksetError("corrupt_data", message, "Replace the link by the folder itself")
        names += [(here / name).relative_to(root).as_posix() for name in files]
    return sorted(name for name in names if name != MANIFEST_NAME)


def is_safe_path(name: str) -> bool:
    """Whether a relative path stays inside its root."""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and "\\" not in name and "\0" not in name


def format_checksums(hashes: Mapping[str, str]) -> str:
    """The text of MANIFEST.sha256: `sha256sum -c` lines, sealed by a comment with the hash of those lines."""
    for name in hashes:
        if "\n" in name or "\r" in name or not is_safe_path(name):
            message = f"the file name {name!r} cannot stand in {MANIFEST_NAME}"
            raise TalksetError("bad_value", message, "Rename or remove the file")
    body = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return f"{body}# sha256 of the lines above: {hashlib.sha256(body.encode()).hexdigest()}\n"


def read_checksums(root: Path) -> dict[str, str]:
    """Relative path -> hash from MANIFEST.sha256.

    Raises TalksetError: missing_file without the list, corrupt_data when it was altered or names a path outside.
    """
    path = root / MANIFEST_NAME
    remedy = "Restore the file from where it came, or build the data set again"
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError as error:
        raise TalksetError(
            "missing_file", f"{path} does not exist", "The build did not finish: run it again"
        ) from error
    except UnicodeDecodeError as error:
        raise TalksetError("corrupt_data", f"{path} is not UTF-8", remedy) from error
    hashes: dict[str, str] = {}
    lines = text.split("\n")
    for number, line in enumerate(lines[:-2], start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise TalksetError("corrupt_data", f"{path} line {number} is not 'sha256  path'", remedy)
        if not is_safe_path(match[2]):
            raise TalksetError("corrupt_data", f"{path} line {number} leaves the data set: {match[2]!r}", remedy)
        hashes[match[2]] = match[1]
    if len(lines) < 2 or _SEAL.fullmatch(lines[-2]) is None or text != format_checksums(hashes):
        raise TalksetError("corrupt_data", f"{path} does not match its own seal", remedy)
    return hashes


def refresh_manifest(root: Path, changed: Iterable[str] | None = None, known: Mapping[str, str] | None = None) -> Path:
    """Write MANIFEST.sha256 for the files that are there now; returns its path.

    `changed` (relative paths of files or folders) limits the hashing to those and to files not listed yet, keeping
    the other recorded hashes, so that damage to an untouched file stays visible. `known` are hashes of files that
    came unread from a verified place. Without either everything is hashed.
    Raises TalksetError disk_full, not_writable, or what `read_checksums` raises when `changed` is given.
    """
    recorded = dict(known or {}) if changed is None else read_checksums(root)
    touched = () if changed is None else tuple(name.rstrip("/") for name in changed)
    hashes = {}
    unknown = []
    for name in list_files(root):
        if name in recorded and not any(name == item or name.startswith(f"{item}/") for item in touched):
            hashes[name] = recorded[name]
        else:
            unknown.append(name)
    hashes |= sha256_files(root, unknown)
    path = root / MANIFEST_NAME
    write_atomic(path, format_checksums(hashes).encode())
    return path


def sha256_files(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Hashes of files under `root`; hashing releases the interpreter, so threads share the work."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return dict(zip(names, pool.map(lambda name: sha256_file(root / name), names), strict=True))
