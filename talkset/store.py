"""The files of one data set, here or on an object store: open handles, guarded reads, recently decoded columns.

Needs only numpy and pyarrow; `hf://` also fsspec and huggingface_hub, which pyarrow asks for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from talkset import guards
from talkset.cells import Array, Cells, cells, is_listed, one_array

SUPPORTED_MAJOR: Final = 1
"""MAJOR of the schema version that this reader understands."""
OPEN_FILES: Final = 8
CACHE_BYTES: Final = 64 << 20
"""Decoded columns kept: enough for the row groups at hand, little against a data loader worker's own memory."""
MAX_JSON_BYTES: Final = 64 << 20
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")


_PARENTS: Final[list[Any]] = []
"""Temporary folders of a process that this one was forked from."""
_SECRET_USER: Final = re.compile(r"(?<=://)[^/@?#]*:[^/@?#]*@")
_SECRET_VALUE: Final = re.compile(r"([?&][^=&]*(?:key|token|secret|password)[^=&]*=)[^&]*", re.IGNORECASE)


class DatasetError(ValueError):
    """A data set that cannot be read as asked: names the thing, the value and what to do."""


@dataclass(slots=True)
class _Decoded:
    """A column of a row group that is kept."""

    array: pa.Array
    nbytes: int
    cells: Cells | None = None
    """As numpy arrays, once someone asked."""


def without_secrets(url: str) -> str:
    """A URL that may be shown."""
    return _SECRET_VALUE.sub(r"\1***", _SECRET_USER.sub("", url))


class Store:
    """The files of one data set.

    A handful of Parquet handles and the most recently decoded columns are kept. Neither is pickled nor shared over a
    fork, so a store can travel to data loader workers; it is not for two threads at a time (see `twin`).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not self.remote:
            self.path = os.path.abspath(self.path)
        self._reset()
        self.facts = self._read_facts()
        """The content of dataset.json."""

    def _read_facts(self) -> dict[str, Any]:
        try:
            facts = self.read_json("dataset.json")
        except FileNotFoundError as error:
            message = f"{self.shown} is no finished data set: it has no dataset.json; check the path or run it again"
            raise DatasetError(message) from error
        version = str(facts.get("schema_version"))
        major = version.partition(".")[0]
        if major != str(SUPPORTED_MAJOR):
            newer = major.isdigit() and int(major) > SUPPORTED_MAJOR
            remedy = (
                "install a newer talkset"
                if newer
                else f"bring it up to date with `talkset upgrade {self.shown} --out FOLDER`"
            )
            raise DatasetError(
                f"{self.shown} has schema version {version}, this talkset reads {SUPPORTED_MAJOR}.x; {remedy}"
            )
        return facts

    @property
    def shown(self) -> str:
        """The path without passwords, for messages."""
        return without_secrets(self.path) if self.remote else self.path

    @property
    def remote(self) -> bool:
        """Whether the data set is at a URL rather than in a folder of this machine."""
        return _URI.match(self.path) is not None

    def _reset(self) -> None:
        if self.remote:
            try:
                filesystem, base = pafs.FileSystem.from_uri(self.path)
            except (OSError, ValueError, ImportError, pa.ArrowException) as error:
                message = f"{self.shown} cannot be opened ({error}); write s3://bucket/folder, gs://bucket/folder,"
                raise DatasetError(f"{message} hf://datasets/user/name or file:///folder") from error
        else:
            filesystem, base = pafs.LocalFileSystem(), self.path
        self._filesystem = pafs.SubTreeFileSystem(base, filesystem)
        self._files: OrderedDict[str, pq.ParquetFile] = OrderedDict()
        self._schemas: dict[str, pa.Schema] = {}
        self._metadata: weakref.WeakValueDictionary[str, pq.FileMetaData] = weakref.WeakValueDictionary()
        """Footers of files that some twin has open: a large part's takes 30 MB and 100 ms to decode."""
        self._decoded: OrderedDict[tuple[str, int, str], _Decoded] = OrderedDict()
        self._held = 0
        self._group_ends: dict[str, Array] = {}
        self._fetched: tempfile.TemporaryDirectory[str] | None = None
        self._process = os.getpid()
        if self.remote:
            try:
                self._filesystem.get_file_info("dataset.json")
            except OSError as error:
                message = f"{self.shown} cannot be reached ({error}); check the address, the network and your rights"
                raise DatasetError(message) from error

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "facts": self.facts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def twin(self) -> Store:
        """An independent store of the same data set, for another thread."""
        other = Store.__new__(Store)
        other.__setstate__(self.__getstate__())
        other._metadata = self._metadata
        return other

    def _here(self) -> pafs.FileSystem:
        """The file system, opened again in a forked process, which must not use its parent's handles."""
        if self._process != os.getpid():
            self._forget_parent()
        return self._filesystem

    def _forget_parent(self) -> None:
        _PARENTS.append(self._fetched)  # closing it here would remove files that the parent process still uses
        self._reset()

    def has_file(self, name: str) -> bool:
        """Whether the data set has a file of that relative name."""
        return bool(self._here().get_file_info(name).type == pafs.FileType.File)

    def list_files(self, folder: str) -> list[str]:
        """Relative names of the files in a folder of the data set, sorted; empty where there is no such folder."""
        selector = pafs.FileSelector(folder, allow_not_found=True)
        infos = self._here().get_file_info(selector)
        return sorted(f"{folder}/{info.base_name}" for info in infos if info.type == pafs.FileType.File)

    def local_path(self, name: str) -> Path:
        """A file of the data set as a path of this machine; a remote one is fetched once into a temporary folder.

        Raises DatasetError for a name that leaves the data set or a file that it does not have.
        """
        parts = name.split("/")
        if not name or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
            raise DatasetError(f"{name!r} is no file inside a data set")
        if not self.has_file(name):
            raise DatasetError(f"{self.shown} has no file {name}")
        if not self.remote:
            return Path(self.path, name)
        if self._fetched is None:
            self._fetched = tempfile.TemporaryDirectory(prefix="talkset-")
        target = Path(self._fetched.name, name)
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            with self._here().open_input_stream(name) as stream, partial.open("wb") as out:
                while block := stream.read(1 << 20):
                    out.write(block)
            partial.replace(target)
        return target

    def sha256(self, name: str) -> str:
        """Hash of a file of the data set, hexadecimal."""
        digest = hashlib.sha256()
        with self._here().open_input_stream(name) as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON object. Raises FileNotFoundError, or DatasetError when it is damaged or absurdly large."""
        with self._here().open_input_file(name) as stream:
            if stream.size() > MAX_JSON_BYTES:
                raise DatasetError(f"{self.shown}/{name} has {stream.size()} bytes, which no such file needs")
            data = stream.read()
        try:
            value = json.loads(data)
        except ValueError as error:
            raise DatasetError(f"{self.shown}/{name} is damaged ({error}); run `talkset verify`") from error
        if not isinstance(value, dict):
            raise DatasetError(f"{self.shown}/{name} holds no JSON object; run `talkset verify`")
        return value

    def file(self, name: str) -> pq.ParquetFile:
        """An open handle, kept among the `OPEN_FILES` most recently used."""
        filesystem = self._here()
        if name in self._files:
            self._files.move_to_end(name)
            return self._files[name]
        try:
            source = filesystem.open_input_file(name)
            guards.check_footer(source)
            # reading ahead joins the requests to a remote store; on a local disk it only copies
            known = self._metadata.get(name)
            handle = pq.ParquetFile(source, metadata=known, page_checksum_verification=True, pre_buffer=self.remote)
            self._metadata[name] = handle.metadata
            schema = handle.schema_arrow  # costs a tenth of a millisecond at every call
            if known is None:
                guards.check_description(handle.metadata, schema, source.size())
        except FileNotFoundError as error:
            raise DatasetError(f"{self.shown}/{name} is missing; run `talkset verify`") from error
        except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
            raise DatasetError(f"{self.shown}/{name} cannot be read ({error}); run `talkset verify`") from error
        self._files[name] = handle
        self._schemas[name] = schema
        if len(self._files) > OPEN_FILES:
            old, oldest = self._files.popitem(last=False)
            del self._schemas[old]
            oldest.close(force=True)
        return handle

    def schema(self, name: str) -> pa.Schema:
        """Schema of a Parquet file. Raises DatasetError where its version is not that of the data set."""
        self.file(name)
        schema = self._schemas[name]
        version = (schema.metadata or {}).get(b"talkset.schema_version", b"").decode(errors="replace")
        if version != self.facts["schema_version"]:
            message = f"{self.shown}/{name} has schema version {version or 'none'}, dataset.json says"
            remedy = f"versions are mixed; run `talkset upgrade {self.shown} --out FOLDER`, or restore the file"
            raise DatasetError(f"{message} {self.facts['schema_version']}: {remedy}")
        return schema

    def group_ends(self, name: str) -> Array:
        """Cumulative row count after each row group of a file."""
        if name not in self._group_ends:
            self.schema(name)
            metadata = self.file(name).metadata
            counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            self._group_ends[name] = np.cumsum(counts, dtype=np.int64)
        return self._group_ends[name]

    def read_group(self, name: str, group: int, columns: Sequence[str]) -> pa.Table:
        """Columns of one row group, decoded and checked against their page checksums.

        Raises DatasetError for a column that the file lacks, damage, or a size that no writer makes.
        """
        handle = self.file(name)
        try:
            leaves = guards.checked_leaves(handle, self._schemas[name], group, columns)
            table = handle.reader.read_row_group(group, column_indices=leaves, use_threads=False)
            return table if table.column_names == list(columns) else table.select(list(columns))
        except guards.AbsurdSizeError as error:
            message = f"{self.shown}/{name} row group {group} {error}; it was not read, do not trust this data set"
            raise DatasetError(message) from error
        except (OSError, KeyError, IndexError, pa.ArrowException) as error:
            message = f"{self.shown}/{name} row group {group} cannot be read ({error}); run `talkset verify`"
            raise DatasetError(message) from error

    def column(self, name: str, group: int, column: str, wanted: Sequence[str]) -> pa.Array:
        """One decoded column of a row group; `wanted` are the columns worth decoding in the same read."""
        return self._decode(name, group, column, wanted).array

    def cells(self, name: str, group: int, column: str, wanted: Sequence[str]) -> Cells | None:
        """The same as numpy arrays; None for a column whose rows are no lists."""
        decoded = self._decode(name, group, column, wanted)
        if decoded.cells is None and is_listed(decoded.array.type):
            decoded.cells = cells(decoded.array)
        return decoded.cells

    def _decode(self, name: str, group: int, column: str, wanted: Sequence[str]) -> _Decoded:
        if self._process != os.getpid():
            self._forget_parent()
        key = (name, group, column)
        known = self._decoded.get(key)
        if known is not None:
            self._decoded.move_to_end(key)
            return known
        names = list(dict.fromkeys((column, *wanted)))
        table = self.read_group(name, group, names)
        for other, stored in zip(names, table.itercolumns(), strict=True):
            old = self._decoded.pop((name, group, other), None)
            array = one_array(stored)
            # what is held in memory; the size of the values alone takes Arrow a tenth of the decoding to add up
            fresh = _Decoded(array, array.get_total_buffer_size())
            self._decoded[name, group, other] = fresh
            self._held += fresh.nbytes - (old.nbytes if old is not None else 0)
        while self._held > CACHE_BYTES and len(self._decoded) > len(names):
            self._held -= self._decoded.popitem(last=False)[1].nbytes
        return self._decoded[key]

    def locate(self, name: str, row: int) -> tuple[int, int]:
        """Row group of a row of a file, and its row in there."""
        ends = self.group_ends(name)
        group = int(np.searchsorted(ends, row, side="right"))
        if row < 0 or group >= len(ends):
            raise DatasetError(f"{self.shown}/{name} has no row {row}; run `talkset verify`")
        return group, row - (int(ends[group - 1]) if group else 0)

    def rows_of_clip(self, table: str, clip_id: str) -> list[dict[str, Any]]:
        """The rows of a clip in a long table, in file order; row groups that cannot hold it are not read."""
        name = f"{table}.parquet"
        names = self.schema(name).names
        metadata = self.file(name).metadata
        position = names.index("clip_id")
        rows: list[dict[str, Any]] = []
        for group in range(metadata.num_row_groups):
            statistics = metadata.row_group(group).column(position).statistics
            bounded = statistics is not None and statistics.has_min_max
            if bounded and not statistics.min <= clip_id <= statistics.max:
                continue
            ids = self.column(name, group, "clip_id", names)
            columns = {other: self.column(name, group, other, names) for other in names}
            hits = pa.Table.from_arrays(list(columns.values()), names=list(columns)).filter(pc.equal(ids, clip_id))
            rows += hits.to_pylist()
        return rows
