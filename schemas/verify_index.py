"""The index against its contract, and what the checks of all other tables need to know of it."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.errors import REASONS
from schemas.tables import SAFE_NAME, STATUSES, version_key
from schemas.verify_parquet import Source, read_batches
from schemas.verify_values import Bool, Int64, Rows, check_scalars, integers, shown

_PLAIN_NAME: Final = rf"\A{SAFE_NAME.pattern}\z"
_PLACED: Final = ("shard", "row", "num_frames", "start_us", "end_us")
"""What an accepted clip must have."""
_OWNERS: Final = ("source_id", "source_sha256", "speaker")
"""What may not have accepted clips in two splits."""
_COPIES: Final = "duplicate_group"
"""The same holds for the copies of a clip; a column of schema version 1.4.0."""
_NO_ZERO_FRAMES: Final = (1, 1, 0)
"""Before this schema version rows without parameters had 0 frames rather than none."""
_REVIEWS: Final = ("accept", "reject")


class Codes:
    """Small numbers for texts that occur again and again; absent text is -1."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._known: dict[str, int] = {}

    def encode(self, column: pa.Array) -> NDArray[np.int32]:
        """The code of every value."""
        encoded = column.dictionary_encode()
        codes = [self._known.setdefault(name, len(self._known)) for name in encoded.dictionary.to_pylist()]
        self.names += list(self._known)[len(self.names) :]
        table = np.array([*codes, -1], np.int32)
        found: NDArray[np.int32] = table[encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
        return found

    def name(self, code: int) -> str | None:
        """The text of a code."""
        return None if code < 0 else self.names[code]


@dataclass(frozen=True)
class Clips:
    """What the index says: of all rows id and number of frames, of accepted clips all that other tables repeat."""

    every_id: pa.ChunkedArray
    every_num_frames: Int64
    """0 where the index has none."""
    status_counts: dict[str, int]
    ids: pa.Array
    """Accepted clips that have a place, as are all that follow."""
    duration_us: Int64
    num_frames: Int64
    valid_ratio: NDArray[np.float64]
    """NaN where the index has none."""
    head_model: NDArray[np.int32] | None
    """Codes of the names; None where the schema has no such column."""
    shards: Codes
    shard: NDArray[np.int32]
    row: Int64
    order: Int64
    """The clips sorted by shard and row."""
    bounds: dict[str, slice]
    """Where each shard is in `order`."""

    def rows_of(self, shard: str) -> Int64:
        """Clips of a shard, sorted by row."""
        return self.order[self.bounds.get(shard, slice(0, 0))]

    def find(self, ids: pa.Array, start: int = 0) -> Int64:
        """Positions of clip ids among the accepted clips, -1 for those that are not there.

        Long tables have the order of the index, so the search begins at `start` and widens only where needed.
        """
        wanted = ids.dictionary_encode()
        unique = wanted.dictionary.cast(pa.large_string())
        found = np.full(len(unique), -1, np.int64)
        width = 4 * len(unique)
        while (found < 0).any():
            place = pc.index_in(unique, value_set=self.ids.slice(start, width))
            hit = place.is_valid().to_numpy(zero_copy_only=False)
            found[hit] = place.drop_null().to_numpy() + start
            if start == 0 and width >= len(self.ids):
                break
            start, width = (start, 4 * width) if start + width < len(self.ids) else (0, len(self.ids))
        found = np.append(found, -1)
        positions: Int64 = found[wanted.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
        return positions


class _Kept:
    """Columns of the accepted rows, gathered batch by batch."""

    def __init__(self) -> None:
        self.arrays: dict[str, list[Any]] = {}

    def add(self, name: str, values: Any) -> None:
        self.arrays.setdefault(name, []).append(values)

    def numbers(self, name: str, kind: Any = np.int64) -> NDArray[Any]:
        joined: NDArray[Any] = np.concatenate([*self.arrays.get(name, []), np.empty(0, kind)]).astype(kind, copy=False)
        return joined

    def text(self, name: str) -> pa.ChunkedArray:
        return pa.chunked_array(self.arrays.get(name, []), type=pa.large_string())


def check_index(source: Source, models: Codes, split_by: Any) -> Clips | None:
    """Check index.parquet; None when it could not be read to its end.

    `models` numbers the head models. `split_by` is what dataset.json says of the split: "speaker" forbids a speaker in
    two splits.
    """
    kept, shards = _Kept(), Codes()
    counts = dict.fromkeys(STATUSES, 0)
    for first, batch in read_batches(source):
        rows = Rows(source.report, source.name, first, dict(zip(batch.schema.names, batch.columns, strict=True)))
        accepted = _check_rows(rows, source)
        for status in STATUSES:
            counts[status] += pc.sum(pc.equal(rows.values["status"], status)).as_py() or 0
        kept.add("every_id", rows.values["clip_id"].cast(pa.large_string()))
        kept.add("every_num_frames", integers(rows.values["num_frames"]))
        placed = pa.array(accepted)
        clips = {name: array.filter(placed) for name, array in rows.values.items()}
        for name in ("clip_id", "split", *_OWNERS, *([_COPIES] if _COPIES in clips else [])):
            kept.add(name, clips[name].cast(pa.large_string()))
        for name in ("num_frames", "row"):
            kept.add(name, integers(clips[name]))
        kept.add("duration_us", integers(clips["end_us"]) - integers(clips["start_us"]))
        kept.add("valid_ratio", clips["valid_ratio"].fill_null(float("nan")).to_numpy(zero_copy_only=False))
        kept.add("shard", shards.encode(clips["shard"]))
        if "head_model" in clips:
            kept.add("head_model", models.encode(clips["head_model"]))
    if source.name in source.report.unread:
        return None
    shard, row = kept.numbers("shard", np.int32), kept.numbers("row")
    order: Int64 = np.lexsort((row, shard))
    ends = np.searchsorted(shard[order], np.arange(len(shards.names) + 1))
    found = Clips(
        every_id=kept.text("every_id"),
        every_num_frames=kept.numbers("every_num_frames"),
        status_counts=counts,
        ids=kept.text("clip_id").combine_chunks(),
        duration_us=kept.numbers("duration_us"),
        num_frames=kept.numbers("num_frames"),
        valid_ratio=kept.numbers("valid_ratio", np.float64),
        head_model=kept.numbers("head_model", np.int32) if "head_model" in source.table.schema.names else None,
        shards=shards,
        shard=shard,
        row=row,
        order=order,
        bounds={name: slice(*ends[code : code + 2].tolist()) for code, name in enumerate(shards.names)},
    )
    _check_ids(source, found)
    _check_places(source, found)
    owners = _OWNERS if split_by == "speaker" else _OWNERS[:2]
    for owner in (*owners, *([_COPIES] if _COPIES in source.table.schema.names else [])):
        _check_splits(source, owner, kept.text(owner), kept.text("split"))
    return found


def _check_rows(rows: Rows, source: Source) -> Bool:
    """Check every row for itself; returns which are accepted and have all that an accepted clip needs."""
    values = rows.values
    status, reason = values["status"], values["reason"]
    accepted = _true(pc.equal(status, "accepted"))
    missing = np.zeros(len(rows), bool)
    for name in _PLACED:
        missing |= ~_true(values[name].is_valid())
    numbers = dict(values)
    if version_key(source.table.version) < _NO_ZERO_FRAMES:
        absent = pa.array(~accepted & (integers(values["num_frames"]) == 0))
        numbers["num_frames"] = pc.if_else(absent, pa.scalar(None, pa.int32()), values["num_frames"])
    check_scalars(dataclasses.replace(rows, values=numbers), source.table.columns)

    for name in ("clip_id", "shard"):
        plain = _true(pc.match_substring_regex(values[name], _PLAIN_NAME).fill_null(True))
        rows.report_rows(f"{name} is no file name", ~plain, functools.partial(_not_plain, name, values[name]))
    known = _true(pc.is_in(status, value_set=pa.array(STATUSES)))
    rows.report_rows("unknown status", ~known, lambda n: f"status {_text(status[n])} is none of {', '.join(STATUSES)}")
    explained = _true(pc.is_in(reason, value_set=pa.array(list(REASONS))))
    rows.report_rows(
        "no known reason",
        ~accepted & ~explained,
        lambda n: (
            f"status {status[n]} with the unknown reason {_text(reason[n])}, expected one of schemas.errors.REASONS"
        ),
    )
    rows.report_rows(
        "accepted with a reason",
        accepted & _true(reason.is_valid()),
        lambda n: f"is accepted with the reason {_text(reason[n])}, expected none",
    )
    placed = _true(pc.or_(values["shard"].is_valid(), values["row"].is_valid()))
    rows.report_rows(
        "parameters without acceptance",
        ~accepted & placed,
        lambda n: f"status {status[n]} must not have parameters, got {values['shard'][n]} row {values['row'][n]}",
    )
    rows.report_rows("accepted without a place", accepted & missing, f"is accepted without {', '.join(_PLACED)}")
    span = _true(pc.and_(values["start_us"].is_valid(), values["end_us"].is_valid()))
    start, end = integers(values["start_us"]), integers(values["end_us"])
    rows.report_rows(
        "the span is empty or backwards",
        span & ((end < start) | (accepted & (end == start))),
        lambda n: f"spans {start[n]}..{end[n]} us, expected start_us < end_us",
    )
    judged = _true(pc.is_in(values["review"], value_set=pa.array([*_REVIEWS, None], pa.string())))
    rows.report_rows(
        "unknown review", ~judged, lambda n: f"review {_text(values['review'][n])} is none of {', '.join(_REVIEWS)}"
    )
    return accepted & ~missing


def _not_plain(name: str, column: pa.Array, row: int) -> str:
    return f"{name} {_text(column[row])} is not a plain file name"


def _true(mask: pa.Array) -> Bool:
    values: Bool = mask.to_numpy(zero_copy_only=False)
    return values


def _text(value: pa.Scalar) -> str:
    return repr(shown(value)) if value.is_valid else "null"


def _check_ids(source: Source, clips: Clips) -> None:
    """A clip id may occur only once in the index."""
    if not clips.every_id.length():
        return
    counts = pc.value_counts(clips.every_id)
    twice = counts.filter(pc.greater(counts.field("counts"), 1))

    def describe(n: int) -> str:
        return f"clip {shown(twice[n]['values'])} occurs {twice[n]['counts']} times, expected once"

    source.report.rows(source.name, "a clip occurs more than once", np.arange(len(twice)), describe)


def _check_places(source: Source, clips: Clips) -> None:
    """No two clips may be at one place, and the rows of a shard must be 0..n-1."""
    shard, row = clips.shard[clips.order], clips.row[clips.order]
    same = np.flatnonzero((shard[1:] == shard[:-1]) & (row[1:] == row[:-1])) + 1

    def shares(n: int) -> str:
        one, two = (shown(clips.ids[int(clips.order[place])]) for place in (n, n - 1))
        return f"clip {one}: shares {clips.shards.name(shard[n])} row {row[n]} with another clip, {two}"

    source.report.rows(source.name, "two clips share a row", same, shares)
    first = np.searchsorted(shard, np.arange(len(clips.shards.names)))
    repeated = np.zeros(len(row), np.int64)
    repeated[same] = 1
    position = np.arange(len(row)) - np.cumsum(repeated)
    position -= position[first][shard] if len(row) else 0
    moved = row != position
    moved[1:] &= ~(moved[:-1] & (shard[1:] == shard[:-1]))  # the first gap of a shard moves all that follow
    moved[same] = False

    def skips(n: int) -> str:
        return f"{clips.shards.name(shard[n])}: no clip has row {position[n]}, the next one is row {row[n]}"

    source.report.rows(source.name, "rows of a shard are missing", np.flatnonzero(moved), skips)


def _check_splits(source: Source, owner: str, owners: pa.ChunkedArray, splits: pa.ChunkedArray) -> None:
    """All accepted clips of a source, speaker or group of copies must be in one split; those without do not matter."""
    known = pc.and_(owners.is_valid(), splits.is_valid())
    names = owners.filter(known).combine_chunks().dictionary_encode()
    parts = splits.filter(known).combine_chunks().dictionary_encode()
    count = max(1, len(parts.dictionary))
    pairs = np.unique(names.indices.to_numpy().astype(np.int64) * count + parts.indices.to_numpy())
    torn, first, number = np.unique(pairs // count, return_index=True, return_counts=True)
    wrong = np.flatnonzero(number > 1)

    def describe(n: int) -> str:
        inside = sorted(shown(parts.dictionary[int(pair % count)]) for pair in pairs[first[n] : first[n] + number[n]])
        text = shown(names.dictionary[int(torn[n])])
        return f"{owner} {text} has accepted clips in the splits {', '.join(inside)}, expected one split"

    source.report.rows(source.name, f"{owner} in several splits", wrong, describe)
