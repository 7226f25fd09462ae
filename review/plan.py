"""What a review means for the next version of a data set: which clips go, which values change, what is unclear."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from review.agreement import conflicts, outcome
from review.decisions import CORRECTIONS, Decision
from review.journal import last_words
from schemas.errors import UsageError

ON_CONFLICT: Final = ("drop", "keep", "stop")


@dataclass(frozen=True)
class Plan:
    """The consequences of decisions for the clips of one data set."""

    verdicts: Mapping[str, str] = field(default_factory=dict)
    """Clip id -> accept or reject, of clips that are clear."""
    corrections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Clip id -> index column -> new value."""
    conflicting: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Clip id -> reviewer -> verdict, of clips that one accepts and another rejects."""
    disputed: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Clip id -> column -> reviewer -> value, where corrections differ; the latest counts."""
    stale: tuple[str, ...] = ()
    """Clips that were fitted again since all that was said of them."""
    unknown: tuple[str, ...] = ()
    """Judged clips that the data set does not have."""

    def dropped(self, on_conflict: str, keep_rejected: bool) -> set[str]:
        """Ids of the clips that the next version leaves out. Raises UsageError for conflicts where they stop."""
        if on_conflict not in ON_CONFLICT:
            raise UsageError(f"conflicts are to {on_conflict!r}", f"Known: {', '.join(ON_CONFLICT)}")
        if self.conflicting and on_conflict == "stop":
            first = next(iter(self.conflicting))
            message = f"reviewers disagree about {len(self.conflicting)} clips, such as {first}"
            raise UsageError(message, "Settle them on the page, or give --conflicts drop or keep")
        gone = set() if keep_rejected else {clip for clip, said in self.verdicts.items() if said == "reject"}
        return gone | (set(self.conflicting) if on_conflict == "drop" else set())


def make_plan(decisions: Iterable[Decision], content: Callable[[str], str | None]) -> Plan:
    """What all decisions ask for; `content` gives the content hash of a clip of the data set, None for no such clip.

    Only what was said of the content at hand counts: the last word of each reviewer and round. A skip says nothing, but
    its corrections count.
    """
    by_clip: dict[str, list[Decision]] = {}
    for item in last_words(decisions).values():
        by_clip.setdefault(item.clip_id, []).append(item)
    verdicts: dict[str, str] = {}
    corrections: dict[str, dict[str, Any]] = {}
    disputed: dict[str, dict[str, dict[str, Any]]] = {}
    stale, unknown, current = [], [], []
    for clip_id, said in sorted(by_clip.items()):
        digest = content(clip_id)
        opinions = [item for item in said if item.content_sha256 == digest]
        if digest is None:
            unknown.append(clip_id)
        elif not opinions:
            stale.append(clip_id)
        current += opinions
        together = outcome(opinions)
        if together in ("accept", "reject"):
            verdicts[clip_id] = together
        for name in CORRECTIONS:
            given = [item for item in sorted(opinions, key=lambda item: item.time) if name in item.corrections]
            if given:
                corrections.setdefault(clip_id, {})[name] = given[-1].corrections[name]
            if len({item.corrections[name] for item in given}) > 1:
                values = {item.reviewer: item.corrections[name] for item in given}
                disputed.setdefault(clip_id, {})[name] = values
    return Plan(verdicts, corrections, conflicts(current), disputed, tuple(stale), tuple(unknown))
