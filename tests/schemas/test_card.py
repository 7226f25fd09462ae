"""The data card: its front matter, its figures in words, and snippets that run."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from dataset_builder import MODEL_HASH, build

from schemas.card import LONGEST_TABLE, render_card
from schemas.config import ShardConfig
from schemas.figures import FIGURES
from schemas.records import ClipRecord
from schemas.statistics import Statistics
from schemas.summary import IndexSummary
from schemas.tables import TABLES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ClipRecord]]:
    root = tmp_path_factory.mktemp("card") / "ds"
    return root, build(root)


@pytest.fixture(scope="module")
def parts(made: tuple[Path, list[ClipRecord]]) -> tuple[dict[str, Any], IndexSummary, dict[str, Any]]:
    """What the card is made of: dataset.json, the counted index, stats.json."""
    root = made[0]
    summary = IndexSummary()
    summary.add(pq.read_table(root / "index.parquet"))
    return json.loads((root / "dataset.json").read_text()), summary, json.loads((root / "stats.json").read_text())


def _front(card: str) -> dict[str, Any]:
    assert card.startswith("---\n")
    loaded = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(loaded, dict)
    return loaded


def _section(card: str, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    return found[1]


def test_the_card_of_a_data_set_has_everything(parts: tuple[dict[str, Any], IndexSummary, dict[str, Any]]) -> None:
    card = render_card(*parts, has_figures=True)
    contents = _section(card, "Contents")
    seconds = parts[0]["counts"]["seconds"]
    for line in (
        "| accepted clips | 10 |",
        f"| hours | {seconds / 3600:.3f} |",
        "| source videos | 5 |",
        "| speakers | 3 |",
        "| frames per second | 25 |",
        "| train | 8 |",
        "| val | 2 |",
    ):
        assert line in contents
    for name in FIGURES:
        assert f"]({name})" in contents
    assert "| failed | truncated | the stream ended" in _section(card, "What became of every clip")
    assert f"| CC-BY-4.0 | 10 | {seconds / 3600:.3f} | 5 |" in _section(card, "Licences")
    models = _section(card, "Models")
    assert f"| open-head | CC0-1.0 | 10 | {seconds / 3600:.3f} | {MODEL_HASH} |" in models
    assert "4 of 10 accepted clips have no transcript" in _section(card, "Known limits")
    assert all(word in _section(card, "Versions") for word in ("PATCH", "MINOR", "MAJOR"))
    jaw = parts[2]["signals"]["open-head"]["jaw_pose"]
    cells = [f"{np.degrees(jaw[name][0]):.3g}" for name in ("q01", "q05", "q50", "q95", "q99")]
    assert f"| open-head | jaw opening | deg | {' | '.join(cells)} |" in _section(card, "Motion")
    assert "## History" not in card
    assert "## Added columns" not in card
    assert "figures/" not in render_card(*parts, has_figures=False)


def test_the_written_card_is_this_card(
    made: tuple[Path, list[ClipRecord]], parts: tuple[dict[str, Any], IndexSummary, dict[str, Any]], tmp_path: Path
) -> None:
    card = (made[0] / "README.md").read_text()
    assert card == render_card(*parts, has_figures=False)
    build(tmp_path / "drawn", shards=ShardConfig(clips_per_row_group=4))
    assert (tmp_path / "drawn" / "README.md").read_text() == render_card(*parts, has_figures=True)
    for name in FIGURES:
        assert (tmp_path / "drawn" / name).read_bytes().startswith(b"\x89PNG")


def test_history_and_added_columns_are_told(parts: tuple[dict[str, Any], IndexSummary, dict[str, Any]]) -> None:
    facts = copy.deepcopy(parts[0])
    facts["history"] = [
        {"operation": "run", "parameters": {}, "from": []},
        {
            "operation": "filter",
            "parameters": {"where": "nme_mean < 0.02 | speaker == 'a'"},
            "from": [{"name": "first|one", "version": "1.0.0", "manifest_sha256": "ef" * 32}],
        },
    ]
    facts["sidecars"] = [
        {
            "name": "energy",
            "columns": [{"name": "loudness", "shape": ["T", 2], "unit": "dB", "meaning": "level of the sound"}],
        }
    ]
    card = render_card(facts, *parts[1:], has_figures=False)
    history = _section(card, "History")
    assert "| 1 | run: built from videos | {} |  |" in history
    assert '| 2 | filter: clips selected | {"where": "nme_mean &lt; 0.02 \\| speaker == \'a\'"} |' in history
    assert f"first\\|one 1.0.0 ({'ef' * 32})" in history
    assert "| energy | loudness | T x 2 | dB | level of the sound |" in _section(card, "Added columns")


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("ODbL-1.0", {"license": "odbl"}),
        ("My own: terms\n---", {"license": "other", "license_name": "my-own-terms"}),
        ("使用許諾", {"license": "other", "license_name": "other"}),
        ("", {}),
    ],
)
def test_the_licence_is_one_that_the_hub_knows(
    parts: tuple[dict[str, Any], IndexSummary, dict[str, Any]], licence: str, expected: dict[str, str]
) -> None:
    facts = {**parts[0], "licence": licence, "name": 'odd: "name"\n--- # \x7f 😀'}
    front = _front(render_card(facts, *parts[1:], has_figures=False))
    assert {key: front[key] for key in ("license", "license_name") if key in front} == expected
    assert front["pretty_name"] == facts["name"]
    assert front["size_categories"] == ["n<1K"]


@pytest.mark.parametrize(
    ("clips", "category"),
    [(999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M"), (10**9, "1B<n<10B")],
)
def test_size_categories(parts: tuple[dict[str, Any], IndexSummary, dict[str, Any]], clips: int, category: str) -> None:
    summary = IndexSummary()
    summary.total.add(clips, 0, 0)
    assert _front(render_card(parts[0], summary, parts[2], has_figures=False))["size_categories"] == [category]


def test_an_empty_data_set_names_no_parts(parts: tuple[dict[str, Any], IndexSummary, dict[str, Any]]) -> None:
    facts = copy.deepcopy(parts[0])
    facts["counts"] = dict.fromkeys(facts["counts"], 0)
    card = render_card(facts, IndexSummary(), Statistics().summary(), has_figures=True)
    assert [config["config_name"] for config in _front(card)["configs"]] == ["index", "words", "phones", "events"]
    assert "| accepted clips | 0 |" in card
    assert "## Motion" not in card


def test_long_tables_are_cut_and_say_so(parts: tuple[dict[str, Any], IndexSummary, dict[str, Any]]) -> None:
    summary = IndexSummary()
    count = LONGEST_TABLE + 7
    rows = {"status": ["accepted"] * count, "source_id": ["s"] * count, "licence": [f"L{i:03d}" for i in range(count)]}
    summary.add(pa.table(rows))
    licences = _section(render_card(parts[0], summary, parts[2], has_figures=False), "Licences")
    assert licences.count("| L0") == LONGEST_TABLE
    assert "and 7 more." in licences


def test_a_model_is_found_by_hash_where_the_index_has_no_name(
    parts: tuple[dict[str, Any], IndexSummary, dict[str, Any]],
) -> None:
    summary = IndexSummary()
    hashes = [MODEL_HASH, "ee" * 32]
    summary.add(pa.table({"status": ["accepted"] * 2, "source_id": ["a", "b"], "model_sha256": hashes}))
    facts = {**parts[0], "models": [*parts[0]["models"], {"name": "mediapipe", "sha256": "", "licence": "Apache-2.0"}]}
    models = _section(render_card(facts, summary, parts[2], has_figures=False), "Models")
    assert f"| open-head | CC0-1.0 | 1 | 0.000 | {MODEL_HASH} |" in models
    assert "| mediapipe | Apache-2.0 |  |  |  |" in models
    assert f"| not named | not stated | 1 | 0.000 | {'ee' * 32} |" in models


def _snippet(root: Path, word: str, language: str = "python") -> str:
    card = (root / "README.md").read_text()
    blocks = [block.split("```")[0] for block in card.split(f"```{language}\n")[1:]]
    found = [block for block in blocks if word in block]
    assert len(found) == 1
    return found[0]


def _run(snippet: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(snippet, "card", "exec"), names)
    return names


def test_the_talkset_snippet_runs(made: tuple[Path, list[ClipRecord]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made[0])
    names = _run(_snippet(made[0], "open_dataset"))
    assert names["clip"]["expression"].shape == (names["clip"].num_frames, 52)
    assert len(names["clips"]) == 10


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_the_table_snippets_run(
    made: tuple[Path, list[ClipRecord]], monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    pytest.importorskip(library)
    monkeypatch.chdir(made[0])
    names = _run(_snippet(made[0], f"import {library}"))
    clips = names["params"] if library == "pandas" else names["clips"]
    assert len(clips) == 10
    head = next(record.head for record in made[1] if record.index["clip_id"] == clips["clip_id"][0])
    assert head is not None
    np.testing.assert_array_equal(names["jaw"], head.jaw_pose)


def test_the_sql_snippet_runs(made: tuple[Path, list[ClipRecord]], monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = pytest.importorskip("duckdb")
    monkeypatch.chdir(made[0])
    rows = duckdb.connect().execute(_snippet(made[0], "DuckDB", "sql")).fetchall()
    assert len(rows) == 10
    assert {len(row[2]) % 52 for row in rows} == {0}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The Hugging Face library, without a network and with a cache of its own."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    return datasets


def test_hugging_face_loads_every_table_with_its_types(
    made: tuple[Path, list[ClipRecord]], monkeypatch: pytest.MonkeyPatch, hub: Any
) -> None:
    root, records = made
    front = _front((root / "README.md").read_text())
    written = {entry["config_name"]: entry["features"] for entry in front["dataset_info"]}
    assert set(written) == set(hub.get_dataset_config_names(str(root))) == set(TABLES)
    for config in front["configs"]:
        name = config["config_name"]
        files = str(root / config["data_files"])
        inferred = hub.load_dataset("parquet", data_files=files, split="train").features
        assert hub.Features._from_yaml_list(copy.deepcopy(written[name])) == inferred, name
        table = hub.load_dataset(str(root), name, split="train")
        assert table.features == inferred
        assert table.num_rows == pq.ParquetDataset(root / config["data_files"].split("/*")[0]).read().num_rows
    assert hub.load_dataset(str(root), split="train").column_names == TABLES["index"].schema.names

    monkeypatch.chdir(root)
    names = _run(_snippet(root, "load_dataset"))
    first = next(record.head for record in records if record.head is not None)
    np.testing.assert_array_equal(names["jaw"], first.jaw_pose)
    row = names["row"]
    assert row["jaw_pose"].dtype == np.float32
    shapes = {name: row[name].shape for name in ("expression", "pts_us", "valid", "shape")}
    frames = len(first.valid)
    assert shapes == {"expression": (frames * 52,), "pts_us": (frames,), "valid": (frames,), "shape": (80,)}
