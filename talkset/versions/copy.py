"""A version with the same clips: parts and media are linked, the index is written again, a column may be added."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from schemas.dataset_files import DatasetFiles, measure
from schemas.figures import MOTION_FIGURE
from schemas.files import write_atomic
from schemas.statistics import Statistics
from schemas.tables import INDEX, LONG, PARAMS, SHARDED, Table
from talkset.versions.version import Version, adopt_files, link_parts, make_facts, new_folder

IndexRows = Callable[[pa.Table], Iterator[pa.Table]]
Values = Callable[[pa.Table], pa.Table]
"""Rows (clip_id and more) -> the same clips' rows of the added table."""


def copy_version(
    source: Version,
    out: Path,
    operation: str,
    parameters: Mapping[str, Any],
    version: str,
    *,
    index: IndexRows | None = None,
    facts: Mapping[str, Any] | None = None,
    added: Table | None = None,
    values: Values | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Write a version with the clips of `source`; returns its folder.

    `index` changes the row groups of the index. `added` is the table of a new column, named `columns/<name>`, and
    `values` makes its rows: from rows of the index when `added` has no frames, else from rows of params. `facts` go
    into dataset.json, `files` (by path in the folder) stand beside those of the source, or in their place.
    Raises UsageError when `out` exists, TalksetError for damage or a full disk.
    """
    sharded = [*SHARDED, *source.sidecar_tables("params")]
    single = list(source.sidecar_tables("index"))
    per_frame = added is not None and "num_frames" in [column.name for column in added.columns]
    new_sharded = [added] if added is not None and per_frame else []
    new_single = [added] if added is not None and not per_frame else []
    stats = json.loads((source.root / "stats.json").read_bytes())
    with new_folder(out) as staging:
        complete = {**make_facts([source], operation, parameters, name=None, version=version), **(facts or {})}
        extra, extra_index = (*sharded[len(SHARDED) :], *new_sharded), (*single, *new_single)
        with DatasetFiles(staging, complete, source.config_yaml, source.shards, extra, extra_index) as writer:
            hashes: dict[str, str] = {}
            measured = Statistics()
            for part in source.part_names:
                hashes |= link_parts(source, writer, [table.name for table in sharded], part)
                for table in new_sharded:
                    _add_part(source, writer, part, table, values, measured)
                writer.close_part()
            _write_index(source, writer, index, single, new_single, values)
            for table in LONG:
                for group in source.row_groups(f"{table.name}.parquet"):
                    writer.write(table.name, group)
            for name, content in (files or {}).items():
                (staging / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomic(staging / name, content)
            hashes |= adopt_files(source, staging)
            _merge_signals(stats, measured.summary())
            figure = source.root / MOTION_FIGURE
            writer.finish(hashes, stats, figure.read_bytes() if figure.is_file() else None)
    return out


def _add_part(
    source: Version, files: DatasetFiles, part: str, table: Table, values: Values | None, measured: Statistics
) -> None:
    columns = ["clip_id", "num_frames", "head_model", "valid"]
    for params in source.row_groups(f"{PARAMS.name}/{part}", columns):
        rows = values(params) if values is not None else params
        measure(measured, table, rows, params)
        files.write_added(table.name, rows)


def _write_index(
    source: Version,
    files: DatasetFiles,
    index: IndexRows | None,
    single: list[Table],
    new_single: list[Table],
    values: Values | None,
) -> None:
    readers = {table.name: source.row_groups(f"{table.name}.parquet") for table in single}
    for group in source.row_groups(f"{INDEX.name}.parquet"):
        for rows in index(group) if index is not None else (group,):
            files.write(INDEX.name, rows)
        for table in single:
            files.write(table.name, next(readers[table.name]))
        for table in new_single:
            files.write(table.name, values(group) if values is not None else group)


def _merge_signals(stats: dict[str, Any], new: Mapping[str, Any]) -> None:
    """Add the statistics of a new column to those that are known."""
    for model, signals in new["signals"].items():
        stats["signals"].setdefault(model, {}).update(signals)
