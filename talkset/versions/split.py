"""Training, validation and test parts that share no source, or no speaker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from schemas.errors import UsageError
from schemas.tables import INDEX
from talkset.versions.copy import copy_version
from talkset.versions.version import Version, next_version

SPLITS: Final = ("train", "val", "test")
BY: Final = ("speaker", "source")


def split_dataset(
    root: Path,
    out: Path,
    fractions: Mapping[str, float],
    *,
    by: str = "speaker",
    seed: int = 0,
    keep: bool = False,
    version: str | None = None,
) -> Path:
    """A version whose accepted clips are shared out to splits; returns its folder. A MAJOR change of the data.

    `fractions` of the duration, such as {"train": 0.8, "val": 0.1, "test": 0.1}. All clips of a speaker (or of a
    source, `by="source"`) go to one split, and so do sources with the same content, and copies of a clip. Groups come
    in an order drawn from `seed`, each to the split that lacks most; with `keep` the groups that have a split already
    stay there, so that a data set can grow without a test speaker moving to training.
    Raises UsageError for bad fractions, clips without a speaker, or a kept group that is in two splits.
    """
    _check(fractions, by)
    source = Version.read(root)
    groups = _Groups(by)
    for rows in source.row_groups("index.parquet", _COLUMNS):
        groups.add(rows)
    if groups.nameless:
        message = f"{groups.nameless} accepted clips of {root} have no speaker"
        raise UsageError(message, "Name speakers in the manifest, or split with --by source")
    assigned = groups.assign(fractions, seed, keep)

    def rows_of(group: pa.Table) -> Iterator[pa.Table]:
        splits = [assigned[groups.root(keys[0])] if keys else None for keys in groups.keys(group)]
        position = INDEX.schema.get_field_index("split")
        yield group.set_column(position, INDEX.schema.field("split"), pa.array(splits, pa.string()))

    parameters = {"fractions": dict(fractions), "by": by, "seed": seed, "keep": keep}
    new = version or next_version(str(source.facts["version"]), "MAJOR")
    return copy_version(source, out, "split", parameters, new, index=rows_of, facts={"split_by": by})


_COLUMNS: Final = (
    *("status", "speaker", "source_id", "source_sha256", "duplicate_group", "split", "start_us", "end_us"),
)


def _check(fractions: Mapping[str, float], by: str) -> None:
    unknown = sorted(set(fractions) - set(SPLITS))
    total = sum(fractions.values())
    if unknown or not fractions or min(fractions.values()) < 0 or abs(total - 1) > 1e-6:
        message = f"the fractions {dict(fractions)} are not shares of {', '.join(SPLITS)} that sum to 1"
        raise UsageError(message, "Write for example --train 0.8 --val 0.1 --test 0.1")
    if by not in BY:
        raise UsageError(f"cannot split by {by!r}", f"Known: {', '.join(BY)}")


class _Groups:
    """Sets of clips that must stay together, joined by shared speaker, source, content and copies."""

    def __init__(self, by: str) -> None:
        self._by = by
        self._parent: dict[str, str] = {}
        self._duration: dict[str, int] = {}
        self._split: dict[str, set[str]] = {}
        self.nameless = 0

    def keys(self, rows: pa.Table) -> Iterator[list[str]]:
        """What ties every row to others; empty for a row that is not accepted."""
        columns = [rows[name].to_pylist() for name in ("status", "speaker", "source_id", "source_sha256")]
        known = "duplicate_group" in rows.column_names  # not before schema version 1.4.0
        copies = rows["duplicate_group"].to_pylist() if known else [None] * len(rows)
        for status, speaker, source_id, content, copy in zip(*columns, copies, strict=True):
            if status != "accepted":
                yield []
                continue
            named = [("speaker", speaker)] if self._by == "speaker" and speaker is not None else []
            ties = [*named, ("source", source_id), ("content", content), ("copy", copy)]
            yield [f"{kind}:{value}" for kind, value in ties if value is not None]

    def add(self, rows: pa.Table) -> None:
        """Take the rows of a row group into account."""
        speakers, splits = rows["speaker"].to_pylist(), rows["split"].to_pylist()
        starts, ends = rows["start_us"].to_pylist(), rows["end_us"].to_pylist()
        for number, keys in enumerate(self.keys(rows)):
            if not keys:
                continue
            self.nameless += self._by == "speaker" and speakers[number] is None
            for key in keys[1:]:
                self._join(keys[0], key)
            first = keys[0]
            self._parent.setdefault(first, first)
            self._duration[first] = self._duration.get(first, 0) + ends[number] - starts[number]
            if splits[number] is not None:
                self._split.setdefault(first, set()).add(splits[number])

    def root(self, key: str) -> str:
        """The name of the group that a key belongs to: its smallest key, whatever the order of the rows."""
        self._parent.setdefault(key, key)
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def _join(self, one: str, other: str) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self._parent[high] = low

    def assign(self, fractions: Mapping[str, float], seed: int, keep: bool) -> dict[str, str]:
        """Group -> split."""
        duration: dict[str, int] = {}
        splits: dict[str, set[str]] = {}
        for key, length in self._duration.items():
            group = self.root(key)
            duration[group] = duration.get(group, 0) + length
            splits.setdefault(group, set()).update(self._split.get(key, ()))
        assigned: dict[str, str] = {}
        if keep:
            for group, given in splits.items():
                if len(given) > 1:
                    message = f"the group of {group} has clips in {', '.join(sorted(given))}"
                    raise UsageError(message, "Split without --keep")
                if given:
                    assigned[group] = next(iter(given))
        held = dict.fromkeys(fractions, 0)
        for group, split in assigned.items():
            held[split] = held.get(split, 0) + duration[group]
        total = sum(duration.values())
        order = sorted(duration, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
        for group in (group for group in order if group not in assigned):
            wanted = max(fractions, key=lambda split: fractions[split] * total - held[split])
            assigned[group] = wanted
            held[wanted] += duration[group]
        return assigned
