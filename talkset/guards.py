"""What a Parquet file of unknown origin must not do to its reader: end the process, or fill the memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

MAX_GROUP_BYTES: Final = 1 << 30
"""A row group that claims to decode to more is refused: the writer's are a thousandth of it, a bomb's are not."""
MAX_FOOTER_BYTES: Final = 256 << 20
_MAX_WIDTH: Final = 8
"""Decoded bytes of a value at most; strings also cost their text, which the uncompressed size holds."""


class AbsurdSizeError(ValueError):
    """A size that no writer makes."""


def check_footer(source: Any) -> None:
    """Refuse what does not end as a Parquet file. Raises AbsurdSizeError."""
    size = source.size()
    if size < 12:
        raise AbsurdSizeError(f"its {size} bytes are no Parquet file: it is truncated")
    tail = source.read_at(8, size - 8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1":
        raise AbsurdSizeError("it does not end as a Parquet file does: it is truncated or something else")
    if length > min(size, MAX_FOOTER_BYTES):
        raise AbsurdSizeError(f"its footer claims {length} bytes")


def checked_leaves(handle: pq.ParquetFile, schema: pa.Schema, group: int, columns: Sequence[str]) -> list[int]:
    """Positions of the columns, after refusing what would fill the memory before a byte of it is decoded."""
    row_group = handle.metadata.row_group(group)
    leaves = []
    total = 0
    for column in columns:
        leaf = schema.get_field_index(column)
        if leaf < 0:
            raise KeyError(column)
        chunk = row_group.column(leaf)
        total += max(chunk.num_values * _MAX_WIDTH, chunk.total_uncompressed_size)
        leaves.append(leaf)
    if total > MAX_GROUP_BYTES:
        raise AbsurdSizeError(
            f"claims to decode to {total} bytes of {', '.join(columns)}, the limit is {MAX_GROUP_BYTES}"
        )
    return leaves


def check_description(metadata: pq.FileMetaData, schema: pa.Schema, size: int) -> None:
    """Refuse nested tables and damaged descriptions of column chunks, without reading a page.

    A damaged description that `RowGroupMetaData.column` meets first ends the process (pyarrow 25 does not catch it), so
    Arrow is made to meet it here, on its way to a page that it cannot have. Raises AbsurdSizeError or ArrowException.
    """
    if len(schema.names) != metadata.num_columns:
        raise AbsurdSizeError(f"it has {metadata.num_columns} leaf columns in {len(schema.names)} fields")
    with contextlib.suppress(_PageWantedError):
        file = pq.ParquetFile(_SealedFile(size), metadata=metadata, pre_buffer=True)
        for _ in file.iter_batches(1, use_threads=False):
            break


class _PageWantedError(Exception):
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
        """Raise _PageWantedError."""
        raise _PageWantedError
