"""What words mean: against hand-made truth, and rules on single sentences."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr
from semantic_sentences import FIRST, Judged

from annotate.performance import Hands, Performance
from annotate.semantics.events import semantic_events
from annotate.semantics.gesture_types import gesture_types, is_abstract
from annotate.semantics.lexicon import image_schemas, schema_names
from annotate.semantics.relevance import relevance
from annotate.semantics.sentences import dialogue_act, split
from annotate.text.information import RAREST_BITS, information_bits
from annotate.text.lemma import lemmas
from annotate.text.parts_of_speech import tag
from annotate.text.sentiment import sentiment
from schemas.labels import EVENT_KINDS
from schemas.types import Event, Interval
from synthetic.speech import Voice, synthesize


def judge(sentence: Judged) -> tuple[list[str], list[float]]:
    tags = tag(sentence.words)
    kinds = [kind for kind, _ in gesture_types(sentence.words, tags)]
    return kinds, relevance(sentence.words, tags, kinds).tolist()


def test_relevance_and_types_agree_with_hand_made_truth() -> None:
    truth = [value for sentence in FIRST for value in sentence.relevance]
    types = [kind for sentence in FIRST for kind in sentence.types]
    judged = [judge(sentence) for sentence in FIRST]
    kinds = [kind for found, _ in judged for kind in found]
    scores = [score for _, found in judged for score in found]
    assert spearmanr(truth, scores)[0] >= 0.6
    hits = sum(a == b != "none" for a, b in zip(types, kinds, strict=True))
    named = sum(kind != "none" for kind in types) + sum(kind != "none" for kind in kinds)
    assert 2 * hits / named >= 0.7


def kinds_of(text: str) -> dict[str, str]:
    words = text.split()
    return dict(zip(words, (kind for kind, _ in gesture_types(words, tag(words))), strict=True))


def test_a_physical_word_becomes_metaphoric_with_an_abstract_noun() -> None:
    assert kinds_of("the stone falls")["falls"] == "iconic"
    assert kinds_of("inflation falls")["falls"] == "metaphoric"
    assert kinds_of("a huge box")["huge"] == "iconic"
    assert kinds_of("a huge opportunity")["huge"] == "metaphoric"
    assert is_abstract("happiness")
    assert not is_abstract("station")


def test_there_points_unless_it_only_says_that_something_is() -> None:
    assert kinds_of("put it there")["there"] == "deictic"
    assert kinds_of("there is a problem")["there"] != "deictic"
    assert kinds_of("he told me the truth")["me"] == "deictic"
    assert kinds_of("you know that i agree")["that"] != "deictic"


def test_the_voice_makes_beats_and_moves_relevance() -> None:
    words = ["she", "bought", "a", "green", "car"]
    tags = tag(words)
    plain = gesture_types(words, tags, [0.5] * 5)
    stressed = gesture_types(words, tags, [0.5, 0.5, 0.5, 0.5, 0.95])
    assert plain[4][0] == "none"
    assert stressed[4][0] == "beat"
    kinds = [kind for kind, _ in plain]
    low, high = (relevance(words, tags, kinds, [0.5, 0.5, 0.5, value, 0.5])[3] for value in (0.1, 0.9))
    assert high > low + 0.1


def test_information_falls_with_frequency() -> None:
    assert information_bits("the") < information_bits("house") < information_bits("ladder")
    assert information_bits("xqzvw") == RAREST_BITS


def test_lexicons_know_forms_of_words_and_their_schemas_are_names() -> None:
    assert "climb" in lemmas("climbed")
    assert "stop" in lemmas("stopped")
    assert "fall" in lemmas("fell")
    assert image_schemas("rising")[0] == "UP-DOWN"
    assert image_schemas("journeys")[0] == "PATH"
    assert image_schemas("box")[0] == "CONTAINER"
    assert image_schemas("of") == ()
    assert {"PATH", "CONTAINER", "UP-DOWN", "FORCE", "BALANCE", "LINK"} <= set(schema_names())


@pytest.mark.parametrize(
    ("text", "act"),
    [
        ("are you coming home", "question"),
        ("where did you put it", "question"),
        ("please close the door", "command"),
        ("thank you so much", "thanks"),
        ("good morning everyone", "greeting"),
        ("sorry about that", "apology"),
        ("yes i do", "agreement"),
        ("no that is wrong", "disagreement"),
        ("the train was late again", "statement"),
    ],
)
def test_dialogue_acts(text: str, act: str) -> None:
    assert dialogue_act(text.split(), tag(text.split()))[0] == act


def test_sentiment_turns_with_a_negation_and_grows_with_degree() -> None:
    good, very, bad = (sentiment(text.split()) for text in ("this is good", "this is very good", "this is not good"))
    assert bad < 0 < good < very < 1
    assert sentiment(["the", "box", "is", "on", "the", "table"]) == 0


def words_of(text: str, pause_after: int | None = None) -> tuple[Interval, ...]:
    found, at = [], 100_000
    for number, word in enumerate(text.split()):
        found.append(Interval(at, at + 300_000, word, 0.9, False, "t"))
        at += 320_000 + (600_000 if number == pause_after else 0)
    return tuple(found)


def clip_of(words: tuple[Interval, ...], hands: Hands | None = None) -> Performance:
    pts = np.arange(0, words[-1].end_us + 500_000, 40_000, dtype=np.int64)
    return Performance(pts, int(pts[-1]) + 40_000, np.ones(len(pts), np.bool_), words=words, hands=hands)


def of_kind(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event.kind == kind]


def test_words_alone_give_all_kinds_with_less_confidence_than_with_sound() -> None:
    speech = synthesize("The huge wave broke the small bridge.", Voice(), 3)
    pts = np.arange(0, 1000 * len(speech.samples) // 16, 40_000, dtype=np.int64)
    clip = Performance(pts, int(pts[-1]) + 40_000, np.ones(len(pts), np.bool_), words=speech.words)
    silent = semantic_events(clip)
    heard = semantic_events(dataclasses.replace(clip, samples=speech.samples.astype(np.float32)))
    assert {"semantic", "gesture", "image_schema", "sentence"} <= {event.kind for event in silent} <= set(EVENT_KINDS)
    assert [event.label for event in of_kind(silent, "semantic")] == [word.label for word in speech.words]
    assert all(event.label.endswith(":low") for event in of_kind(silent, "gesture"))
    acts = [next(e.score for e in of_kind(found, "sentence") if e.label == "statement") for found in (silent, heard)]
    assert acts[0] < acts[1]


def test_a_pause_ends_a_sentence() -> None:
    assert split(words_of("we met are you here", pause_after=1)) == [(0, 2), (2, 5)]
    acts = [event.label for event in of_kind(semantic_events(clip_of(words_of("we met are you here", 1))), "sentence")]
    assert {"statement", "question"} <= set(acts)


def test_the_punctuation_of_the_transcript_ends_sentences_and_asks() -> None:
    words = words_of("you came home we saw mr smith yes", 5)  # the pause is inside of the second sentence
    written = "You came home? We saw Mr. Smith! Yes."
    found = of_kind(semantic_events(clip_of(words), transcript=written), "sentence")
    acts = [event for event in found if event.label not in ("positive", "negative", "neutral")]
    assert [event.label for event in acts] == ["question", "statement", "agreement"]
    assert [event.start_us for event in acts] == [words[at].start_us for at in (0, 3, 7)]


def hands_that_move(words: tuple[Interval, ...], at_s: float | None) -> Hands:
    """The right hand goes 30 cm up within 0.3 s, or rests."""
    seconds = np.arange(0, words[-1].end_us + 500_000, 40_000) / 1e6
    part = np.zeros(len(seconds)) if at_s is None else np.clip((seconds - at_s) / 0.3, 0, 1)
    wrists = np.zeros((len(seconds), 2, 3), np.float32)
    wrists[:, 1, 1] = 0.3 * part**2 * (3 - 2 * part)
    return Hands(wrists)


def test_hands_decide_whether_there_is_a_gesture() -> None:
    words = words_of("we saw the huge tower and went home again")
    still = semantic_events(clip_of(words, hands_that_move(words, None)))
    assert of_kind(still, "gesture") == []
    with_word = of_kind(semantic_events(clip_of(words, hands_that_move(words, words[3].start_us / 1e6))), "gesture")
    assert [event.label for event in with_word] == ["iconic:high"]
    alone = of_kind(semantic_events(clip_of(words, hands_that_move(words, words[7].start_us / 1e6))), "gesture")
    assert [event.label for event in alone] == ["beat:high"]


def test_nothing_said_is_nothing_meant() -> None:
    pts = np.arange(0, 1_000_000, 40_000, dtype=np.int64)
    clip = Performance(pts, 1_000_000, np.zeros(len(pts), np.bool_))
    assert semantic_events(clip) == []
    assert semantic_events(dataclasses.replace(clip, samples=np.zeros(16_000, np.float32))) == []
