from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from annotate.timing import LEAST_GAP_US, TimedWord, settle
from schemas.types import Transcription, UntimedWord

TIMES = st.one_of(st.none(), st.integers(0, 2_000_000))


@given(st.lists(st.tuples(TIMES, TIMES), max_size=12))
def test_every_word_is_timed_or_untimed_and_times_are_in_order(rows: list[tuple[int | None, int | None]]) -> None:
    words = [TimedWord(str(number), start, end) for number, (start, end) in enumerate(rows)]
    timed, untimed = settle(words, "x")
    spoken = Transcription(timed, (), untimed).spoken
    assert [word.label for word in spoken] == [word.label for word in words]
    assert [int(word.label) for word in timed] == sorted(int(word.label) for word in timed)
    assert all(word.start_us < word.end_us for word in timed)
    assert all(one.end_us <= two.start_us for one, two in itertools.pairwise(timed))
    for word in timed:
        if word.interpolated:
            assert math.isnan(word.score)


def test_a_run_shares_the_room_between_its_neighbours() -> None:
    words = [
        TimedWord("a", 0, 100_000),
        TimedWord("b", None, None),
        TimedWord("c", None, 3),
        TimedWord("d", 300_000, 400_000),
    ]
    timed, untimed = settle(words, "x")
    assert [(w.label, w.start_us, w.end_us, w.interpolated) for w in timed] == [
        ("a", 0, 100_000, False),
        ("b", 100_000, 200_000, True),
        ("c", 200_000, 300_000, True),
        ("d", 300_000, 400_000, False),
    ]
    assert untimed == ()


def test_no_room_and_no_neighbour_is_no_time() -> None:
    words = [
        TimedWord("first", None, None),
        TimedWord("a", 0, 100_000, 0.5),
        TimedWord("b", None, None),
        TimedWord("c", 100_000 + LEAST_GAP_US - 1, 200_000),
        TimedWord("last", None, None),
    ]
    timed, untimed = settle(words, "x")
    assert [word.label for word in timed] == ["a", "c"]
    assert [(word.label, word.after) for word in untimed] == [("first", 0), ("b", 1), ("last", 2)]
    assert Transcription(timed, (), untimed).text == "first a b c last"
    assert timed[0].score == 0.5


def test_overlaps_are_cut() -> None:
    timed, untimed = settle([TimedWord("a", 0, 100), TimedWord("b", 50, 150), TimedWord("c", 60, 140)], "x")
    assert [(w.start_us, w.end_us) for w in timed] == [(0, 100), (100, 150)]
    assert untimed == (UntimedWord("c", 2, "x"),)
