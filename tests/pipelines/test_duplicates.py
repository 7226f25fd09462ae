"""Copies among made-up clips whose kinship is known."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from annotate.fingerprint import sound_codes
from pipelines.duplicates import find_copies, group
from schemas.config import DuplicatesConfig
from schemas.fingerprint import Fingerprint

CONFIG = DuplicatesConfig()
NO_SOUND = np.zeros(0, np.uint32)
NO_MOTION = np.zeros((0, 2), np.int8)


def voice(seed: int, seconds: float = 4.0) -> NDArray[np.float32]:
    """Noise whose bands swell, as those of speech do."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(16_000 * seconds)) / 16_000
    total = np.zeros(len(times))
    knots = np.arange(0, seconds + 0.2, 0.1)
    for hz in np.geomspace(250, 3000, 24):
        level = np.interp(times, knots, rng.uniform(size=len(knots)))
        wander = np.cumsum(rng.normal(0, 0.002, len(times)))
        total += level**2 * np.sin(2 * np.pi * (hz * times + rng.uniform() + wander))
    return np.asarray(0.02 * total, np.float32)


def motion(seed: int, hops: int = 100, noise: float = 0.0) -> NDArray[np.int8]:
    values = gaussian_filter1d(np.random.default_rng(seed).normal(size=(hops + 40, 2)), 2.0, axis=0)[20:-20]
    values = values / values.std(axis=0) + np.random.default_rng(seed + 1000).normal(0, noise, (hops, 2))
    return np.asarray(np.clip(np.rint(32 * values), -127, 127), np.int8)


def kin(prints: Sequence[Fingerprint], config: DuplicatesConfig = CONFIG) -> list[int]:
    return group(len(prints), find_copies(prints, config))


def heard(samples: NDArray[np.float32]) -> Fingerprint:
    return Fingerprint(sound_codes(samples), NO_MOTION)


def moved(values: NDArray[np.int8]) -> Fingerprint:
    return Fingerprint(NO_SOUND, values)


def test_sounds_that_were_changed_and_cut_are_copies() -> None:
    first = voice(1)
    noisy = first * 0.3 + np.random.default_rng(0).normal(0, 0.001, len(first)).astype(np.float32)
    prints = [heard(first), heard(voice(2)), heard(noisy), heard(first[9_000:]), heard(voice(3))]
    assert kin(prints) == [0, 1, 0, 0, 4]
    cut = next(copy for copy in find_copies(prints, CONFIG) if (copy.first, copy.second) == (0, 3))
    assert cut.kind == "sound"
    assert cut.offset_us == pytest.approx(-9_000 / 16_000 * 1e6, abs=20_000)


def test_motion_alone_shows_copies() -> None:
    prints = [moved(motion(1)), moved(motion(2)), moved(motion(1, noise=0.1)), moved(motion(1)[30:]), moved(motion(4))]
    assert kin(prints) == [0, 1, 0, 0, 4]


def test_one_person_who_speaks_twice_is_no_copy() -> None:
    held = motion(5, hops=100)
    again = motion(6, hops=100)
    slow = (20 * np.sin(np.arange(100) / 30)).astype(np.int8)[:, np.newaxis]  # the same sway of the head
    prints = [moved(np.clip(values // 2 + slow, -127, 127).astype(np.int8)) for values in (held, again)]
    assert kin(prints) == [0, 1]


def test_a_jingle_makes_no_copy() -> None:
    jingle = voice(7, 2.0)
    same_start = [heard(np.concatenate([jingle, voice(seed, 4.0)])) for seed in (8, 9)]
    assert kin(same_start) == [0, 1]
    prints = [heard(np.concatenate([voice(8), jingle])), heard(np.concatenate([jingle, voice(9)]))]
    assert kin(prints) == [0, 1]
    assert kin(prints, DuplicatesConfig(min_share=0.1)) == [0, 0]


def test_unseen_faces_and_empty_prints_match_nothing() -> None:
    hidden = motion(1)
    hidden[10:90] = -128
    prints = [moved(hidden), moved(motion(1)), Fingerprint(NO_SOUND, NO_MOTION), Fingerprint(NO_SOUND, NO_MOTION)]
    assert kin(prints) == [0, 1, 2, 3]
    assert find_copies([], CONFIG) == []


def test_known_clips_are_not_compared_among_each_other() -> None:
    prints = [moved(motion(1)), moved(motion(1)), moved(motion(1))]
    assert {(c.first, c.second) for c in find_copies(prints, CONFIG, fresh=2)} == {(0, 2), (1, 2)}


def test_a_chain_of_copies_is_one_group() -> None:
    long = voice(11, 6.0)
    prints = [heard(long[start : start + 56_000]) for start in (0, 20_000, 40_000)]
    assert not any((c.first, c.second) == (0, 2) for c in find_copies(prints, CONFIG))
    assert kin(prints) == [0, 0, 0]


def test_a_clip_that_is_there_many_times_is_one_group() -> None:
    prints = [moved(motion(1, noise=0.02 * (number % 5))) for number in range(60)]
    assert set(kin(prints)) == {0}


def test_the_work_grows_with_the_clips() -> None:
    def seconds(count: int) -> float:
        rng = np.random.default_rng(count)
        codes = rng.integers(1, 2**32, (count, 150), dtype=np.uint32)
        prints = [Fingerprint(row, NO_MOTION) for row in codes]
        started = time.process_time()
        assert find_copies(prints, CONFIG) == []
        return time.process_time() - started

    seconds(200)
    few, many = seconds(1000), seconds(8000)
    assert many < 8 * 3 * max(few, 0.02)  # pairs would be 64 times as many
