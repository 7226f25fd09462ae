"""Every kind of damage is found and the file named."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from schemas.errors import TalksetError
from schemas.files import MANIFEST_NAME, list_files, refresh_manifest
from schemas.tables import TABLES
from schemas.verify import verify_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    build(tmp_path / "ds", clips=5)
    (tmp_path / "ds" / "media").mkdir()
    (tmp_path / "ds" / "media" / "clip_0001.mp4").write_bytes(b"not really" * 100)
    refresh_manifest(tmp_path / "ds")
    return tmp_path / "ds"


def _files(root: Path) -> set[str]:
    return {problem.file for problem in verify_dataset(root)}


def test_a_good_data_set_has_no_problem(root: Path) -> None:
    assert verify_dataset(root) == []


def test_a_flipped_bit_anywhere_is_named(root: Path) -> None:
    rng = random.Random(1)
    for name in [*list_files(root), MANIFEST_NAME]:
        path = root / name
        good = path.read_bytes()
        for place in (0, len(good) - 1, *(rng.randrange(len(good)) for _ in range(3))):
            bad = bytearray(good)
            bad[place] ^= 1 << rng.randrange(8)
            path.write_bytes(bad)
            assert _files(root) == {name}, (name, place)
        path.write_bytes(good)
    assert verify_dataset(root) == []


def test_missing_and_extra_files_are_named(root: Path) -> None:
    (root / "media" / "clip_0001.mp4").unlink()
    (root / "params" / "part-00000.parquet").rename(root / "params" / "part-00007.parquet")
    assert _files(root) == {"media/clip_0001.mp4", "params/part-00000.parquet", "params/part-00007.parquet"}
    refresh_manifest(root)
    assert _files(root) == {"params/part-00000.parquet", "params/part-00007.parquet"}


def test_without_hashes_the_rest_is_still_checked(root: Path) -> None:
    (root / MANIFEST_NAME).unlink()
    assert _files(root) == {MANIFEST_NAME}
    (root / "index.parquet").write_bytes(b"PAR1")
    assert _files(root) == {MANIFEST_NAME, "index.parquet"}


def test_page_checksums_are_read(root: Path) -> None:
    path = root / "params" / "part-00000.parquet"
    column = pq.ParquetFile(path).metadata.row_group(0).column(5)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 20] ^= 4
    path.write_bytes(data)
    refresh_manifest(root)  # whoever damaged it also renewed the hashes
    problems = verify_dataset(root)
    assert {problem.file for problem in problems} == {"params/part-00000.parquet"}
    assert any("CRC" in problem.message or "checksum" in problem.message for problem in problems)


def _edit(root: Path, name: str, change: Callable[[list[dict[str, Any]]], object]) -> None:
    """Change rows of a file and renew the hashes, as a careless script would."""
    rows = pq.read_table(root / name).to_pylist()
    change(rows)
    table = TABLES[name.split("/")[0].removesuffix(".parquet")]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), root / name)
    refresh_manifest(root)


PARAMS = "params/part-00000.parquet"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (PARAMS, lambda rows: rows[1]["expression"].pop(), "row 1: expression has"),
        (PARAMS, lambda rows: rows[0]["shape"].pop(), "shape has"),
        (PARAMS, lambda rows: rows[1]["jaw_pose"].extend([0, 0, 0]), "row 1: jaw_pose has"),
        (PARAMS, lambda rows: rows[1]["pts_us"].reverse(), "row 1: pts_us does not rise"),
        (PARAMS, lambda rows: rows[2]["jaw_pose"].__setitem__(0, float("nan")), "row 2: jaw_pose is not finite"),
        (PARAMS, lambda rows: rows[2].__setitem__("translation", None), "row 2: translation is null"),
        (PARAMS, lambda rows: rows.reverse(), "the index says clip_0000"),
        (PARAMS, lambda rows: rows.pop(), "has 4 rows, the index has 5"),
        (PARAMS, lambda rows: rows.append(rows[0]), "row 5: is not in the index"),
        (PARAMS, lambda rows: rows[0].__setitem__("num_frames", 7), "has 7 frames"),
        ("landmarks/part-00000.parquet", lambda rows: rows[0]["face_xy"].pop(), "face_xy has"),
        ("index.parquet", lambda rows: rows[0].__setitem__("clip_id", "../../etc"), "is not a plain file name"),
        ("index.parquet", lambda rows: rows[0].__setitem__("shard", "../part-00000.parquet"), "not a plain file name"),
        ("index.parquet", lambda rows: rows[0].__setitem__("status", "fine"), "status 'fine'"),
        ("index.parquet", lambda rows: rows[3].__setitem__("reason", "dunno"), "unknown reason 'dunno'"),
        ("index.parquet", lambda rows: rows[0].__setitem__("row", 1), "shares part-00000.parquet row 1"),
        ("index.parquet", lambda rows: rows[1].__setitem__("clip_id", "clip_0000"), "occurs twice"),
        ("words.parquet", lambda rows: rows[4].__setitem__("clip_id", "clip_0099"), "row 4: clip clip_0099 is not"),
        ("words.parquet", lambda rows: rows[4].__setitem__("end_us", 10**8), "row 4: 100000..100000000 us is outside"),
        ("phones.parquet", lambda rows: rows[0].__setitem__("start_us", -5), "row 0: -5..40000 us is outside"),
    ],
)
def test_contradictions_are_named(
    root: Path, name: str, change: Callable[[list[dict[str, Any]]], object], message: str
) -> None:
    _edit(root, name, change)
    problems = verify_dataset(root)
    assert any(problem.file == name and message in problem.message for problem in problems), problems


def test_another_schema_is_named(root: Path) -> None:
    path = root / "words.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["score"]), path)
    refresh_manifest(root)
    problems = verify_dataset(root)
    assert [problem.file for problem in problems] == ["words.parquet"]
    assert "missing columns ['score']" in problems[0].message
    pq.write_table(table.replace_schema_metadata({}), path)
    refresh_manifest(root)
    assert "metadata" in verify_dataset(root)[0].message


def test_wrong_counts_and_no_folder(root: Path, tmp_path: Path) -> None:
    path = root / "dataset.json"
    path.write_text(path.read_text().replace('"rows": 7', '"rows": 8'))
    refresh_manifest(root)
    assert [(p.file, p.message) for p in verify_dataset(root)] == [
        ("dataset.json", "counts 8 rows, index.parquet has 7")
    ]
    with pytest.raises(TalksetError, match="nowhere"):
        verify_dataset(tmp_path / "nowhere")
