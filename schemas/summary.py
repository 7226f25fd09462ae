"""What the data card, its figures and dataset.json need to know of the index, counted while it streams by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from schemas.quantiles import QuantileSketch
from schemas.tables import INDEX, STATUSES
from schemas.unique import DistinctCount, hash_ids

CARD_COLUMNS: Final = (
    "source_id",
    "speaker",
    "split",
    "start_us",
    "end_us",
    "num_frames",
    "fps_num",
    "fps_den",
    "status",
    "reason",
    "nme_mean",
    "held_out_nme",
    "valid_ratio",
    "speech_ratio",
    "sync_confidence",
    "language",
    "transcript",
    "has_audio",
    "licence",
    "warnings",
    "model_sha256",
    "head_model",
)
"""Columns of the index that `IndexSummary` reads; those that an older index lacks count as absent values."""

NUMBERS: Final = ("duration_s", "nme_mean", "held_out_nme", "valid_ratio", "speech_ratio")
"""Numbers of a clip of which the distribution is kept."""

_OPTIONAL: Final = ("speaker", "transcript", "sync_confidence", "speech_ratio")
_TYPES: Final = {column.name: column.type for column in INDEX.columns}

Key = tuple[str | None, ...]


@dataclass
class Tally:
    """Accepted clips that share something."""

    clips: int = 0
    frames: int = 0
    duration_us: int = 0

    @property
    def hours(self) -> float:
        """Length of the clips together."""
        return self.duration_us / 3.6e9

    def add(self, clips: int, frames: int, duration_us: int) -> None:
        """Count some more clips."""
        self.clips += clips
        self.frames += frames
        self.duration_us += duration_us


@dataclass
class IndexSummary:
    """Counts over the rows of an index.

    `rows`, `outcomes`, `statuses()` and `licences()` are about all rows, everything else about accepted clips.
    Memory grows with different values, not with rows: about 300 bytes a speaker, 16 bytes a source (see
    `DistinctCount` for how exact the number of sources is), and what the few languages, splits and licences take.
    """

    rows: int = 0
    outcomes: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    """Rows by status and reason."""
    total: Tally = field(default_factory=Tally)
    splits: dict[str | None, Tally] = field(default_factory=dict)
    languages: dict[str | None, Tally] = field(default_factory=dict)
    speakers: dict[str | None, Tally] = field(default_factory=dict)
    by_licence: dict[str | None, Tally] = field(default_factory=dict)
    head_models: dict[tuple[str | None, str | None], Tally] = field(default_factory=dict)
    """By name and sha256; a schema before 1.1.0 has no name."""
    frame_rates: Counter[float] = field(default_factory=Counter)
    """Clips by nominal frames per second, to two digits."""
    numbers: dict[str, QuantileSketch] = field(default_factory=lambda: {name: QuantileSketch(1) for name in NUMBERS})
    missing: Counter[str] = field(default_factory=Counter)
    """Clips without a value, by column."""
    silent: int = 0
    """Clips without sound."""
    warned: int = 0
    """Clips with a warning."""
    _licences: set[str] = field(default_factory=set)
    _sources: DistinctCount = field(default_factory=DistinctCount)
    _licence_sources: dict[str | None, DistinctCount] = field(default_factory=dict)

    def add(self, batch: pa.Table | pa.RecordBatch) -> None:
        """Count rows of the index; columns that are not in `CARD_COLUMNS` do not matter."""
        rows = pa.table({name: _column(batch, name) for name in CARD_COLUMNS})
        self.rows += rows.num_rows
        for status, reason, count in _groups(rows, ("status", "reason")):
            self.outcomes[status, reason] += count
        self._licences.update(pc.unique(rows["licence"].drop_null()).to_pylist())
        accepted = rows.filter(pc.equal(rows["status"], "accepted"))
        if accepted.num_rows:
            self._add_accepted(accepted)

    def _add_accepted(self, clips: pa.Table) -> None:
        duration = pc.fill_null(pc.subtract(clips["end_us"], clips["start_us"]), 0)
        frames = pc.fill_null(clips["num_frames"].cast(pa.int64()), 0)
        clips = clips.append_column("duration_us", duration).append_column("frames", frames)
        self.total.add(clips.num_rows, pc.sum(frames).as_py(), pc.sum(duration).as_py())
        for column, tallies in (
            ("split", self.splits),
            ("language", self.languages),
            ("speaker", self.speakers),
            ("licence", self.by_licence),
        ):
            for value, *counts in _groups(clips, (column,), ("frames", "duration_us")):
                tallies.setdefault(value, Tally()).add(*counts)
        for name, sha256, *counts in _groups(clips, ("head_model", "model_sha256"), ("frames", "duration_us")):
            self.head_models.setdefault((name, sha256), Tally()).add(*counts)
        for numerator, denominator, count in _groups(clips, ("fps_num", "fps_den")):
            if numerator and denominator:
                self.frame_rates[round(numerator / denominator, 2)] += count
        for name in _OPTIONAL:
            self.missing[name] += clips[name].null_count
        self.silent += pc.sum(pc.invert(clips["has_audio"])).as_py() or 0
        self.warned += clips.num_rows - clips["warnings"].null_count
        for name, sketch in self.numbers.items():
            column = pc.divide(duration.cast(pa.float64()), 1e6) if name == "duration_s" else clips[name]
            sketch.add(_finite(column)[:, None])
        self._add_sources(clips)

    def _add_sources(self, clips: pa.Table) -> None:
        hashes = np.concatenate([hash_ids(chunk) for chunk in clips["source_id"].chunks])
        self._sources.add(hashes)
        codes = clips["licence"].combine_chunks().dictionary_encode(null_encoding="encode")
        order = np.argsort(np.asarray(codes.indices), kind="stable")
        ends = np.cumsum(np.bincount(np.asarray(codes.indices), minlength=len(codes.dictionary)))
        for licence, part in zip(codes.dictionary.to_pylist(), np.split(hashes[order], ends[:-1]), strict=True):
            self._licence_sources.setdefault(licence, DistinctCount()).add(part)

    @property
    def accepted(self) -> int:
        """Number of accepted clips."""
        return self.total.clips

    @property
    def sources(self) -> int:
        """Number of source videos with an accepted clip."""
        return len(self._sources)

    def sources_of(self, licence: str | None) -> int:
        """Number of source videos with an accepted clip under a licence; None stands for clips without one."""
        return len(self._licence_sources.get(licence, ()))

    @property
    def named_speakers(self) -> int:
        """Number of speakers that have a name."""
        return len(self.speakers) - (None in self.speakers)

    def statuses(self) -> dict[str, int]:
        """`rows`, and the rows of each status, as dataset.json has them."""
        counts = dict.fromkeys(STATUSES, 0)
        for (status, _), count in self.outcomes.items():
            counts[status] = counts.get(status, 0) + count
        return {"rows": self.rows, **counts}

    def licences(self) -> list[str]:
        """Licences of all rows, accepted or not, sorted."""
        return sorted(self._licences)


def _column(batch: pa.Table | pa.RecordBatch, name: str) -> pa.ChunkedArray:
    """A column in the type of the current schema; all null where the index does not have it."""
    if name not in batch.schema.names:
        return pa.chunked_array([pa.nulls(batch.num_rows, _TYPES[name])])
    column = batch.column(batch.schema.names.index(name))
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    return column if column.type == _TYPES[name] else column.cast(_TYPES[name])


def _groups(table: pa.Table, keys: Sequence[str], sums: Sequence[str] = ()) -> list[tuple[Any, ...]]:
    """Distinct keys, each followed by its number of rows and the sums of some columns."""
    wanted: list[tuple[Any, str]] = [([], "count_all"), *((name, "sum") for name in sums)]
    grouped = table.group_by(list(keys), use_threads=False).aggregate(wanted)
    names = [*keys, "count_all", *(f"{name}_sum" for name in sums)]
    return list(zip(*(grouped[name].to_pylist() for name in names), strict=True))


def _finite(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """The values that are present; NaN counts as absent."""
    values = column.drop_null().to_numpy().astype(np.float64)
    finite: NDArray[np.float64] = values[np.isfinite(values)]
    return finite
