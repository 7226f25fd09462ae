"""The index of a large data set: what is read, what is kept, and what it costs."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from schemas.config import ShardConfig
from schemas.dataset_files import DatasetFiles
from schemas.tables import INDEX, SCHEMA_VERSION
from talkset.dataset import open_dataset
from talkset.index import Index
from talkset.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]


def batch(first: int, count: int) -> pa.Table:
    """Index rows without parameters: every seventh is accepted, speakers and scores follow from the number."""
    numbers = np.arange(first, first + count)
    values = {
        "clip_id": pa.array([f"clip-{number:010d}" for number in numbers]),
        "source_id": pa.array([f"source-{number // 4:08d}" for number in numbers]),
        "source_uri": pa.array([f"videos/{number // 4:08d}.mp4" for number in numbers]),
        "speaker": pa.array([f"s{number % 1000}" for number in numbers]),
        "status": pa.array(np.where(numbers % 7 == 0, "accepted", "rejected")),
        "start_us": pa.array(numbers * 1000),
        "end_us": pa.array(numbers * 1000 + 3_000_000),
        "nme_mean": pa.array((numbers % 97) / 1000),
        "transcript": pa.array([f"what was said in the clip with the number {number}" for number in numbers]),
    }
    arrays = [values.get(field.name, pa.nulls(count, field.type)) for field in INDEX.schema]
    return pa.Table.from_arrays(arrays, schema=INDEX.schema)


def write_index(root: Path, rows: int, size: int = 16_384) -> None:
    """A data set that has only an index."""
    facts: dict[str, Any] = {"name": "large", "version": "1.0.0", "schema_version": SCHEMA_VERSION}
    facts |= {"licence": "CC0-1.0", "config_digest": "", "history": [], "sidecars": []}
    with DatasetFiles(root, {**facts, "models": [], "generator": {}}, "", ShardConfig(figures=False)) as files:
        for first in range(0, rows, size):
            files.write("index", batch(first, min(size, rows - first)))
        files.finish()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("large") / "ds"
    write_index(root, 60_000)
    return root


def test_rows_are_those_of_a_plain_filter(large: Path) -> None:
    whole = pq.read_table(large / "index.parquet")
    frame = whole.to_pandas()
    cases = {
        "nme_mean < 0.01 and speaker != 's21'": (frame.status == "accepted") & (frame.speaker != "s21"),
        "status == 'rejected' and nme_mean < 0.01": frame.status == "rejected",
    }
    for where, also in cases.items():
        expected = frame[also & (frame.nme_mean < 0.01)]
        assert len(expected) > 100
        found = open_dataset(large, where=where)
        assert found.column("clip_id").to_pylist() == list(expected.clip_id)
        assert found.index.equals(whole.take(pa.array(expected.index)))
        position = len(found) // 2
        assert dict(found[position].index) == whole.slice(expected.index[position], 1).to_pylist()[0]
        assert found[expected.clip_id.iloc[-1]].position == len(expected) - 1


def test_a_filter_reads_only_its_columns(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    original = Store.read_group

    def spy(self: Store, name: str, group: int, columns: list[str]) -> pa.Table:
        read.update(columns)
        return original(self, name, group, columns)

    monkeypatch.setattr(Store, "read_group", spy)
    dataset = open_dataset(large, where="nme_mean < 0.01")
    assert read == {"nme_mean", "status"}
    expression = open_dataset(large, where=(pc.field("nme_mean") < 0.01) & (pc.field("has_audio").is_null()))
    assert read == {"nme_mean", "status", "has_audio"}
    assert len(expression) == len(dataset) > 0
    assert dataset[3].index["speaker"]
    assert "transcript" not in read


def test_selections_are_cut_further(large: Path) -> None:
    dataset = open_dataset(large, where="nme_mean < 0.02")
    fewer = dataset.select("speaker in ('s0', 's7', 's14')")
    both = open_dataset(large, where="nme_mean < 0.02 and speaker in ('s0', 's7', 's14')")
    assert fewer.column("clip_id").equals(both.column("clip_id"))
    assert len(both) > 3
    assert len(dataset.select("nme_mean > 1")) == 0
    assert dataset.select("nme_mean > 1").index.num_rows == 0
    with pytest.raises(KeyError, match="not among the 0 selected"):
        dataset.select("nme_mean > 1")["clip-0000000000"]


def test_pickles_carry_row_numbers_only(large: Path) -> None:
    whole = Index(Store(large))
    whole.column("transcript")
    assert len(pickle.dumps(whole)) < 10_000
    dataset = open_dataset(large, where="nme_mean < 0.02")
    again = pickle.loads(pickle.dumps(dataset))
    assert again[5].index["transcript"] == dataset[5].index["transcript"]


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    build(tmp_path / "ds")
    with pytest.raises(KeyError, match="did you mean 'speaker'"):
        open_dataset(tmp_path / "ds").column("speker")


GROWTH = """
import json, resource, sys
sys.path[:0] = [{tests!r}, {here!r}]
from pathlib import Path
from test_index import write_index, open_dataset
import pyarrow as pa
pa.set_memory_pool(pa.system_memory_pool())
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
root = Path(sys.argv[1])
what = sys.argv[2]
if what == "build":
    write_index(root / "small", 16_384)
    before = peak()
    write_index(root / "big", 262_144)
else:
    open_dataset(root / "small", where="nme_mean < 0.001")
    before = peak()
    found = open_dataset(root / "big", where="nme_mean < 0.001")
    found[7].index["speaker"]
print(json.dumps([peak() - before, (root / "big" / "index.parquet").stat().st_size]))
"""


def test_memory_does_not_grow_with_the_index(tmp_path: Path) -> None:
    """Sixteen times the rows: 262,144 of them, which are some 60 MB when read whole."""
    code = GROWTH.format(tests=str(REPOSITORY / "tests"), here=str(Path(__file__).parent))
    growth = {}
    for what in ("build", "open"):
        command = [sys.executable, "-c", code, str(tmp_path), what]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
        growth[what], _ = json.loads(done.stdout)
    assert growth["build"] < 45, growth
    assert growth["open"] < 15, growth
