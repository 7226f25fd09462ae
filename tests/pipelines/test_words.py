"""Words of a source go to the clip that holds them whole."""

from __future__ import annotations

from pipelines.words import cut_words, to_json
from schemas.types import Interval, Span, Transcription


def _interval(start: int, end: int, label: str) -> Interval:
    return Interval(start, end, label, 0.5, False, "truth")


WORDS = Transcription(
    words=(_interval(0, 100, "bin"), _interval(100, 300, "blue"), _interval(400, 500, "now")),
    phones=(
        _interval(0, 100, "B"),
        _interval(100, 200, "L"),
        _interval(200, 300, "UW"),
        _interval(400, 500, "N"),
    ),
)


def test_a_cut_word_belongs_to_no_clip() -> None:
    stored = to_json(WORDS, 1_000)  # aligned on sound that starts at 1,000 us of the source
    first, cut_first = cut_words(stored, Span(1_000, 1_200))
    second, cut_second = cut_words(stored, Span(1_200, 1_600))
    assert [(w.label, w.start_us, w.end_us) for w in first.words] == [("bin", 0, 100)]
    assert [(w.label, w.start_us, w.end_us) for w in second.words] == [("now", 200, 300)]
    assert cut_first == cut_second == ["blue"]
    assert [p.label for p in (*first.phones, *second.phones)] == ["B", "N"]


def test_one_clip_over_all_gets_all() -> None:
    words, cut = cut_words(to_json(WORDS, 0), Span(0, 600))
    assert words == WORDS
    assert cut == []
