"""A progress bar on stderr for people; nothing where stderr is no terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class BarProgress:
    """One line for each phase of a run."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, phase: str, total: int) -> None:
        """A phase with so many items begins."""
        self._task = self._bars.add_task(phase, total=total) if total else None

    def step(self) -> None:
        """One item of the phase is done."""
        if self._task is not None:
            self._bars.advance(self._task)


@contextlib.contextmanager
def bar(console: Console) -> Iterator[BarProgress]:
    """A bar on the console while the context lasts."""
    columns = (TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        yield BarProgress(bars)
