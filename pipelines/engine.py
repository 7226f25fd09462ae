"""What an engine is: a task and items in, items with their outcomes out, as they are done."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from pipelines.declarations import NO_NEEDS, Needs
from schemas.config import RunConfig
from schemas.errors import UsageError

Item = TypeVar("Item")
Task = Callable[[Any], Any]
"""Called with one item in a worker; pickled once for each worker. It returns its errors as data and does not raise."""

ENGINES = ("local", "ray")
MAX_ATTEMPTS = 2
"""How often an item is given to a worker when its worker dies over it."""


@dataclass(frozen=True)
class Crash:
    """The outcome of an item whose worker died or whose task raised."""

    message: str
    traceback: str = ""
    attempts: int = 1
    reason: str = "internal"
    """`crashed` where the worker died, `time_limit` where it was ended."""


class Engine(Protocol):
    """Runs a task over items; one backend per file in `pipelines.engines`. Use it as a context manager.

    Workers are started with the first item, so an engine that gets none costs nothing, and stay for the next `map`.
    """

    def map(self, task: Task, items: Iterable[Item], needs: Needs = NO_NEEDS) -> Iterator[tuple[Item, Any]]:
        """Yield (item, what the task returned or a `Crash`) in the order of completion, each item once.

        Items are taken from the iterable as workers become free. Results do not depend on the engine or on the number
        of workers. Workers that cannot give what the task needs are replaced by ones that can. Raises UsageError for
        needs that no worker of this engine can meet.
        """
        ...

    def __enter__(self) -> Engine:
        """Return the engine."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers."""
        ...


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
