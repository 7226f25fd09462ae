"""Proof that a data set on disk is complete, unchanged and consistent with itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.errors import REASONS, TalksetError
from schemas.files import MANIFEST_NAME, list_files, read_checksums, sha256_file
from schemas.tables import INDEX, LONG, SAFE_NAME, SHARDED, STATUSES, Column, Table


@dataclass(frozen=True)
class Problem:
    """Something wrong with one file of a data set."""

    file: str
    """Path relative to the data set."""
    message: str


@dataclass(frozen=True)
class _Clips:
    """What the index says about the accepted clips."""

    ids: pa.Array
    duration_us: NDArray[np.int64]
    num_frames: NDArray[np.int64]
    places: dict[tuple[str, int], int]
    """(shard, row) -> position in the arrays."""


def verify_dataset(root: Path) -> list[Problem]:
    """Every problem of a data set: hashes, missing and unlisted files, schemas, page checksums, and contradictions.

    A file whose hash is wrong is reported and not looked into, because its content means nothing.
    Raises TalksetError (missing_file) when `root` is not a folder.
    """
    if not root.is_dir():
        raise TalksetError("missing_file", f"{root} is not a folder", "Give the folder of a data set")
    problems: list[Problem] = []
    damaged = _check_hashes(root, problems)
    facts = None if "dataset.json" in damaged else _check_json(root, "dataset.json", problems)
    if "stats.json" not in damaged:
        _check_json(root, "stats.json", problems)
    clips = None
    if "index.parquet" not in damaged:
        index = _read_index(root, problems)
        if index is not None:
            clips = _check_index(index, problems)
            if facts is not None and facts.get("counts", {}).get("rows") != index.num_rows:
                message = f"counts {facts.get('counts', {}).get('rows')} rows, index.parquet has {index.num_rows}"
                problems.append(Problem("dataset.json", message))
    widths: dict[tuple[str, str], int] = {}
    for table in SHARDED:
        _check_parts(root, table, clips, damaged, widths, problems)
    for table in LONG:
        if f"{table.name}.parquet" not in damaged:
            _check_long(root, table, clips, problems)
    return problems


def _check_hashes(root: Path, problems: list[Problem]) -> set[str]:
    """Compare the files with MANIFEST.sha256; returns those that are damaged or missing."""
    damaged: set[str] = set()
    try:
        listed = read_checksums(root)
    except TalksetError as error:
        problems.append(Problem(MANIFEST_NAME, error.message))
        return damaged
    try:
        present = set(list_files(root))
    except TalksetError as error:
        problems.append(Problem(MANIFEST_NAME, error.message))
        present = set()
    for name in sorted(present - listed.keys()):
        problems.append(Problem(name, f"is not listed in {MANIFEST_NAME}"))
    for name, expected in sorted(listed.items()):
        try:
            found = sha256_file(root / name)
        except OSError as error:
            problems.append(Problem(name, f"cannot be read: {error.strerror or error}"))
            damaged.add(name)
            continue
        if found != expected:
            problems.append(Problem(name, f"sha256 is {found}, {MANIFEST_NAME} says {expected}"))
            damaged.add(name)
    return damaged


def _check_json(root: Path, name: str, problems: list[Problem]) -> dict[str, Any] | None:
    try:
        value = json.loads((root / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(Problem(name, f"cannot be read: {error}"))
        return None
    if not isinstance(value, dict):
        problems.append(Problem(name, f"must hold an object, got {type(value).__name__}"))
        return None
    return value


def _row_groups(root: Path, name: str, table: Table, problems: list[Problem]) -> Iterator[pa.Table]:
    """The row groups of a file, page checksums verified; a wrong schema or an unreadable page ends the file."""
    try:
        with pq.ParquetFile(root / name, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(table.schema, check_metadata=True):
                problems.append(Problem(name, f"{_difference(file.schema_arrow, table.schema)}"))
                return
            for group in range(file.num_row_groups):
                rows = file.read_row_group(group)
                rows.validate(full=True)
                for field in table.schema:
                    if not field.nullable and rows[field.name].null_count:
                        problems.append(Problem(name, f"row group {group}: {field.name} has nulls"))
                        return
                yield rows
    except (OSError, pa.ArrowException) as error:
        problems.append(Problem(name, f"cannot be read: {error}"))


def _difference(found: pa.Schema, expected: pa.Schema) -> str:
    if found.names != expected.names:
        missing = [name for name in expected.names if name not in found.names]
        extra = [name for name in found.names if name not in expected.names]
        return f"schema differs: missing columns {missing}, unknown columns {extra}, or another order"
    for name in expected.names:
        if not found.field(name).equals(expected.field(name), check_metadata=True):
            return f"schema differs at {name}: {found.field(name)} against {expected.field(name)}, or its metadata"
    return "schema differs in the metadata of the table (name or schema version)"


def _read_index(root: Path, problems: list[Problem]) -> pa.Table | None:
    before = len(problems)
    groups = list(_row_groups(root, "index.parquet", INDEX, problems))
    if len(problems) > before:
        return None
    return pa.concat_tables(groups) if groups else INDEX.schema.empty_table()


def _check_index(index: pa.Table, problems: list[Problem]) -> _Clips:
    name = "index.parquet"

    def report(clip_id: str, message: str) -> None:
        problems.append(Problem(name, f"clip {clip_id}: {message}"))

    columns = ("clip_id", "status", "reason", "shard", "row", "num_frames", "start_us", "end_us")
    seen: set[str] = set()
    ids: list[str] = []
    durations: list[int] = []
    frames: list[int] = []
    places: dict[tuple[str, int], int] = {}
    rows = zip(*(index[column].to_pylist() for column in columns), strict=True)
    for clip_id, status, reason, shard, row, num_frames, start_us, end_us in rows:
        if clip_id in seen:
            report(clip_id, "occurs twice")
        seen.add(clip_id)
        for what, value in (("clip_id", clip_id), ("shard", shard)):
            if value is not None and SAFE_NAME.fullmatch(value) is None:
                report(clip_id, f"{what} {value!r} is not a plain file name")
        if status not in STATUSES:
            report(clip_id, f"status {status!r} is none of {', '.join(STATUSES)}")
        if status != "accepted":
            if reason not in REASONS:
                report(clip_id, f"status {status} with the unknown reason {reason!r}")
            if shard is not None or row is not None:
                report(clip_id, f"status {status} must not have parameters")
            continue
        if None in (shard, row, num_frames, start_us, end_us):
            report(clip_id, "is accepted without shard, row, num_frames, start_us or end_us")
            continue
        if (shard, row) in places:
            report(clip_id, f"shares {shard} row {row} with another clip")
        places[shard, row] = len(ids)
        ids.append(clip_id)
        durations.append(end_us - start_us)
        frames.append(num_frames)
    clip_ids = pa.array(ids, type=pa.string())
    return _Clips(clip_ids, np.array(durations, np.int64), np.array(frames, np.int64), places)


def _check_parts(
    root: Path,
    table: Table,
    clips: _Clips | None,
    damaged: set[str],
    widths: dict[tuple[str, str], int],
    problems: list[Problem],
) -> None:
    present = {path.name for path in (root / table.name).glob("part-*.parquet")}
    expected: dict[str, int] = {}
    for shard, _ in clips.places if clips else ():
        expected[shard] = expected.get(shard, 0) + 1
    for shard in sorted(set(expected) - present):
        if f"{table.name}/{shard}" not in damaged:  # a listed file that is missing has been reported
            problems.append(Problem(f"{table.name}/{shard}", f"is missing, the index has {expected[shard]} rows in it"))
    for shard in sorted(present):
        name = f"{table.name}/{shard}"
        if name in damaged:
            continue
        before, row = len(problems), 0
        for group in _row_groups(root, name, table, problems):
            values = {column.name: group[column.name].combine_chunks() for column in table.columns}
            for offset in range(group.num_rows):
                for message in _check_clip(table, values, offset, (shard, row), clips, widths):
                    problems.append(Problem(name, f"row {row}: {message}"))
                row += 1
        if clips and len(problems) == before and row != expected.get(shard, 0):
            problems.append(Problem(name, f"has {row} rows, the index has {expected.get(shard, 0)} in it"))


def _check_clip(
    table: Table,
    values: dict[str, pa.Array],
    offset: int,
    place: tuple[str, int],
    clips: _Clips | None,
    widths: dict[tuple[str, str], int],
) -> Iterator[str]:
    """What is wrong with one row of a sharded table."""
    frames = values["num_frames"][offset].as_py()
    duration = None
    if clips is not None:
        position = clips.places.get(place)
        if position is None:
            yield "is not in the index"
            return
        clip_id = clips.ids[position].as_py()
        duration = int(clips.duration_us[position])
        if values["clip_id"][offset].as_py() != clip_id:
            yield f"holds clip {values['clip_id'][offset]}, the index says {clip_id}"
        if frames != clips.num_frames[position]:
            yield f"has {frames} frames, the index says {clips.num_frames[position]}"
    model = values["head_model"][offset].as_py() if "head_model" in values else ""
    arrays: dict[str, NDArray[Any]] = {}
    for column in table.columns:
        cell = values[column.name][offset]
        if not cell.is_valid:
            yield f"{column.name} is null"
        elif column.shape is not None:
            flat = cell.values.to_numpy(zero_copy_only=False)
            message = _check_length(column, len(flat), frames, widths, model)
            if message:
                yield message
            else:
                arrays[column.name] = flat
    if "pts_us" in arrays:
        pts = arrays["pts_us"]
        if len(pts) and (pts[0] < 0 or (np.diff(pts) <= 0).any() or (duration is not None and pts[-1] >= duration)):
            yield f"pts_us does not rise from 0 or later to before the end of the clip ({duration} us)"
    if "valid" in arrays:
        valid = arrays["valid"].astype(bool)
        for column in table.columns:
            if column.floating and column.name in arrays:
                flat = arrays[column.name]
                measured = flat.reshape(frames, -1)[valid] if column.per_frame and frames else flat
                if not np.isfinite(measured).all():
                    yield f"{column.name} is not finite where it is valid"


def _check_length(column: Column, length: int, frames: int, widths: dict[tuple[str, str], int], model: str) -> str:
    """The list length against num_frames x width; model-sized axes must have one size for each model."""
    fixed, symbol = 1, ""
    for axis in column.shape or ():
        if axis == "T":
            fixed *= frames
        elif isinstance(axis, int):
            fixed *= axis
        else:
            symbol = axis
    if symbol:
        size = length // fixed if fixed else 0
        known = widths.setdefault((model, symbol), size)
        if size * fixed != length or known != size:
            return f"{column.name} has {length} values, expected {fixed} x {known} for {model}"
    elif length != fixed:
        return f"{column.name} has {length} values, expected {fixed}"
    return ""


def _check_long(root: Path, table: Table, clips: _Clips | None, problems: list[Problem]) -> None:
    name = f"{table.name}.parquet"
    first = 0
    for group in _row_groups(root, name, table, problems):
        start, end = group["start_us"].to_numpy(), group["end_us"].to_numpy()
        wrong = (start < 0) | (end < start)
        if clips is not None:
            positions = pc.fill_null(pc.index_in(group["clip_id"], value_set=clips.ids), -1).to_numpy()
            for row in np.flatnonzero(positions < 0):
                message = f"row {first + row}: clip {group['clip_id'][row]} is not an accepted clip of the index"
                problems.append(Problem(name, message))
            if len(clips.duration_us):
                wrong |= (positions >= 0) & (end > clips.duration_us[positions])
        for row in np.flatnonzero(wrong):
            message = f"row {first + row}: {start[row]}..{end[row]} us is outside clip {group['clip_id'][row]}"
            problems.append(Problem(name, message))
        first += group.num_rows
