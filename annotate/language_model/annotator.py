"""Answers about clips: from the cache where a question was answered before, else from the endpoint within its limits.

An answer is stored under the hash of everything that decides it: endpoint, model, temperature, prompt version and the
question itself. Only checked answers are stored. What is not answered is said with its reason and costs no clip.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import platformdirs

from annotate.language_model.answer import Answer, MalformedAnswerError, parse_answer
from annotate.language_model.client import ChatClient, RequestError, estimate_tokens
from annotate.language_model.limits import Limits
from annotate.language_model.question import PROMPT_VERSION, Question
from schemas.files import named_errors, write_atomic
from schemas.label_config import LanguageModelConfig

FORMAT: Final = 1
OUT_OF_BUDGET: Final = "out_of_budget"
_BACKOFF_S: Final = 0.5


@dataclass(frozen=True)
class Outcome:
    """An answer with what gave it, or why there is none."""

    answer: Answer | None
    model: str
    """As the endpoint names it."""
    prompt: str
    reason: str | None = None
    """rate_limited, unavailable, too_slow, refused, malformed or out_of_budget."""
    message: str | None = None
    cached: bool = False

    @property
    def source(self) -> str:
        """For events: model and prompt version."""
        return f"llm:{self.model}@{self.prompt}"


class Annotator:
    """One model behind one endpoint, with cache and limits. Raises UsageError for settings that cannot work."""

    def __init__(self, config: LanguageModelConfig, sleep: Callable[[float], None] = time.sleep) -> None:
        self._config = config
        self._client = ChatClient(config)
        self._sleep = sleep
        usual = Path(os.environ.get("TALKSET_CACHE") or platformdirs.user_cache_dir("talkset")) / "language_model"
        own = Path(config.cache) if config.cache else usual
        self._folder = own / _digest([config.url.rstrip("/"), config.model])[:16]
        with named_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        self._limits = Limits(self._folder, config.requests_per_min, config.budget_tokens)

    @property
    def used_tokens(self) -> int:
        """Of the budget, by all that share the folder."""
        return self._limits.used

    def ask(self, question: Question) -> Outcome:
        """The answer to a question. Raises TalksetError disk_full or not_writable for the cache folder alone."""
        path = self._folder / f"{self._key(question)}.json"
        known = _stored(path, question.words)
        if known is not None:
            return known
        reserved = estimate_tokens(question.system + question.user) + self._config.max_tokens
        last = RequestError("unavailable", "not asked")
        for attempt in range(max(1, self._config.attempts)):
            if attempt:
                self._sleep(_BACKOFF_S * 2 ** (attempt - 1))
            wait_s = self._limits.reserve(reserved)
            if wait_s is None:
                message = f"language_model.budget_tokens={self._config.budget_tokens} is used up"
                return Outcome(None, self._config.model, PROMPT_VERSION, OUT_OF_BUDGET, message)
            if wait_s > 0:
                self._sleep(wait_s)
            used = 0
            try:
                reply = self._client.ask(question)
                used = reply.tokens
                answer = parse_answer(reply.text, question.words)
            except MalformedAnswerError as error:
                last = RequestError("malformed", str(error))
                continue
            except RequestError as error:
                last = error
                if error.wait_s > 0:
                    self._limits.hold_off(error.wait_s)
                if error.reason == "refused":
                    break
                continue
            finally:
                self._limits.settle(reserved, used)
            _store(path, question, reply.model, reply.text)
            return Outcome(answer, reply.model, PROMPT_VERSION)
        return Outcome(None, self._config.model, PROMPT_VERSION, last.reason, str(last))

    def _key(self, question: Question) -> str:
        asked = [FORMAT, PROMPT_VERSION, self._config.temperature, self._config.max_tokens, question.messages()]
        return _digest(asked)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _store(path: Path, question: Question, model: str, text: str) -> None:
    value = {
        "format": FORMAT,
        "model": model,
        "prompt": PROMPT_VERSION,
        "asked": question.user,
        "answered": text,
        "time": round(time.time()),
    }
    write_atomic(path, json.dumps(value, ensure_ascii=True, indent=1).encode())


def _stored(path: Path, num_words: int) -> Outcome | None:
    """An earlier answer, checked again; None where there is none or it is damaged."""
    try:
        value = json.loads(path.read_bytes())
        answer = parse_answer(value["answered"], num_words)
        return Outcome(answer, str(value["model"]), str(value["prompt"]), cached=True)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
