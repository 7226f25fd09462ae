"""Looking up clips in the index, against a dictionary; splits, places and codes in large numbers."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.tables import INDEX
from schemas.verify_index import Clips, Codes, check_index
from schemas.verify_parquet import Source
from schemas.verify_report import Report


def _check(folder: Path, rows: pa.Table, split_by: str | None = None) -> tuple[Clips, list[str]]:
    pq.write_table(rows, folder / "index.parquet", row_group_size=16_384)
    report = Report()
    clips = check_index(Source(folder, "index.parquet", INDEX, report), Codes(), split_by)
    assert clips is not None
    return clips, [problem.message for problem in report.problems()]


def _index(ids: list[str], **columns: list[object]) -> pa.Table:
    """Accepted clips of one frame, in one part unless said otherwise."""
    count = len(ids)
    values: dict[str, list[object]] = {
        "clip_id": list(ids),
        "source_id": [f"s{number}" for number in range(count)],
        "source_uri": ["u"] * count,
        "split": ["train"] * count,
        "start_us": [0] * count,
        "end_us": [40_000] * count,
        "num_frames": [1] * count,
        "shard": ["part-00000.parquet"] * count,
        "row": list(range(count)),
        "status": ["accepted"] * count,
        **columns,
    }
    nulls = [None] * count
    return pa.table([pa.array(values.get(c.name, nulls), c.type) for c in INDEX.columns], schema=INDEX.schema)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=60), st.integers(0, 299), st.booleans())
def test_find_is_a_dictionary(known_clips: Clips, wanted: list[int], start: int, ordered: bool) -> None:
    ids = [f"c{number}" for number in (sorted(wanted) if ordered else wanted)]
    truth = {f"c{number}": number for number in range(300)}
    found = known_clips.find(pa.array(ids), start)
    assert found.tolist() == [truth.get(name, -1) for name in ids]


@pytest.fixture(scope="module")
def known_clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    return _check(tmp_path_factory.mktemp("index"), _index([f"c{number}" for number in range(300)]))[0]


def test_nothing_is_found_in_an_empty_index(tmp_path: Path) -> None:
    clips, messages = _check(tmp_path, _index([]))
    assert messages == []
    assert clips.find(pa.array(["a", "b", "a"])).tolist() == [-1, -1, -1]
    assert clips.find(pa.array([], pa.string())).tolist() == []
    assert clips.rows_of("part-00000.parquet").tolist() == []


def test_codes_number_texts_in_order_and_absent_ones_below() -> None:
    codes = Codes()
    assert codes.encode(pa.array(["b", None, "a", "b"])).tolist() == [0, -1, 1, 0]
    assert codes.encode(pa.array(["c", "a"])).tolist() == [2, 1]
    assert [codes.name(code) for code in (0, 1, 2, -1)] == ["b", "a", "c", None]


def test_places_may_come_in_any_order(tmp_path: Path) -> None:
    rng = random.Random(0)
    places = [(f"part-{shard:05d}.parquet", row) for shard in range(7) for row in range(11)]
    rng.shuffle(places)
    ids = [f"c{number}" for number in range(len(places))]
    clips, messages = _check(
        tmp_path, _index(ids, shard=[shard for shard, _ in places], row=[row for _, row in places])
    )
    assert messages == []
    for shard in {shard for shard, _ in places}:
        truth = [places.index((shard, row)) for row in range(11)]
        assert clips.rows_of(shard).tolist() == truth


def test_each_gap_is_named_once(tmp_path: Path) -> None:
    shards = ["part-00000.parquet"] * 6 + ["part-00001.parquet"] * 3
    table = _index([f"c{number}" for number in range(9)], shard=list(shards), row=[0, 1, 3, 4, 5, 5, 1, 2, 3])
    assert _check(tmp_path, table)[1] == [
        "clip c5: shares part-00000.parquet row 5 with another clip, c4",
        "part-00000.parquet: no clip has row 2, the next one is row 3",
        "part-00001.parquet: no clip has row 0, the next one is row 1",
    ]


def test_splits_against_sets(tmp_path: Path) -> None:
    rng = random.Random(3)
    count = 400
    names = ["train", "val", "test", None]
    table = _index(
        [f"c{number}" for number in range(count)],
        source_id=[f"s{rng.randrange(250)}" for _ in range(count)],
        speaker=[rng.choice([None, *"abcdefgh"]) for _ in range(count)],
        split=[rng.choice(names) for _ in range(count)],
    )
    rows = table.select(["source_id", "speaker", "split"]).to_pylist()
    torn = {}
    for owner in ("source_id", "speaker"):
        splits: dict[str, set[str]] = {}
        for row in rows:
            if row[owner] is not None and row["split"] is not None:
                splits.setdefault(row[owner], set()).add(row["split"])
        torn[owner] = [name for name, inside in splits.items() if len(inside) > 1]
    assert len(torn["source_id"]) > 10
    for split_by, owners in ((None, ["source_id"]), ("speaker", ["source_id", "speaker"])):
        messages = _check(tmp_path, table, split_by)[1]
        expected = sum(len(torn[owner]) for owner in owners)
        shown = [text for text in messages if "expected one split" in text]
        hidden = sum(int(text.split()[2]) for text in messages if text.startswith("..."))
        assert len(shown) + hidden == expected
        assert any(text.startswith("speaker") for text in shown) == (split_by == "speaker")


def test_a_large_index_takes_little_time_and_memory(tmp_path: Path) -> None:
    count = 100_000
    numbers = np.arange(count)
    ids = [f"{number // 4:016x}-{number:09d}" for number in numbers]
    table = _index(
        ids,
        source_id=[f"{number // 4:016x}" for number in numbers],
        shard=[f"part-{number // 4096:05d}.parquet" for number in numbers],
        row=(numbers % 4096).tolist(),
    )
    pq.write_table(table, tmp_path / "index.parquet", row_group_size=16_384)
    del table
    before = pa.total_allocated_bytes()
    started = time.process_time()
    report = Report()
    clips = check_index(Source(tmp_path, "index.parquet", INDEX, report), Codes(), None)
    assert time.process_time() - started < 4
    assert report.problems() == []
    assert clips is not None
    assert len(clips.ids) == count
    assert pa.total_allocated_bytes() - before < 150 * count


def test_copies_in_two_splits_are_named(tmp_path: Path) -> None:
    groups = ["c0", "c0", None, "c3", "c3", None]
    splits = ["train", "test", "test", "val", "val", "train"]
    table = _index([f"c{n}" for n in range(6)], split=[*splits], duplicate_group=[*groups])
    problems = _check(tmp_path, table)[1]
    assert problems == ["duplicate_group c0 has accepted clips in the splits test, train, expected one split"]
