"""Writing a data set: clips go in one after the other, Parquet files of a fixed layout come out.

Everything is written under temporary names and put in place only by `finish`, so a build that dies leaves the
previous version of the data set untouched. The same clips and settings give the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas.card import CARD_COLUMNS, render_card
from schemas.config import ShardConfig
from schemas.errors import UsageError
from schemas.files import (
    MANIFEST_NAME,
    named_errors,
    partial_path,
    refresh_manifest,
    remove_partials,
    sync_folder,
    write_atomic,
)
from schemas.records import ClipRecord, ClipRows, Row, clip_rows, to_arrow
from schemas.statistics import Statistics
from schemas.tables import INDEX, LONG, SCHEMA_VERSION, SHARDED, Table

__all__ = ["ClipRecord", "DatasetWriter", "ParquetSink"]

ROWS_PER_GROUP: Final = 16_384
"""Rows of a row group of the index and the long tables: small enough to buffer, large enough for a small footer."""


class ParquetSink:
    """One Parquet file in the making, under its temporary name until `commit`."""

    def __init__(self, path: Path, table: Table, zstd_level: int) -> None:
        self.path = path
        self._stream: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None
        try:
            with named_errors(path):
                self._stream = partial_path(path).open("wb")
                self._writer = pq.ParquetWriter(
                    self._stream,
                    table.schema,
                    compression="zstd",
                    compression_level=zstd_level,
                    use_dictionary=table.dictionary_columns,
                    use_byte_stream_split=table.split_columns,
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


class DatasetWriter:
    """Writes a data set clip by clip; no more than one row group of each table is in memory.

    Use it as a context manager: leaving by an exception drops the temporary files. Clips must come in an order that
    is the same for every build. `models` are mappings of name, sha256 and licence; `generator` names library versions.

    Raises UsageError for impossible shard settings, TalksetError disk_full or not_writable.
    """

    def __init__(
        self,
        root: Path,
        *,
        name: str,
        version: str,
        licence: str,
        config_yaml: str,
        config_digest: str,
        models: Sequence[Mapping[str, str]],
        shards: ShardConfig,
        generator: Mapping[str, str],
    ) -> None:
        if not (1 <= shards.clips_per_row_group <= 4096 and shards.max_shard_mb >= 1 and 1 <= shards.zstd_level <= 22):
            raise UsageError(
                f"impossible shard settings {shards}",
                "Set shards.clips_per_row_group to 1..4096, max_shard_mb to 1 or more, zstd_level to 1..22",
            )
        self.root = root
        self._shards = shards
        self._config_yaml = config_yaml
        self._facts: dict[str, Any] = {
            "name": name,
            "version": version,
            "schema_version": SCHEMA_VERSION,
            "licence": licence,
            "config_digest": config_digest,
            "models": [dict(sorted(model.items())) for model in models],
            "generator": dict(sorted(generator.items())),
        }
        self._statistics = Statistics()
        self._sinks: list[ParquetSink] = []
        self._part: dict[str, ParquetSink] = {}
        self._part_number = 0
        self._part_rows = 0
        self._buffers: dict[str, list[Row]] = {table.name: [] for table in (INDEX, *SHARDED, *LONG)}
        self._counts: dict[str, int] = {table.name: 0 for table in (INDEX, *LONG)}
        self._finished = False
        for folder in (root, *(root / table.name for table in SHARDED)):
            with named_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                remove_partials(folder)
        try:
            for table in (INDEX, *LONG):
                sink = ParquetSink(root / f"{table.name}.parquet", table, shards.zstd_level)
                self._sinks.append(sink)
        except BaseException:
            self.abort()
            raise
        self._single = dict(zip((table.name for table in (INDEX, *LONG)), self._sinks, strict=True))

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._finished:
            self.abort()

    def add(self, record: ClipRecord) -> None:
        """Add the next clip.

        Raises ValueError for a record that does not fit the tables (nothing of it is kept, the writer goes on), or
        TalksetError disk_full / not_writable (the writer is aborted).
        """
        if self._finished:
            raise ValueError(f"the data set at {self.root} is finished or aborted; open a new writer")
        rows = clip_rows(record)
        try:
            self._append(rows)
        except BaseException:
            self.abort()
            raise

    def _append(self, rows: ClipRows) -> None:
        if rows.params is not None and rows.landmarks is not None:
            rows.index["shard"] = self._part_name()
            rows.index["row"] = self._part_rows
            self._part_rows += 1
            self._measure(rows)
            self._buffers["params"].append(rows.params)
            self._buffers["landmarks"].append(rows.landmarks)
            if len(self._buffers["params"]) >= self._shards.clips_per_row_group:
                self._flush_part()
        for name, new in (("index", [rows.index]), ("words", rows.words), ("phones", rows.phones)):
            self._extend(name, new)
        self._extend("events", rows.events)

    def _extend(self, name: str, rows: list[Row]) -> None:
        buffer = self._buffers[name]
        buffer += rows
        if len(buffer) >= ROWS_PER_GROUP:
            self._flush_single(name)

    def _flush_single(self, name: str) -> None:
        buffer = self._buffers[name]
        if buffer:
            table = next(table for table in (INDEX, *LONG) if table.name == name)
            self._single[name].write(to_arrow(table, buffer))
            self._counts[name] += len(buffer)
            buffer.clear()

    def _part_name(self) -> str:
        return f"part-{self._part_number:05d}.parquet"

    def _flush_part(self) -> None:
        """Write the buffered clips as one row group of each sharded table; start a new part when one grew too big."""
        largest = 0
        for table in SHARDED:
            buffer = self._buffers[table.name]
            if not buffer:
                return
            if table.name not in self._part:
                path = self.root / table.name / self._part_name()
                self._part[table.name] = ParquetSink(path, table, self._shards.zstd_level)
                self._sinks.append(self._part[table.name])
            largest = max(largest, self._part[table.name].write(to_arrow(table, buffer)))
            buffer.clear()
        if largest >= self._shards.max_shard_mb << 20:
            self._close_part()

    def _close_part(self) -> None:
        for sink in self._part.values():
            sink.close()
        if self._part:
            self._part = {}
            self._part_number += 1
            self._part_rows = 0

    def _measure(self, rows: ClipRows) -> None:
        for table, row in zip(SHARDED, (rows.params, rows.landmarks), strict=True):
            if row is None:
                continue
            valid, frames = row["valid"], row["num_frames"]
            for column in table.columns:
                if not column.floating:
                    continue
                values = np.asarray(row[column.name], np.float32)
                batch = values.reshape(frames, -1)[valid] if column.per_frame else values.reshape(1, -1)
                self._statistics.add_signal(rows.head_model, column.name, batch)
            if table.name == "params":
                duration = rows.index["end_us"] - rows.index["start_us"]
                self._statistics.add_clip(frames, int(valid.sum()), duration)

    def finish(self) -> Path:
        """Put the data set in place and return its folder.

        The old dataset.json and MANIFEST.sha256 go first and the new ones come last, so a build that dies in between
        is seen as unfinished. Raises ValueError for a clip id that was added twice, TalksetError disk_full or
        not_writable; temporary files are removed then.
        """
        if self._finished:
            raise ValueError(f"the data set at {self.root} is finished or aborted; open a new writer")
        try:
            self._flush_part()
            self._close_part()
            for table in (INDEX, *LONG):
                self._flush_single(table.name)
                self._single[table.name].close()
            index = pq.read_table(partial_path(self.root / "index.parquet"), columns=["clip_id", *CARD_COLUMNS])
            counts = pc.value_counts(index["clip_id"])
            twice = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
            if len(twice):
                raise ValueError(f"the clip id {twice[0].as_py()!r} was added more than once")
            self._commit()
            self._describe(index)
        except BaseException:
            self.abort()
            raise
        self._finished = True
        return self.root

    def _commit(self) -> None:
        for name in (MANIFEST_NAME, "dataset.json"):
            with named_errors(self.root / name):
                (self.root / name).unlink(missing_ok=True)
        sync_folder(self.root)
        for sink in self._sinks:
            sink.commit()
        current = {sink.path for sink in self._sinks}
        for table in SHARDED:
            folder = self.root / table.name
            for part in sorted(folder.glob("part-*.parquet")):
                if part not in current:
                    with named_errors(part):
                        part.unlink()
            sync_folder(folder)
        sync_folder(self.root)

    def _describe(self, index: pa.Table) -> None:
        """Write what is derived from the tables, the list of hashes last."""
        statistics = self._statistics.summary()
        statuses = {pair["values"]: pair["counts"] for pair in pc.value_counts(index["status"]).to_pylist()}
        facts = dict(self._facts)
        facts["licences"] = sorted(pc.unique(index["licence"].drop_null()).to_pylist())
        facts["counts"] = {
            "rows": index.num_rows,
            **{status: statuses.get(status, 0) for status in ("accepted", "rejected", "failed")},
            **{name: self._counts[name] for name in ("words", "phones", "events")},
            **statistics["totals"],
        }
        write_atomic(self.root / "config.yaml", self._config_yaml.encode())
        write_atomic(self.root / "stats.json", _json(statistics))
        write_atomic(self.root / "README.md", render_card(facts, index).encode())
        write_atomic(self.root / "dataset.json", _json(facts))
        refresh_manifest(self.root)

    def abort(self) -> None:
        """Drop all temporary files; what `finish` has put in place before stays."""
        self._finished = True
        for sink in self._sinks:
            sink.discard()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
