"""One request to an OpenAI-compatible endpoint: POST {url}/chat/completions.

The key goes into one header of requests to this very address: redirects are not followed, so it never goes elsewhere,
and it is in no message, log or file.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any, Final

import urllib3

from annotate.language_model.question import Question
from schemas.errors import UsageError
from schemas.label_config import LanguageModelConfig

MOST_BYTES: Final = 2_000_000
USUAL_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 120.0
REFUSALS: Final = ("content_filter",)
"""`finish_reason` of answers that the endpoint withheld."""


class RequestError(Exception):
    """No answer; `reason` is rate_limited, unavailable, too_slow, refused or malformed."""

    def __init__(self, reason: str, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.reason = reason
        self.wait_s = wait_s
        """How long the endpoint wants to be left alone."""


@dataclass(frozen=True)
class Reply:
    """Text of an answer, and what it cost."""

    text: str
    tokens: int
    model: str
    """As the endpoint names what answered."""


class ChatClient:
    """Asks one model. Raises UsageError for settings that cannot work."""

    def __init__(self, config: LanguageModelConfig) -> None:
        if not config.url.startswith(("http://", "https://")) or not config.model:
            raise UsageError(
                f"language_model.url={config.url!r} and language_model.model={config.model!r} name no model",
                "Set url as http://localhost:8000/v1 and the model's name",
            )
        self._config = config
        self._address = f"{config.url.rstrip('/')}/chat/completions"
        timeout = urllib3.Timeout(connect=min(10.0, config.timeout_s), total=config.timeout_s)
        self._pool = urllib3.PoolManager(retries=False, timeout=timeout)

    def ask(self, question: Question) -> Reply:
        """The model's answer. Raises RequestError."""
        body = {
            "model": self._config.model,
            "messages": question.messages(),
            "temperature": self._config.temperature,
            "max_tokens": self._config.max_tokens,
            "response_format": {"type": "json_object"},
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self._config.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        try:
            response = self._pool.request(
                "POST", self._address, body=json.dumps(body).encode(), headers=headers, redirect=False,
                preload_content=False,
            )  # fmt: skip
            try:
                content = response.read(MOST_BYTES + 1)
            finally:
                response.release_conn()
        except urllib3.exceptions.NewConnectionError as error:  # counts as a time-out in some versions
            raise RequestError("unavailable", "the endpoint does not take connections") from error
        except urllib3.exceptions.TimeoutError as error:
            raise RequestError("too_slow", f"no answer within {self._config.timeout_s:g} s") from error
        except urllib3.exceptions.HTTPError as error:
            raise RequestError("unavailable", f"the endpoint cannot be reached ({type(error).__name__})") from error
        return self._reply(response.status, dict(response.headers), content)

    def _reply(self, status: int, headers: dict[str, str], content: bytes) -> Reply:
        if status == 429:
            raise RequestError("rate_limited", "the endpoint asks for fewer requests", _wait_s(headers))
        if status in (408, 504):
            raise RequestError("too_slow", f"the endpoint answered {status}")
        if status >= 500:
            raise RequestError("unavailable", f"the endpoint answered {status}", _wait_s(headers, 0.0))
        if status != 200:
            raise RequestError("refused", f"the endpoint answered {status}")
        if len(content) > MOST_BYTES:
            raise RequestError("malformed", f"the answer is larger than {MOST_BYTES} bytes")
        try:
            value = json.loads(content)
            choice = value["choices"][0]
            message = choice["message"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise RequestError("malformed", f"the answer does not follow the protocol ({error!r})") from error
        if message.get("refusal") or choice.get("finish_reason") in REFUSALS:
            raise RequestError("refused", "the model refuses to answer")
        text = message.get("content")
        if not isinstance(text, str) or not text.strip():
            raise RequestError("malformed", "the answer has no text")
        if choice.get("finish_reason") == "length":
            raise RequestError("malformed", "the answer was cut at language_model.max_tokens")
        return Reply(text, _tokens(value.get("usage"), text), str(value.get("model") or self._config.model))


def _tokens(usage: Any, text: str) -> int:
    """Tokens that the endpoint counted, else some for the text."""
    count = usage.get("total_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count >= 0 else estimate_tokens(text)


def estimate_tokens(text: str) -> int:
    """About how many tokens a text is: four letters each."""
    return len(text) // 4 + 1


def _wait_s(headers: dict[str, str], usual: float = USUAL_WAIT_S) -> float:
    """Seconds of Retry-After; dates count as the usual wait."""
    for name, value in headers.items():
        if name.lower() == "retry-after":
            try:
                seconds = float(value)
            except ValueError:
                return usual
            return min(max(seconds, 0.0), LONGEST_WAIT_S) if math.isfinite(seconds) else usual
    return usual
