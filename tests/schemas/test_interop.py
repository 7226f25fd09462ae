"""The files of every table open with the same values in every tool a user may bring.

pyarrow is checked against what was put in, the others against all columns of all tables as pyarrow reads them.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from schemas.records import ClipRecord, clip_rows
from schemas.tables import LONG, SHARDED, TABLES

Column = list[Any]
Reader = Callable[[list[str], Path], dict[str, Column]]
"""Paths of one table and a scratch folder -> columns as lists in file order."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ClipRecord]]:
    root = tmp_path_factory.mktemp("interop") / "ds"
    return root, build(root)


def _paths(root: Path, table: str) -> list[str]:
    if table in {sharded.name for sharded in SHARDED}:
        return [str(path) for path in sorted((root / table).glob("*.parquet"))]
    return [str(root / f"{table}.parquet")]


def _plain(value: Any) -> Any:
    """A cell as None, text, or a float64 / int64 / bool array, whatever the tool calls it."""
    if value is None or isinstance(value, str):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "f":
        return None if array.ndim == 0 and np.isnan(array) else array.astype(np.float64)
    return array.astype(np.int64) if array.dtype.kind in "iu" else array


def _assert_same(found: Column, expected: Column, name: str) -> None:
    assert len(found) == len(expected), name
    for one, other in zip(found, expected, strict=True):
        a, b = _plain(one), _plain(other)
        if isinstance(b, np.ndarray):
            assert a is not None, name
            np.testing.assert_array_equal(np.asarray(a, b.dtype), b, err_msg=name)
        else:
            assert a == b, name


def _in_order(columns: dict[str, Column]) -> dict[str, Column]:
    """Rows by clip and then as they are: parts may be read in any order, rows of a clip may not."""
    order = sorted(range(len(columns["clip_id"])), key=lambda row: str(columns["clip_id"][row]))
    return {name: [values[row] for row in order] for name, values in columns.items()}


def _check(made: tuple[Path, list[ClipRecord]], read: Reader, scratch: Path) -> None:
    root, _ = made
    for name, table in TABLES.items():
        expected = _in_order(pq.read_table(_paths(root, name)[0]).to_pydict())
        found = _in_order(read(_paths(root, name), scratch))
        assert list(found) == table.schema.names
        assert len(expected["clip_id"]) >= 10
        for column, values in expected.items():
            _assert_same(found[column], values, f"{name}.{column}")


def test_pyarrow_reads_what_was_put_in(made: tuple[Path, list[ClipRecord]]) -> None:
    root, records = made
    rows = [clip_rows(record) for record in sorted(records, key=lambda record: str(record.index["clip_id"]))]
    expected: dict[str, list[dict[str, Any]]] = {
        "index": [row.index for row in rows],
        "params": [row.params for row in rows if row.params is not None],
        "landmarks": [row.landmarks for row in rows if row.landmarks is not None],
        **{table.name: [item for row in rows for item in getattr(row, table.name)] for table in LONG},
    }
    for name, table in TABLES.items():
        found = _in_order(pq.read_table(_paths(root, name)[0]).to_pydict())
        for column in table.columns:
            if column.name not in ("shard", "row"):  # only the writer knows them
                wanted = [
                    np.float32(row[column.name])
                    if column.type == pa.float32() and row[column.name] is not None
                    else row[column.name]
                    for row in expected[name]
                ]
                _assert_same(found[column.name], wanted, f"{name}.{column.name}")


def test_pandas(made: tuple[Path, list[ClipRecord]], tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")

    def read(paths: list[str], _: Path) -> dict[str, Column]:
        frame = pandas.read_parquet(paths[0])
        for name in ("jaw_pose", "face_xy"):
            if name in frame:
                assert frame[name].iloc[0].dtype == np.float32
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


def test_huggingface_datasets(
    made: tuple[Path, list[ClipRecord]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()

    def read(paths: list[str], scratch: Path) -> dict[str, Column]:
        table = datasets.load_dataset("parquet", data_files=paths, cache_dir=str(scratch / "cache"), split="train")
        stored = pq.read_schema(paths[0])
        for name, feature in table.features.items():
            leaf = stored.field(name).type
            wanted = leaf.value_type if pa.types.is_list(leaf) else leaf
            found = feature.feature if pa.types.is_list(leaf) else feature
            assert pa.types.is_list(leaf) == isinstance(feature, datasets.List)
            assert found.pa_type == wanted, name
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
