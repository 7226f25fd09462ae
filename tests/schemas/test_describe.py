"""The page about the tables is the one that the tables give, and the example manifests are valid."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.describe import page
from schemas.manifest import read_manifest
from schemas.tables import TABLES

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_page_is_current() -> None:
    assert (REPOSITORY / "docs" / "dataset.md").read_text(encoding="utf-8") == page()


def test_every_column_is_on_the_page() -> None:
    text = page()
    assert all(f"| `{column.name}` |" in text for table in TABLES.values() for column in table.columns)


@pytest.mark.parametrize("name", ["example.csv", "example.jsonl"])
def test_example_manifests_are_valid(name: str) -> None:
    sources = read_manifest(REPOSITORY / "manifests" / name)
    assert len(sources) >= 2
    assert sources[0].labels == {"emotion": "neutral"}
    assert (sources[1].start_us, sources[1].end_us) == (12_500_000, 42_000_000)
