"""The language-model annotator against a server that answers, refuses, stalls, limits and talks nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from language_model_server import GOOD, Script, body_of, serving

from annotate.language_model.annotator import Annotator
from annotate.language_model.answer import MalformedAnswerError, answer_events, parse_answer
from annotate.language_model.question import PROMPT_VERSION, Question, ask_of
from schemas.errors import UsageError
from schemas.label_config import LanguageModelConfig
from schemas.types import Interval

WORDS = (Interval(0, 200_000, "a", 1, False, "t"), Interval(200_000, 600_000, "mountain", 1, False, "t"))
GOOD_TEXT = json.dumps(GOOD)


@pytest.fixture
def question() -> Question:
    found = ask_of(WORDS, {"pitch_hz": 120.0, "smile": None})
    assert found is not None
    return found


def settings(url: str, cache: Path, **values: Any) -> LanguageModelConfig:
    return LanguageModelConfig(
        enabled=True, url=url, model="tiny", cache=str(cache), **{"requests_per_min": 0.0, "timeout_s": 5.0, **values}
    )


def test_an_answer_is_checked_stored_and_not_asked_again(question: Question, tmp_path: Path) -> None:
    script = Script([GOOD_TEXT])
    with serving(script) as url:
        annotator = Annotator(settings(url, tmp_path))
        first, again = annotator.ask(question), annotator.ask(question)
        assert first.answer == again.answer is not None
        assert (first.cached, again.cached) == (False, True)
        assert first.source == f"llm:tiny-1@{PROMPT_VERSION}"
        assert len(script.asked) == 1
        assert script.paths == ["/v1/chat/completions"]
        assert script.asked[0]["model"] == "tiny"
        assert "mountain" in script.asked[0]["messages"][1]["content"]
        assert annotator.used_tokens == 100
        other = ask_of(WORDS, {})
        assert other is not None
        Annotator(settings(url, tmp_path)).ask(other)
        assert len(script.asked) == 2
    stored = [json.loads(path.read_text()) for path in tmp_path.rglob("*.json") if path.name != "usage.json"]
    assert {entry["prompt"] for entry in stored} == {PROMPT_VERSION}
    assert {entry["model"] for entry in stored} == {"tiny-1"}


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "secret-123")
    script = Script([GOOD_TEXT])
    with serving(script) as url:
        Annotator(settings(url, tmp_path, key_variable="MY_KEY")).ask(question)
        assert script.keys == ["Bearer secret-123"]
        monkeypatch.delenv("MY_KEY")
        other = ask_of(WORDS, {})
        assert other is not None
        Annotator(settings(url, tmp_path, key_variable="MY_KEY")).ask(other)
        assert script.keys[1] is None
    assert not any("secret-123" in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_a_redirect_is_not_followed_with_the_key(
    question: Question, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALKSET_LLM_API_KEY", "secret-123")
    other = Script([GOOD_TEXT])
    with serving(other) as elsewhere, serving(Script([307], {"Location": f"{elsewhere}/chat/completions"})) as url:
        found = Annotator(settings(url, tmp_path)).ask(question)
    assert found.reason == "refused"
    assert other.asked == []


@pytest.mark.parametrize(
    "bad",
    [
        "I think she is happy.",
        json.dumps([1, 2]),
        json.dumps({**GOOD, "emotion": "grumpy"}),
        json.dumps({**GOOD, "emotion_confidence": 7}),
        json.dumps({**GOOD, "emotion_confidence": True}),
        json.dumps({**GOOD, "words": [{"number": 2, "relevance": 0.5, "gesture": "beat"}]}),
        json.dumps({**GOOD, "words": [{"number": 0, "relevance": 0.5, "gesture": "wave"}]}),
        json.dumps({**GOOD, "words": [{"number": 0}]}),
        json.dumps({**GOOD, "caption": ""}),
        json.dumps({**GOOD, "caption": "x" * 1000}),
        json.dumps({**GOOD, "secret": 1}),
        GOOD_TEXT[:-10],
    ],
)
def test_a_malformed_answer_is_asked_for_again_and_never_believed(bad: str, question: Question, tmp_path: Path) -> None:
    with pytest.raises(MalformedAnswerError):
        parse_answer(bad, len(WORDS))
    waits: list[float] = []
    script = Script([bad, GOOD_TEXT])
    with serving(script) as url:
        found = Annotator(settings(url, tmp_path), waits.append).ask(question)
    assert found.answer is not None
    assert len(script.asked) == 2
    assert waits
    script = Script([bad])
    with serving(script) as url:
        lost = Annotator(settings(url, tmp_path, attempts=2), waits.append).ask(question)
    assert (lost.answer, lost.reason) == (None, "malformed")
    assert len(script.asked) == 2


def test_an_answer_in_a_fence_counts(question: Question) -> None:
    assert parse_answer(f"```json\n{GOOD_TEXT}\n```", len(WORDS)).caption == GOOD["caption"]


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"message": {"role": "assistant", "content": None, "refusal": "no"}, "finish_reason": "stop"}]},
        body_of("", finish_reason="content_filter"),
        401,
        400,
    ],
)
def test_a_refusal_is_final(body: Any, question: Question, tmp_path: Path) -> None:
    script = Script([body, GOOD_TEXT])
    with serving(script) as url:
        found = Annotator(settings(url, tmp_path)).ask(question)
    assert (found.answer, found.reason) == (None, "refused")
    assert len(script.asked) == 1


def test_429_is_waited_for_as_long_as_it_asks(question: Question, tmp_path: Path) -> None:
    waits: list[float] = []
    script = Script([429, GOOD_TEXT], {"Retry-After": "7"})
    with serving(script) as url:
        found = Annotator(settings(url, tmp_path), waits.append).ask(question)
    assert found.answer is not None
    assert max(waits) == pytest.approx(7, abs=1)
    with serving(Script([429], {"Retry-After": "soon"})) as url:
        lost = Annotator(settings(url, tmp_path, attempts=2), waits.append).ask(question)
    assert lost.reason == "rate_limited"


def test_silence_faults_and_a_closed_door_end_in_a_reason(question: Question, tmp_path: Path) -> None:
    waits: list[float] = []
    with serving(Script([1.5])) as url:
        slow = Annotator(settings(url, tmp_path, timeout_s=0.3, attempts=1), waits.append).ask(question)
    assert slow.reason == "too_slow"
    with serving(Script([503, 503, GOOD_TEXT])) as url:
        assert Annotator(settings(url, tmp_path / "a"), waits.append).ask(question).answer is not None
    gone = Annotator(settings(url, tmp_path / "b", attempts=1), waits.append).ask(question)
    assert gone.reason == "unavailable"
    wrong: list[dict[str, Any]] = [{"choices": []}, {"error": "x"}, body_of(GOOD_TEXT, finish_reason="length")]
    for body in wrong:
        with serving(Script([body])) as url:
            found = Annotator(settings(url, tmp_path / "c", attempts=1), waits.append).ask(question)
        assert found.reason == "malformed"


def test_the_budget_is_shared_and_kept(question: Question, tmp_path: Path) -> None:
    script = Script([GOOD_TEXT])
    with serving(script) as url:
        config = settings(url, tmp_path, budget_tokens=1500, max_tokens=600)
        assert Annotator(config).ask(question).answer is not None
        used = Annotator(config).used_tokens
        assert used == 100
        number = 0
        while True:
            number += 1
            other = ask_of((*WORDS, Interval(1, 2, f"word{number}", 1, False, "t")), {})
            assert other is not None
            found = Annotator(config).ask(other)
            if found.answer is None:
                break
            assert number < 20
        assert found.reason == "out_of_budget"
        assert Annotator(config).used_tokens <= 1500
        assert Annotator(config).ask(question).cached  # what was answered stays
        assert len(script.asked) == number


def test_requests_are_spread(question: Question, tmp_path: Path) -> None:
    waits: list[float] = []
    with serving(Script([GOOD_TEXT])) as url:
        config = settings(url, tmp_path, requests_per_min=30.0)
        for number in range(3):
            other = ask_of((*WORDS, Interval(1, 2, f"w{number}", 1, False, "t")), {})
            assert other is not None
            Annotator(config, waits.append).ask(other)
    assert waits == pytest.approx([2.0, 4.0], abs=0.5)


def test_a_damaged_store_is_asked_for_again(question: Question, tmp_path: Path) -> None:
    script = Script([GOOD_TEXT])
    with serving(script) as url:
        annotator = Annotator(settings(url, tmp_path))
        annotator.ask(question)
        (stored,) = [path for path in tmp_path.rglob("*.json") if path.name != "usage.json"]
        stored.write_text(stored.read_text()[:40])
        assert not annotator.ask(question).cached
    assert len(script.asked) == 2


def test_answers_become_events_with_model_and_prompt() -> None:
    events = answer_events(parse_answer(GOOD_TEXT, 2), WORDS, 900_000, "llm:tiny-1@manner-1")
    assert [(event.kind, event.label) for event in events] == [
        ("caption", GOOD["caption"]), ("emotion", "happiness"), ("semantic", "mountain"), ("gesture", "iconic:low"),
    ]  # fmt: skip
    assert events[0].end_us == 900_000
    assert (events[3].start_us, events[3].end_us) == (200_000, 600_000)
    assert {event.source for event in events} == {"llm:tiny-1@manner-1"}


def test_settings_that_name_no_model_are_refused_and_nothing_is_asked_about_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="url"):
        Annotator(LanguageModelConfig(enabled=True, cache=str(tmp_path)))
    assert ask_of((), {}) is None
