from __future__ import annotations

import pytest

from annotate.text import cardinal, dictionary, tokenize
from schemas.errors import TalksetError


def spoken(text: str) -> list[str]:
    return [word for token in tokenize(text) for word in token.words]


def labels(text: str) -> list[str]:
    return [token.label for token in tokenize(text)]


def test_punctuation_goes_and_spelling_stays() -> None:
    assert spoken("Bin blue, at F two -- now!") == ["bin", "blue", "at", "f", "two", "now"]
    assert labels("Bin blue, at F two -- now!") == ["Bin", "blue", "at", "F", "two", "now"]
    assert labels('"Stop," she said… (quietly).') == ["Stop", "she", "said", "quietly"]


def test_apostrophes_of_the_word_stay_and_quotes_go() -> None:
    assert spoken("Don’t 'stop'; 'tis the dogs' turn") == ["don't", "stop", "'tis", "the", "dogs'", "turn"]
    assert labels("Don’t 'stop'") == ["Don't", "stop"]


def test_dotted_and_accented_words() -> None:
    assert spoken("the U.S. café at 5 a.m.") == ["the", "u.s.", "cafe", "at", "five", "a.m."]
    assert labels("café") == ["café"]


def test_a_hyphenated_word_is_one_label() -> None:
    (token,) = tokenize("blue-green")
    assert (token.label, token.words) == ("blue-green", ("blue", "green"))
    assert labels("yes—no and/or") == ["yes", "no", "and", "or"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (21, "twenty one"),
        (40, "forty"),
        (100, "one hundred"),
        (999, "nine hundred ninety nine"),
        (12_000, "twelve thousand"),
        (1_000_001, "one million one"),
        (215_304, "two hundred fifteen thousand three hundred four"),
    ],
)
def test_cardinals(number: int, words: str) -> None:
    assert " ".join(cardinal(number)) == words
    if number < 1000:
        assert spoken(str(number)) == words.split()
    assert spoken(f"{number:,}") == words.split()
    assert labels(f"{number:,}.") == [f"{number:,}"]


def test_every_word_of_a_number_is_in_the_dictionary() -> None:
    assert {word for number in (*range(100), 10**9, 10**6, 1000, 100) for word in cardinal(number)} <= set(dictionary())
    with pytest.raises(ValueError, match="-1"):
        cardinal(-1)


@pytest.mark.parametrize(
    "text", ["1984", "007", "3.5", "2nd", "$5", "5%", "[laughs]", "<sil>", "read(2)", "a@b", "xyzzyq", "日本", "r2d2"]
)
def test_what_may_be_read_in_several_ways_is_refused_by_name(text: str) -> None:
    with pytest.raises(TalksetError) as caught:
        tokenize(f"hello {text} world")
    assert caught.value.reason == "bad_transcript"
    assert repr(text) in caught.value.message
    assert "hello" not in caught.value.message


def test_all_unknown_words_are_named() -> None:
    with pytest.raises(TalksetError, match=r"'blorf', 'Xyzzyq'"):
        tokenize("blorf is Xyzzyq or blorf")


@pytest.mark.parametrize("text", ["", "   ", "... - !", "'"])
def test_no_word_at_all_is_an_error(text: str) -> None:
    with pytest.raises(TalksetError) as caught:
        tokenize(text)
    assert caught.value.reason == "bad_transcript"


def test_the_dictionary_gives_arpabet() -> None:
    assert dictionary()["blue"] == ("B", "L", "UW")
    phones = {phone for entry in dictionary().values() for phone in entry}
    assert len(phones) == 39
