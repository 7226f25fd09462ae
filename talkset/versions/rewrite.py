"""Versions with fewer clips or newer columns: `filter` and `upgrade` write every table again, by row groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.dataset_files import ROWS_PER_GROUP, DatasetFiles
from schemas.errors import TalksetError, UsageError
from schemas.tables import INDEX, LONG, PARAMS, SCHEMA_VERSION, SHARDED, WORDS, Table, version_key
from talkset.index import FILE, Index
from talkset.store import Store
from talkset.versions.version import Version, adopt_files, conform, make_facts, new_folder, next_version


def filter_dataset(
    root: Path,
    out: Path,
    where: str | None = None,
    split: str | None = None,
    *,
    name: str | None = None,
    version: str | None = None,
) -> Path:
    """A version with only the clips that pass, as `open_dataset(where=, split=)` selects them; returns its folder.

    Rows of rejected and failed clips go too unless `where` mentions `status`. A MAJOR change of the data.
    Raises UsageError for a bad filter, when nothing passes or `out` exists, TalksetError for damage or a full disk;
    `root` is never touched.
    """
    source = Version.read(root)
    try:
        index = Index(Store(root)).select(where, split)
    except ValueError as error:  # of the reader: a filter that cannot be used
        raise UsageError(str(error), "Correct --where; the columns are in docs/dataset.md") from error
    if not len(index):
        raise UsageError(f"no clip of {root} passes where={where!r} split={split!r}", "Loosen the condition")
    parameters = {"where": where, "split": split, "rows_before": source.facts["counts"]["rows"], "rows": len(index)}
    new = version or next_version(str(source.facts["version"]), "MAJOR")
    with new_folder(out) as staging:
        facts = make_facts([source], "filter", parameters, name=name, version=new)
        rewrite_version(source, staging, facts, index.numbers)
    return out


def upgrade_dataset(root: Path, out: Path, *, version: str | None = None) -> Path:
    """The same data in the current schema version; returns its folder. A MINOR change of the data.

    Raises UsageError for a data set that is current, newer, or of a MAJOR version without a known way up.
    """
    source = Version.read(root, any_schema=True)
    found = str(source.facts["schema_version"])
    if version_key(found) >= version_key(SCHEMA_VERSION):
        newer = version_key(found) > version_key(SCHEMA_VERSION)
        remedy = "Install a newer talkset to read it" if newer else "There is nothing to do"
        raise UsageError(f"{root} has schema version {found}, this talkset writes {SCHEMA_VERSION}", remedy)
    if version_key(found)[0] != version_key(SCHEMA_VERSION)[0]:
        message = f"{root} has schema version {found}, from which no way to {SCHEMA_VERSION} is known"
        raise UsageError(message, "Build it again with `talkset run`")
    new = version or next_version(str(source.facts["version"]), "MINOR")
    with new_folder(out) as staging:
        facts = make_facts([source], "upgrade", {"from": found, "to": SCHEMA_VERSION}, name=None, version=new)
        rewrite_version(source, staging, facts, None)
    return out


def rewrite_version(
    source: Version,
    staging: Path,
    facts: dict[str, object],
    rows: NDArray[np.int64] | None,
    change: Callable[[pa.Table], pa.Table] | None = None,
    replaced: Mapping[str, Mapping[str, pa.Table]] | None = None,
) -> None:
    """Write the chosen index rows (all for None) and everything that belongs to them into a folder in the making.

    `change` gives row groups of the index new values. `replaced` has for a long table, by clip id, the rows that take
    the place of the clip's own. Raises TalksetError for damage or a full disk.
    """
    extra, extra_index = source.sidecar_tables("params"), source.sidecar_tables("index")
    with DatasetFiles(staging, facts, source.config_yaml, source.shards, extra, extra_index) as files:
        parts = _Parts(source, files, (*SHARDED, *extra))
        kept = []
        first = 0
        readers = [source.row_groups(f"{table.name}.parquet") for table in extra_index]
        for group in source.row_groups(FILE):
            numbers = _inside(rows, first, group.num_rows)
            first += group.num_rows
            added = [next(reader).take(pa.array(numbers)) for reader in readers]
            chosen = conform(group, INDEX).take(pa.array(numbers))
            if chosen.num_rows:
                placed = parts.place(chosen)
                placed = placed if change is None else change(placed)
                kept.append(placed["clip_id"].combine_chunks())
                files.write(INDEX.name, placed)
                for table, values in zip(extra_index, added, strict=True):
                    files.write(table.name, values)
        parts.flush()
        ids = pa.chunked_array(kept, pa.string())
        for table in LONG:
            _filter_long(source, files, table, None if rows is None else ids, (replaced or {}).get(table.name, {}))
        hashes = adopt_files(source, staging, None if rows is None else ids.to_pylist())
        files.finish(hashes)


def _inside(rows: NDArray[np.int64] | None, first: int, count: int) -> NDArray[np.int64]:
    """Those of the chosen row numbers that fall into a row group, counted from its start."""
    if rows is None:
        return np.arange(count, dtype=np.int64)
    low, high = np.searchsorted(rows, (first, first + count))
    return rows[low:high] - first


def _filter_long(
    source: Version,
    files: DatasetFiles,
    table: Table,
    ids: pa.ChunkedArray | None,
    replaced: Mapping[str, pa.Table],
) -> None:
    """Copy the rows of kept clips, in row groups of ordinary size; replaced ones come last."""
    waiting: list[pa.Table] = []
    count = 0
    numbered: dict[str, int] = {}
    value_set = None if ids is None else ids.combine_chunks()
    for group in source.row_groups(f"{table.name}.parquet"):
        kept = group if value_set is None else group.filter(pc.is_in(group["clip_id"], value_set=value_set))
        if replaced:
            kept = kept.filter(pc.invert(pc.is_in(kept["clip_id"], value_set=pa.array(list(replaced), pa.string()))))
        if table is WORDS and "position" not in kept.column_names:  # before schema 1.5.0 rows came by start
            kept = kept.append_column("position", _numbers(kept["clip_id"], numbered))
        waiting.append(conform(kept, table))
        count += kept.num_rows
        if count >= ROWS_PER_GROUP:
            files.write(table.name, pa.concat_tables(waiting).combine_chunks())
            waiting, count = [], 0
    for rows in replaced.values():
        waiting.append(conform(rows, table))
        count += rows.num_rows
    if count:
        files.write(table.name, pa.concat_tables(waiting).combine_chunks())


def _numbers(ids: pa.ChunkedArray, known: dict[str, int]) -> pa.Array:
    """The place of each row among those of its clip; `known` has how many came before, and is brought up to date."""
    numbers = []
    for clip_id in ids.to_pylist():
        numbers.append(known.get(clip_id, 0))
        known[clip_id] = numbers[-1] + 1
    return pa.array(numbers, pa.int32())


class _Parts:
    """Takes clips out of the stored parts, in the order of the index, and fills new row groups with them."""

    def __init__(self, source: Version, files: DatasetFiles, tables: tuple[Table, ...]) -> None:
        self._source = source
        self._files = files
        self._tables = tables
        self._size = source.shards.clips_per_row_group
        self._waiting: list[tuple[dict[str, pa.Table], int]] = []
        self._reader: Iterator[tuple[int, dict[str, pa.Table]]] = iter(())
        self._part = ""
        self._first = 0
        self._group: dict[str, pa.Table] = {}

    def place(self, index: pa.Table) -> pa.Table:
        """Take over the clips of these index rows; returns the rows with their new part and row."""
        shards, rows = index["shard"].to_pylist(), index["row"].to_pylist()
        models: list[str | None] = []
        new_shards: list[str | None] = []
        new_rows: list[int | None] = []
        for shard, row in zip(shards, rows, strict=True):
            if shard is None:
                models.append(None)
                new_shards.append(None)
                new_rows.append(None)
                continue
            place = self._find(shard, row)
            new_shards.append(self._files.part_name)
            new_rows.append(self._files.part_rows + len(self._waiting))
            models.append(self._group[PARAMS.name]["head_model"][place].as_py())
            self._waiting.append((self._group, place))
            if len(self._waiting) >= self._size:
                self.flush()
        for name, values in (("shard", new_shards), ("row", new_rows), ("head_model", models)):
            position = index.schema.get_field_index(name)
            field = index.schema.field(name)
            index = index.set_column(position, field, pa.array(values, field.type))
        return index

    def _find(self, shard: str, row: int) -> int:
        """Make the row group of a clip the one at hand; returns its row in there."""
        if shard != self._part or row < self._first:
            self._part, self._first, self._group = shard, 0, {}
            self._reader = self._groups(shard)
        while not self._group or row >= self._first + self._group[PARAMS.name].num_rows:
            try:
                self._first, self._group = next(self._reader)
            except StopIteration:
                message = f"{self._source.root}: part {shard} has no row {row}, which the index names"
                raise TalksetError("corrupt_data", message, "Run `talkset verify`") from None
        return row - self._first

    def _groups(self, shard: str) -> Iterator[tuple[int, dict[str, pa.Table]]]:
        first = 0
        names = [table.name for table in self._tables]
        readers = [self._source.row_groups(f"{name}/{shard}") for name in names]
        for groups in zip(*readers, strict=True):
            yield first, dict(zip(names, groups, strict=True))
            first += groups[0].num_rows

    def flush(self) -> None:
        """Write the waiting clips as one row group."""
        if not self._waiting:
            return
        runs: list[tuple[dict[str, pa.Table], list[int]]] = []
        for group, row in self._waiting:
            if not runs or runs[-1][0] is not group:
                runs.append((group, []))
            runs[-1][1].append(row)
        new = {}
        for table in self._tables:
            taken = [group[table.name].take(pa.array(rows)) for group, rows in runs]
            current = Table(table.name, table.columns)
            new[table.name] = conform(pa.concat_tables(taken).combine_chunks(), current)
        self._files.write_group(new)
        self._waiting.clear()
