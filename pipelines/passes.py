"""A chain of stages in parts that the same workers can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipelines.declarations import Needs, Resources

if TYPE_CHECKING:
    from pipelines.stage import Stage
    from schemas.config import Config


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
