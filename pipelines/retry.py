"""What a run does about a failure: try again, when, and when to stop trying."""

from __future__ import annotations

import hashlib

from pipelines.build import most_attempts
from pipelines.keys import digest_of
from pipelines.ledger import FAILED, Entry
from schemas.config import Config, RetryConfig
from schemas.errors import TRANSIENT, UNCERTAIN, error_class
from schemas.settings import to_dict

UNCERTAIN_ATTEMPTS = 2
JITTER = 0.5
"""Largest part of a wait that is added to it, so that what failed together does not come back together."""


def allowed_attempts(reason: str, stage: str, config: RetryConfig) -> int:
    """Attempts, over all runs, at a result of a stage that fails for a reason."""
    kind = error_class(reason)
    most = min(config.attempts, most_attempts(stage) or config.attempts)
    if kind == TRANSIENT:
        return most
    return min(UNCERTAIN_ATTEMPTS, most) if kind == UNCERTAIN else 1


def wait_s(unit: str, attempt: int, config: RetryConfig) -> float:
    """Seconds from a failed attempt (1, 2, ...) to the next: exponential, the same in every run for the same unit.

    Source: exponential backoff with jitter, as in "Exponential Backoff And Jitter" (Brooker, 2015); the jitter follows
    from a hash instead of a random number, so that a run can be repeated.
    """
    base = min(config.wait_s * 2.0 ** min(attempt - 1, 60), config.max_wait_s)
    share = int.from_bytes(hashlib.sha256(f"{unit} {attempt}".encode()).digest()[:8], "big") / 2**64
    return base * (1 + JITTER * share)


def conditions_of(config: Config) -> str:
    """16 hex digits over the limits that a failure may be due to: what failed under others is worth a new try.

    They are no part of a result's key, because a result that exists does not depend on them.
    """
    return digest_of([to_dict(config.run.decode), to_dict(config.run.download)])[:16]


def is_quarantined(entry: Entry, config: RetryConfig) -> bool:
    """Whether the entry failed and has no attempt left."""
    return entry.state == FAILED and entry.attempts >= allowed_attempts(entry.reason or "internal", entry.stage, config)


def worth_a_try(entry: Entry, config: Config) -> bool:
    """Whether a run does the work of an entry that failed again."""
    return not is_quarantined(entry, config.run.retry) or entry.conditions != conditions_of(config)
