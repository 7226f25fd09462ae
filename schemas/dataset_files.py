"""A data set in the making: Arrow tables in, the files of one data set version out, all of them or none.

Everything is written under temporary names and put in place only by `finish`, so a build that dies leaves the
previous version of the data set untouched. The same tables and settings give the same bytes. No more than the tables
at hand is in memory, however long the index grows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.card import render_card
from schemas.config import ShardConfig
from schemas.errors import UsageError
from schemas.figures import MOTION_FIGURE, draw_figures
from schemas.files import (
    MANIFEST_NAME,
    named_errors,
    partial_path,
    refresh_manifest,
    remove_partials,
    sync_folder,
    write_atomic,
)
from schemas.sink import LinkedFile, ParquetSink
from schemas.statistics import Statistics
from schemas.summary import IndexSummary
from schemas.tables import INDEX, LANDMARK_AXIS, LONG, PARAMS, SHARDED, Column, Table
from schemas.unique import UniqueIds

ROWS_PER_GROUP: Final = 16_384
"""Rows of a row group of the index and the long tables: small enough to buffer, large enough for a small footer."""
COLUMNS_FOLDER: Final = "columns"
"""Where columns that a user added live."""


class DatasetFiles:
    """Writes the files of a data set from Arrow tables; leaving the `with` block unfinished drops them.

    `facts` are the leading entries of dataset.json; counts and licences are added. `extra` are sharded tables beside
    params and landmarks, `extra_index` tables with one row for each row of the index (added columns, named
    `columns/<name>`). Raises UsageError for impossible shard settings, TalksetError disk_full or not_writable.
    """

    def __init__(
        self,
        root: Path,
        facts: Mapping[str, Any],
        config_yaml: str,
        shards: ShardConfig,
        extra: Sequence[Table] = (),
        extra_index: Sequence[Table] = (),
    ) -> None:
        if not (1 <= shards.clips_per_row_group <= 4096 and shards.max_shard_mb >= 1 and 1 <= shards.zstd_level <= 22):
            raise UsageError(
                f"impossible shard settings {shards}",
                "Set shards.clips_per_row_group to 1..4096, max_shard_mb to 1 or more, zstd_level to 1..22",
            )
        self.root = root
        self.statistics = Statistics()
        self._facts = dict(facts)
        self._config_yaml = config_yaml
        self._shards = shards
        self._summary = IndexSummary()
        self._ids = UniqueIds()
        self._sharded = {table.name: table for table in (*SHARDED, *extra)}
        single = {table.name: table for table in (INDEX, *LONG, *extra_index)}
        self._counts = dict.fromkeys(single, 0)
        self._sinks: list[ParquetSink | LinkedFile] = []
        self._part: dict[str, ParquetSink] = {}
        self._linked: set[str] = set()
        self._part_number = 0
        self._part_rows = 0
        self.finished = False
        for folder in (root, *(root / name for name in self._sharded)):
            with named_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
                remove_partials(folder)
        self._single: dict[str, ParquetSink] = {}
        try:
            for table in single.values():
                self._single[table.name] = ParquetSink(root / f"{table.name}.parquet", table, shards.zstd_level)
                self._sinks.append(self._single[table.name])
        except BaseException:
            self.abort()
            raise

    def __enter__(self) -> DatasetFiles:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.finished:
            self.abort()

    @property
    def part_name(self) -> str:
        """The part that the next row group goes to."""
        return f"part-{self._part_number:05d}.parquet"

    @property
    def part_rows(self) -> int:
        """Rows of that part so far."""
        return self._part_rows

    def write(self, name: str, rows: pa.Table) -> None:
        """Append rows to the index, a long table or an added index column, as one row group."""
        if name == INDEX.name:
            self._summary.add(rows)
            self._ids.add(rows["clip_id"])
            accepted = accepted_rows(rows)
            length = pc.sum(pc.subtract(accepted["end_us"], accepted["start_us"])).as_py()
            self.statistics.duration_us += length or 0
        self._single[name].write(rows)
        self._counts[name] += rows.num_rows

    def write_group(self, groups: Mapping[str, pa.Table]) -> None:
        """Append the same clips to every sharded table as one row group, and measure them; a full part is closed.

        `groups` has a table of equal length for each sharded table; tables of a linked part are measured only.
        """
        largest = 0
        for name, rows in groups.items():
            measure(self.statistics, self._sharded[name], rows, groups[PARAMS.name])
            if name in self._linked:
                continue
            if name not in self._part:
                path = self.root / name / self.part_name
                self._part[name] = ParquetSink(path, self._sharded[name], self._shards.zstd_level)
                self._sinks.append(self._part[name])
            largest = max(largest, self._part[name].write(rows))
        count_clips(self.statistics, groups[PARAMS.name])
        self._part_rows += groups[PARAMS.name].num_rows
        if largest >= self._shards.max_shard_mb << 20 and not self._linked:
            self.close_part()

    def write_added(self, name: str, rows: pa.Table) -> None:
        """Append a row group of one added column to the linked part at hand, unmeasured."""
        if name not in self._part:
            path = self.root / name / self.part_name
            self._part[name] = ParquetSink(path, self._sharded[name], self._shards.zstd_level)
            self._sinks.append(self._part[name])
        self._part[name].write(rows)

    def link_part(self, files: Mapping[str, Path]) -> None:
        """Begin a part whose files, by table name, exist already: they are linked, not written.

        What is not known about it is measured by passing its row groups to `write_group`; `close_part` ends it.
        """
        self.close_part()
        for name, stored in files.items():
            self._linked.add(name)
            self._sinks.append(LinkedFile(stored, self.root / name / self.part_name))

    def close_part(self) -> None:
        """End the part at hand; the next row group begins a new one."""
        for sink in self._part.values():
            sink.close()
        if self._part or self._linked:
            self._part = {}
            self._linked = set()
            self._part_number += 1
            self._part_rows = 0

    def finish(
        self,
        known_hashes: Mapping[str, str] | None = None,
        statistics: Mapping[str, Any] | None = None,
        motion_figure: bytes | None = None,
    ) -> Path:
        """Put the data set in place and return its folder.

        The old dataset.json and MANIFEST.sha256 go first and the new ones come last, so a build that dies in between
        is seen as unfinished. `known_hashes` are those of linked files, which need no reading. `statistics` and
        `motion_figure` are given where the clips are those of another version and were not measured again.
        Raises ValueError for a clip id that was added twice, TalksetError disk_full or not_writable; temporary files
        are removed then.
        """
        if self.finished:
            raise ValueError(f"the data set at {self.root} is finished or aborted; open a new writer")
        try:
            self.close_part()
            for sink in self._single.values():
                sink.close()
            twice = self._ids.duplicates(self._stored_ids)
            if twice:
                raise ValueError(f"the clip id {twice[0]!r} was added more than once")
            self._commit()
            facts = {**self._facts, "counts": {table.name: self._counts[table.name] for table in LONG}}
            figures = draw_figures(self._summary, self.statistics) if self._shards.figures else {}
            if figures and motion_figure is not None:
                figures[MOTION_FIGURE] = motion_figure
            complete = self.statistics.summary() if statistics is None else statistics
            _describe(self.root, facts, self._config_yaml, self._summary, complete, figures, known_hashes or {})
        except BaseException:
            self.abort()
            raise
        self.finished = True
        return self.root

    def _stored_ids(self) -> Iterable[pa.ChunkedArray]:
        with pq.ParquetFile(partial_path(self._single[INDEX.name].path)) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=["clip_id"])["clip_id"]

    def _commit(self) -> None:
        for name in (MANIFEST_NAME, "dataset.json"):
            with named_errors(self.root / name):
                (self.root / name).unlink(missing_ok=True)
        sync_folder(self.root)
        for sink in self._sinks:
            sink.commit()
        current = {sink.path for sink in self._sinks}
        columns = self.root / COLUMNS_FOLDER
        stale = [*columns.glob("*.parquet"), *columns.glob("*/part-*.parquet")]
        stale += [part for table in SHARDED for part in (self.root / table.name).glob("part-*.parquet")]
        for part in sorted(set(stale) - current):
            with named_errors(part):
                part.unlink()
        for folder in sorted({path.parent for path in (*current, *stale)}):
            sync_folder(folder)

    def abort(self) -> None:
        """Drop all temporary files; what `finish` has put in place before stays."""
        self.finished = True
        for sink in self._sinks:
            sink.discard()


def _describe(
    root: Path,
    facts: Mapping[str, Any],
    config_yaml: str,
    summary: IndexSummary,
    statistics: Mapping[str, Any],
    figures: Mapping[str, bytes],
    known_hashes: Mapping[str, str],
) -> None:
    """Write what is derived from the tables (configuration, statistics, card, facts), the list of hashes last.

    `facts["counts"]` holds the rows of the long tables; `statistics` is the content of stats.json; `figures` maps
    relative names to the pictures of the card.
    """
    complete = dict(facts)
    complete["licences"] = summary.licences()
    complete["counts"] = {**summary.statuses(), **facts["counts"], **statistics["totals"]}
    write_atomic(root / "config.yaml", config_yaml.encode())
    write_atomic(root / "stats.json", as_json(statistics))
    for name, data in figures.items():
        with named_errors(root / name):
            (root / name).parent.mkdir(exist_ok=True)
        write_atomic(root / name, data)
    write_atomic(root / "README.md", render_card(complete, summary, statistics, bool(figures)).encode())
    write_atomic(root / "dataset.json", as_json(complete))
    refresh_manifest(root, known=known_hashes)


def as_json(value: Any) -> bytes:
    """A JSON file as data sets have them."""
    return (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def measure(statistics: Statistics, table: Table, rows: pa.Table, params: pa.Table) -> None:
    """Add the float signals of a row group to the statistics of their head models, measured frames only.

    `params` are the same clips' params: they name the head model, and their mask says which frames were measured
    where `table` has none of its own. Where detectors differ in their landmarks, those of the first have the column's
    name and others `face_xy[68]`.
    """
    source = rows if "valid" in rows.column_names else params
    frames = params["num_frames"].to_numpy()
    mask = flat_values(source["valid"]).astype(bool)
    owner = np.repeat(np.arange(len(frames)), frames)
    names = params["head_model"].to_pylist()
    for model in sorted(set(names)):
        chosen = np.array([name == model for name in names])
        for column in table.columns:
            if not column.floating:
                continue
            stored = rows[column.name]
            for present in _of_one_width(column, stored, chosen & ~stored.is_null().to_numpy(), frames):
                count = int(present[owner].sum() if column.per_frame else present.sum())
                if count == 0:
                    continue
                batch = flat_values(stored.filter(pa.array(present))).reshape(count, -1)
                batch = batch[mask[present[owner]]] if column.per_frame else batch
                if table.name.startswith(COLUMNS_FOLDER):  # a user's own column may have holes
                    batch = batch[np.isfinite(batch).all(axis=1)]
                statistics.add_signal(model, _signal_name(statistics, model, column, batch.shape[1]), batch)


def _of_one_width(
    column: Column, stored: pa.ChunkedArray, present: NDArray[np.bool_], frames: NDArray[np.int32]
) -> list[NDArray[np.bool_]]:
    """Masks of the present rows, one for each number of values a frame, the first row's first.

    Landmarks are as many as the detector has.
    """
    if LANDMARK_AXIS not in (column.shape or ()):
        return [present]
    widths = pc.fill_null(pc.list_value_length(stored), 0).to_numpy() // np.maximum(frames, 1)
    return [present & (widths == width) for width in dict.fromkeys(widths[present].tolist())]


def _signal_name(statistics: Statistics, model: str, column: Column, width: int) -> str:
    """The column's name; with the number of landmarks where another detector's have that name already."""
    known = statistics.signals.get(model, {}).get(column.name)
    if LANDMARK_AXIS not in (column.shape or ()) or known is None or known.sketch.width == width:
        return column.name
    fixed = [axis for axis in column.shape or () if isinstance(axis, int)]
    return f"{column.name}[{width // int(np.prod(fixed, dtype=int))}]"


def count_clips(statistics: Statistics, params: pa.Table) -> None:
    """Count the clips and frames of a row group; their length is known to the index."""
    frames = params["num_frames"].to_numpy()
    valid = np.add.reduceat(flat_values(params["valid"]).astype(np.int64), np.cumsum(frames) - frames)
    for count, seen in zip(frames.tolist(), valid.tolist(), strict=True):
        statistics.add_clip(count, seen, 0)


def flat_values(column: pa.ChunkedArray) -> NDArray[Any]:
    """All values of a list or scalar column as one array."""
    joined = column.combine_chunks()
    if isinstance(joined, pa.ChunkedArray):  # no chunk at all
        joined = pa.concat_arrays(joined.chunks) if joined.num_chunks else pa.array([], column.type)
    values = joined.flatten() if pa.types.is_list(joined.type) else joined
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array


def accepted_rows(index: pa.Table) -> pa.Table:
    """The rows of an index that have parameters."""
    return index.filter(pc.equal(index["status"], "accepted"))
