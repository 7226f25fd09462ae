"""Prepared files give the batches that decoding gives, are made once, and are never half of one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from schemas.config import ShardConfig
from schemas.files import refresh_manifest
from talkset import open_dataset
from talkset.dataset import Dataset
from talkset.store import DatasetError
from talkset.training import prepared as module

torch = pytest.importorskip("torch")

COLUMNS = ["expression", "shape", "landmarks.face_xy", "pts_us", "valid", "focal_px"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared") / "ds"
    build(root, clips=12, shards=ShardConfig(clips_per_row_group=5, figures=False))
    return root


def batches(dataset: Dataset, columns: list[str] = COLUMNS, **options: Any) -> list[dict[str, Any]]:
    loader = dataset.loader(columns, 5, seed=3, **options)
    return list(loader)


def assert_equal(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == other[name].dtype
                np.testing.assert_array_equal(value.numpy(), other[name].numpy(), err_msg=name)
            else:
                np.testing.assert_array_equal(value, other[name])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"window_s": 0.3, "hop_s": 0.12},
        {"normalise": "mean_std", "columns": ["expression", "jaw_pose"]},
        {"num_workers": 2},
        {"shuffle": False, "threads": 0},
    ],
)
def test_batches_are_those_of_decoding(root: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    dataset = open_dataset(root)
    expected = batches(dataset, **options)
    assert_equal(batches(dataset, prepared=tmp_path, **options), expected)
    assert_equal(batches(open_dataset(root), prepared=tmp_path, **options), expected)


def test_files_are_made_once_for_a_version_columns_and_normalisation(
    root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = open_dataset(root)
    with caplog.at_level(logging.INFO, module.__name__):
        batches(dataset, prepared=tmp_path)
        assert len(caplog.records) == 1
        batches(open_dataset(root), prepared=tmp_path)
        assert len(caplog.records) == 1
        batches(dataset, ["expression"], prepared=tmp_path)
        batches(dataset, ["expression"], prepared=tmp_path, normalise="mean_std")
    assert len(caplog.records) == 3
    assert len(list(tmp_path.iterdir())) == 3
    assert not list(tmp_path.rglob("*.partial"))


def test_the_cache_folder_is_the_default(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path))
    batches(open_dataset(root), prepared=True)
    assert list((tmp_path / "prepared").rglob("*.prepared"))


def test_nothing_is_decoded_afterwards(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from talkset.training import batches as reading

    dataset = open_dataset(root)
    loader = dataset.loader(COLUMNS, 5, prepared=tmp_path)
    first = list(loader)

    def refuse(*_: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr(module, "decode", refuse)
    monkeypatch.setattr(reading, "decode", refuse)
    assert len(list(loader)) == len(first)
    assert len(list(open_dataset(root).loader(COLUMNS, 5, prepared=tmp_path))) == len(first)


def test_only_the_parts_of_the_selection_are_made(tmp_path: Path) -> None:
    root = tmp_path / "ds"
    build(root, clips=8, shards=ShardConfig(clips_per_row_group=2, figures=False))
    whole = pq.read_table(root / "params/part-00000.parquet")
    for part, rows in enumerate((whole.slice(0, 4), whole.slice(4))):
        path = root / f"params/part-{part:05d}.parquet"
        pq.write_table(rows, path, row_group_size=2, write_page_checksum=True, use_dictionary=False)
    index = pq.read_table(root / "index.parquet")
    rows = index.to_pylist()
    for row in rows:
        if row["row"] is not None and row["row"] >= 4:
            row["shard"], row["row"] = "part-00001.parquet", row["row"] - 4
    pq.write_table(pa.Table.from_pylist(rows, schema=index.schema), root / "index.parquet")
    refresh_manifest(root)
    ids = whole["clip_id"].slice(0, 2).to_pylist()
    few = open_dataset(root, where=f"clip_id in {ids!r}")
    assert len(batches(few, ["expression"], prepared=tmp_path / "p")) == 1
    assert [path.name for path in (tmp_path / "p").rglob("*.prepared")] == ["part-00000.prepared"]


def test_a_clip_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    root = tmp_path / "ds"
    build(root, clips=4, shards=ShardConfig(clips_per_row_group=2, figures=False))
    path = root / "params/part-00000.parquet"
    table = pq.read_table(path)
    shapes = table["shape"].to_pylist()
    shapes[3] = [float("nan")] * len(shapes[3])
    position = table.schema.get_field_index("shape")
    table = table.set_column(position, table.schema.field("shape"), pa.array(shapes, table.schema.field("shape").type))
    pq.write_table(table, path, row_group_size=2, write_page_checksum=True, use_dictionary=False)
    refresh_manifest(root)
    dataset = open_dataset(root)
    with pytest.raises(DatasetError, match="has a shape that is not finite"):
        batches(dataset, ["shape"], prepared=tmp_path / "p")


def test_a_stopped_writer_leaves_no_part(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", stop)
    with pytest.raises(DatasetError, match=r"No space left on device.*choose another prepared=FOLDER"):
        batches(open_dataset(root), prepared=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert len(batches(open_dataset(root), prepared=tmp_path)) == 3


def test_a_full_disk_is_refused_before_it_is_full(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(DatasetError, match="is full"):
        batches(open_dataset(root), prepared=tmp_path)


@pytest.mark.parametrize("damage", [b"", b"TALKSET1", b"x" * 4000])
def test_a_damaged_file_is_named(root: Path, tmp_path: Path, damage: bytes) -> None:
    batches(open_dataset(root), ["expression"], prepared=tmp_path)
    (path,) = tmp_path.rglob("*.prepared")
    path.write_bytes(damage)
    with pytest.raises(DatasetError, match=r"part-00000\.prepared cannot be used .*remove it"):
        batches(open_dataset(root), ["expression"], prepared=tmp_path)


def test_a_data_set_without_manifest_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "ds"
    build(root, clips=2, shards=ShardConfig(figures=False))
    (root / "MANIFEST.sha256").unlink()
    with pytest.raises(DatasetError, match=r"no MANIFEST\.sha256"):
        open_dataset(root).loader(["expression"], 2, prepared=tmp_path / "p")
