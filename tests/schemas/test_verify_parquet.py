"""Hostile and broken Parquet files: refused by their sizes, never read, never a crash."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builder import build
from verify_edits import as_version, copy, edit, expect, flip

import schemas.verify_parquet as module
from schemas.files import refresh_manifest
from schemas.tables import INDEX, PARAMS, SCHEMA_VERSION, WORDS
from schemas.verify import verify_dataset
from schemas.verify_parquet import Source, read_batches, stored_version
from schemas.verify_report import Report

PART = "params/part-00000.parquet"
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("good") / "ds"
    build(root, 5)
    return root


@pytest.fixture
def root(good: Path, tmp_path: Path) -> Path:
    return copy(good, tmp_path / "ds")


def _batches(path: Path, table: object = PARAMS) -> tuple[list[pa.RecordBatch], list[str]]:
    report = Report()
    name = path.name
    found = [batch for _, batch in read_batches(Source(path.parent, name, table, report))]  # type: ignore[arg-type]
    assert (name in report.unread) == bool(report.problems())
    return found, [problem.message for problem in report.problems()]


@pytest.mark.parametrize("target", [1, 20_000, 8 << 20])
def test_batches_of_any_size_hold_all_rows(good: Path, monkeypatch: pytest.MonkeyPatch, target: int) -> None:
    monkeypatch.setattr(module, "TARGET_BATCH_BYTES", target)
    report = Report()
    firsts, tables = [], []
    for first, batch in read_batches(Source(good, PART, PARAMS, report)):
        firsts.append(first)
        tables.append(pa.Table.from_batches([batch]))
    assert report.problems() == []
    assert firsts == np.cumsum([0, *(table.num_rows for table in tables)])[:-1].tolist()
    assert repr(pa.concat_tables(tables).to_pydict()) == repr(pq.read_table(good / PART).to_pydict())
    assert (len(tables) == 1) == (target == 8 << 20)


def test_columns_can_be_chosen(good: Path) -> None:
    report = Report()
    (found,) = [batch for _, batch in read_batches(Source(good, PART, PARAMS, report), ["valid", "clip_id"])]
    assert found.schema.names == ["valid", "clip_id"]
    assert found.column(1).to_pylist() == [f"clip_{number:04d}" for number in range(5)]


def _words(**changes: object) -> Callable[[pa.Schema], pa.Schema]:
    """A change of the field `score` or of the metadata of the words table."""

    def change(schema: pa.Schema) -> pa.Schema:
        position = schema.get_field_index("score")
        field = schema.field(position)
        if "metadata" in changes:
            field = field.with_metadata({**field.metadata, **changes["metadata"]})  # type: ignore[dict-item]
        if "type" in changes:
            field = field.with_type(changes["type"])
        if "nullable" in changes:
            field = field.with_nullable(changes["nullable"])
        if "name" in changes:
            field = field.with_name(changes["name"])
        return schema.set(position, field)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_words(type=pa.float64()), "schema differs at score: the type is double, expected float"),
        (_words(nullable=False), "schema differs at score: nullable is False, expected True"),
        (_words(name="Score"), "schema differs: missing columns ['score'], unknown columns ['Score']"),
        (_words(metadata={b"unit": b"%"}), "schema differs at score: the metadata says unit %, expected nothing"),
        (_words(metadata={b"shape": b"[3]"}), "schema differs at score: the metadata says shape [3], expected nothing"),
        (_words(metadata={b"space": b"model"}), "the metadata says space model, expected nothing"),
        (_words(metadata={b"rotation": b"axis_angle"}), "the metadata says rotation axis_angle, expected nothing"),
        (lambda schema: schema.with_metadata({}), "schema metadata holds no talkset.schema_version"),
        (
            lambda schema: schema.with_metadata({**schema.metadata, b"talkset.table": b"phones"}),
            "schema metadata says that this is the table 'phones', expected 'words'",
        ),
        (
            lambda schema: schema.with_metadata({**schema.metadata, b"talkset.schema_version": b"1.0.0"}),
            f"mixed schema versions: dataset.json says {SCHEMA_VERSION}, this file 1.0.0; run `talkset upgrade`",
        ),
        (lambda schema: pa.schema(list(schema)[::-1], schema.metadata), "or another order"),
        (
            lambda schema: schema.remove(schema.get_field_index("score")),
            "missing columns ['score'], unknown columns []",
        ),
        (lambda schema: schema.append(schema.field("score")), "or one twice"),
    ],
)
def test_another_schema_is_named(tmp_path: Path, change: Callable[[pa.Schema], pa.Schema], message: str) -> None:
    schema = change(WORDS.schema)
    pq.write_table(pa.table([pa.array([], field.type) for field in schema], schema=schema), tmp_path / "words.parquet")
    found, messages = _batches(tmp_path / "words.parquet", WORDS)
    assert found == []
    assert len(messages) == 1
    assert message in messages[0]


def test_meaning_and_range_may_be_reworded(tmp_path: Path) -> None:
    schema = _words(metadata={b"meaning": b"as before, said better", b"range": b"[0, 2]", b"unit": b""})(WORDS.schema)
    pq.write_table(pa.table([pa.array([], field.type) for field in schema], schema=schema), tmp_path / "words.parquet")
    assert _batches(tmp_path / "words.parquet", WORDS)[1] == []


def test_the_element_type_counts(root: Path) -> None:
    table = pq.read_table(root / PART)
    position = table.schema.get_field_index("jaw_pose")
    wide = table.schema.field(position).with_type(pa.list_(pa.field("element", pa.float64(), nullable=False)))
    pq.write_table(table.cast(table.schema.set(position, wide)), root / PART)
    refresh_manifest(root)
    expect(verify_dataset(root), PART, "schema differs at jaw_pose: the type is list<element: double not null>")


def test_a_newer_minor_version_may_have_more_columns(root: Path) -> None:
    as_version(root, "1.7.0")
    assert verify_dataset(root) == []
    path = root / "words.parquet"
    table = pq.read_table(path)
    more = table.add_column(3, pa.field("loudness", pa.float32()), pa.array(np.zeros(len(table), np.float32)))
    pq.write_table(more.replace_schema_metadata(table.schema.metadata), path)
    refresh_manifest(root)
    assert verify_dataset(root) == []
    edit(root, "words.parquet", lambda rows: rows[4].update(score=1.5))
    expect(verify_dataset(root), "words.parquet", "score is 1.5")
    pq.write_table(more.drop_columns(["label"]).replace_schema_metadata(table.schema.metadata), path)
    refresh_manifest(root)
    expect(verify_dataset(root), "words.parquet", "missing columns ['label']")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PAR1PAR1", "has 8 bytes, no Parquet file is that short"),
        (b"not parquet at all", "is not a whole Parquet file: it begins with b'not '"),
        (b"PAR1" + bytes(100), "ends with b'\\x00\\x00\\x00\\x00'"),
        (b"PAR1" + bytes(100) + struct.pack("<I", 101) + b"PAR1", "claims a footer of 101 bytes; the file has 112"),
        (b"PAR1" + b"\xff" * 100 + struct.pack("<I", 100) + b"PAR1", "cannot be read: "),
    ],
)
def test_files_that_are_no_parquet(root: Path, content: bytes, message: str) -> None:
    (root / "words.parquet").write_bytes(content)
    refresh_manifest(root)
    expect(verify_dataset(root), "words.parquet", message)
    assert stored_version(root / "words.parquet") is None


def test_a_truncated_file(root: Path) -> None:
    whole = (root / PART).read_bytes()
    (root / PART).write_bytes(whole[: len(whole) // 2])
    refresh_manifest(root)
    expect(verify_dataset(root), PART, "is not a whole Parquet file")
    (root / PART).unlink()
    (root / PART).mkdir()
    refresh_manifest(root)
    assert any("is missing" in problem.message for problem in verify_dataset(root))


def test_a_huge_footer_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(WORDS.schema.empty_table(), tmp_path / "words.parquet")
    monkeypatch.setattr(module, "MAX_FOOTER_BYTES", 1000)
    (message,) = _batches(tmp_path / "words.parquet", WORDS)[1]
    assert "the limit is 1000; it was not read" in message


def test_a_bomb_of_rows_is_not_read(root: Path) -> None:
    """325 kB that stand for three million rows; a process that read them would need more than 1 GiB."""
    rows = 3_000_000
    shared = {column.type: pa.nulls(rows, column.type) for column in INDEX.columns if column.nullable}
    text = pa.repeat(pa.scalar("x"), rows)
    table = pa.Table.from_arrays(
        [shared[column.type] if column.nullable else text for column in INDEX.columns], schema=INDEX.schema
    )
    pq.write_table(table, root / "index.parquet", row_group_size=rows, compression="zstd")
    refresh_manifest(root)
    assert (root / "index.parquet").stat().st_size < 1 << 20
    code = (
        "import resource, sys; from pathlib import Path; import pyarrow as pa; import schemas.verify\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "problems = schemas.verify.verify_dataset(Path(sys.argv[1]))\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print((after - before) * 1024, pa.default_memory_pool().max_memory()); print(*problems, sep='\\n')\n"
    )
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    first, *problems = done.stdout.splitlines()
    resident, pool = map(int, first.split())
    assert len(problems) == 1
    assert "index.parquet" in problems[0]
    assert re.search(r"row group 0 would take [1-9]\d{9} bytes", problems[0])
    assert "it was not read" in problems[0]
    assert resident < 150 << 20
    assert pool < 50 << 20


def test_a_run_length_bomb_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of few bytes in the file and 8 million equal values."""
    values = pa.array(np.zeros(8_000_000, np.float32))

    def explode(table: pa.Table) -> pa.Table:
        position = table.schema.get_field_index("expression")
        field = table.schema.field(position)
        offsets = pa.array([0, *[len(values)] * len(table)], pa.int32())
        return table.set_column(position, field, pa.ListArray.from_arrays(offsets, values, type=field.type))

    pq.write_table(explode(pq.read_table(root / PART)), root / PART, compression="zstd")
    refresh_manifest(root)
    column = pq.read_metadata(root / PART).row_group(0).column(5)
    assert column.total_uncompressed_size < 100_000
    monkeypatch.setattr(module, "MAX_ROW_GROUP_BYTES", 16 << 20)
    before = pa.default_memory_pool().bytes_allocated()
    expect(verify_dataset(root), PART, "row group 0 would take 32", "the limit is 16777216; it was not read")
    assert pa.default_memory_pool().bytes_allocated() - before < 1 << 20


def test_a_text_bomb_is_not_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROW_GROUP_BYTES", 16 << 20)
    table = pa.concat_tables([pq.read_table(root / "words.parquet")] * 20)
    position = table.schema.get_field_index("label")
    table = table.set_column(position, table.schema.field("label"), pa.array(["x" * 100_000] * len(table)))
    pq.write_table(table, root / "words.parquet")
    refresh_manifest(root)
    assert (root / "words.parquet").stat().st_size < 100_000
    expect(verify_dataset(root), "words.parquet", f"label holds {len(table) * 100_000} bytes of text in 300 rows")


def test_a_large_plain_row_group_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROW_GROUP_BYTES", 1 << 20)
    problems = verify_dataset(root)
    # four clips of 478 points and their confidence in every frame: 20 + 25 + 30 + 35 frames; two with blend shapes
    assert [problem.file for problem in problems] == []
    monkeypatch.setattr(module, "MAX_ROW_GROUP_BYTES", 110 * 3 * 478 * 4)
    expect(verify_dataset(root), "landmarks/part-00000.parquet", "row group 0 would take 64", "it was not read")


def test_text_that_is_not_utf8(root: Path) -> None:
    table = pq.read_table(root / "words.parquet")
    position = table.schema.get_field_index("label")
    broken = pa.array([b"\xff\xfe"] * len(table), pa.binary()).view(pa.string())
    pq.write_table(table.set_column(position, table.schema.field("label"), broken), root / "words.parquet")
    refresh_manifest(root)
    expect(verify_dataset(root), "words.parquet", "row group 0", "Invalid UTF8")


def _damaged(rng: random.Random, good: bytes) -> Iterator[bytes]:
    """Header and footer with changed bytes, and cut short."""
    footer = len(good) - 8 - struct.unpack("<I", good[-8:-4])[0]
    for _ in range(40):
        yield flip(rng, good, footer, len(good))
    for _ in range(8):
        yield flip(rng, flip(rng, good, 0, 400), footer, len(good))
    for _ in range(2):
        yield good[: rng.randrange(len(good))]


@pytest.mark.parametrize("name", ["index.parquet", PART, "words.parquet"])
def test_random_damage_is_named_and_never_a_crash(root: Path, name: str) -> None:
    rng = random.Random(name)
    good = (root / name).read_bytes()
    rows = pq.read_metadata(root / name).num_rows
    table = {"index.parquet": INDEX, "words.parquet": WORDS, PART: PARAMS}[name]
    named = 0
    for number, data in enumerate(_damaged(rng, good)):
        (root / name).write_bytes(data)
        report = Report()
        found = sum(batch.num_rows for _, batch in read_batches(Source(root, name, table, report)))
        assert (found == rows) or report.problems()  # some places nobody needs, such as the name of the writer
        named += bool(report.problems())
        if number % 10 == 0:
            refresh_manifest(root, [name])
            assert {problem.file for problem in verify_dataset(root)} >= report.files
    assert named >= 25


def test_a_damaged_size_histogram_does_not_end_the_process(tmp_path: Path) -> None:
    """Pyarrow ends the process when the description of a column chunk cannot be decoded from Python."""
    path = tmp_path / "index.parquet"
    pq.write_table(INDEX.schema.empty_table(), path)
    table = pa.Table.from_pylist(
        [{"clip_id": f"c{n}", "source_id": "s", "source_uri": "u", "status": "failed"} for n in range(40)],
        schema=INDEX.schema,
    )
    pq.write_table(table, path, row_group_size=10)
    good = path.read_bytes()
    footer = len(good) - 8 - struct.unpack("<I", good[-8:-4])[0]
    rng = random.Random(5)
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(150):
        (folder / f"{number}.parquet").write_bytes(flip(rng, good, footer, len(good) - 8))
    code = (
        "import sys; from pathlib import Path; from schemas.tables import INDEX; import schemas.verify_parquet as v\n"
        "from schemas.verify_report import Report\n"
        "reports = [Report() for _ in sys.argv[1:]]\n"
        "for path, report in zip(map(Path, sys.argv[1:]), reports):\n"
        "    for _ in v.read_batches(v.Source(path.parent, path.name, INDEX, report)): pass\n"
        "print(sum(bool(report.unread) for report in reports))\n"
    )
    command = [sys.executable, "-c", code, *map(str, sorted(folder.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    assert int(done.stdout) > 30
