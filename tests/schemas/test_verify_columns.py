"""Columns that users added: one thing wrong at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from verify_edits import FEATURE, FLOATS, SCORE, Rows, build_complete, copy, edit, edit_json, expect, write

from schemas.files import refresh_manifest
from schemas.tables import INDEX, PARAMS, Column, Table
from schemas.verify import verify_dataset

FACTS = "dataset.json"
SCORES = "columns/score.parquet"
FEATURES = "columns/feature/part-00000.parquet"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good") / "ds"
    build_complete(root)
    return root


@pytest.fixture
def root(good: Path, tmp_path: Path) -> Path:
    return copy(good, tmp_path / "ds")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (SCORES, lambda rows: rows[2].update(score=1.5), "row 2 (clip clip_0002): score is 1.5, expected 0..1"),
        (SCORES, lambda rows: rows[2].update(score=float("nan")), "score is nan, an absent value must be null"),
        (SCORES, lambda rows: rows.pop(), "has 6 rows, the index has 7"),
        (SCORES, lambda rows: rows.append(rows[0]), "has 8 rows, the index has 7"),
        (SCORES, lambda rows: rows[6].update(clip_id="x"), "row 6 (clip x): the index has clip none_0002 there"),
        (FEATURES, lambda rows: rows[1]["feature"].pop(), "feature has 49 values, expected T x 2 = 50"),
        (FEATURES, lambda rows: rows[4]["feature"].__setitem__(3, 101.0), "feature holds 101, expected -100..100"),
        (FEATURES, lambda rows: rows.pop(), "has 4 rows, the index has 5 in it"),
        (FEATURES, lambda rows: rows[2].update(clip_id="clip_0000"), "this is another clip, the index says clip_0002"),
        (FEATURES, lambda rows: rows[0].update(num_frames=21), "has 21 frames, the index says 20"),
    ],
)
def test_one_change_is_one_problem(root: Path, name: str, change: Callable[[Rows], object], message: str) -> None:
    edit(root, name, change)
    expect(verify_dataset(root), name, message)


def test_absent_numbers_are_allowed(root: Path) -> None:
    edit(root, FEATURES, lambda rows: rows[1]["feature"].__setitem__(3, float("nan")))
    edit(root, SCORES, lambda rows: [row.update(score=None) for row in rows])
    assert verify_dataset(root) == []


def test_the_order_of_the_index_counts(root: Path) -> None:
    edit(root, SCORES, lambda rows: rows.insert(0, rows.pop(1)))
    problems = verify_dataset(root)
    assert [problem.message.split(": ")[1] for problem in problems] == [
        "the index has clip clip_0000 there",
        "the index has clip clip_0001 there",
    ]


def test_files_that_are_not_declared(root: Path) -> None:
    (root / "columns" / "other").mkdir()
    others = [
        "columns/other/part-00000.parquet",
        "columns/note.txt",
        "columns/feature/x.parquet",
        "columns/score/part-0",
    ]
    (root / "columns" / "score").mkdir()
    for name in others:
        (root / name).write_bytes(b"x")
    refresh_manifest(root)
    problems = verify_dataset(root)
    assert {problem.file for problem in problems} == set(others)
    assert {problem.message for problem in problems} == {
        "belongs to no added column; dataset.json declares none for it"
    }
    edit_json(root, FACTS, lambda facts: facts.pop("sidecars"))
    assert {problem.file for problem in verify_dataset(root)} == {*others, SCORES, FEATURES}


def test_files_that_are_declared_and_missing(root: Path) -> None:
    (root / SCORES).unlink()
    (root / FEATURES).unlink()
    refresh_manifest(root)
    assert [(problem.file, problem.message) for problem in verify_dataset(root)] == [
        (SCORES, "is missing, dataset.json declares the column score"),
        (FEATURES, "is missing, the index has 5 rows in it"),
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"name": "../x", "table": "index"}, "sidecars[2]: name ../x is not a plain file name"),
        ({"table": "index"}, "sidecars[2]: name None is not a plain file name"),
        ("score", "sidecars[2]: name None is not a plain file name"),
        ({"name": "x", "table": "words"}, "sidecars[2]: table words of x is neither index nor params"),
        ({"name": "x", "table": ["index"]}, "sidecars[2]: table ['index'] of x is neither index nor params"),
        ({"name": "x", "table": "index", "column": "y"}, "sidecars[2]: column y must be x"),
        ({"name": "score", "table": "params"}, "sidecars[2]: there is another column score"),
        ({"name": "speaker", "table": "index"}, "sidecars[2]: there is another column speaker"),
    ],
)
def test_entries_that_make_no_sense(root: Path, entry: Any, message: str) -> None:
    edit_json(root, FACTS, lambda facts: facts["sidecars"].append(entry))
    expect(verify_dataset(root), FACTS, message)


def test_sidecars_that_are_no_list(root: Path) -> None:
    edit_json(root, FACTS, lambda facts: facts.update(sidecars={"score": "index"}))
    problems = verify_dataset(root)
    assert (problems[0].file, problems[0].message) == (FACTS, "sidecars is {'score': 'index'}, expected a list")


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            Column("score", pa.float64(), "", ("T",)),
            "score is double with the shape ('T',), expected a shape for a list",
        ),
        (Column("score", pa.date32(), ""), "score is date32[day], expected numbers, true/false, or text"),
        (Column("score", pa.string(), "", low=0), "has the range 0..None, expected numbers for a column of numbers"),
    ],
)
def test_descriptions_that_make_no_sense(root: Path, column: Column, message: str) -> None:
    ids = pq.read_table(root / "index.parquet")["clip_id"]
    table = Table("columns/score", (INDEX.columns[0], column))
    write(root / SCORES, table, [ids, pa.nulls(len(ids), column.type)])
    refresh_manifest(root)
    expect(verify_dataset(root), SCORES, message)


@pytest.mark.parametrize("shape", ["[2]x", '"T"', '["T", "E"]', '[2, "T"]', "[0]", "[true]", "[1.5]", "5", "null"])
def test_shapes_that_make_no_sense(root: Path, shape: str) -> None:
    stored = pq.read_table(root / FEATURES)
    field = stored.schema.field("feature")
    field = field.with_metadata({**field.metadata, b"shape": shape.encode()})
    pq.write_table(stored.cast(stored.schema.set(2, field)), root / FEATURES)
    refresh_manifest(root)
    problems = verify_dataset(root)
    assert [problem.file for problem in problems] == [FEATURES]


def test_rotations_count_by_their_angle(root: Path) -> None:
    column = Column("feature", FLOATS, "", ("T", 3), "rad", None, "axis_angle", low=0, high=1)
    keys = pq.read_table(root / FEATURES).select(["clip_id", "num_frames"])
    frames = keys["num_frames"].to_pylist()
    table = Table("columns/feature", (*PARAMS.columns[:2], column))
    for angle, good in ((0.57, True), (0.58, False)):  # 1 / sqrt(3) is 0.577
        cells = pa.array([np.full(3 * count, angle, np.float32) for count in frames], FLOATS)
        write(root / FEATURES, table, [*keys.columns, cells])
        refresh_manifest(root)
        problems = verify_dataset(root)
        assert (problems == []) == good
        assert good or "feature holds angle 1.00459, expected 0..1 rad" in problems[0].message


def test_another_name_or_version_inside(root: Path) -> None:
    stored = pq.read_table(root / SCORES)
    pq.write_table(stored.rename_columns(["clip_id", "other"]), root / SCORES)
    refresh_manifest(root)
    expect(verify_dataset(root), SCORES, "has the columns clip_id, other, expected clip_id, score")
    older = {**stored.schema.metadata, b"talkset.schema_version": b"1.0.0"}
    pq.write_table(stored.replace_schema_metadata(older), root / SCORES)
    refresh_manifest(root)
    expect(verify_dataset(root), SCORES, "mixed schema versions")
    (root / SCORES).write_bytes(b"x" * 100)
    refresh_manifest(root)
    expect(verify_dataset(root), SCORES, "is not a whole Parquet file")


def test_parts_agree_with_each_other(root: Path) -> None:
    assert FEATURE.shape == ("T", 2)
    assert SCORE.high == 1
    stored = pq.read_table(root / FEATURES)
    half = stored.slice(0, 2)
    field = stored.schema.field("feature").with_metadata({b"shape": b'["T", 1]'})
    pq.write_table(half, root / FEATURES)
    pq.write_table(stored.slice(2).cast(stored.schema.set(2, field)), root / "columns/feature/part-00001.parquet")
    for table in ("params", "landmarks"):
        rows = pq.read_table(root / table / "part-00000.parquet")
        pq.write_table(rows.slice(0, 2), root / table / "part-00000.parquet")
        pq.write_table(rows.slice(2), root / table / "part-00001.parquet")

    def move(rows: Rows) -> None:
        for row in rows:
            if row["row"] is not None and row["row"] >= 2:
                row.update(shard="part-00001.parquet", row=row["row"] - 2)

    edit(root, "index.parquet", move)
    refresh_manifest(root)
    expect(
        verify_dataset(root),
        "columns/feature/part-00001.parquet",
        'the metadata says shape ["T", 1], expected ["T", 2]',
    )
