"""Duplicate search and distinct counts against Python's own sets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import unique
from schemas.unique import MAX_REPORTED, DistinctCount, UniqueIds, hash_ids

TEXTS = st.lists(st.text(st.sampled_from("ab0é\0王"), max_size=19), max_size=40)


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(0, 5))
def test_duplicates_are_those_of_a_counter(texts: list[str], cut: int) -> None:
    ids = pa.array(texts, pa.string())
    found = UniqueIds()
    found.add(ids[:cut])
    found.add(pa.chunked_array([ids[cut:]]))
    expected = sorted(text for text, count in Counter(texts).items() if count > 1)
    assert len(found) == len(texts)
    assert found.duplicates(lambda: [ids]) == expected[:MAX_REPORTED]


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_equal_text_means_equal_hash_in_every_layout(texts: list[str]) -> None:
    ids = pa.array(texts, pa.string())
    hashes = hash_ids(ids)
    assert len(set(hashes.tolist())) == len(set(texts))
    np.testing.assert_array_equal(hash_ids(ids.cast(pa.large_string())), hashes)
    np.testing.assert_array_equal(hash_ids(ids.dictionary_encode()), hashes)
    np.testing.assert_array_equal(hash_ids(pa.array(["x", *texts, "y"])[1:-1]), hashes)


def test_the_hash_is_the_same_on_every_machine_and_day() -> None:
    """By hand: one pass of the published finaliser for each eight bytes, in Python's unbounded integers."""
    for text in ("", "clip_0001", "größe 12345678"):
        assert hash_ids(pa.array([text])).tolist() == [_by_hand(text.encode())]


def _by_hand(data: bytes) -> int:
    state = _finaliser((len(data) + 1) * 0x9E3779B97F4A7C15)
    for place in range(0, len(data), 8):
        word = int.from_bytes(data[place : place + 8], "little")
        state = _finaliser((state ^ word) + 0x9E3779B97F4A7C15)
    return state


def _finaliser(value: int) -> int:
    value %= 2**64
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * factor % 2**64
    return value ^ value >> 33


def test_a_collision_is_no_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unique, "hash_ids", lambda ids: np.array([len(str(text)) for text in ids], np.uint64))
    monkeypatch.setattr(unique, "_CANDIDATES", 1)
    ids = pa.array(["a", "b", "c", "dd", "ee", "fff", "fff", "gggg"])
    found = UniqueIds()
    found.add(ids)
    passes = []

    def again() -> Iterator[pa.Array]:
        passes.append(1)
        yield ids[:4]
        yield ids[4:]

    assert found.duplicates(again) == ["fff"]
    assert len(passes) == 3  # one for each hash that occurs twice


def test_without_equal_hashes_there_is_no_second_pass() -> None:
    found = UniqueIds()
    found.add(pa.array(["a", "b"]))

    def again() -> Iterator[pa.Array]:
        raise AssertionError("not needed")

    assert found.duplicates(again) == []
    assert UniqueIds().duplicates(again) == []


def test_the_list_is_short() -> None:
    ids = pa.array([f"clip_{number // 2:05d}" for number in range(1000)])
    found = UniqueIds()
    found.add(ids)
    listed = found.duplicates(lambda: [ids])
    assert len(listed) == MAX_REPORTED
    assert listed == sorted(set(listed))


def test_a_missing_id_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 2 ids are missing"):
        UniqueIds().add(pa.array(["a", None]))


def test_a_million_ids_take_little_memory_and_time() -> None:
    places = np.char.zfill(np.arange(1_200_000).astype("U7"), 9)
    ids = pa.array(places)
    found = UniqueIds()
    start = time.perf_counter()
    for place in range(0, len(ids), 16_384):
        found.add(ids[place : place + 16_384])
    found.add(ids[1_134_567:1_134_568])
    assert found.duplicates(lambda: [ids, ids[1_134_567:1_134_568]]) == ["001134567"]
    assert time.perf_counter() - start < 10
    assert found.nbytes <= 8 * (len(ids) + unique._BLOCK + 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(TEXTS, max_size=5))
def test_distinct_counts_are_those_of_a_set(parts: list[list[str]]) -> None:
    whole, merged = DistinctCount(), DistinctCount()
    for texts in parts:
        hashes = hash_ids(pa.array(texts, pa.string()))
        whole.add(hashes)
        part = DistinctCount()
        part.add(hashes)
        merged.merge(part)
    expected = len({text for texts in parts for text in texts})
    assert (len(whole), len(merged)) == (expected, expected)


def test_distinct_counts_settle_as_they_grow() -> None:
    count = DistinctCount()
    for start in range(0, 400_000, 50_000):
        count.add(np.arange(start, start + 100_000, dtype=np.uint64))
        assert count._pending <= max(unique._ROWS, len(count._known))
    assert len(count) == 450_000
