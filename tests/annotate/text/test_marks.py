"""Marks that end sentences are found at the words that were said."""

from __future__ import annotations

import pytest

from annotate.text.marks import end_marks


@pytest.mark.parametrize(
    ("transcript", "said", "marks"),
    [
        ("We met. Are you here?", "we met are you here", ["", ".", "", "", "?"]),
        ("Dr. Who met J. Doe at No. 5, e.g. here.", "dr who met j doe at no 5 e.g here", [*[""] * 9, "."]),
        ("No. I won't!", "no i won't", [".", "", "!"]),
        ("Well\u2026 it costs $3.50 (really?) today.", "well it costs 3.50 really today", [".", "", "", "", "?", "."]),
        ("One two. Three four. Five six.", "three four", ["", "."]),  # a clip of a longer source
        ("He said so?! Fine", "he said so fine", ["", "", "?", ""]),
        ("\u00bfQu\u00e9 tal? Bien.", "qu\u00e9 tal bien", ["", "?", "."]),
    ],
)
def test_marks_stand_where_sentences_end(transcript: str, said: str, marks: list[str]) -> None:
    assert end_marks(transcript, said.split()) == marks


@pytest.mark.parametrize("transcript", ["", "bin blue at f two now", "one, two; three"])
def test_a_transcript_without_ends_tells_nothing(transcript: str) -> None:
    assert end_marks(transcript, ["bin", "blue"]) is None
