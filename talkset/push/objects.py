"""Pushing to a folder or an object store: dataset.json last, and a record of what has arrived.

How an interrupted push goes on: files whose content is known to be there are recorded under `.push/` at the
destination, batch by batch, by their hash; a claim is removed before its file is overwritten. The next push skips a
file where that record, or the MANIFEST.sha256 of the finished version that it replaces, names the same hash and the
size is equal. (Reading everything back instead would cost the transfer again. The price: a file that something else
altered there in between, to the same size, is not noticed.)
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.errors import TalksetError, UsageError
from schemas.files import MANIFEST_NAME, is_safe_path, read_checksums
from schemas.remote_folder import Folder, remote_folder
from talkset.push.source import AGAIN, FACTS_NAME, RECORD_FOLDER, THREADS, PushReport, Source, in_threads, occupied
from talkset.store import without_secrets

if TYPE_CHECKING:
    from pipelines.report import Progress

RECORD_NAME: Final = f"{RECORD_FOLDER}/record.json"
PART_PREFIX: Final = f"{RECORD_FOLDER}/part-"
BATCH_FILES: Final = 256
BATCH_BYTES: Final = 1 << 30
"""At most one batch is sent again after an interruption, or one file that is larger."""


def open_folder(root: Path, url: str) -> Folder:
    """The destination behind a URL. Raises UsageError for one that is not known or lies inside `root`."""
    folder = remote_folder(url, without_secrets(url), "or hf://datasets/user/name", AGAIN)
    if folder.local is not None:
        here, there = root.resolve(), folder.local.resolve()
        if there == here or here in there.parents:
            raise UsageError(f"{folder.shown} is inside the data set {root} itself", "Give another folder")
    return folder


@dataclass(frozen=True)
class Record:
    """What a destination is known to hold."""

    claims: Mapping[str, str]
    """Name -> hash of the files whose content is known."""
    names: frozenset[str]
    """Names that may be there, from this version or an earlier one."""
    manifest_sha256: str
    """Which version is being pushed."""

    @staticmethod
    def unfinished(folder: Folder) -> Record | None:
        """The record of an unfinished push, None where there is none. Raises TalksetError corrupt_data."""
        data = folder.read(RECORD_NAME)
        if data is None:
            return None
        try:
            value = json.loads(data)
            claims: dict[str, str] = dict(value["claims"])
            names = frozenset(value["names"])
            for part in folder.files(RECORD_FOLDER):
                if part.startswith(PART_PREFIX):
                    claims |= json.loads(folder.read(part) or b"{}")
            if not all(isinstance(name, str) and is_safe_path(name) for name in (*claims, *names)):
                raise ValueError("it names a path outside")
            return Record(claims, names, str(value["manifest_sha256"]))
        except (ValueError, KeyError, TypeError) as error:
            message = f"{folder.shown}: {RECORD_FOLDER} is damaged ({error!r})"
            raise TalksetError("corrupt_data", message, f"Remove {RECORD_FOLDER} there, then push again") from error

    @staticmethod
    def finished(folder: Folder) -> Record:
        """The record of a version that is complete, from its own list. Raises TalksetError corrupt_data."""
        hashes = parse_checksums(folder.read(MANIFEST_NAME), folder.shown)
        return Record(hashes, frozenset(hashes), "")

    def begin(self, folder: Folder) -> None:
        """Make this the record of a push that begins; the parts of an earlier one go."""
        value = {"manifest_sha256": self.manifest_sha256, "claims": dict(self.claims), "names": sorted(self.names)}
        folder.write(RECORD_NAME, json.dumps(value).encode())
        for part in folder.files(RECORD_FOLDER):
            if part.startswith(PART_PREFIX):
                folder.delete(part)

    @staticmethod
    def forget(folder: Folder) -> None:
        """Remove the record of a finished push, its parts first: they mean nothing without it."""
        for part in folder.files(RECORD_FOLDER):
            if part.startswith(PART_PREFIX):
                folder.delete(part)
        folder.delete(RECORD_NAME)
        folder.remove_subfolder(RECORD_FOLDER)


def parse_checksums(data: bytes | None, shown: str) -> dict[str, str]:
    """The list of hashes of a version that is to be replaced. Raises TalksetError corrupt_data."""
    remedy = f"Remove that data set by hand, or its {FACTS_NAME} alone, then push again"
    if data is None:
        message = f"{shown} holds a data set without {MANIFEST_NAME}, so which files are its own is not known"
        raise TalksetError("corrupt_data", message, remedy)
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, MANIFEST_NAME).write_bytes(data)
        try:
            return read_checksums(Path(scratch))
        except TalksetError as error:
            message = f"{shown}: {error.message.replace(f'{scratch}/', '')}"
            raise TalksetError("corrupt_data", message, remedy) from None


def push_folder(source: Source, folder: Folder, replace: bool, progress: Progress) -> PushReport:
    """Upload a checked data set; see `talkset.push.push`."""
    files, manifest = source.files, source.manifest
    digest = hashlib.sha256(manifest).hexdigest()
    record = Record.unfinished(folder)
    visible = bool(folder.sizes([FACTS_NAME]))
    # A push that was cut after dataset.json had arrived has only to be tidied up.
    if visible and not replace and (record is None or record.manifest_sha256 != digest):
        raise occupied(folder.shown)
    if record is None:
        record = Record.finished(folder) if visible else Record({}, frozenset(), "")

    claimed = [name for name, file in files.items() if record.claims.get(name) == file.sha256 and name != FACTS_NAME]
    sizes = folder.sizes(claimed)
    kept = {name: files[name].sha256 for name in claimed if sizes.get(name) == files[name].size}
    names = record.names | record.claims.keys() | files.keys()
    Record(kept, names, digest).begin(folder)
    if visible:
        folder.delete(FACTS_NAME)

    wanted = [name for name in sorted(files) if name not in kept and name != FACTS_NAME]
    progress.begin("send", len(wanted) + 2)
    with ThreadPoolExecutor(THREADS) as pool:
        for number, batch in enumerate(_batches(wanted, source)):
            _send(pool, source, folder, number, batch, progress)
        folder.write(MANIFEST_NAME, manifest)
        progress.step()
        facts = b"".join(source.blocks(FACTS_NAME))
        source.expect(FACTS_NAME, hashlib.sha256(facts).hexdigest())
        folder.write(FACTS_NAME, facts)
        progress.step()
        stale = sorted(names - files.keys())
        progress.begin("clean", len(stale))
        for _ in in_threads(pool, folder.delete, stale):
            progress.step()
    Record.forget(folder)
    sent = sum(files[name].size for name in wanted) + len(manifest) + len(facts)
    return PushReport(len(wanted) + 2, sent, len(kept), folder.shown)


def _batches(names: Iterable[str], source: Source) -> Iterator[list[str]]:
    batch: list[str] = []
    held = 0
    for name in names:
        size = source.files[name].size
        if batch and (len(batch) == BATCH_FILES or held + size > BATCH_BYTES):
            yield batch
            batch, held = [], 0
        batch.append(name)
        held += size
    if batch:
        yield batch


def _send(
    pool: ThreadPoolExecutor, source: Source, folder: Folder, number: int, batch: Sequence[str], progress: Progress
) -> None:
    """Send some files; those that arrived are recorded, also when another one fails."""
    arrived: dict[str, str] = {}

    def send(name: str) -> None:
        source.expect(name, folder.send(name, lambda: source.blocks(name)))
        arrived[name] = source.files[name].sha256

    tasks = [pool.submit(send, name) for name in batch]
    try:
        for task in tasks:
            task.result()
            progress.step()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            if not task.cancelled():
                task.exception()  # what is on its way may still arrive
        if arrived:
            folder.write(f"{PART_PREFIX}{number:06d}.json", json.dumps(arrived).encode())
