"""Files of timed words, by hand and from the exporters."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from annotate.importers import read_words
from exports.ctm import ctm
from exports.spoken import StoredClip
from exports.srt import srt
from exports.textgrid import textgrid
from exports.vtt import vtt
from exports.whisperx_json import whisperx_json
from schemas.errors import TalksetError, UsageError
from schemas.types import Interval, Transcription

WORDS = (
    Interval(100_000, 340_000, "Don't", 0.5, False, "x"),
    Interval(340_000, 900_000, "stop", 0.75, False, "x"),
    Interval(900_000, 1_100_000, "at", math.nan, True, "x"),
    Interval(1_100_000, 2_500_000, "café", 0.25, False, "x"),
    Interval(4_000_000, 4_500_000, "<now>", 1.0, False, "x"),
)
PHONES = (Interval(100_000, 200_000, "D", 0.5, False, "x"), Interval(200_000, 340_000, "OW", 0.5, False, "x"))
SAID = Transcription(WORDS, PHONES)
CLIP = StoredClip("clip-1", 5_000_000, {"words": [vars(w) for w in WORDS], "phones": [vars(p) for p in PHONES]})


def saved(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def spans(words: tuple[Interval, ...]) -> list[tuple[str, int, int]]:
    return [(word.label, word.start_us, word.end_us) for word in words]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.TextGrid", textgrid(WORDS, PHONES, 5_000_000)),
        ("a.ctm", ctm([CLIP])),
        ("a.json", whisperx_json(SAID)),
        ("a.vtt", vtt(SAID)),
    ],
)
def test_what_was_exported_comes_back(tmp_path: Path, name: str, text: str) -> None:
    found = read_words(saved(tmp_path, name, text))
    assert spans(found.words) == spans(WORDS)
    assert found.untimed == ()


def test_subtitles_give_back_words_and_cues(tmp_path: Path) -> None:
    found = read_words(saved(tmp_path, "a.srt", srt(SAID)))
    # SubRip cannot escape: what looks like a tag is one
    assert [word.label for word in found.words] == ["Don't", "stop", "at", "café"]
    assert (found.words[0].start_us, found.words[-1].end_us) == (100_000, 2_500_000)
    assert all(word.interpolated for word in found.words)


def test_scores_and_what_was_placed_survive(tmp_path: Path) -> None:
    for name, text in (("a.ctm", ctm([CLIP])), ("a.json", whisperx_json(SAID))):
        found = read_words(saved(tmp_path, name, text)).words
        assert [word.score for word in found][:2] == [0.5, 0.75]
        assert math.isnan(found[2].score)
    assert [word.interpolated for word in found] == [False, False, True, False, False]


def test_phones_of_a_textgrid_in_any_encoding(tmp_path: Path) -> None:
    for encoding in ("utf-8", "utf-16"):
        found = read_words(saved(tmp_path, "a.TextGrid", textgrid(WORDS, PHONES, 5_000_000), encoding))
        assert spans(found.phones) == spans(PHONES)
        assert found.words[3].label == "café"


def test_hand_labels_and_beat2(eval_data: Path) -> None:
    mary = read_words(eval_data / "speech" / "mary.TextGrid")
    assert [word.label for word in mary.words] == ["mary", "rolled", "the", "barrel"]
    assert mary.words[0].start_us == 315_420
    assert [phone.label for phone in mary.phones][:4] == ["M", "AH", "R", "IY"]
    beat = read_words(eval_data / "speech" / "beat2_2_scott_0_1_1.TextGrid")
    assert spans(beat.words)[:2] == [("the", 1_420_000, 1_520_000), ("first", 1_520_000, 1_780_000)]
    assert len(beat.phones) > 600
    assert "" not in {word.label for word in beat.words}


def test_grid_labels(eval_data: Path, tmp_path: Path) -> None:
    found = read_words(eval_data / "grid_s1" / "bbwm4n.align")
    assert spans(found.words)[:2] == [("bin", 570_000, 790_000), ("blue", 790_000, 1_040_000)]
    assert len(found.words) == 6
    with pytest.raises(TalksetError, match="line 2"):
        read_words(saved(tmp_path, "a.align", "0 10 sil\n10 x bin\n"))


def test_whisperx_words_without_times(tmp_path: Path) -> None:
    words = [
        {"word": "in", "start": 0.0, "end": 0.2},
        {"word": "2014."},
        {"word": "we", "start": 0.6, "end": 0.8},
        {"word": "9"},
    ]
    value = {"segments": [{"start": 0.0, "end": 1.0, "text": "in 2014. we 9", "words": words}]}
    found = read_words(saved(tmp_path, "a.json", json.dumps(value)))
    assert [(w.label, w.start_us, w.end_us, w.interpolated) for w in found.words] == [
        ("in", 0, 200_000, False),
        ("2014.", 200_000, 600_000, True),
        ("we", 600_000, 800_000, False),
    ]
    assert [(word.label, word.after) for word in found.untimed] == [("9", len(found.words))]


def test_utterances_of_a_ctm(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.ctm", ";; two\nu1 A 0.5 0.25 hello 0.9\nu2 A 0 1 bye\nu1 A 0.1 0.2 oh NA\n")
    assert spans(read_words(path, utterance="u1").words) == [("oh", 100_000, 300_000), ("hello", 500_000, 750_000)]
    with pytest.raises(UsageError, match="u1, u2"):
        read_words(path)


def test_subtitles_by_hand(tmp_path: Path) -> None:
    first = "1\n00:01.000 --> 00:03.000 align:start\n<v Ann>Hi &amp; bye\n"
    text = f"WEBVTT\n\nNOTE x\n\n{first}\n00:03.000 --> 00:04.000\n[music]\n"
    found = read_words(saved(tmp_path, "a.vtt", text))
    assert [word.label for word in found.words] == ["Hi", "&", "bye"]
    assert found.words[0].start_us == 1_000_000
    assert found.words[-1].end_us == 3_000_000
    rolling = "1\n00:00:01,000 --> 00:00:02,000\none two\n\n2\n00:00:02,000 --> 00:00:03,000\none two\nthree\n"
    assert spans(read_words(saved(tmp_path, "b.srt", rolling)).words)[-1] == ("three", 2_000_000, 3_000_000)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.srt", "1\n00:00:01,000 --> 00:00:0x,000\nhello\n", "line 2"),
        ("a.srt", "1\n00:00:02,000 --> 00:00:01,000\nhello\n", "ends before"),
        ("a.vtt", "WEBVTT\n", "no cue"),
        ("a.ctm", "u1 A 0.5 hello\n", "line 1"),
        ("a.ctm", "u1 A 0.5 -1 hello\n", "line 1"),
        ("a.ctm", "", "no word"),
        ("a.json", "{}", "segments"),
        ("a.json", "[1", "not JSON"),
        ("a.json", '{"segments": [{"words": [{"start": 1}]}]}', "segment 0"),
        ("a.json", '{"segments": [{"words": [{"word": "a", "start": -1, "end": 2}]}]}', "segment 0"),
        ("a.TextGrid", "no grid", "TextGrid"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(TalksetError, match=message) as caught:
        read_words(saved(tmp_path, name, text))
    assert caught.value.reason == "corrupt_data"


def test_unknown_formats_and_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Known"):
        read_words(tmp_path / "a.doc")
    with pytest.raises(UsageError, match="subtitles"):
        read_words(tmp_path / "a.srt", "subtitle")
    with pytest.raises(TalksetError) as caught:
        read_words(tmp_path / "a.srt")
    assert caught.value.reason == "missing_file"
    (tmp_path / "b.srt").write_bytes(b"\xff\xff\xff")
    with pytest.raises(TalksetError) as caught:
        read_words(tmp_path / "b.srt")
    assert caught.value.reason == "corrupt_data"
