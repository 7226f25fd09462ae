from __future__ import annotations

import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from exports.ctm import ctm, export_ctm
from exports.spoken import StoredClip
from schemas.errors import TalksetError, UsageError
from schemas.types import Interval


def clip(name: str, *words: Interval) -> StoredClip:
    return StoredClip(name, 10_000_000, {"words": [vars(word) for word in words], "phones": []})


def test_lines_are_exact_and_sorted() -> None:
    later = Interval(1_500_000, 1_750_001, "two", math.nan, False, "x")
    first = Interval(40_000, 1_500_000, "one", 0.5, False, "x")
    text = ctm([clip("b", later, first), clip("a", Interval(0, 10, "zero", 1.0, False, "x"))])
    assert text.splitlines() == ["a 1 0 0.00001 zero 1.0000", "b 1 0.04 1.46 one 0.5000", "b 1 1.5 0.250001 two NA"]
    assert ctm([clip("a", first)], "phones") == ""


@pytest.mark.parametrize("label", ["two words", "", " one"])
def test_a_label_that_is_not_one_word_is_named(label: str) -> None:
    with pytest.raises(TalksetError, match="clip a") as caught:
        ctm([clip("a", Interval(0, 10, label, 1.0, False, "x"))])
    assert caught.value.reason == "corrupt_data"


def test_unknown_tier() -> None:
    with pytest.raises(UsageError, match="'visemes'"):
        ctm([], "visemes")


def test_a_data_set_is_two_files(tmp_path: Path) -> None:
    build(tmp_path / "data", clips=4)
    written = export_ctm(tmp_path / "data", tmp_path / "out")
    assert [path.name for path in written] == ["words.ctm", "phones.ctm"]
    for path, tier in zip(written, ("words", "phones"), strict=True):
        rows = pq.read_table(tmp_path / "data" / f"{tier}.parquet").to_pylist()
        lines = [line.split() for line in path.read_text().splitlines()]
        assert sorted((line[0], line[4]) for line in lines) == sorted((row["clip_id"], row["label"]) for row in rows)
    with pytest.raises(UsageError):
        export_ctm(tmp_path / "none", tmp_path / "out")
