from __future__ import annotations

import itertools

import numpy as np
import pytest

from annotate.align import make_aligner
from annotate.phones import ARPABET
from annotate.visemes import (
    ARKIT,
    ARKIT_NAMES,
    DOMINANCE,
    OCULUS15,
    SAPI22,
    arkit_track,
    lip_opening,
    phone_track,
    viseme_map,
    viseme_rows,
    viseme_track,
)
from reconstruct.models.arkit import ARKIT_NAMES as ALL_ARKIT
from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError
from schemas.types import Interval
from synthetic.events import gaps_m
from synthetic.make import perform
from synthetic.talker import random_talker

PTS = np.arange(0, 2_000_000, 40_000, dtype=np.int64)


def phones(*rows: tuple[str, int, int]) -> tuple[Interval, ...]:
    return tuple(Interval(start * 1000, end * 1000, label, 0.5, False, "truth") for label, start, end in rows)


@pytest.mark.parametrize("table", [OCULUS15, SAPI22])
def test_maps_know_every_phone_and_only_their_own_visemes(table: object) -> None:
    assert table in (OCULUS15, SAPI22)
    chosen = OCULUS15 if table is OCULUS15 else SAPI22
    assert set(chosen.phones) == ARPABET
    shown = {viseme for visemes in chosen.phones.values() for viseme in visemes}
    assert shown | {chosen.visemes[0]} == set(chosen.visemes)
    assert chosen.source


def test_every_viseme_has_arkit_weights_with_arkit_names() -> None:
    assert set(ARKIT) == set(OCULUS15.visemes) == set(DOMINANCE)
    assert set(ARKIT_NAMES) <= set(ALL_ARKIT)
    assert all(0 < weight <= 1 for weights in ARKIT.values() for weight in weights.values())


def test_rows_join_equal_neighbours_and_divide_diphthongs() -> None:
    rows = viseme_rows(phones(("P", 0, 100), ("B", 100, 150), ("AY", 150, 350), ("M", 500, 600)))
    assert [(row.label, row.start_us, row.end_us) for row in rows] == [
        ("PP", 0, 150_000),
        ("aa", 150_000, 250_000),
        ("ih", 250_000, 350_000),
        ("PP", 500_000, 600_000),
    ]
    assert [row.label for row in viseme_rows(phones(("AY1", 0, 100)), SAPI22)] == ["11"]


def test_the_track_is_a_share_and_follows_the_phones() -> None:
    spoken = phones(("M", 500, 600), ("AA", 600, 900), ("F", 900, 1000))
    track = viseme_track(spoken, PTS)
    assert track.shape == (len(PTS), 15)
    np.testing.assert_allclose(track.sum(axis=1), 1, atol=1e-5)
    assert track.min() >= 0
    leading = [OCULUS15.visemes[index] for index in track.argmax(axis=1)]
    assert [name for name, _ in itertools.groupby(leading)] == ["sil", "PP", "aa", "FF", "sil"]
    assert leading[PTS.tolist().index(560_000)] == "PP"
    assert leading[PTS.tolist().index(760_000)] == "aa"


def test_variable_frame_times_are_respected() -> None:
    spoken = phones(("M", 500, 600), ("AA", 600, 900))
    some = np.array([0, 13_000, 560_000, 561_000, 760_000, 1_900_000], np.int64)
    dense = viseme_track(spoken, np.arange(0, 2_000_000, 1000, dtype=np.int64))
    np.testing.assert_allclose(viseme_track(spoken, some), dense[some // 1000], atol=1e-4)


def test_lips_close_for_m_and_open_for_a() -> None:
    opening = lip_opening(arkit_track(phones(("AA", 200, 500), ("M", 500, 600), ("AA", 600, 900)), PTS))
    at = {time: opening[PTS.tolist().index(time * 1000)] for time in (360, 560, 760, 1880)}
    assert at[360] > 4 * at[560]
    assert at[760] > 4 * at[560]
    assert abs(at[1880]) < 0.01


def test_no_phones_is_rest() -> None:
    track = viseme_track((), PTS)
    np.testing.assert_array_equal(track.argmax(axis=1), 0)
    np.testing.assert_allclose(arkit_track((), PTS), 0, atol=1e-6)
    assert viseme_track((), PTS[:0]).shape == (0, 15)
    assert viseme_rows(()) == ()


def test_phones_at_frames() -> None:
    spoken = phones(("M", 40, 80), ("AA", 80, 200))
    assert phone_track(spoken, PTS[:6]) == ("", "M", "AA", "AA", "AA", "")


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match="'QQ'"):
        viseme_track(phones(("QQ", 0, 100)), PTS)
    with pytest.raises(UsageError, match="'oculus16'"):
        viseme_map("oculus16")
    assert viseme_map("sapi22") is SAPI22


def test_aligned_phones_drive_the_mouth(open_head: HeadModel) -> None:
    """Visemes of the aligner's phones against the lips that the synthetic talkers really opened."""
    aligner = make_aligner("pocketsphinx")
    found = []
    for seed in range(3):
        talker = random_talker(seed)
        truth, spoken = perform(talker, open_head)
        lips_m, _ = gaps_m(open_head, truth.track)
        track = arkit_track(aligner.align(spoken.samples, talker.text).phones, truth.pts_us)
        found.append(np.corrcoef(lip_opening(track), lips_m)[0, 1])
    assert min(found) >= 0.7
