"""The engine that a run's configuration names."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from pipelines.declarations import NO_NEEDS, Needs
from pipelines.engine import Engine, Item, Task
from schemas.config import RunConfig
from schemas.errors import UsageError

ENGINES = ("local", "ray")


class LazyEngine:
    """An engine that is made with the first item: a run with nothing to do need not load Ray."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engine: Engine | None = None

    def __enter__(self) -> LazyEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engine is not None:
            self._engine.__exit__(kind, error, trace)

    def map(self, task: Task, items: Iterable[Item], needs: Needs = NO_NEEDS) -> Iterator[tuple[Item, Any]]:
        """Yield what the engine yields; nothing where there is no item."""
        rest = iter(items)
        for first in rest:
            if self._engine is None:
                self._engine = self._make().__enter__()
            yield from self._engine.map(task, itertools.chain((first,), rest), needs)


def _ray_engine(config: RunConfig) -> Engine:
    from pipelines.engines.ray import RayEngine

    return RayEngine(config.workers, config.address)


def make_engine(config: RunConfig) -> Engine:
    """The engine that the configuration names. Raises UsageError for an unknown name or an impossible worker count."""
    if config.workers is not None and config.workers < 1:
        raise UsageError(f"run.workers={config.workers} must be 1 or more", "Leave it out for one worker per core")
    if config.engine == "local":
        from pipelines.engines.local import LocalEngine

        return LocalEngine()
    if config.engine == "ray":
        return LazyEngine(lambda: _ray_engine(config))
    close = difflib.get_close_matches(config.engine, ENGINES, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise UsageError(f"unknown engine run.engine={config.engine!r}", f"{hint}Known: {', '.join(ENGINES)}")
