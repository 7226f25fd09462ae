"""Which model file a detector was given: its hash is part of the detector's name, and so of every result's key."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from schemas.errors import UsageError


def file_sha256(path: Path) -> str:
    """sha256 of a model file in hex digits, read once for as long as it does not change.

    Raises UsageError for a path that is no readable file.
    """
    try:
        state = path.stat()
        return _sha256(path, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise UsageError(f"cannot read the detector's model {path}: {error.strerror}", "Check the path") from error


@functools.lru_cache(maxsize=16)
def _sha256(path: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001 - the key of the cache
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
