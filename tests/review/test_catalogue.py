"""Pages of the index against a plain sort and filter in Python, and names that would break a query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_builder import random_clip, rejected_clip, writer
from review_pages import scored

from review.catalogue import MIN_SPREAD, Catalogue, Query, safe_clip_id
from schemas.errors import TalksetError, UsageError
from talkset.dataset import open_dataset

SAID = "it's 100 % a_b \\ größe"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty clips with random scores, some unknown, in a folder whose name is a pattern."""
    path = tmp_path_factory.mktemp("cat") / "it's [a] *folder*"
    rng = np.random.default_rng(3)
    with writer(path) as target:
        for number in range(30):
            scores = {
                "nme_p95": None if number == 7 else float(rng.uniform(0.01, 0.05)),
                "held_out_nme": float(rng.uniform(0.01, 0.05)),
                "valid_ratio": float(rng.uniform(0.5, 1)),
                "jitter_px": float(rng.uniform(0, 2)),
                "detector_jitter_px": 1.0,
                "sync_offset_ms": float(rng.uniform(-80, 80)) if number % 2 else None,
                "transcript": SAID if number == 5 else f"words {number}",
            }
            target.add(scored(random_clip(number, 10 + number), **scores))
        target.add(rejected_clip(1))
        target.finish()
    return path


@pytest.fixture
def catalogue(root: Path) -> Iterator[Catalogue]:
    made = Catalogue(root)
    yield made
    made.close()


def index_rows(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = open_dataset(root, where="status == 'accepted'").index.to_pylist()
    return rows


def ids(page: dict[str, Any]) -> list[str]:
    return [row["clip_id"] for row in page["rows"]]


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("nme_p95", lambda row: -row["nme_p95"] if row["nme_p95"] is not None else np.inf),
        ("valid_ratio", lambda row: row["valid_ratio"]),
        ("jitter_excess_px", lambda row: -max(0, row["jitter_px"] - row["detector_jitter_px"])),
        ("sync_error_ms", lambda row: -abs(row["sync_offset_ms"]) if row["sync_offset_ms"] is not None else np.inf),
    ],
)
def test_the_worst_of_a_score_comes_first_and_unknown_ones_last(
    catalogue: Catalogue, root: Path, sort: str, value: Any
) -> None:
    expected = sorted(index_rows(root), key=lambda row: (value(row), row["clip_id"]))
    page = catalogue.page(Query(sort, facets={"status": "accepted"}, limit=50))
    assert ids(page) == [row["clip_id"] for row in expected]
    assert page["total"] == 30
    pages = [
        ids(catalogue.page(Query(sort, facets={"status": "accepted"}, offset=at, limit=7))) for at in range(0, 30, 7)
    ]
    assert [clip_id for part in pages for clip_id in part] == ids(page)


def test_the_overall_score_is_the_largest_distance_from_the_median(catalogue: Catalogue, root: Path) -> None:
    rows = index_rows(root)
    signed = {
        "nme_p95": [row["nme_p95"] for row in rows],
        "nme_mean": [row["nme_mean"] for row in rows],
        "held_out_nme": [row["held_out_nme"] for row in rows],
        "valid_ratio": [-row["valid_ratio"] for row in rows],
        "jitter_excess_px": [max(0, row["jitter_px"] - row["detector_jitter_px"]) for row in rows],
        "sync_error_ms": [None if row["sync_offset_ms"] is None else abs(row["sync_offset_ms"]) for row in rows],
    }
    distance = {}
    for name, values in signed.items():
        known = np.array([np.nan if value is None else value for value in values], float)
        low, median, high = np.nanquantile(known, [0.25, 0.5, 0.75])
        distance[name] = (known - median) / max(high - low, MIN_SPREAD * abs(median))
    names, table = list(distance), np.array(list(distance.values()))
    page = catalogue.page(Query(facets={"status": "accepted"}, limit=50))
    found = {row["clip_id"]: row for row in page["rows"]}
    for place, row in enumerate(rows):
        shown = found[row["clip_id"]]
        assert shown["score"] == pytest.approx(np.nanmax(table[:, place]))
        assert shown["worst"] == names[int(np.nanargmax(table[:, place]))]
    scores = [row["score"] for row in page["rows"]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    "text", ["it's", "100 %", "a_b", "\\", "GRÖSSE".lower(), "größe it's", "clip_0003", "größe 12"]
)
def test_search_finds_letters_not_patterns(catalogue: Catalogue, root: Path, text: str) -> None:
    def passes(row: dict[str, Any]) -> bool:
        fields = [str(row[name] or "") for name in ("clip_id", "speaker", "source_uri", "transcript", "warnings")]
        return all(any(word.lower() in field.lower() for field in fields) for word in text.split())

    page = catalogue.page(Query("nme_p95", search=text, limit=50, facets={"status": "accepted"}))
    assert set(ids(page)) == {row["clip_id"] for row in index_rows(root) if passes(row)}


def test_filters_of_columns_and_of_verdicts(catalogue: Catalogue) -> None:
    assert catalogue.page(Query(facets={"status": "rejected"}))["total"] == 1
    speakers = catalogue.facets["speaker"]
    assert sum(catalogue.page(Query(facets={"speaker": name}))["total"] for name in speakers) == 30
    catalogue.set_opinions(
        {"clip_0001": "accept", "clip_0002": "reject"}, {"clip_0001": "accept", "clip_0002": "conflict"}
    )
    assert ids(catalogue.page(Query(verdict="accept"))) == ["clip_0001"]
    assert ids(catalogue.page(Query(verdict="conflict"))) == ["clip_0002"]
    page = catalogue.page(Query(verdict="open"))
    assert page["total"] == 29
    catalogue.set_opinion("clip_0001", None, None)
    catalogue.set_opinion("clip_0009", "skip", "skip")
    everything = catalogue.page(Query())
    assert everything["counts"] == {"open": 29, "accept": 0, "reject": 1, "skip": 1}


def test_a_sample_limits_the_queue_and_sets_its_order(catalogue: Catalogue) -> None:
    catalogue.set_sample({"clip_0004": 2.0, "clip_0009": 0.0, "clip_0001": 1.0})
    assert ids(catalogue.page(Query())) == ["clip_0009", "clip_0001", "clip_0004"]


@pytest.mark.parametrize(
    "query",
    [
        Query("1; DROP TABLE opinions"),
        Query(verdict="x"),
        Query(facets={"transcript": "a"}),
        Query(offset=-1),
        Query(limit=0),
        Query(limit=10_000),
    ],
)
def test_a_query_that_means_nothing_is_refused(catalogue: Catalogue, query: Query) -> None:
    with pytest.raises(UsageError):
        catalogue.page(query)


def test_an_index_that_is_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "index.parquet").write_bytes(b"nothing")
    with pytest.raises(TalksetError, match="cannot be queried"):
        Catalogue(tmp_path)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a\\b", ".hidden", "a\0", "x" * 300])
def test_unsafe_ids(name: str) -> None:
    assert not safe_clip_id(name)
    assert safe_clip_id("clip_1-2.3")
