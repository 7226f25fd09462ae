"""Splits: disjoint, deterministic, and steady while a manifest grows."""

from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipelines.splits import SPLITS, Member, assign_splits, split_of
from schemas.config import SplitConfig

CONFIG = SplitConfig(0.6, 0.2, 0.2)
members = st.lists(
    st.builds(Member, st.integers(0, 30).map(str), st.none() | st.integers(0, 8).map(str)), min_size=1, max_size=25
)


def ties_of(given_members: list[Member], numbers: list[int]) -> list[tuple[str, str]]:
    names = [member.sha256 for member in given_members]
    return [(names[a % len(names)], names[b % len(names)]) for a, b in zip(numbers[::2], numbers[1::2], strict=False)]


@given(members, st.lists(st.integers(0, 100), max_size=8))
def test_no_speaker_source_or_copy_is_in_two_splits(found: list[Member], numbers: list[int]) -> None:
    ties = ties_of(found, numbers)
    splits = assign_splits(found, ties, {}, CONFIG)
    assert set(splits) == {member.sha256 for member in found}
    for one in found:
        for other in found:
            if one.speaker is not None and one.speaker == other.speaker:
                assert splits[one.sha256] == splits[other.sha256]
    assert all(splits[one] == splits[other] for one, other in ties)


speakers = st.lists(st.none() | st.integers(0, 8).map(str), min_size=1, max_size=25)


@given(speakers, speakers)
def test_what_was_there_stays_where_it_was(before: list[str | None], added: list[str | None]) -> None:
    found = [Member(str(number), speaker) for number, speaker in enumerate([*before, *added])]
    first = assign_splits(found[: len(before)], [], {}, CONFIG)
    both = assign_splits(found, [], {}, CONFIG)
    assert {sha256: both[sha256] for sha256 in first} == first


def test_a_copy_follows_the_source_that_was_there_first() -> None:
    names = [hashlib.sha256(bytes([n])).hexdigest() for n in range(40)]
    by_split = {split: next(n for n in names if split_of(n, CONFIG) == split) for split in SPLITS}
    one, other = by_split["test"], by_split["train"]
    assert assign_splits([Member(one), Member(other)], [(other, one)], {}, CONFIG) == {one: "test", other: "test"}
    assert assign_splits([Member(other), Member(one)], [(other, one)], {}, CONFIG) == {one: "train", other: "train"}


def test_an_earlier_data_set_has_the_say_and_training_wins() -> None:
    found = [Member("a", "ann"), Member("b", "ann"), Member("c")]
    assert assign_splits(found, [], {"b": "val"}, CONFIG)["a"] == "val"
    assert set(assign_splits(found, [("a", "c")], {"b": "test", "c": "train"}, CONFIG).values()) == {"train"}


def test_shares_are_those_asked_for() -> None:
    config = SplitConfig(0.8, 0.15, 0.05)
    counts = Counter(split_of(f"speaker {n}", config) for n in range(4000))
    for name, share in vars(config).items():
        assert abs(counts[name] / 4000 - share) < 0.02
    assert {split_of(f"speaker {n}", SplitConfig(0.0, 0.0, 1.0)) for n in range(50)} == {"test"}


def test_default_shares_give_the_splits_of_earlier_versions() -> None:
    for n in range(300):
        name = f"speaker {n}"
        place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 100
        assert split_of(name, SplitConfig()) == ("train" if place < 90 else "val" if place < 95 else "test")
