"""Parquet files of a data set read as if they came from somebody else: sizes first, then schema, then checked pages.

The footer is believed only as far as its figures are small; a file that would need too much memory is reported, not
read. Columns that are dictionary encoded stay so until their text is known to be of reasonable size.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.tables import SCHEMA_VERSION, Table, version_key
from schemas.verify_report import Report

MAX_ROW_GROUP_BYTES: Final = 1 << 30
"""A row group must fit into this much memory; nobody could read it clip by clip otherwise."""
MAX_FOOTER_BYTES: Final = 1 << 28
TARGET_BATCH_BYTES: Final = 8 << 20
"""Rows are looked at in batches of about this size."""
MAX_BATCH_ROWS: Final = 65_536
_MAGIC: Final = b"PAR1"
_WIDTHS: Final = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_DICTIONARY: Final = {"RLE_DICTIONARY", "PLAIN_DICTIONARY"}
_TEXT_WIDTH: Final = 16
"""Bytes that one value of any other physical type costs at least: view or offsets, and a dictionary index."""
_DESCRIPTION: Final = ("shape", "unit", "space", "rotation")
"""Field metadata that must match; `meaning` and `range` may be reworded by a PATCH version."""
READ_ERRORS: Final = (OSError, pa.ArrowException, ValueError, KeyError, MemoryError, OverflowError)
"""What pyarrow raises for a file that is damaged (UnicodeError is a ValueError)."""


@dataclass(frozen=True)
class Source:
    """One Parquet file: where it is, what it should hold, and where to report what is wrong with it."""

    root: Path
    name: str
    """Path relative to the data set."""
    table: Table
    report: Report
    tolerant: bool = True
    """Whether a newer MINOR version may have brought columns that are not in `table`."""


def is_newer_minor(version: str) -> bool:
    """Whether a data set may hold columns that this version of talkset does not know."""
    return version_key(version)[:2] > version_key(SCHEMA_VERSION)[:2]


def stored_version(path: Path) -> str | None:
    """The schema version that a Parquet file says it has, or None."""
    try:
        if footer_problem(path) is not None:
            return None
        metadata = pq.read_schema(path).metadata or {}
        return str(metadata[b"talkset.schema_version"].decode())
    except READ_ERRORS:
        return None


def footer_problem(path: Path) -> str | None:
    """Why a file cannot be opened as Parquet without risk, from its first and last bytes. Raises OSError."""
    if not path.is_file():
        return "is not a regular file"
    size = path.stat().st_size
    if size == 0:
        return "is empty"
    if size < 12:
        return f"has {size} bytes, no Parquet file is that short"
    with path.open("rb") as stream:
        head = stream.read(4)
        stream.seek(size - 8)
        length, tail = struct.unpack("<I4s", stream.read(8))
    if head != _MAGIC or tail != _MAGIC:
        return f"is not a whole Parquet file: it begins with {head!r} and ends with {tail!r}, expected {_MAGIC!r}"
    if length > min(size - 12, MAX_FOOTER_BYTES):
        most = f"the file has {size} bytes, the limit is {MAX_FOOTER_BYTES}"
        return f"claims a footer of {length} bytes; {most}; it was not read"
    return None


@dataclass(frozen=True)
class Opened:
    """A Parquet file whose footer, schema and sizes are as they should be."""

    file: pq.ParquetFile
    group_bytes: list[int]
    """Memory that each row group may take."""


def read_batches(source: Source, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a file in batches, each with the number of its first row; page checksums are verified.

    Strings come plain, whatever their encoding. A file that is too large to read safely, has another schema or a
    damaged page is reported, and nothing more of it comes. `columns` are those to read; all known ones by default.
    """
    opened = open_checked(source)
    if opened is None:
        return
    wanted = list(columns) if columns is not None else [column.name for column in source.table.columns]
    complete = [column.name for column in source.table.columns if column.name in wanted and not column.nullable]
    first = 0
    groups: list[int] = []
    try:
        with opened.file as file:
            for groups in _portions(opened.group_bytes):
                for stored in _tables(file, groups, wanted, opened.group_bytes):
                    stored.validate(full=True)
                    batch = _plain(stored.select(wanted))
                    for name in complete:
                        if batch.column(name).null_count:
                            raise pa.ArrowInvalid(f"{name} has nulls")
                    yield first, batch
                    first += batch.num_rows
    except READ_ERRORS as error:
        where = f"row group {groups[0]}" if len(groups) == 1 else f"row groups {groups[0]} to {groups[-1]}"
        source.report.unreadable(source.name, f"{where}, from row {first} on: cannot be read: {error}")


def _portions(group_bytes: Sequence[int]) -> Iterator[list[int]]:
    """Row groups to read together, because every call costs time: about `TARGET_BATCH_BYTES` or a single one."""
    groups: list[int] = []
    total = 0
    for group, size in enumerate(group_bytes):
        if groups and total + size > TARGET_BATCH_BYTES:
            yield groups
            groups, total = [], 0
        groups.append(group)
        total += size
    if groups:
        yield groups


def _tables(
    file: pq.ParquetFile, groups: list[int], columns: list[str], group_bytes: Sequence[int]
) -> Iterator[pa.Table]:
    """The rows of some row groups: at once where they are small, else in batches of about `TARGET_BATCH_BYTES`."""
    size = sum(group_bytes[group] for group in groups)
    rows = sum(file.metadata.row_group(group).num_rows for group in groups)
    if size <= TARGET_BATCH_BYTES and rows <= MAX_BATCH_ROWS:
        yield file.read_row_groups(groups, columns=columns)
        return
    batch_rows = int(min(MAX_BATCH_ROWS, max(1, TARGET_BATCH_BYTES * rows // max(1, size))))
    for batch in file.iter_batches(batch_rows, row_groups=groups, columns=columns):
        yield pa.Table.from_batches([batch])


def open_checked(source: Source) -> Opened | None:
    """Open a file after a look at its footer; what is wrong is reported and None returned."""
    path = source.root / source.name
    try:
        wrong = footer_problem(path)
        if wrong is None:
            metadata = pq.read_metadata(path)
            schema = metadata.schema.to_arrow_schema()
            wrong = schema_problem(source, schema)
        if wrong is None:
            _check_chunks(path, metadata)
            group_bytes, encoded = _footer_figures(metadata)
            text = [field.name for field in schema if pa.types.is_string(field.type) and field.name in encoded]
            file = pq.ParquetFile(path, metadata=metadata, read_dictionary=text, page_checksum_verification=True)
            return Opened(file, group_bytes)
    except READ_ERRORS as error:
        wrong = f"cannot be read: {error}"
    source.report.unreadable(source.name, wrong)
    return None


def schema_problem(source: Source, found: pa.Schema) -> str | None:
    """How a stored schema differs from the one that the table has at its schema version."""
    table = source.table
    metadata = found.metadata or {}
    version = metadata.get(b"talkset.schema_version", b"").decode()
    if not version:
        return "schema metadata holds no talkset.schema_version; the file was not written by talkset"
    if version != table.version:
        versions = f"dataset.json says {table.version}, this file {version}"
        return f"mixed schema versions: {versions}; run `talkset upgrade`, or take the file from the same data set"
    name = metadata.get(b"talkset.table", b"").decode()
    if name != table.name:
        return f"schema metadata says that this is the table {name!r}, expected {table.name!r}"
    expected = [column.name for column in table.columns]
    names = found.names
    if source.tolerant and is_newer_minor(version):
        names = [name for name in names if name in expected]
    if names != expected:
        missing = [name for name in expected if name not in found.names]
        extra = [name for name in found.names if name not in expected]
        return f"schema differs: missing columns {missing}, unknown columns {extra}, or another order or one twice"
    for column in table.columns:
        wrong = _field_problem(found.field(column.name), column.field())
        if wrong:
            return f"schema differs at {column.name}: {wrong}"
    return None


def _field_problem(found: pa.Field, expected: pa.Field) -> str | None:
    if found.type != expected.type:
        return f"the type is {found.type}, expected {expected.type}"
    if found.nullable != expected.nullable:
        return f"nullable is {found.nullable}, expected {expected.nullable}"
    for key in _DESCRIPTION:
        said, promised = (_metadata(field, key) for field in (found, expected))
        if said != promised:
            return f"the metadata says {key} {said or 'nothing'}, expected {promised or 'nothing'}"
    return None


class _UnreadPagesError(Exception):
    """A page would be read now."""


class _SealedFile(io.RawIOBase):
    """A file of which only the size may be known."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        """Arrow asks before it reads."""
        return True

    def seekable(self) -> bool:
        """Arrow asks before it seeks."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a byte."""
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def tell(self) -> int:
        """The byte that would be read next."""
        return self._place

    def read(self, _: int = -1) -> bytes:
        """Raise _UnreadPagesError."""
        raise _UnreadPagesError


def _check_chunks(path: Path, metadata: pq.FileMetaData) -> None:
    """Have Arrow decode the description of every column chunk, without a page. Raises what Arrow finds wrong there.

    A damaged description that is first met by `RowGroupMetaData.column` ends the process instead (pyarrow 25: the C++
    exception is not caught), so it must be met here before, on the way to the first page.
    """
    with contextlib.suppress(_UnreadPagesError):
        stream = _SealedFile(path.stat().st_size)
        for _ in pq.ParquetFile(stream, metadata=metadata, pre_buffer=True).iter_batches(1, use_threads=False):
            break


def _metadata(field: pa.Field, key: str) -> str:
    """A description of a field; no unit is the same as the unit 1, which older files leave out."""
    value: str = (field.metadata or {}).get(key.encode(), b"").decode(errors="replace")
    return "" if (key, value) == ("unit", "1") else value


def _footer_figures(metadata: pq.FileMetaData) -> tuple[list[int], set[str]]:
    """Memory of every row group as the footer tells it, and the text columns that have a dictionary somewhere.

    Of each column its pages or its values count, whichever is larger: a run-length encoded column of few bytes may
    decode to very many values, and one long dictionary entry may stand for any number of them.
    Raises ArrowInvalid for a row group beyond `MAX_ROW_GROUP_BYTES` and for figures that contradict each other.
    """
    sizes: list[int] = []
    encoded: set[str] = set()
    columns = [metadata.schema.column(number) for number in range(metadata.num_columns)]
    kinds = [(column.path, column.physical_type, column.max_repetition_level == 0) for column in columns]
    total = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        count, size = rows.num_rows, 0
        total += count
        for number, (name, kind, flat) in enumerate(kinds):
            chunk = rows.column(number)
            values, stored = chunk.num_values, chunk.total_uncompressed_size
            if min(count, values, stored) < 0 or values < count or (flat and values != count):
                raise pa.ArrowInvalid(f"row group {group}: {name} counts {values} values for {count} rows")
            if chunk.physical_type != kind:
                raise pa.ArrowInvalid(f"row group {group}: {name} is {chunk.physical_type}, the schema says {kind}")
            size += max(stored, values * _WIDTHS.get(kind, _TEXT_WIDTH))
            if kind == "BYTE_ARRAY" and name not in encoded and not _DICTIONARY.isdisjoint(chunk.encodings):
                encoded.add(name)
        if size > MAX_ROW_GROUP_BYTES:
            what = f"row group {group} would take {size} bytes, the limit is {MAX_ROW_GROUP_BYTES}"
            raise pa.ArrowInvalid(f"{what}; it was not read. Write fewer clips into a row group")
        sizes.append(size)
    if total != metadata.num_rows:
        raise pa.ArrowInvalid(f"the footer counts {metadata.num_rows} rows, its row groups {total}")
    return sizes, encoded


def _plain(table: pa.Table) -> pa.RecordBatch:
    """One batch with dictionaries decoded. Raises ArrowInvalid for text that `MAX_ROW_GROUP_BYTES` would not hold."""
    columns = []
    joined = table.unify_dictionaries().combine_chunks()
    for name in joined.column_names:
        chunked = joined[name]
        column = chunked.chunk(0) if chunked.num_chunks else pa.array([], chunked.type)
        if pa.types.is_dictionary(column.type):
            lengths = pc.binary_length(column.dictionary)
            longest = pc.max(lengths).as_py() or 0
            if longest * len(column) > MAX_ROW_GROUP_BYTES // 16:
                size = pc.sum(lengths.take(column.indices).cast(pa.int64())).as_py() or 0
                if size > MAX_ROW_GROUP_BYTES:
                    raise pa.ArrowInvalid(
                        f"{name} holds {size} bytes of text in {len(column)} rows, too many to decode"
                    )
            column = column.cast(column.type.value_type)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, names=joined.column_names)
