"""A data set with all that verification looks at, and ways to damage one thing of it at a time."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dataset_builder import build

from schemas.files import refresh_manifest
from schemas.tables import INDEX, PARAMS, TABLES, Column, Table
from schemas.verify import Problem

Rows = list[dict[str, Any]]

CLIPS = 5
FLOATS = PARAMS.columns[4].type
SCORE = Column("score", pa.float64(), "a score of the user", unit="1", low=0, high=1)
FEATURE = Column("feature", FLOATS, "a tensor of the user", ("T", 2), low=-100, high=100)


def build_complete(root: Path) -> None:
    """Five clips and two other rows, with media, an overlay, and one added column of each kind."""
    build(root, CLIPS)
    for name in ("media/clip_0001.mp4", "media/clip_0001.wav", "overlays/clip_0001.mp4"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"not really" * 100)
    (root / "columns" / "feature").mkdir(parents=True)
    ids = pq.read_table(root / "index.parquet")["clip_id"]
    scores = pa.array([None, *np.linspace(0, 1, len(ids) - 1)])
    write(root / "columns/score.parquet", Table("columns/score", (INDEX.columns[0], SCORE)), [ids, scores])
    params = pq.read_table(root / "params/part-00000.parquet")
    frames = params["num_frames"].to_pylist()
    features = pa.array([None, *(np.full(2 * count, count, np.float32) for count in frames[1:])], FLOATS)
    table = Table("columns/feature", (*PARAMS.columns[:2], FEATURE))
    write(root / "columns/feature/part-00000.parquet", table, [params["clip_id"], params["num_frames"], features])
    sidecars = [{"name": "score", "table": "index"}, {"name": "feature", "table": "params"}]
    edit_json(root, "dataset.json", lambda facts: facts.update(sidecars=sidecars))


def write(path: Path, table: Table, arrays: Sequence[Any]) -> None:
    """Write columns with the schema of a table."""
    pq.write_table(pa.Table.from_arrays(list(arrays), schema=table.schema), path, write_page_checksum=True)


def copy(root: Path, target: Path) -> Path:
    """A copy of a data set, to be damaged."""
    shutil.copytree(root, target)
    return target


def edit(root: Path, name: str, change: Callable[[Rows], object], row_group_size: int = 2) -> None:
    """Change rows of a file and renew the hashes, as a careless script would."""
    schema = pq.read_schema(root / name)
    rows = pq.read_table(root / name).to_pylist()
    change(rows)
    table = pa.Table.from_pylist(rows, schema=schema)
    pq.write_table(table, root / name, row_group_size=row_group_size)
    refresh_manifest(root, [name])


def edit_json(root: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a JSON file and renew the hashes."""
    value = json.loads((root / name).read_text(encoding="utf-8"))
    change(value)
    (root / name).write_text(json.dumps(value), encoding="utf-8")
    refresh_manifest(root)


def as_version(root: Path, version: str) -> None:
    """Rewrite a data set to what another schema version would have written."""
    for path in sorted(root.rglob("*.parquet")):
        stored = pq.read_table(path)
        name = path.relative_to(root).parts[0].removesuffix(".parquet")
        schema = TABLES[name].at(version).schema if name in TABLES else stored.schema
        metadata = {**stored.schema.metadata, b"talkset.schema_version": version.encode()}
        rows = stored.select(schema.names).to_pylist()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema.with_metadata(metadata)), path)
    edit_json(root, "dataset.json", lambda facts: facts.update(schema_version=version))


def flip(rng: random.Random, data: bytes, low: int, high: int) -> bytes:
    """The data with one byte between two places changed."""
    changed = bytearray(data)
    place = rng.randrange(low, high)
    changed[place] ^= rng.randrange(1, 256)
    return bytes(changed)


def expect(problems: list[Problem], name: str, *texts: str) -> None:
    """Exactly one problem, of a file, with all the texts."""
    assert [problem.file for problem in problems] == [name], problems
    for text in texts:
        assert text in problems[0].message, problems
