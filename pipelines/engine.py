"""What an engine is: a task and items in, items with their outcomes out, as they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from pipelines.declarations import NO_NEEDS, Needs

Item = TypeVar("Item")
Task = Callable[[Any], Any]
"""Called with one item in a worker; pickled once for each worker. It returns its errors as data and does not raise."""

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
