"""What a run did: counts, times and problems, for people and for machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipelines.ledger import DONE, FAILED, REJECTED
from pipelines.work import Step


@dataclass(frozen=True)
class Problem:
    """A source, a span or a clip that is not in the data set, or a clip without its overlay, and why."""

    uri: str
    row: int
    """1-based row of the manifest."""
    clip_id: str | None
    """None for a whole source."""
    stage: str
    reason: str
    message: str


@dataclass
class StageCount:
    """What one stage did in this run."""

    made: int = 0
    reused: int = 0
    failed: int = 0
    rejected: int = 0
    seconds: float = 0.0
    """Summed over the workers."""

    def add(self, step: Step) -> None:
        """Count a step."""
        self.seconds += step.seconds
        self.failed += step.state == FAILED
        self.rejected += step.state == REJECTED
        self.made += step.fresh and step.state in (DONE, REJECTED)
        self.reused += not step.fresh and step.state in (DONE, REJECTED)


@dataclass
class RunReport:
    """What `run` hands back."""

    output: Path
    sources: int = 0
    sources_failed: int = 0
    """Sources without an accepted clip; a duplicate counts as the source that it repeats."""
    accepted: int = 0
    rejected: int = 0
    failed: int = 0
    frames: int = 0
    """Frames of the accepted clips."""
    frames_made: int = 0
    """Frames whose landmarks were detected in this run."""
    seconds: float = 0.0
    """Wall time without overlays."""
    overlay_seconds: float = 0.0
    written: bool = False
    """Whether the tables were written; false where nothing had changed."""
    stages: dict[str, StageCount] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def frames_per_second(self) -> float:
        """Frames through the whole pipeline for each second of wall time, overlays left out."""
        return self.frames_made / self.seconds if self.seconds > 0 else 0.0

    def within(self, error_budget: float) -> bool:
        """Whether no larger fraction of the sources failed than allowed."""
        return self.sources_failed <= error_budget * self.sources

    def count(self, steps: Iterable[Step]) -> None:
        """Count the steps of an item."""
        for step in steps:
            self.stages.setdefault(step.stage, StageCount()).add(step)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        values = dataclasses.asdict(self)
        return {**values, "output": str(self.output), "frames_per_second": round(self.frames_per_second, 2)}


class Progress(Protocol):
    """Told how far a run is."""

    def begin(self, phase: str, total: int) -> None:
        """A phase with so many items begins."""

    def step(self) -> None:
        """One item of the phase is done."""


class NoProgress:
    """Says nothing."""

    def begin(self, phase: str, total: int) -> None:
        """Nothing."""

    def step(self) -> None:
        """Nothing."""
