"""What a data set from elsewhere may do to its reader: nothing but a clear error."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from talkset import guards
from talkset import store as stores
from talkset.dataset import open_dataset
from talkset.store import DatasetError, Store, without_secrets

PART = "params/part-00000.parquet"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store") / "ds"
    build(root)
    (root / "media").mkdir()
    (root / "media" / "clip_0001.mp4").write_bytes(b"video")
    return root


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "ds"))


def _bomb(path: Path, values: int) -> None:
    """A part whose first clip's expression is a run of equal numbers: kilobytes on disk, gigabytes in memory."""
    schema = pq.read_schema(path)
    rows = pq.ParquetFile(path).read_row_group(0).slice(0, 1)
    flat = pa.array(np.zeros(values, np.float32))
    offsets = pa.array(np.array([0, values], np.int32))
    huge = pa.ListArray.from_arrays(offsets, flat, type=schema.field("expression").type)
    rows = rows.set_column(schema.get_field_index("expression"), schema.field("expression"), huge)
    pq.write_table(rows, path, compression="zstd", use_dictionary=True)


def test_a_bomb_is_refused_before_it_is_decoded(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of the true limit, to be made quickly."""
    monkeypatch.setattr(guards, "MAX_GROUP_BYTES", guards.MAX_GROUP_BYTES // 20)
    _bomb(copied / PART, 15_000_000)
    assert (copied / PART).stat().st_size < 100_000
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(DatasetError, match=r"part-00000\.parquet row group 0 claims to decode to 12\d+ bytes"):
        open_dataset(copied)[0]["expression"]
    assert pa.default_memory_pool().max_memory() == before


def test_ordinary_sizes_are_far_from_the_limit(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_GROUP_BYTES", 100_000)
    dataset = open_dataset(made)
    assert dataset[0]["jaw_pose"].shape == (20, 3)
    with pytest.raises(DatasetError, match="the limit is 100000"):
        dataset[0]["face_xy"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are no Parquet file: it is truncated"),
        (b"PAR1" + b"x" * 100, "truncated or something else"),
        (b"PAR1" + b"x" * 100 + b"\xff\xff\xff\x7fPAR1", "its footer claims 2147483647 bytes"),
        (b"PAR1" + b"x" * 100 + b"\x10\x00\x00\x00PAR1", "cannot be read"),
    ],
)
def test_what_is_no_parquet(copied: Path, content: bytes, message: str) -> None:
    (copied / PART).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{PART} cannot be read.*") as caught:
        open_dataset(copied)[0]["expression"]
    assert message in str(caught.value)
    assert "talkset verify" in str(caught.value)


def test_a_truncated_and_a_missing_part(copied: Path) -> None:
    data = (copied / PART).read_bytes()
    (copied / PART).write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError, match="truncated"):
        open_dataset(copied)[0]["expression"]
    (copied / PART).unlink()
    with pytest.raises(DatasetError, match=rf"{PART} is missing; run `talkset verify`"):
        open_dataset(copied)[0]["expression"]


def test_nested_tables_are_refused(copied: Path) -> None:
    table = pq.read_table(copied / PART)
    nested = pa.array([{"a": 1.0, "b": 2.0}] * table.num_rows)
    wrong = table.append_column("nested", nested)
    pq.write_table(wrong, copied / PART)
    with pytest.raises(DatasetError, match=f"leaf columns in {wrong.num_columns} fields"):
        open_dataset(copied)[0]["expression"]


def test_a_huge_dataset_json_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "MAX_JSON_BYTES", 100)
    with pytest.raises(DatasetError, match="which no such file needs"):
        open_dataset(copied)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "media/../../x", "a\\b", "a\0b"])
def test_paths_stay_inside(made: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="is no file inside a data set"):
        Store(made).local_path(name)


def test_local_and_fetched_files(made: Path) -> None:
    assert Store(made).local_path("media/clip_0001.mp4") == made / "media" / "clip_0001.mp4"
    store = Store(f"file://{made}")
    path = store.local_path("media/clip_0001.mp4")
    assert path != made / "media" / "clip_0001.mp4"
    assert path.read_bytes() == b"video"
    assert store.local_path("media/clip_0001.mp4") == path
    assert store.list_files("media") == ["media/clip_0001.mp4"]
    assert store.list_files("nothing") == []
    assert store.has_file("index.parquet")
    with pytest.raises(DatasetError, match=r"has no file media/other\.mp4"):
        store.local_path("media/other.mp4")


def _read_in_child(store: Store, results: multiprocessing.Queue[object]) -> None:
    results.put(store.read_group("index.parquet", 0, ["clip_id"]).num_rows)


def test_a_forked_reader_leaves_its_parent_alone(made: Path) -> None:
    store = Store(f"file://{made}")
    path = store.local_path("media/clip_0001.mp4")
    rows = store.read_group("index.parquet", 0, ["clip_id"]).num_rows
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=_read_in_child, args=(store, results))
    child.start()
    assert results.get(timeout=60) == rows
    child.join(60)
    assert child.exitcode == 0
    assert path.read_bytes() == b"video"


def test_twins_and_pickles_are_small_and_read_alike(made: Path) -> None:
    store = Store(made)
    expected = store.read_group(PART, 1, ["jaw_pose"])
    for other in (store.twin(), pickle.loads(pickle.dumps(store))):
        assert other.read_group(PART, 1, ["jaw_pose"]).equals(expected)
    assert len(pickle.dumps(store)) < 5_000


def test_addresses_that_cannot_be_opened() -> None:
    with pytest.raises(DatasetError, match="nowhere://x/y cannot be opened"):
        open_dataset("nowhere://x/y")


def test_passwords_are_not_shown(tmp_path: Path) -> None:
    url = "s3://me:word@bucket/x?secret_key=abc&region=eu"
    assert without_secrets(url) == "s3://bucket/x?secret_key=***&region=eu"


def test_cached_columns_are_bounded(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "CACHE_BYTES", 1_000_000)
    dataset = open_dataset(made)
    for clip in dataset:
        assert clip["face_xy"].shape[1:] == (478, 2)
        assert clip["expression"] is not None
    held = sum(kept.array.get_total_buffer_size() for kept in dataset.store._decoded.values())
    assert held == dataset.store._held
    assert held < 1_000_000 + 4 * 35 * 478 * 2 * 4 * 2


def test_damaged_footers_never_end_the_process(copied: Path) -> None:
    """Bits flipped all over the footer of a part: an error that is ours, or an answer, in this very process."""
    path = copied / PART
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    refused, answered = 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        data = bytearray(whole)
        for place in rng.integers(len(whole) - 8 - length, len(whole) - 8, 3).tolist():
            data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            open_dataset(copied)[0]["expression"]
            answered += 1
        except (DatasetError, KeyError):
            refused += 1
    assert refused + answered == 60
    assert refused > 20
