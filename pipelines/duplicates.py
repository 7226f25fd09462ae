"""Copies among clips: re-uploads, mirrored, scaled, cropped, re-encoded ones, found by what they sound and move like.

Clips that share enough of their codes at one offset in time are compared along their overlap; pairs that agree there
are joined to groups. The codes are looked up sorted, each compared with a few neighbours of the same value: that work
grows with the number of clips. What is left to compare is one pair in 300 that moves alike, and hardly any that sounds
alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from schemas.config import DuplicatesConfig
from schemas.fingerprint import MOTION_HOP_US, SOUND_HOP_US, Fingerprint

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
UInt32 = NDArray[np.uint32]
Float64 = NDArray[np.float64]

VOTES: Final = 2
"""Codes that must agree at one offset before two clips are compared."""
NEIGHBOURS: Final = 16
"""Entries of equal value that each is paired with: of a clip that is there a thousand times each is linked to some."""
MIN_SOUND_US: Final = 1_000_000
MIN_MOTION_US: Final = 2_000_000
"""Shortest overlap that proves anything: a nod and a few syllables resemble others."""

_SOUND_KEY: Final = np.uint32(0x00FFFFFF)
"""Bits of a sound code that are looked up: the lower bands survive codecs best."""
_OWN_BITS_A_SECOND: Final = 32 / 0.372
"""Bits of sound codes that are independent of each other: those of windows that do not overlap."""
_SIGMAS: Final = 5.5
"""How far below one half the share of differing bits must lie, in standard deviations of unrelated sound."""
_OPENING_PAIRS: Final = (
    *((-24, -19), (-19, -14), (-14, -9), (-9, -4), (-4, 1), (1, 6), (6, 11), (11, 16), (16, 21)),
    *((-24, -14), (-14, -4), (-4, 6), (6, 16), (-21, -11), (-1, 9), (14, 24), (-17, -7), (-11, -1), (3, 13), (9, 19)),
)
_NOD_PAIRS: Final = (
    (-24, -16),
    (-16, -8),
    (-8, 0),
    (0, 8),
    (8, 16),
    (16, 24),
    (-20, 4),
    (-4, 20),
    (-12, 12),
    (-22, -2),
    (2, 22),
    (-8, 12),
)
"""Moments, in hops from its own, that each of the 32 bits of a motion code compares: over two seconds, and far enough
apart to tell something new each."""
_REACH: Final = 24
_MOTION_SPACING: Final = 8
_SOUND_SPACING: Final = 18
"""Codes this near in time look at the same moments, so that together they have one vote."""
_HOPELESS: Final = 0.5
"""A correlation below this is no better a hop further."""
_PROBES: Final = 2
"""Bits nearest to turning that are tried both ways."""
_TREND_HOPS: Final = 12.0
"""Slower motion is taken away before motions are compared: it is alike in many clips."""
_AT_ONCE: Final = 1 << 24
"""Codes sorted at once, to bound the memory."""


@dataclass(frozen=True)
class Copy:
    """Two clips, by their places in the list, that show or sound the same."""

    first: int
    second: int
    kind: str
    """sound or motion."""
    offset_us: int
    """Time of the second that is the start of the first."""
    match: float
    """Share of equal bits of the sound, or correlation of the motion."""


def find_copies(prints: Sequence[Fingerprint], config: DuplicatesConfig, fresh: int = 0) -> list[Copy]:
    """Pairs of copies in the order of the list; those of two clips before `fresh`, known ones, are left out."""
    found: dict[tuple[int, int], Copy] = {}
    for one, other, offset in _candidates(*_sound_keys(prints), _SOUND_SPACING, fresh):
        copy = _same_sound(prints, one, other, offset, config)
        if copy is not None:
            found[one, other] = copy
    fast: dict[int, Float64] = {}
    for one, other, offset in _candidates(*_motion_keys(prints), _MOTION_SPACING, fresh):
        if (one, other) not in found:
            for place in (one, other):
                if place not in fast:
                    fast[place] = _fast(prints[place].motion)
            copy = _same_motion(prints, fast, one, other, offset, config)
            if copy is not None:
                found[one, other] = copy
    return [found[pair] for pair in sorted(found)]


def group(count: int, copies: Sequence[Copy]) -> list[int]:
    """For each of `count` clips the first one that it is joined with, by one copy or several; itself without any."""
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for copy in copies:
        low, high = sorted((root(copy.first), root(copy.second)))
        parent[high] = low
    return [root(place) for place in range(count)]


def _sound_keys(prints: Sequence[Fingerprint]) -> tuple[UInt32, Int32, Int32]:
    """(K,) keys, whose they are, and where in time."""
    lengths = [len(print_.sound) for print_ in prints]
    codes = np.concatenate([print_.sound for print_ in prints] or [np.zeros(0, np.uint32)])
    owner, place = _owners(lengths)
    told = codes != 0
    return codes[told] & _SOUND_KEY, owner[told], place[told]


def _motion_keys(prints: Sequence[Fingerprint]) -> tuple[UInt32, Int32, Int32]:
    """As `_sound_keys`; each moment has the keys of all ways to turn its weakest bits."""
    keys, lengths = [], []
    places: list[Int32] = []
    for print_ in prints:
        own, place = _motion_codes(print_.motion)
        keys.append(own)
        places.append(place)
        lengths.append(len(own))
    owner, _ = _owners(lengths)
    none = np.zeros(0, np.uint32)
    return np.concatenate(keys or [none]), owner, np.concatenate(places or [none.astype(np.int32)])


def _owners(lengths: Sequence[int]) -> tuple[Int32, Int32]:
    owner = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    starts = np.cumsum([0, *lengths[:-1]]) if lengths else np.zeros(0, np.int64)
    return owner, np.arange(len(owner), dtype=np.int32) - np.repeat(starts, lengths).astype(np.int32)


def _motion_codes(motion: NDArray[np.int8]) -> tuple[UInt32, Int32]:
    if len(motion) <= 2 * _REACH:
        return np.zeros(0, np.uint32), np.zeros(0, np.int32)
    seen = np.lib.stride_tricks.sliding_window_view((motion != -128).all(axis=1), 2 * _REACH + 1).all(axis=1)
    middle = _REACH + np.flatnonzero(seen)
    values = motion.astype(np.int16)
    rises = np.stack(
        [
            values[middle + after, column] - values[middle + before, column]
            for column, pairs in enumerate((_OPENING_PAIRS, _NOD_PAIRS))
            for before, after in pairs
        ]
    )
    bit = np.uint32(1) << np.arange(len(rises), dtype=np.uint32)
    codes = ((rises > 0) * bit[:, np.newaxis]).sum(axis=0, dtype=np.uint32)
    turns = [np.zeros(len(codes), np.uint32)]
    for weak in np.argsort(np.abs(rises), axis=0, kind="stable")[:_PROBES]:
        turns += [turn ^ bit[weak] for turn in turns]
    return np.concatenate([codes ^ turn for turn in turns]), np.tile(middle.astype(np.int32), len(turns))


def _candidates(keys: UInt32, owner: Int32, place: Int32, spacing: int, fresh: int) -> Iterator[tuple[int, int, int]]:
    """(one, other, offset) for pairs of clips with `VOTES` equal keys at one offset, one hop more or less."""
    if not len(keys):
        return
    clips = int(owner.max()) + 1
    parts = -(-len(keys) // _AT_ONCE)
    pairs, places = [], []
    for part in range(parts):
        chosen = np.flatnonzero(keys % parts == part) if parts > 1 else np.arange(len(keys))
        for pair, moment in _meetings(keys[chosen], owner[chosen], place[chosen], clips, spacing, fresh):
            pairs.append(pair)
            places.append(moment)
    if not any(len(pair) for pair in pairs):
        return
    pair, moment = np.concatenate(pairs), np.concatenate(places)
    order = np.lexsort((moment, pair))
    pair, moment = pair[order], moment[order]
    other = np.ones(len(pair), np.bool_)  # one moment of a clip votes once, in however many ways it is met
    other[1:] = (pair[1:] != pair[:-1]) | (moment[1:] != moment[:-1])
    pair, offset = pair[other], (moment[other] >> 32).astype(np.int64)
    change = np.flatnonzero(np.concatenate([[True], (pair[1:] != pair[:-1]) | (offset[1:] != offset[:-1])]))
    votes = np.diff(np.append(change, len(pair)))
    pair, offset = pair[change], offset[change]
    follows = (pair[1:] == pair[:-1]) & (offset[1:] == offset[:-1] + 1)
    near = votes.copy()
    near[:-1] += votes[1:] * follows
    near[1:] += votes[:-1] * follows
    enough = np.flatnonzero(near >= VOTES)
    enough = enough[np.lexsort((-near[enough], pair[enough]))]
    _, best = np.unique(pair[enough], return_index=True)
    for row in enough[best].tolist():
        yield int(pair[row] // clips), int(pair[row] % clips), int(offset[row])


def _meetings(
    keys: UInt32, owner: Int32, place: Int32, clips: int, spacing: int, fresh: int
) -> Iterator[tuple[Int64, Int64]]:
    """Pairs of clips (one x clips + other) with an equal key, and offset x 2^32 + time in the first, in spacings."""
    order = np.argsort(keys, kind="stable")  # of equal keys the clips stay in order
    keys, owner, place = keys[order], owner[order], place[order]
    left = np.arange(len(keys) - 1)
    for step in range(1, NEIGHBOURS + 1):
        left = left[left < len(keys) - step]
        left = left[keys[left] == keys[left + step]]
        if not len(left):
            return
        one, other = owner[left], owner[left + step]
        kept = (one != other) & (other >= fresh)
        rows, far = left[kept], left[kept] + step
        offset = place[far].astype(np.int64) - place[rows]
        yield owner[rows].astype(np.int64) * clips + owner[far], (offset << 32) + place[rows] // spacing


def _same_sound(
    prints: Sequence[Fingerprint], one: int, other: int, offset: int, config: DuplicatesConfig
) -> Copy | None:
    """The pair where its sounds differ in so few bits as unrelated ones never do over such an overlap."""
    first, second = prints[one].sound, prints[other].sound
    shortest = min((first != 0).sum(), (second != 0).sum())
    best: Copy | None = None
    for shift in (offset, offset - 1, offset + 1):
        low, high = max(0, -shift), min(len(first), len(second) - shift)
        ours, theirs = first[low:high], second[low + shift : high + shift]
        told = (ours != 0) & (theirs != 0)
        count = int(told.sum())
        seconds = count * SOUND_HOP_US / 1e6
        if count * SOUND_HOP_US < MIN_SOUND_US or count < config.min_share * shortest:
            continue
        differing = np.unpackbits((ours ^ theirs)[told].view(np.uint8)).mean()
        allowed = min(config.max_sound_error, 0.5 - _SIGMAS * 0.5 / np.sqrt(seconds * _OWN_BITS_A_SECOND))
        if differing <= allowed and (best is None or 1 - differing > best.match):
            best = Copy(one, other, "sound", shift * SOUND_HOP_US, float(1 - differing))
    return best


def _same_motion(
    prints: Sequence[Fingerprint],
    fast: Mapping[int, Float64],
    one: int,
    other: int,
    offset: int,
    config: DuplicatesConfig,
) -> Copy | None:
    """The pair where opening and nod run alike over the overlap."""
    first, second = prints[one].motion, prints[other].motion
    shortest = min(len(first), len(second))
    best: Copy | None = None
    for shift in (offset, offset - 1, offset + 1):
        low, high = max(0, -shift), min(len(first), len(second) - shift)
        if (high - low) * MOTION_HOP_US < MIN_MOTION_US or high - low < config.min_share * shortest:
            continue
        ours, theirs = first[low:high], second[low + shift : high + shift]
        seen = (ours != -128).all(axis=1) & (theirs != -128).all(axis=1)
        if seen.sum() * MOTION_HOP_US < MIN_MOTION_US:
            continue
        moving = fast[one][low:high][seen], fast[other][low + shift : high + shift][seen]
        match = float(_correlation(*moving).mean())
        if match < _HOPELESS:
            break
        if match >= config.min_motion_match and (best is None or match > best.match):
            best = Copy(one, other, "motion", shift * MOTION_HOP_US, match)
    return best


def _fast(motion: NDArray[np.int8]) -> Float64:
    values = motion.astype(np.float64)
    return np.asarray(values - gaussian_filter1d(values, _TREND_HOPS, axis=0, mode="nearest"))


def _correlation(one: Float64, other: Float64) -> Float64:
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    scale = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    return np.asarray((one * other).sum(axis=0) / np.maximum(scale, 1e-9))
