"""Which windows a selection of clips has, and in which order an epoch visits them: one permutation for all readers.

Needs only numpy. The order depends on the windows, the seed and the epoch, never on how many ranks, workers or threads
share it. It is local: windows of few row groups are mixed at a time, so a reader decodes each row group once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """The windows of clips, numbered clip by clip: 8 bytes for a clip, nothing for a window."""

    ends: Int64
    """Number of windows up to and including each clip (N,)."""
    window_us: int | None
    """Length in microseconds, None for whole clips."""
    hop_us: int
    """From the start of one window to the next, microseconds."""

    @classmethod
    def cut(cls, durations_us: NDArray[Any], window_s: float | None = None, hop_s: float | None = None) -> Windows:
        """The windows of `window_s` seconds every `hop_s` (default: `window_s`) that lie inside clips (N,).

        A rest that is shorter than a window is left out. Without `window_s` every clip is one window.
        Raises ValueError for a length or hop that is not positive, or a hop without a length.
        """
        if window_s is None:
            if hop_s is not None:
                raise ValueError(
                    f"hop_s is {hop_s!r} without window_s; give window_s as well, or neither for whole clips"
                )
            return cls(np.arange(1, len(durations_us) + 1, dtype=np.int64), None, 0)
        window_us = microseconds("window_s", window_s)
        hop_us = window_us if hop_s is None else microseconds("hop_s", hop_s)
        rest = np.asarray(durations_us, np.int64) - window_us
        counts = np.where(rest >= 0, rest // hop_us + 1, 0)
        return cls(np.cumsum(counts, dtype=np.int64), window_us, hop_us)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def counts(self) -> Int64:
        """Number of windows of each clip (N,)."""
        return np.diff(self.ends, prepend=0)

    def clips(self, numbers: Int64) -> Int64:
        """The clips of the given windows."""
        found: Int64 = np.searchsorted(self.ends, numbers, side="right").astype(np.int64, copy=False)
        return found

    def starts_us(self, numbers: Int64) -> Int64:
        """Where the given windows start in their clips, microseconds from the start of the clip."""
        clips = self.clips(numbers)
        before = np.where(clips > 0, self.ends[clips - 1], 0)
        starts: Int64 = (np.asarray(numbers, np.int64) - before) * self.hop_us
        return starts


def microseconds(name: str, seconds: float) -> int:
    """A positive number of seconds in microseconds. Raises ValueError that names the argument."""
    if not (math.isfinite(seconds) and round(seconds * 1e6) > 0):
        raise ValueError(f"{name} must be a positive number of seconds, got {seconds!r}")
    return round(seconds * 1e6)


@dataclass(frozen=True)
class EpochOrder:
    """The windows of an epoch in the order of its batches, which are consecutive slices of it."""

    order: Int64
    """Window numbers (M,), each once."""
    batch_size: int
    lanes: int
    """Batch k comes from lane k % lanes while k < local_batches; each row group is in one lane."""
    local_batches: int
    """Batches before the tail; those of the tail mix what is left of all lanes."""

    def batches(self, drop_last: bool = False) -> int:
        """Number of batches, with or without a last one that is not full."""
        full, rest = divmod(len(self.order), self.batch_size)
        return full + (rest > 0 and not drop_last)

    def batch(self, number: int) -> Int64:
        """The windows of one batch."""
        return self.order[number * self.batch_size : (number + 1) * self.batch_size]

    def last_use(self, groups: NDArray[Any], number_of_groups: int) -> Int64:
        """The last batch that uses each row group, -1 for none; `groups` (M,) has the row group of each window."""
        last = np.full(number_of_groups, -1, np.int64)
        batches = np.arange(len(self.order), dtype=np.int64) // self.batch_size
        last[groups[self.order]] = batches  # of a repeated row group the last assignment, the highest batch, stays
        return last


def in_order(windows: int, batch_size: int) -> EpochOrder:
    """All windows as they are numbered."""
    return EpochOrder(np.arange(windows, dtype=np.int64), batch_size, 1, 0)


def shuffled(
    groups: NDArray[Any],
    number_of_groups: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    lanes: int = 8,
    shuffle_groups: int = 16,
) -> EpochOrder:
    """A random order of windows, local to row groups; `groups` (M,) has the row group of each window.

    The row groups are shuffled and split into `lanes` of about as many windows, fewer lanes where they would have less
    than `shuffle_groups` row groups each. Along a lane, row group j gives its windows at random places between j and
    j + `shuffle_groups`, so that as many row groups are mixed at every place; at both ends of a lane the range is cut,
    not the mixing. Batches take turns over the lanes. Every lane gives the same number of full batches; what is left
    of all lanes is shuffled together into the batches at the end.

    About 60 bytes for a window while it is made, 8 afterwards. The random bits are those of PCG64, whose stream numpy
    guarantees; only they and stable sorting decide, so the order is the same on every machine.
    """
    total = len(groups)
    bits = np.random.PCG64(np.random.SeedSequence((seed, epoch)))
    shuffled_groups = np.argsort(_uniform(bits, number_of_groups), kind="stable")
    place = np.empty(number_of_groups, np.int64)  # of each row group in the shuffled order
    place[shuffled_groups] = np.arange(number_of_groups)
    sizes = np.bincount(groups, minlength=number_of_groups)[shuffled_groups]
    used = int(np.count_nonzero(sizes))
    lanes = max(1, min(lanes, used // shuffle_groups))
    middles = np.cumsum(sizes) - sizes / 2
    lane_of = np.minimum((middles * lanes / max(total, 1)).astype(np.int64), lanes - 1)  # rises along the places
    bounds = np.searchsorted(lane_of, np.arange(lanes + 1))
    inside = np.arange(number_of_groups) - bounds[lane_of]  # place of a row group along its lane
    length = np.diff(bounds)[lane_of]
    mixed = np.minimum(shuffle_groups, length)
    earliest = np.maximum(inside, mixed - 1)
    latest = np.minimum(inside + mixed, length)
    offset = bounds[lane_of] + earliest  # lanes follow one another: keys of lane l lie between its bounds
    spread = (latest - earliest).astype(np.float64)

    places = place[groups]
    keys = _uniform(bits, total)
    keys *= spread[places]
    keys += offset[places]
    order = np.argsort(keys, kind="stable")
    del keys, places

    windows_of_lane = np.bincount(lane_of, weights=sizes, minlength=lanes).astype(np.int64)
    rounds = int(windows_of_lane.min()) // batch_size if total else 0
    starts = np.cumsum(windows_of_lane) - windows_of_lane
    local = starts[:, None] + np.arange(rounds * batch_size, dtype=np.int64)
    turns = local.reshape(lanes, rounds, batch_size).transpose(1, 0, 2).reshape(-1)
    left = [
        np.arange(start + rounds * batch_size, start + count)
        for start, count in zip(starts, windows_of_lane, strict=True)
    ]
    tail = np.concatenate(left)
    tail = tail[np.argsort(_uniform(bits, len(tail)), kind="stable")]
    return EpochOrder(order[np.concatenate([turns, tail])], batch_size, lanes, rounds * lanes)


def _uniform(bits: np.random.PCG64, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) from the 53 upper bits each."""
    raw = bits.random_raw(count)
    raw >>= np.uint64(11)
    uniform: NDArray[np.float64] = raw * 2.0**-53
    return uniform
