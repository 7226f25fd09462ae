"""What many decisions say together: where reviewers disagree, how much they agree beyond chance, how fast it goes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final

from review.decisions import REASONS, VERDICTS, Decision
from review.journal import last_words

JUDGED: Final = ("accept", "reject")
PAUSE_S: Final = 120.0
"""A longer gap between two decisions was a pause, and is not counted as work."""


@dataclass(frozen=True)
class Agreement:
    """How two looks at the same clips agree."""

    clips: int
    same: int
    kappa: float | None
    """Cohen's kappa; None where chance alone would agree always."""


def cohen_kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa (1960) of pairs of labels: (observed - expected) / (1 - expected) agreement.

    1 is perfect, 0 what chance gives. None without pairs, or where both always said the same one thing.
    """
    if not pairs:
        return None
    total = len(pairs)
    observed = sum(one == other for one, other in pairs) / total
    first, second = Counter(one for one, _ in pairs), Counter(other for _, other in pairs)
    expected = sum(first[label] * second[label] for label in first) / total**2
    if expected >= 1.0:
        return None
    return (observed - expected) / (1 - expected)


def agreement(decisions: Iterable[Decision]) -> Agreement:
    """Agreement of every two looks (another reviewer, or the same one in the second round) at the same content."""
    pairs = []
    for opinions in _by_clip(decisions).values():
        judged = sorted(
            (item for item in opinions if item.verdict in JUDGED), key=lambda item: (item.round, item.reviewer)
        )
        pairs += [
            (str(one.verdict), str(other.verdict))
            for one, other in itertools.combinations(judged, 2)
            if one.content_sha256 == other.content_sha256
        ]
    return Agreement(len(pairs), sum(one == other for one, other in pairs), cohen_kappa(pairs))


def _by_clip(decisions: Iterable[Decision]) -> dict[str, list[Decision]]:
    clips: dict[str, list[Decision]] = {}
    for item in last_words(decisions).values():
        clips.setdefault(item.clip_id, []).append(item)
    return clips


def outcome(opinions: Iterable[Decision]) -> str | None:
    """What reviewers say of one clip together: accept, reject, skip, conflict, or None. A skip yields to a verdict."""
    verdicts = {item.verdict for item in opinions if item.verdict is not None}
    judged = verdicts & set(JUDGED)
    if len(judged) == 2:
        return "conflict"
    return next(iter(judged)) if judged else "skip" if verdicts else None


def outcomes(decisions: Iterable[Decision]) -> dict[str, str]:
    """Clip id -> outcome, of every clip that somebody has judged."""
    found = {clip_id: outcome(opinions) for clip_id, opinions in _by_clip(decisions).items()}
    return {clip_id: said for clip_id, said in found.items() if said is not None}


def work(decisions: Iterable[Decision], reviewer: str, round_: int = 1) -> dict[str, Any]:
    """Progress of one reviewer: counts of verdicts and reasons, and pace in clips an hour without pauses.

    The pace is that of the last hundred decisions.
    """
    mine = [item for item in decisions if item.reviewer == reviewer and item.round == round_]
    last = list(last_words(mine).values())
    verdicts = Counter(item.verdict for item in last)
    reasons = Counter(reason for item in last for reason in item.reasons)
    return {
        "decided": len(last),
        "verdicts": {name: verdicts.get(name, 0) for name in VERDICTS},
        "reasons": {name: reasons.get(name, 0) for name in REASONS},
        "clips_per_hour": _pace(
            [item.time for item in mine if item.verdict is not None and item.undoes is None][-100:]
        ),
    }


def _pace(times: Sequence[str]) -> float | None:
    moments = [datetime.fromisoformat(time).astimezone(timezone.utc).timestamp() for time in times]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    worked = [gap for gap in gaps if gap <= PAUSE_S]
    if len(worked) < 3 or sum(worked) <= 0:
        return None
    return 3600 * len(worked) / sum(worked)


def to_undo(decisions: Sequence[Decision], reviewer: str, round_: int = 1) -> Decision | None:
    """The reviewer's newest decision that was not taken back yet."""
    stack: dict[str, Decision] = {}
    for item in decisions:
        if item.reviewer != reviewer or item.round != round_:
            continue
        if item.undoes is not None:
            stack.pop(item.undoes, None)
        else:
            stack[item.decision_id] = item
    return list(stack.values())[-1] if stack else None


def state_before(decisions: Sequence[Decision], undone: Decision) -> Decision | None:
    """What the reviewer had said of the clip before a decision that is taken back; None for nothing."""
    taken_back = {item.undoes for item in decisions if item.undoes is not None}
    earlier = [
        item
        for item in decisions
        if item.key == undone.key
        and item.undoes is None
        and item.decision_id not in taken_back
        and item.time < undone.time
    ]
    return earlier[-1] if earlier else None


def conflicts(decisions: Iterable[Decision]) -> dict[str, Mapping[str, str]]:
    """Clip id -> reviewer (with the round) -> verdict, of every clip that one accepts and another rejects."""
    found: dict[str, Mapping[str, str]] = {}
    for clip_id, opinions in sorted(_by_clip(decisions).items()):
        if outcome(opinions) == "conflict":
            found[clip_id] = {
                item.reviewer + (" (second look)" if item.round == 2 else ""): str(item.verdict)
                for item in sorted(opinions, key=lambda item: (item.round, item.reviewer))
            }
    return found
