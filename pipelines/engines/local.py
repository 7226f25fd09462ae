"""The engine without processes: one item after the other, here."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

from pipelines.declarations import NO_NEEDS, Needs
from pipelines.engine import Crash, Item, Task
from pipelines.process import settle_process, time_limit
from schemas.errors import UsageError


class LocalEngine:
    """Runs the task in this process; see `pipelines.engine.Engine`."""

    def __enter__(self) -> LocalEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def map(self, task: Task, items: Iterable[Item], needs: Needs = NO_NEEDS) -> Iterator[tuple[Item, Any]]:
        """Yield (item, outcome) in the order of the items.

        A time limit is met between two steps of Python only: native code that hangs is beyond reach here.
        """
        if needs.environment is not None:
            asked = ", ".join(needs.environment.pip)
            raise UsageError(f"the local engine has no environment with {asked}", "Choose run.engine=ray")
        started = False
        for item in items:
            if not started:
                settle_process()
                started = True
            try:
                with time_limit(needs.time_limit_s):
                    outcome = task(item)
            except Exception as error:
                outcome = Crash(f"{type(error).__name__}: {error}", traceback.format_exc())
            yield item, outcome
