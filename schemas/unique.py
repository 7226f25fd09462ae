"""Ids among tens of millions, in 8 bytes each: which occur twice, and how many differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

UInt64 = NDArray[np.uint64]

MAX_REPORTED: Final = 20
"""More ids that occur twice than this are not listed."""
_BLOCK: Final = 1 << 20
_ROWS: Final = 1 << 16
"""Rows hashed at a time, so that the temporary arrays stay small."""
_CANDIDATES: Final = 4096
"""Hashes looked for in one pass over the ids, which bounds the ids kept meanwhile."""
_STEP: Final = np.uint64(0x9E3779B97F4A7C15)


def hash_ids(ids: pa.Array) -> UInt64:
    """64-bit hash of every string of an array without nulls; the same text has the same hash everywhere.

    Eight bytes of UTF-8 at a time are mixed into the state. It spreads ids well and is no protection against somebody
    who looks for collisions. Source: the finaliser of MurmurHash3 (A. Appleby), seeded with the length.
    Raises ValueError for a null, pa.ArrowException for values that are not text.
    """
    if ids.null_count:
        raise ValueError(f"{ids.null_count} of {len(ids)} ids are missing; every row needs one")
    text = ids.cast(pa.large_string())
    _, offsets_buffer, data_buffer = text.buffers()
    if len(text) == 0:
        return np.empty(0, np.uint64)
    offsets = np.frombuffer(offsets_buffer, np.int64)[text.offset : text.offset + len(text) + 1]
    base = int(offsets[0])
    size = int(offsets[-1]) - base
    data = np.zeros(size + 8, np.uint8)  # the last id may be read past its end; what is too much is masked
    if size:
        data[:size] = np.frombuffer(data_buffer, np.uint8)[base : base + size]
    words: NDArray[np.uint64] = np.ndarray((size + 1,), "<u8", buffer=data, strides=(1,))
    hashes = np.empty(len(text), np.uint64)
    for start in range(0, len(text), _ROWS):
        rows = offsets[start : start + _ROWS + 1] - base
        hashes[start : start + _ROWS] = _hash_rows(words, rows[:-1], np.diff(rows))
    return hashes


def _hash_rows(words: UInt64, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> UInt64:
    """`words[i]` are the eight bytes from byte i on."""
    state = _mix((lengths.astype(np.uint64) + np.uint64(1)) * _STEP)
    rows = np.flatnonzero(lengths > 0)
    place = 0
    while len(rows):
        left = np.minimum(lengths[rows] - place, 8).astype(np.uint64)
        mask = np.uint64(0xFFFFFFFFFFFFFFFF) >> (np.uint64(64) - np.uint64(8) * left)
        state[rows] = _mix((state[rows] ^ (words[starts[rows] + place] & mask)) + _STEP)
        place += 8
        rows = rows[lengths[rows] > place]
    return state


def _mix(values: UInt64) -> UInt64:
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    values ^= values >> np.uint64(33)
    return values


class UniqueIds:
    """Finds ids that occur twice in a stream, keeping 8 bytes an id.

    Equal hashes only name candidates; a second pass over the ids confirms them, so a collision is no false alarm.
    """

    def __init__(self) -> None:
        self._full: list[UInt64] = []
        self._block: UInt64 = np.empty(_BLOCK, np.uint64)
        self._used = 0

    def __len__(self) -> int:
        return sum(map(len, self._full)) + self._used

    @property
    def nbytes(self) -> int:
        """Memory of the hashes in bytes."""
        return sum(block.nbytes for block in self._full) + self._block.nbytes

    def add(self, ids: pa.Array | pa.ChunkedArray) -> None:
        """Add ids (strings, plain or dictionary encoded). Raises ValueError for a null."""
        for hashes in map(hash_ids, _chunks(ids)):
            done = 0
            while done < len(hashes):
                count = min(len(hashes) - done, _BLOCK - self._used)
                self._block[self._used : self._used + count] = hashes[done : done + count]
                self._used += count
                done += count
                if self._used == _BLOCK:
                    self._full.append(self._block)
                    self._block, self._used = np.empty(_BLOCK, np.uint64), 0

    def duplicates(self, again: Callable[[], Iterable[pa.Array | pa.ChunkedArray]]) -> list[str]:
        """Ids that occur more than once, sorted, at most `MAX_REPORTED`.

        `again()` yields the ids that were added once more, in any order and batches; it is called only where two
        hashes are equal.
        """
        hashes = self._sorted()
        candidates = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
        found: set[str] = set()
        for start in range(0, len(candidates), _CANDIDATES):
            found |= _confirmed(candidates[start : start + _CANDIDATES], again(), MAX_REPORTED - len(found))
            if len(found) == MAX_REPORTED:
                break
        return sorted(found)

    def _sorted(self) -> UInt64:
        """All hashes in one sorted array, which takes the place of the blocks: copied one by one, sorted in place."""
        hashes = np.empty(len(self), np.uint64)
        end = len(hashes) - self._used
        hashes[end:] = self._block[: self._used]
        self._used = 0
        while self._full:
            block = self._full.pop()
            hashes[end - len(block) : end] = block
            end -= len(block)
        hashes.sort()
        self._full = [hashes]
        return hashes


def _confirmed(candidates: UInt64, ids: Iterable[pa.Array | pa.ChunkedArray], limit: int) -> set[str]:
    """Up to `limit` ids with one of the sorted candidate hashes that occur twice."""
    seen: set[str] = set()
    twice: set[str] = set()
    for chunk in (chunk for batch in ids for chunk in _chunks(batch)):
        hashes = hash_ids(chunk)
        places = np.minimum(np.searchsorted(candidates, hashes), len(candidates) - 1)
        for row in np.flatnonzero(candidates[places] == hashes).tolist():
            text = str(chunk[row].as_py())
            if text not in seen:
                seen.add(text)
                continue
            twice.add(text)
            if len(twice) == limit:
                return twice
    return twice


class DistinctCount:
    """Number of different hashes in a stream, keeping 8 bytes for each different one.

    Two ids share a hash with a chance of about n^2 / 2^65: one in 300,000 for ten million ids.
    """

    def __init__(self) -> None:
        self._known: UInt64 = np.empty(0, np.uint64)
        self._new: list[UInt64] = []
        self._pending = 0

    def add(self, hashes: UInt64) -> None:
        """Add hashes (n,)."""
        fresh = np.unique(hashes)
        self._new.append(fresh)
        self._pending += len(fresh)
        if self._pending > max(_ROWS, len(self._known)):
            self._settle()

    def merge(self, other: DistinctCount) -> None:
        """Add everything that another has seen."""
        other._settle()
        self.add(other._known)

    def __len__(self) -> int:
        self._settle()
        return len(self._known)

    def _settle(self) -> None:
        if self._new:
            self._known = np.unique(np.concatenate([self._known, *self._new]))
            self._new, self._pending = [], 0


def _chunks(ids: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array]:
    yield from ids.chunks if isinstance(ids, pa.ChunkedArray) else [ids]
