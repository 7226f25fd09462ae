"""The engine without processes: one item after the other, here."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from pipelines.engine import Crash, Item, Task
from pipelines.process import settle_process


class LocalEngine:
    """Runs the task in this process; see `pipelines.engine.Engine`."""

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def map(self, task: Task, items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """Yield (item, outcome) in the order of the items."""
        started = False
        for item in items:
            if not started:
                settle_process()
                started = True
            try:
                outcome = task(item)
            except Exception as error:
                outcome = Crash(f"{type(error).__name__}: {error}", traceback.format_exc())
            yield item, outcome
