"""Counts over a streamed index against a plain loop over its rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.summary import CARD_COLUMNS, IndexSummary
from schemas.tables import INDEX

Row = dict[str, Any]


def _rows(count: int) -> list[Row]:
    rng = np.random.default_rng(7)

    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.2 else value

    rows = []
    for number in range(count):
        status = ("accepted", "accepted", "accepted", "rejected", "failed")[rng.integers(5)]
        reason = None if status == "accepted" else ("no_face", "too_short")[rng.integers(2)]
        frames = int(rng.integers(25, 300))
        rows.append(
            {
                "clip_id": f"c{number}",
                "source_id": f"s{rng.integers(count // 3)}",
                "source_uri": "a.mp4",
                "speaker": maybe(f"p{rng.integers(9)}"),
                "split": maybe(("train", "val")[rng.integers(2)]),
                "start_us": 5_000_000,
                "end_us": 5_000_000 + frames * 40_000,
                "num_frames": frames,
                "fps_num": 25,
                "fps_den": 1,
                "status": status,
                "reason": reason,
                "nme_mean": maybe(float(rng.uniform(0.01, 0.05))),
                "valid_ratio": 1.0,
                "speech_ratio": maybe(0.5),
                "sync_confidence": maybe(3.0),
                "language": maybe("en"),
                "transcript": maybe("hello"),
                "has_audio": bool(rng.random() < 0.7),
                "licence": maybe(("CC0-1.0", "CC-BY-4.0")[rng.integers(2)]),
                "warnings": maybe("late"),
                "model_sha256": "ab" * 32,
                "head_model": maybe("open-head"),
            }
        )
    return rows


def _table(rows: list[Row]) -> pa.Table:
    known = [field for field in INDEX.schema if rows == [] or field.name in rows[0]]
    return pa.Table.from_pylist(rows, schema=pa.schema(known))


def _streamed(rows: list[Row], batch: int) -> IndexSummary:
    summary = IndexSummary()
    for start in range(0, len(rows), batch):
        summary.add(_table(rows[start : start + batch]))
    return summary


def test_counts_are_those_of_a_loop() -> None:
    rows = _rows(300)
    accepted = [row for row in rows if row["status"] == "accepted"]
    summary = _streamed(rows, 64)
    assert summary.outcomes == Counter((row["status"], row["reason"]) for row in rows)
    statuses = Counter(row["status"] for row in rows)
    assert summary.statuses() == {
        "rows": 300,
        **{status: statuses[status] for status in ("accepted", "rejected", "failed")},
    }
    assert summary.licences() == ["CC-BY-4.0", "CC0-1.0"]
    for column, tallies in (
        ("split", summary.splits),
        ("language", summary.languages),
        ("speaker", summary.speakers),
        ("licence", summary.by_licence),
    ):
        expected: dict[str | None, list[int]] = defaultdict(lambda: [0, 0, 0])
        for row in accepted:
            for place, value in enumerate((1, row["num_frames"], row["end_us"] - row["start_us"])):
                expected[row[column]][place] += value
        assert {key: [tally.clips, tally.frames, tally.duration_us] for key, tally in tallies.items()} == expected
    assert summary.total.clips == summary.accepted == len(accepted)
    assert summary.total.hours == pytest.approx(sum(row["num_frames"] for row in accepted) / 25 / 3600)
    assert summary.sources == len({row["source_id"] for row in accepted})
    for licence in ("CC0-1.0", None):
        assert summary.sources_of(licence) == len({row["source_id"] for row in accepted if row["licence"] == licence})
    assert summary.sources_of("MIT") == 0
    assert summary.named_speakers == len({row["speaker"] for row in accepted} - {None})
    assert summary.silent == sum(not row["has_audio"] for row in accepted)
    assert summary.warned == sum(row["warnings"] is not None for row in accepted)
    assert summary.frame_rates == {25.0: len(accepted)}
    assert summary.missing == {
        column: sum(row[column] is None for row in accepted)
        for column in ("speaker", "transcript", "sync_confidence", "speech_ratio")
    }
    assert {key: tally.clips for key, tally in summary.head_models.items()} == Counter(
        (row["head_model"], row["model_sha256"]) for row in accepted
    )
    errors = [row["nme_mean"] for row in accepted if row["nme_mean"] is not None]
    assert summary.numbers["nme_mean"].count == len(errors)
    assert summary.numbers["nme_mean"].maximum[0] == pytest.approx(max(errors), rel=1e-6)
    assert summary.numbers["duration_s"].minimum[0] == pytest.approx(min(row["num_frames"] for row in accepted) / 25)


def test_batches_do_not_matter_and_neither_do_dictionaries() -> None:
    rows = _rows(120)
    whole = _streamed(rows, 1000)
    encoded = IndexSummary()
    table = _table(rows)
    for name in ("speaker", "licence", "source_id", "status"):
        table = table.set_column(table.schema.names.index(name), name, table[name].dictionary_encode())
    encoded.add(table)
    for other in (_streamed(rows, 1), _streamed(rows, 7), encoded):
        for name in ("rows", "outcomes", "total", "splits", "speakers", "by_licence", "head_models", "missing"):
            assert getattr(other, name) == getattr(whole, name), name
        assert (other.sources, other.sources_of("CC0-1.0")) == (whole.sources, whole.sources_of("CC0-1.0"))
        assert other.numbers["nme_mean"].quantile(0.5) == whole.numbers["nme_mean"].quantile(0.5)


def test_columns_of_a_newer_schema_may_be_missing() -> None:
    rows = [{key: value for key, value in row.items() if key != "head_model"} for row in _rows(40)]
    summary = _streamed(rows, 40)
    assert list(summary.head_models) == [(None, "ab" * 32)]
    assert "head_model" in CARD_COLUMNS


def test_no_rows_and_no_accepted_rows() -> None:
    summary = _streamed([row for row in _rows(40) if row["status"] != "accepted"], 8)
    summary.add(_table([]))
    assert summary.rows > 0
    assert (summary.accepted, summary.sources, summary.named_speakers, summary.speakers) == (0, 0, 0, {})
    assert IndexSummary().statuses() == {"rows": 0, "accepted": 0, "rejected": 0, "failed": 0}


def test_not_a_number_counts_as_absent() -> None:
    rows = [dict(row, status="accepted", reason=None, nme_mean=float("nan")) for row in _rows(3)]
    assert _streamed(rows, 3).numbers["nme_mean"].count == 0


def test_memory_does_not_grow_with_the_rows() -> None:
    rows = _rows(100)
    summary = _streamed(rows, 100)

    def size() -> tuple[int, int, int]:
        return len(summary.speakers), summary.sources, sum(sketch.nbytes for sketch in summary.numbers.values())

    before = size()
    for _ in range(50):
        summary.add(_table(rows))
    assert size() == before
    assert summary.rows == 5100
    assert summary._sources._pending <= 65_536
