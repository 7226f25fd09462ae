"""What stages declare of themselves besides their work, and what of it an engine must provide for a chain of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pipelines.stage import Stage
    from schemas.config import Config


@dataclass(frozen=True)
class Resources:
    """What a worker takes of its machine; fractions share a core or a GPU."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_mb: float = 0.0
    """Reserved, not enforced; 0 reserves nothing."""


@dataclass(frozen=True)
class Environment:
    """Packages put over those of talkset, as requirements of pip, in an environment of their own."""

    pip: tuple[str, ...]


@dataclass(frozen=True)
class Needs:
    """What an engine must provide for the workers of a task."""

    resources: Resources = Resources()
    environment: Environment | None = None
    time_limit_s: float | None = None
    """Wall time for one item, after which its worker is ended; None for no limit."""
    batch: int = 1
    """Items that a worker is given at once."""


NO_NEEDS: Final = Needs()
"""Of a task that asks for nothing but a core."""


@dataclass(frozen=True)
class Pass:
    """A part of a chain of stages that the same workers can do."""

    stages: tuple[str, ...]
    """The chain from its beginning to the end of the part: what is stored already is not made again."""
    needs: Needs


def passes(stages: Sequence[Stage[Any]], config: Config) -> list[Pass]:
    """Divide a chain where the environment changes; each part gets the most that one of its stages asks for."""
    found: list[Pass] = []
    part: list[Stage[Any]] = []
    for position, stage in enumerate(stages):
        part.append(stage)
        last = position + 1 == len(stages)
        if last or stages[position + 1].environment(config) != stage.environment(config):
            found.append(Pass(tuple(done.name for done in stages[: position + 1]), _needs(part, config)))
            part = []
    return found


def _needs(part: Sequence[Stage[Any]], config: Config) -> Needs:
    asked = [stage.resources(config) for stage in part]
    together = Resources(
        max(each.cpus for each in asked), max(each.gpus for each in asked), max(each.memory_mb for each in asked)
    )
    limits = [stage.time_limit_s for stage in part]
    limit = None if None in limits else sum(seconds for seconds in limits if seconds) * config.run.time_scale
    return Needs(together, part[0].environment(config), limit, min(stage.batch for stage in part))
