"""Writing a data set clip by clip: records go in one after the other, row groups of Arrow tables come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from schemas.config import ShardConfig
from schemas.dataset_files import ROWS_PER_GROUP, DatasetFiles
from schemas.records import ClipRecord, ClipRows, Row, clip_rows, to_arrow
from schemas.tables import INDEX, LONG, SCHEMA_VERSION, SHARDED

__all__ = ["ClipRecord", "DatasetWriter"]

_SINGLE = {table.name: table for table in (INDEX, *LONG)}


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
        facts = {
            "name": name,
            "version": version,
            "schema_version": SCHEMA_VERSION,
            "licence": licence,
            "config_digest": config_digest,
            "models": [dict(sorted(model.items())) for model in models],
            "generator": dict(sorted(generator.items())),
            "history": [],
            "sidecars": [],
        }
        self._files = DatasetFiles(root, facts, config_yaml, shards)
        self._clips_per_group = shards.clips_per_row_group
        self._buffers: dict[str, list[Row]] = {table.name: [] for table in (INDEX, *SHARDED, *LONG)}

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    @property
    def root(self) -> Path:
        """The folder of the data set."""
        return self._files.root

    def add(self, record: ClipRecord) -> None:
        """Add the next clip.

        Raises ValueError for a record that does not fit the tables (nothing of it is kept, the writer goes on), or
        TalksetError disk_full / not_writable (the writer is aborted).
        """
        if self._files.finished:
            raise ValueError(f"the data set at {self.root} is finished or aborted; open a new writer")
        rows = clip_rows(record)
        try:
            self._append(rows)
        except BaseException:
            self._files.abort()
            raise

    def _append(self, rows: ClipRows) -> None:
        if rows.params is not None and rows.landmarks is not None:
            rows.index["shard"] = self._files.part_name
            rows.index["row"] = self._files.part_rows + len(self._buffers["params"])
            self._buffers["params"].append(rows.params)
            self._buffers["landmarks"].append(rows.landmarks)
            if len(self._buffers["params"]) >= self._clips_per_group:
                self._flush_group()
        self._extend("index", [rows.index])
        for name, new in (("words", rows.words), ("phones", rows.phones), ("events", rows.events)):
            self._extend(name, new)

    def _extend(self, name: str, rows: list[Row]) -> None:
        buffer = self._buffers[name]
        buffer += rows
        if len(buffer) >= ROWS_PER_GROUP:
            self._flush_single(name)

    def _flush_single(self, name: str) -> None:
        buffer = self._buffers[name]
        if buffer:
            self._files.write(name, to_arrow(_SINGLE[name], buffer))
            buffer.clear()

    def _flush_group(self) -> None:
        """Write the buffered clips as one row group of each sharded table."""
        if self._buffers["params"]:
            groups = {table.name: to_arrow(table, self._buffers[table.name]) for table in SHARDED}
            self._files.write_group(groups)
            for table in SHARDED:
                self._buffers[table.name].clear()

    def finish(self) -> Path:
        """Put the data set in place and return its folder; see `DatasetFiles.finish`."""
        if not self._files.finished:
            try:
                self._flush_group()
                for name in _SINGLE:
                    self._flush_single(name)
            except BaseException:
                self._files.abort()
                raise
        return self._files.finish()

    def abort(self) -> None:
        """Drop all temporary files; what `finish` has put in place before stays."""
        self._files.abort()
