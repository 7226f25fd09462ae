"""The files open with the same values in every tool a user may bring."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from schemas.records import ClipRecord

Column = list[Any]
Reader = Callable[[list[str], Path], dict[str, Column]]
"""Paths of one table and a scratch folder -> columns as lists in file order."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ClipRecord]]:
    root = tmp_path_factory.mktemp("interop") / "ds"
    return root, build(root)


def _check(made: tuple[Path, list[ClipRecord]], read: Reader, scratch: Path) -> None:
    root, records = made
    index = read([str(root / "index.parquet")], scratch)
    order = np.argsort(index["clip_id"])
    by_id = sorted(records, key=lambda record: str(record.index["clip_id"]))
    for name in ("clip_id", "speaker", "num_frames", "end_us", "nme_mean", "status", "transcript", "has_audio"):
        found = [index[name][place] for place in order]
        found = [None if isinstance(value, float) and np.isnan(value) else value for value in found]
        assert found == [record.index.get(name) for record in by_id], name

    accepted = [record for record in by_id if record.head is not None]
    params = read([str(path) for path in sorted((root / "params").glob("*.parquet"))], scratch)
    order = np.argsort(params["clip_id"])
    assert [params["clip_id"][place] for place in order] == [record.index["clip_id"] for record in accepted]
    for place, record in zip(order, accepted, strict=True):
        assert record.head is not None
        assert record.landmarks is not None
        for name in ("shape", "expression", "jaw_pose", "residual_px", "nme"):
            stored = np.asarray(params[name][place], dtype=np.float32)
            np.testing.assert_array_equal(stored, getattr(record.head, name).reshape(-1), err_msg=name)
        assert np.float32(params["focal_px"][place]) == np.float32(record.head.focal_px)
        np.testing.assert_array_equal(np.asarray(params["pts_us"][place]), record.landmarks.pts_us)
        np.testing.assert_array_equal(np.asarray(params["valid"][place]), record.head.valid)


def test_pyarrow(made: tuple[Path, list[ClipRecord]], tmp_path: Path) -> None:
    _check(made, lambda paths, _: pq.read_table(paths[0]).to_pydict(), tmp_path)


def test_pandas(made: tuple[Path, list[ClipRecord]], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")

    def read(paths: list[str], _: Path) -> dict[str, Column]:
        frame = pandas.read_parquet(paths[0])
        if "jaw_pose" in frame:
            assert frame["jaw_pose"].iloc[0].dtype == np.float32
        plain = frame.astype(object).where(frame.notna(), None)
        return {name: plain[name].tolist() for name in plain}

    _check(made, read, tmp_path)


def test_polars(made: tuple[Path, list[ClipRecord]], tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    _check(made, lambda paths, _: polars.read_parquet(paths).to_dict(as_series=False), tmp_path)


def test_duckdb(made: tuple[Path, list[ClipRecord]], tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")

    def read(paths: list[str], _: Path) -> dict[str, Column]:
        cursor = duckdb.connect().execute("SELECT * FROM read_parquet(?)", [paths])
        names = [item[0] for item in cursor.description]
        return dict(zip(names, map(list, zip(*cursor.fetchall(), strict=True)), strict=True))

    _check(made, read, tmp_path)
    sql = (made[0] / "README.md").read_text().split("```sql\n")[1].split("```")[0]
    query = sql.replace("'index.parquet'", f"'{made[0]}/index.parquet'").replace("'params/", f"'{made[0]}/params/")
    assert len(duckdb.connect().execute(query).fetchall()) == 10


def test_huggingface_datasets(
    made: tuple[Path, list[ClipRecord]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def read(paths: list[str], scratch: Path) -> dict[str, Column]:
        table = datasets.load_dataset("parquet", data_files=paths, cache_dir=str(scratch / "cache"), split="train")
        return {name: list(table[name]) for name in table.column_names}

    _check(made, read, tmp_path)


@pytest.fixture
def ray_data() -> Iterator[Any]:
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    data = importlib.import_module("ray.data")
    data.DataContext.get_current().enable_progress_bars = False
    yield data
    ray.shutdown()


def test_ray_data(made: tuple[Path, list[ClipRecord]], tmp_path: Path, ray_data: Any) -> None:
    def read(paths: list[str], _: Path) -> dict[str, Column]:
        rows = ray_data.read_parquet(paths).take_all()
        return {name: [row[name] for row in rows] for name in rows[0]}

    _check(made, read, tmp_path)
