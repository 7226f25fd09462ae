"""The source stages alone: how sources would be divided, without making a data set of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.digests import source_digests
from pipelines.download import is_remote
from pipelines.keys import source_unit
from pipelines.ledger import FAILED
from pipelines.results import Result, ResultStore
from pipelines.work import SourceRow, SourceTask, Step
from schemas.config import Config
from schemas.manifest import local_path
from schemas.types import Source

STAGES = ("probe", "segment", "speech", "speakers", "clips")


@dataclass(frozen=True)
class Survey:
    """What the source stages found."""

    source: Source
    path: Path
    steps: tuple[Step, ...]
    store: ResultStore

    @property
    def failure(self) -> Step | None:
        """The step at which the source failed, if it did."""
        return self.steps[-1] if self.steps[-1].state == FAILED else None

    def value(self, stage: str) -> dict[str, Any]:
        """JSON value of a stage."""
        return dict(next(step.value for step in self.steps if step.stage == stage))

    def result(self, stage: str) -> Result:
        """Whole result of a stage."""
        return self.store.load(stage, next(step.key for step in self.steps if step.stage == stage))


def survey(sources: Sequence[Source], base: Path, folder: Path, config: Config) -> Iterator[Survey]:
    """Take each source through the source stages but words, in this process, and yield what they found.

    Results are stored in `folder` under the same keys as those of a run, so a run into it does not make them again.
    Raises UsageError for a configuration that names unknown models.
    """
    digests, store = source_digests(config), ResultStore(folder)
    for source in sources:
        path = Path() if is_remote(source.uri) else Path(os.path.abspath(local_path(source.uri, base)))
        row = SourceRow(source_unit(source), source, path, None, 0, 0)
        outcome = SourceTask(folder, config, digests, STAGES)(row)
        yield Survey(source, path, outcome.steps, store)
