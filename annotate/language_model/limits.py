"""Requests a minute and a budget of tokens, kept by all processes that share a folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

USAGE: Final = "usage.json"


class Limits:
    """Turns and tokens of one endpoint and model."""

    def __init__(self, folder: Path, requests_per_min: float, budget_tokens: int) -> None:
        self._path = folder / USAGE
        self._lock = FileLock(folder / f"{USAGE}.lock")
        self._interval_s = 60.0 / requests_per_min if requests_per_min > 0 else 0.0
        self._budget = budget_tokens

    def reserve(self, tokens: int) -> float | None:
        """Seconds until this caller may ask, with so many tokens set aside; None where the budget has not so many."""
        with self._lock:
            state = self._read()
            if self._budget and state["tokens"] + tokens > self._budget:
                return None
            now = time.time()
            moment = max(now, state["next"])
            self._write({"tokens": state["tokens"] + tokens, "next": moment + self._interval_s})
        return float(moment - now)

    def settle(self, reserved: int, used: int) -> None:
        """Replace what was set aside by what was used."""
        with self._lock:
            state = self._read()
            self._write({**state, "tokens": max(0, state["tokens"] - reserved + used)})

    def hold_off(self, seconds: float) -> None:
        """Let nobody ask for so long, as the endpoint asked for."""
        with self._lock:
            state = self._read()
            self._write({**state, "next": max(state["next"], time.time() + seconds)})

    @property
    def used(self) -> int:
        """Tokens used or set aside so far."""
        with self._lock:
            return int(self._read()["tokens"])

    def _read(self) -> dict[str, Any]:
        try:
            state = json.loads(self._path.read_bytes())
            return {"tokens": int(state["tokens"]), "next": float(state["next"])}
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return {"tokens": 0, "next": 0.0}

    def _write(self, state: dict[str, Any]) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(state))
        partial.replace(self._path)
