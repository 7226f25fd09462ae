from __future__ import annotations

import difflib

import numpy as np
import pytest

from annotate.text import cardinal, dictionary, is_english, pronunciations, tokenize
from annotate.text.pronounce import _guess
from schemas.errors import TalksetError


def spoken(text: str) -> list[str]:
    return [word for token in tokenize(text) for word in token.words]


def spoken_guess(text: str) -> list[str]:
    return [word for token in tokenize(text, guess=True) for word in token.words]


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


@pytest.mark.parametrize("text", ["a@b", "read(2)", "xyzzyq", "日本", "\\alpha", "3.5.7.9", "#"])
def test_what_cannot_be_spoken_is_refused_by_name(text: str) -> None:
    with pytest.raises(TalksetError) as caught:
        tokenize(f"hello {text} world")
    assert caught.value.reason == "bad_transcript"
    assert text in caught.value.message
    assert "hello" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1984", ["nineteen eighty four", "one thousand nine hundred eighty four", "one nine eight four"]),
        ("1905", ["nineteen oh five"]),
        ("2000", ["two thousand"]),
        ("2007", ["two thousand seven", "two thousand and seven"]),
        ("007", ["oh oh seven", "zero zero seven"]),
        ("3.05", ["three point oh five", "three point zero five"]),
        ("2nd", ["second"]),
        ("121st", ["one hundred twenty first"]),
        ("$5", ["five dollars"]),
        ("$1", ["one dollar"]),
        ("£5.50", ["five pounds and fifty pence", "five fifty"]),
        ("5%", ["five percent"]),
        ("10:30pm", ["ten thirty p.m."]),
        ("7:05", ["seven oh five"]),
        ("2020-03-04", ["march fourth twenty twenty", "the fourth of march two thousand twenty"]),
        ("3/4/2020", ["march fourth twenty twenty", "april third twenty twenty"]),
        ("1/2", ["one half"]),
        ("3/4", ["three quarters"]),
        ("5kg", ["five kilograms"]),
        ("-4", ["minus four"]),
        ("1980s", ["nineteen eighties"]),
        ("#3", ["number three"]),
        ("Dr.", ["doctor", "drive"]),
        ("e.g.", ["e.g."]),
        ("XKCD", ["x k c d"]),
        ("r2d2", ["r two d two"]),
        ("covid-19", ["covid nineteen"]),
        ("&", ["and"]),
        ("30kHz", ["thirty kilohertz"]),
    ],
)
def test_readings(text: str, said: list[str]) -> None:
    (token,) = tokenize(text, guess=True)
    assert token.label == text
    ways = [" ".join(words) for words in (token.words, *token.others)]
    assert ways[0] == said[0]
    assert set(said) <= set(ways)
    assert len(set(ways)) == len(ways)


def test_every_way_to_say_a_number_can_be_pronounced() -> None:
    texts = (
        "0 7 13 90 101 999 1000 1066 1900 2005 2024 12,345 3.14 $19.99 €3.5bn 23:59 2019-12-31 7/8 90% 42nd 16th 5km"
    )
    for token in tokenize(texts):
        for words in (token.words, *token.others):
            assert all(dictionary().get(word) for word in words), words


def test_currency_is_said_after_the_scale_and_units_after_numbers() -> None:
    said = "two point five million dollars thirty kilometers per hour and five kilometers"
    assert " ".join(spoken("$2.5 million, 30 km/h and 5 km")) == said
    assert labels("$2.5 million") == ["$2.5", "million"]


def test_punctuation_is_kept_beside_the_word() -> None:
    first, second = tokenize('"Stop," he')
    assert (first.before, first.label, first.after) == ('"', "Stop", ',"')
    assert (second.before, second.after) == ("", "")


def test_remarks_are_no_words() -> None:
    assert spoken("[laughs] hello <sil> *sighs* world ♪ la la ♪ {cough}") == ["hello", "world"]


def test_unknown_words_are_left_to_a_guess_where_asked_for() -> None:
    assert spoken_guess("Zendaya likes blorfs") == ["zendaya", "likes", "blorfs"]
    assert pronunciations("zendaya") == (("Z", "EH", "N", "D", "EY", "AH"),)
    assert pronunciations("blorf's")[0][-1] == "S"
    assert pronunciations("read") == (("R", "EH", "D"), ("R", "IY", "D"))
    with pytest.raises(TalksetError, match="日"):
        pronunciations("日")


def test_guesses_agree_with_the_dictionary_on_most_phones() -> None:
    """The model was trained on these words, so this only finds a wrong feature or a wrong table of phones."""
    words = [word for word in dictionary() if word.isalpha() and len(word) > 3][::2000]
    matcher = [difflib.SequenceMatcher(None, _guess(word), dictionary()[word], autojunk=False) for word in words]
    assert len(words) > 40
    assert np.mean([match.ratio() for match in matcher]) > 0.85


@pytest.mark.parametrize(
    "text", ["ich spreche kein Englisch und verstehe nichts", "ik weet niet waar hij gisteren vandaan gekomen is"]
)
def test_other_languages_are_refused(text: str) -> None:
    with pytest.raises(TalksetError, match="whisperx") as caught:
        tokenize(text, guess=True)
    assert caught.value.reason == "bad_transcript"


@pytest.mark.parametrize(
    ("tag", "expected"),
    [(None, True), ("en", True), ("en-GB", True), ("EN_us", True), ("English", True), ("de", False)],
)
def test_language_tags(tag: str | None, expected: bool) -> None:
    assert is_english(tag) is expected


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
