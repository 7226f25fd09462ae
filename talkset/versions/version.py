"""A finished version of a data set on this machine, and the making of the next one."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.config import ShardConfig
from schemas.dataset_files import COLUMNS_FOLDER, DatasetFiles
from schemas.errors import TalksetError, UsageError
from schemas.files import HIDDEN_FOLDER, MANIFEST_NAME, named_errors, read_checksums, sync_folder
from schemas.sink import link_or_copy
from schemas.tables import SCHEMA_VERSION, SHARDED, Column, Table, version_key

DERIVED: Final = ("params/", "landmarks/", "columns/", "figures/", "configs/")
"""Folders whose files every version writes or links itself."""
DERIVED_FILES: Final = (
    "index.parquet",
    "words.parquet",
    "phones.parquet",
    "events.parquet",
    "stats.json",
    "README.md",
    "dataset.json",
    "config.yaml",
)
CLIP_FOLDERS: Final = ("media", "overlays")
"""Folders with files named after clips."""


@dataclass(frozen=True)
class Version:
    """A finished data set folder: its facts and the recorded hashes of its files."""

    root: Path
    facts: Mapping[str, Any]
    hashes: Mapping[str, str]

    @classmethod
    def read(cls, root: Path, *, any_schema: bool = False) -> Version:
        """Open a version. Raises TalksetError or UsageError for a folder that is none, or has another schema."""
        if not (root / "dataset.json").is_file():
            message = f"{root} is no finished data set: it has no dataset.json"
            raise UsageError(message, "Give the folder of a finished data set")
        hashes = read_checksums(root)
        try:
            facts = json.loads((root / "dataset.json").read_bytes())
            schema = version_key(str(facts["schema_version"]))
        except (ValueError, KeyError, TypeError) as error:
            message = f"{root / 'dataset.json'} is damaged ({error})"
            raise TalksetError("corrupt_data", message, "Run `talkset verify`") from error
        if not any_schema and schema != version_key(SCHEMA_VERSION):
            newer = schema > version_key(SCHEMA_VERSION)
            message = f"{root} has schema version {facts['schema_version']}, this talkset writes {SCHEMA_VERSION}"
            remedy = "Install a newer talkset" if newer else f"Run `talkset upgrade {root} --out FOLDER` first"
            raise UsageError(message, remedy)
        return cls(root, facts, hashes)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return str(self.facts["name"])

    @property
    def reference(self) -> dict[str, str]:
        """What names this version beyond doubt, for a history."""
        manifest = hashlib.sha256((self.root / MANIFEST_NAME).read_bytes()).hexdigest()
        return {"name": self.name, "version": str(self.facts["version"]), "manifest_sha256": manifest}

    @property
    def config_yaml(self) -> str:
        """The configuration that built it, empty where there is none."""
        path = self.root / "config.yaml"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @cached_property
    def sidecars(self) -> list[dict[str, Any]]:
        """The columns that users added: name and table ("index" or "params")."""
        return [dict(item) for item in self.facts.get("sidecars", ())]

    def sidecar_tables(self, kind: str) -> tuple[Table, ...]:
        """Tables of the added columns of the index ("index") or beside the params ("params")."""
        tables = []
        for item in self.sidecars:
            if item["table"] != kind:
                continue
            folder = f"{COLUMNS_FOLDER}/{item['name']}"
            path = self.root / f"{folder}.parquet" if kind == "index" else next(iter(self.parts(folder)), None)
            if path is not None:
                schema = pq.read_schema(path)
                columns = tuple(_described(field) for field in schema)
                tables.append(Table(folder, columns))
        return tuple(tables)

    def parts(self, table: str) -> list[Path]:
        """Part files of a sharded table in order."""
        return sorted((self.root / table).glob("part-*.parquet"))

    @property
    def part_names(self) -> list[str]:
        """File names of the parts, the same for every sharded table."""
        return [path.name for path in self.parts(SHARDED[0].name)]

    @property
    def shards(self) -> ShardConfig:
        """The settings that its parts were written with, as far as they show."""
        parts = self.parts(SHARDED[0].name)
        metadata = pq.read_metadata(parts[0]) if parts else None
        rows = metadata.row_group(0).num_rows if metadata is not None and metadata.num_row_groups else 0
        figures = (self.root / "figures").is_dir()
        return ShardConfig(clips_per_row_group=rows or ShardConfig().clips_per_row_group, figures=figures)

    def row_groups(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The row groups of one of its Parquet files, page checksums verified. Raises TalksetError corrupt_data."""
        try:
            with pq.ParquetFile(self.root / name, page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=None if columns is None else list(columns))
        except (OSError, pa.ArrowException) as error:
            message = f"{self.root / name} cannot be read ({error})"
            raise TalksetError("corrupt_data", message, "Run `talkset verify` and fetch the file again") from error


def _described(field: pa.Field) -> Column:
    return dataclasses.replace(Column.from_field(field), label=field.name == "clip_id")


def next_version(version: str, change: str) -> str:
    """The next version after a PATCH (same data), MINOR (added columns) or MAJOR (changed data) change.

    Raises UsageError for a version that has not three numbers.
    """
    try:
        major, minor, patch = version_key(version)
    except ValueError as error:
        message = f"the version {version!r} of the data set is not MAJOR.MINOR.PATCH"
        raise UsageError(message, "Name the new version with --version") from error
    return {"MAJOR": f"{major + 1}.0.0", "MINOR": f"{major}.{minor + 1}.0", "PATCH": f"{major}.{minor}.{patch + 1}"}[
        change
    ]


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` to build in; it takes that name when the block ends well, else it is removed.

    Raises UsageError when `out` exists and is not empty, TalksetError disk_full or not_writable.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already", "Give a new folder with --out; versions are never changed in place")
    out = out.absolute()
    staging = out.with_name(f".{out.name}.partial-{os.getpid()}")
    with named_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for leftover in out.parent.glob(f".{out.name}.partial-*"):
            if not _alive(leftover.name.rpartition("-")[2]):
                shutil.rmtree(leftover)
        staging.mkdir()
    try:
        yield staging
        with named_errors(out):
            staging.rename(out)
            sync_folder(out.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ValueError:
        return True  # not one of ours
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def make_facts(
    sources: Sequence[Version], operation: str, parameters: Mapping[str, Any], *, name: str | None, version: str
) -> dict[str, Any]:
    """The leading entries of dataset.json of a version made from others; the first gives what is not merged."""
    first = sources[0].facts
    kept = {key: value for key, value in first.items() if key not in ("counts", "licences")}
    entry = {"operation": operation, "parameters": dict(parameters), "from": [one.reference for one in sources]}
    history: list[Any] = []
    for one in sources:
        history += [item for item in one.facts.get("history", ()) if item not in history]
    return {
        **kept,
        "name": name or sources[0].name,
        "version": version,
        "schema_version": SCHEMA_VERSION,
        "history": [*history, entry],
        "sidecars": sources[0].sidecars,
    }


def adopt_files(source: Version, staging: Path, kept_ids: Iterable[str] | None = None) -> dict[str, str]:
    """Link what no version derives (media, overlays, models, reviews); returns name -> recorded hash.

    `kept_ids` limits files that are named after clips to those clips; None keeps all. A file that is there from
    another source already stays. Raises TalksetError disk_full or not_writable.
    """
    wanted = None if kept_ids is None else set(kept_ids)
    adopted = {}
    for name, digest in source.hashes.items():
        folder, _, rest = name.partition("/")
        if name in DERIVED_FILES or name.startswith((*DERIVED, f"{HIDDEN_FOLDER}/")):
            continue
        if folder in CLIP_FOLDERS and wanted is not None and rest.rpartition(".")[0] not in wanted:
            continue
        target = staging / name
        if not target.exists():
            link(source.root / name, target)
            adopted[name] = digest
    return adopted


def link(stored: Path, target: Path) -> None:
    """Link or copy a file into a version in the making. Raises TalksetError that names a missing file."""
    if not stored.is_file():
        raise TalksetError("missing_file", f"{stored} is listed but missing", "Run `talkset verify`")
    with named_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        link_or_copy(stored, target)


def link_parts(source: Version, files: DatasetFiles, tables: Iterable[str], part: str) -> dict[str, str]:
    """Begin the next part of `files` with the stored files of a part; returns new name -> recorded hash."""
    stored = {table: source.root / table / part for table in tables}
    for path in stored.values():
        if not path.is_file():
            raise TalksetError("missing_file", f"{path} is missing", "Run `talkset verify`")
    files.link_part(stored)
    return {f"{table}/{files.part_name}": source.hashes[f"{table}/{part}"] for table in stored}


def conform(rows: pa.Table, table: Table) -> pa.Table:
    """Rows of an older schema version with the columns of `table`; what they lack is null."""
    arrays = []
    for field in table.schema:
        if field.name in rows.column_names:
            arrays.append(_as_type(rows[field.name], field.type))
        else:
            arrays.append(pa.chunked_array([pa.nulls(rows.num_rows, field.type)]))
    return pa.Table.from_arrays(arrays, schema=table.schema)


def _as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The column in another type of the same values; lists whose elements may be null become ones without."""
    if column.type.equals(kind) or not pa.types.is_list(kind):
        return column.cast(kind)
    chunks = []
    for chunk in column.chunks:
        if chunk.values.null_count:
            message = f"a list of {column.type} has null elements"
            raise TalksetError("corrupt_data", message, "Run `talkset verify`")
        mask = chunk.is_null() if chunk.null_count else None
        chunks.append(pa.ListArray.from_arrays(chunk.offsets, chunk.values, type=kind, mask=mask))
    return pa.chunked_array(chunks, kind)
