"""One file of a data set in the making: Parquet with the settings that all of them have, or one that is there."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.files import named_errors, partial_path
from schemas.tables import Table


class ParquetSink:
    """A Parquet file under its temporary name until `commit`.

    Settings, measured: zstd with BYTE_STREAM_SPLIT on floats, a dictionary on ids and labels only (on floats it makes
    files larger than raw), page checksums and page index; statistics of scalar columns only, because those of tensors
    help no filter and make the footer a quarter larger.
    """

    def __init__(self, path: Path, table: Table, zstd_level: int) -> None:
        self.path = path
        self._stream: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None
        try:
            with named_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = partial_path(path).open("wb")
                self._writer = pq.ParquetWriter(
                    self._stream,
                    table.schema,
                    compression="zstd",
                    compression_level=zstd_level,
                    use_dictionary=table.dictionary_columns,
                    use_byte_stream_split=table.split_columns,
                    write_statistics=[column.name for column in table.columns if column.shape is None],
                    write_page_checksum=True,
                    write_page_index=True,
                )
        except BaseException:
            self.discard()
            raise

    def write(self, rows: pa.Table) -> int:
        """Append one row group; returns the bytes of the file so far."""
        if self._writer is None or self._stream is None:
            raise ValueError(f"{self.path} is closed")
        with named_errors(self.path):
            self._writer.write_table(rows, row_group_size=max(1, rows.num_rows))
            return self._stream.tell()

    def close(self) -> None:
        """Finish the temporary file and flush it to the disk."""
        if self._writer is None or self._stream is None:
            return
        with named_errors(self.path):
            self._writer.close()
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
        self._writer = self._stream = None

    def commit(self) -> None:
        """Give the closed file its real name."""
        with named_errors(self.path):
            partial_path(self.path).replace(self.path)

    def discard(self) -> None:
        """Drop the temporary file after a failure; never raises, so that the failure itself is reported."""
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        with contextlib.suppress(OSError):
            if self._stream is not None:
                self._stream.close()
        self._writer = self._stream = None
        with contextlib.suppress(OSError):
            partial_path(self.path).unlink(missing_ok=True)


class LinkedFile:
    """A file that exists already and becomes part of a data set, as a hard link where the file system has them."""

    def __init__(self, stored: Path, path: Path) -> None:
        self.path = path
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(stored, partial_path(path))

    def close(self) -> None:
        """Nothing is buffered."""

    def commit(self) -> None:
        """Give the file its real name."""
        with named_errors(self.path):
            partial_path(self.path).replace(self.path)

    def discard(self) -> None:
        """Drop the temporary name; never raises."""
        with contextlib.suppress(OSError):
            partial_path(self.path).unlink(missing_ok=True)


def link_or_copy(stored: Path, target: Path) -> None:
    """Make `target` the same file as `stored`, or a copy on file systems without links. Raises OSError."""
    target.unlink(missing_ok=True)
    try:
        os.link(stored, target)
    except OSError:  # another file system, or one without links; if it is full the copy says so
        shutil.copy2(stored, target)
