"""Training, validation and test parts of a run: no speaker, source or copy is in two of them.

Sources are joined to components by what they share. A component is named by its source that comes first in the
manifest, and a hash of that name chooses the split, so neither the order of the work nor what is added at the end of a
manifest moves anything. Where an addition joins two components, the later one goes to the split of the earlier.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.config import SplitConfig

SPLITS: Final = ("train", "val", "test")
"""The earlier one wins where a component has clips in several splits of earlier data sets: what a model may have been
trained on must not test it."""


@dataclass(frozen=True)
class Member:
    """A source of the manifest whose content is known."""

    sha256: str
    speaker: str | None = None


def split_of(name: str, config: SplitConfig) -> str:
    """The split of a component of that name."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    place = (number % 100 + number // 100 % 1_000_000 / 1e6) / 100
    if place < config.train:
        return "train"
    return "val" if place < config.train + config.val else "test"


def assign_splits(
    members: Sequence[Member],
    copies: Sequence[tuple[str, str]],
    inherited: Mapping[str, str],
    config: SplitConfig,
) -> dict[str, str]:
    """Content hash -> split; `members` in the order of the manifest.

    `copies` are pairs of content hashes that share a copy, `inherited` the splits that contents have from earlier data
    sets, which go before the hash of the name.
    """
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        parent.setdefault(key, key)
        while parent[key] != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    ties = [(f"source:{m.sha256}", f"speaker:{m.speaker}") for m in members if m.speaker]
    ties += [(f"source:{one}", f"source:{other}") for one, other in copies]
    for one, other in ties:
        parent[root(one)] = root(other)
    names: dict[str, str] = {}
    for member in members:
        names.setdefault(root(f"source:{member.sha256}"), member.speaker or member.sha256)
    given: dict[str, str] = {}
    for sha256, split in inherited.items():
        if split in SPLITS:
            key = root(f"source:{sha256}")
            given[key] = min(given.get(key, split), split, key=SPLITS.index)
    return {
        member.sha256: given.get(key) or split_of(names[key], config)
        for member in members
        for key in (root(f"source:{member.sha256}"),)
    }
