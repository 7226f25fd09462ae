"""Row groups decoded once and for all into files that are mapped: epochs of data larger than memory cost no decoding.

What Hugging Face datasets does when it converts Parquet to Arrow, for the signals of one loader: values as they go
into a batch, cleaned and normalised. The files are a cache: they may be removed at any time between two programs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from talkset.cells import Array
from talkset.store import DatasetError
from talkset.training.decoding import RowGroup, Source, decode, missing_row

LOGGER = logging.getLogger(__name__)
FORMAT: Final = 1
_MAGIC: Final = b"TALKSET1"
_ALIGNED: Final = 8
_MANIFEST: Final = "MANIFEST.sha256"
_SEEN: Final = "seen"
_TIMES: Final = "times_us"
_SPARE_BYTES: Final = 64 << 20
"""Room on the disk that is left to others."""


class Prepared:
    """The prepared files of one source in one folder; opens each when it is first needed, in every process anew."""

    def __init__(self, source: Source, folder: Path) -> None:
        self._source, self.folder = source, folder
        self._parts: dict[tuple[str, int], RowGroup] = {}

    def find(self, table: str, shard: int, row: int) -> tuple[RowGroup, int]:
        """A part as one row group, and the row in it. Raises DatasetError for a row that it does not have."""
        part = self._parts.get((table, shard))
        if part is None:
            part = self._parts[table, shard] = _open(_file(self.folder, table, self._source.shard_names[shard]))
        if row >= len(part.frames):
            raise missing_row(self._source, table, shard, row)
        return part, row


class _Rows(Sequence[Array]):
    """The values of one signal, a view of the mapped file for each row."""

    def __init__(self, data: memoryview, dtype: str, places: NDArray[np.int64]) -> None:
        """`places` (N, 2) is the first byte and the number of values of each row."""
        kind = np.dtype(dtype)
        self._flat = np.frombuffer(data[: len(data) // kind.itemsize * kind.itemsize], kind)
        self._places, self._size = places, kind.itemsize

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, row: Any) -> Any:
        start, count = self._places[row].tolist()
        first = start // self._size
        return self._flat[first : first + count]


def user_cache() -> Path:
    """TALKSET_CACHE, or the user's cache directory, and `prepared` in it."""
    import platformdirs

    return Path(os.environ.get("TALKSET_CACHE") or platformdirs.user_cache_dir("talkset")) / "prepared"


def folder_for(source: Source, cache: Path) -> Path:
    """Where the prepared files of a source belong: named by the data set version, the signals and the normalisation.

    Raises DatasetError for a data set without MANIFEST.sha256, whose versions could not be told apart.
    """
    store = source.store
    if not store.has_file(_MANIFEST):
        raise DatasetError(f"{store.shown} has no {_MANIFEST}, so nothing is prepared from it; run `talkset verify`")
    normaliser = source.normaliser.to_json() if source.normaliser is not None else None
    windows = source.window_us is not None
    wanted = [[signal.name, signal.table, signal.column, signal.shape] for signal in source.signals]
    content = [FORMAT, store.sha256(_MANIFEST), wanted, normaliser, windows]
    return cache / hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def prepare(source: Source, shards: Iterable[int], folder: Path) -> Prepared:
    """Decode the parts of a source that are not prepared yet; two processes may do so at once.

    Raises DatasetError for damage or a full disk; parts that were finished stay, an unfinished one does not.
    """
    jobs = [
        (table, shard, path)
        for shard in shards
        for table in source.tables
        if not (path := _file(folder, table, source.shard_names[shard])).is_file()
    ]
    if jobs:
        LOGGER.info("preparing %d parts of %s in %s", len(jobs), source.store.shown, folder)
    for table, shard, path in jobs:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("wb") as out:
                _write(out, source, table, f"{table}/{source.shard_names[shard]}", folder)
                out.flush()
                os.fsync(out.fileno())
            partial.replace(path)
        except OSError as error:
            raise DatasetError(f"{path} cannot be written ({error}); choose another prepared=FOLDER") from error
        finally:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
    return Prepared(source, folder)


def _file(folder: Path, table: str, shard_name: str) -> Path:
    return folder / table / f"{Path(shard_name).stem}.prepared"


def _write(out: BinaryIO, source: Source, table: str, name: str, folder: Path) -> None:
    """The row groups of a part one after the other, then where each row's values are, then a description."""
    out.write(_MAGIC)
    frames: list[int] = []
    places: dict[str, list[NDArray[np.int64]]] = {}
    kinds: dict[str, str] = {}
    unusable: list[tuple[str, int, str]] = []
    present = frozenset(source.store.schema(name).names)
    for number in range(len(source.store.group_ends(name))):
        group = decode(source.store, source, table, name, number, present)
        if shutil.disk_usage(folder).free < group.nbytes + _SPARE_BYTES:
            raise DatasetError(f"the disk of {folder} is full; choose another prepared=FOLDER, or leave it out")
        named = [(f"values/{signal}", rows) for signal, rows in group.values.items()]
        for key, rows in (*named, (_SEEN, group.seen), (_TIMES, group.times_us)):
            if len(rows):
                places.setdefault(key, []).append(_append(out, rows))
                kinds[key] = rows[0].dtype.str
        unusable += [(signal, row + len(frames), why) for (signal, row), why in group.unusable.items()]
        frames += group.frames
    described = {
        "frames": _append(out, [np.array(frames, np.int64)])[0].tolist(),
        "unusable": unusable,
        "signals": {
            key: [kinds[key], *_append(out, [np.concatenate(parts).reshape(-1)])[0].tolist()]
            for key, parts in places.items()
        },
    }
    footer = json.dumps(described).encode()
    out.write(footer + len(footer).to_bytes(8, "little") + _MAGIC)


def _append(out: BinaryIO, rows: Sequence[Array]) -> NDArray[np.int64]:
    """Write arrays from an aligned place on; (N, 2) first byte and number of values of each."""
    out.write(bytes(-out.tell() % _ALIGNED))
    counts = np.array([row.size for row in rows], np.int64)
    sizes = counts * rows[0].itemsize
    starts = out.tell() + np.concatenate([[0], np.cumsum(sizes)[:-1]])
    for row in rows:
        out.write(np.ascontiguousarray(row).data)
    return np.stack([starts, counts], axis=1)


def _open(path: Path) -> RowGroup:
    """A prepared part as one mapped row group. Raises DatasetError for a file that is gone or not whole."""
    try:
        with path.open("rb") as stream:
            data = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        end = len(data) - len(_MAGIC) - 8
        if bytes(data[: len(_MAGIC)]) != _MAGIC or bytes(data[end + 8 :]) != _MAGIC:
            raise ValueError("it is not whole")
        size = int.from_bytes(data[end : end + 8], "little")
        described = json.loads(bytes(data[end - size : end]))

        def table(first: int, count: int) -> NDArray[np.int64]:
            return np.frombuffer(data, np.int64, count, first)

        rows = {
            key: _Rows(data, kind, table(first, count).reshape(-1, 2))
            for key, (kind, first, count) in described["signals"].items()
        }
        frames = table(*described["frames"])
        prefix = "values/"
        return RowGroup(
            values={key.removeprefix(prefix): row for key, row in rows.items() if key.startswith(prefix)},
            frames=frames,
            seen=rows.get(_SEEN, ()),
            times_us=rows.get(_TIMES, ()),
            unusable={(signal, row): why for signal, row, why in described["unusable"]},
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} cannot be used ({error}); remove it, it is made again") from error
