"""What stages declare of themselves besides their work, and what an engine must provide for a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


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
