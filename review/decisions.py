"""What a reviewer says of a clip: one record a decision, as a line of JSON that proves itself whole.

A record is a reviewer's whole opinion of a clip, so the last one counts and nothing has to be added up. It names the
clip's content, not its place: the same decision fits after clips were filtered, merged or put into other parts.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import UsageError
from schemas.tables import SAFE_NAME

if TYPE_CHECKING:
    from talkset.dataset import Clip

VERDICTS: Final = ("accept", "reject", "skip")
REASONS: Final = {
    "mesh_off": "Mesh is not on the face",
    "mouth": "Mouth or jaw is wrong",
    "eyes": "Eyes or blinks are wrong",
    "jitter": "Mesh shakes or jumps",
    "occluded": "Face is covered",
    "wrong_speaker": "Not the person who speaks",
    "sync": "Sound and lips disagree",
    "transcript": "Words are wrong",
    "picture": "Picture dark, blurred or small",
}
"""Reason codes in the order of their keys 1 to 9, with what they say."""
CORRECTIONS: Final = ("emotion", "transcript", "sync_offset_ms")
MAX_TEXT: Final = 4000
MAX_MARKS: Final = 200
MAX_SYNC_MS: Final = 10_000.0
CONTENT_SIGNALS: Final = (
    "pts_us",
    "shape",
    "expression",
    "global_pose",
    "neck_pose",
    "jaw_pose",
    "left_eye_pose",
    "right_eye_pose",
    "translation",
    "principal_point",
    "valid",
)
"""The columns of params that are a clip's fit: columns that later schema versions add do not change its content."""
CONTENT_FACTS: Final = ("clip_id", "source_sha256", "start_us", "end_us", "status", "reason", "model_sha256")


@dataclass(frozen=True)
class Mark:
    """A stretch of a clip, [start_us, end_us) on the clip's clock."""

    start_us: int
    end_us: int
    reason: str | None = None


@dataclass(frozen=True)
class Decision:
    """One reviewer's opinion of one clip, and where it came from."""

    clip_id: str
    content_sha256: str
    """Of the clip's fit; see `content_sha256`."""
    reviewer: str
    verdict: str | None
    """accept, reject, skip, or None: not judged (any more)."""
    reasons: tuple[str, ...] = ()
    marks: tuple[Mark, ...] = ()
    comment: str = ""
    corrections: Mapping[str, Any] = field(default_factory=dict)
    """New values of the index columns `CORRECTIONS`."""
    round: int = 1
    """2 for a second look by somebody who was not shown the first decisions."""
    seconds: float | None = None
    """Time that the clip was on screen."""
    undoes: str | None = None
    """Id of the decision that this one takes back."""
    dataset: str = ""
    shard: str | None = None
    shard_sha256: str | None = None
    """The part that held the clip when it was judged, for the record."""
    time: str = ""
    """UTC, ISO 8601 with microseconds."""
    decision_id: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """Of decisions with the same clip, reviewer and round the last one counts."""
        return self.clip_id, self.reviewer, self.round


def now() -> str:
    """The time as records have it."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def new_id() -> str:
    """A name for a decision that nobody else gives."""
    return uuid.uuid4().hex


def content_sha256(clip: Clip) -> str:
    """Hash of what a reviewer judges: the clip's source, span and fit, wherever the row lies.

    It stays the same when clips are filtered, merged, split, put into other parts or brought to a newer schema, and
    changes when the clip is fitted again with another result. Raises DatasetError for tables that cannot be read.
    """
    digest = hashlib.sha256()
    facts = [clip.index[name] for name in CONTENT_FACTS]
    digest.update(json.dumps(facts, ensure_ascii=False).encode())
    if clip.signals:
        for name in CONTENT_SIGNALS:
            value = clip.read(f"params.{name}", CONTENT_SIGNALS)
            digest.update(f"\n{name} {value.dtype} {value.shape}\n".encode())
            digest.update(value.tobytes())
        digest.update(f"\nfocal_px {float(clip.read('params.focal_px')):.9g}".encode())
    return digest.hexdigest()


def checked(values: Mapping[str, Any]) -> Decision:
    """A decision from untrusted values. Raises UsageError that names the field, the value and what was expected."""
    known = {item.name for item in fields(Decision)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"a decision has no field {unknown[0]!r}", f"Known: {', '.join(sorted(known))}")
    verdict = values.get("verdict")
    if verdict not in (*VERDICTS, None):
        raise UsageError(f"verdict is {verdict!r}", f"Give {', '.join(VERDICTS)} or null")
    if values.get("round", 1) not in (1, 2):
        raise UsageError(f"round is {values.get('round')!r}", "Give 1 or 2")
    seconds = values.get("seconds")
    if seconds is not None and not (isinstance(seconds, (int, float)) and 0 <= seconds < 1e7):
        raise UsageError(f"seconds is {seconds!r}", "Give the time in seconds")
    return Decision(
        clip_id=_name(values, "clip_id"),
        content_sha256=_text(values, "content_sha256", 64) or "",
        reviewer=_reviewer(values.get("reviewer")),
        verdict=verdict,
        reasons=_reasons(values.get("reasons", ())),
        marks=_marks(values.get("marks", ())),
        comment=_text(values, "comment") or "",
        corrections=_corrections(values.get("corrections") or {}),
        round=int(values.get("round", 1)),
        seconds=None if seconds is None else round(float(seconds), 3),
        undoes=_text(values, "undoes", 64),
        dataset=_text(values, "dataset") or "",
        shard=_text(values, "shard", 300),
        shard_sha256=_text(values, "shard_sha256", 64),
        time=_time(values.get("time")),
        decision_id=_name(values, "decision_id") if values.get("decision_id") else new_id(),
    )


def _name(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or SAFE_NAME.fullmatch(value) is None:
        raise UsageError(f"{name} is {value!r}", "Give a plain name of letters, digits, '_', '-' and '.'")
    return value


def _text(values: Mapping[str, Any], name: str, limit: int = MAX_TEXT) -> str | None:
    value = values.get(name)
    if value is not None and (not isinstance(value, str) or len(value) > limit):
        shown = f"{len(value)} characters long" if isinstance(value, str) else f"{value!r}"
        raise UsageError(f"{name} is {shown}", f"Give a text of at most {limit} characters")
    return value


def _reviewer(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value.strip()) <= 100 or not value.isprintable():
        raise UsageError(f"the reviewer's name is {value!r}", "Give a name of 1 to 100 printable characters")
    return value.strip()


def _time(value: Any) -> str:
    if not value:
        return now()
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"time is {value!r}", "Give an ISO 8601 time") from error
    if moment.tzinfo is None:
        raise UsageError(f"time {value!r} has no time zone", "Give it in UTC, as 2026-01-31T12:00:00.000000+00:00")
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


def _reasons(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(item in REASONS for item in value):
        raise UsageError(f"reasons are {value!r}", f"Known: {', '.join(REASONS)}")
    return tuple(reason for reason in REASONS if reason in value)


def _marks(value: Any) -> tuple[Mark, ...]:
    remedy = "Give start_us < end_us in microseconds, and a reason code or null"
    if not isinstance(value, (list, tuple)) or len(value) > MAX_MARKS:
        raise UsageError(f"marks are {str(value)[:80]!r}", f"Give a list of at most {MAX_MARKS}")
    marks = []
    for item in value:
        mark = asdict(item) if isinstance(item, Mark) else item
        if not isinstance(mark, Mapping) or set(mark) - {"start_us", "end_us", "reason"}:
            raise UsageError(f"a mark is {str(mark)[:80]!r}", remedy)
        start, end, reason = mark.get("start_us", -1), mark.get("end_us", -1), mark.get("reason")
        whole = isinstance(start, int) and isinstance(end, int) and not isinstance(start, bool)
        if not whole or not 0 <= int(start) < int(end) or (reason is not None and reason not in REASONS):
            raise UsageError(f"a mark goes from {start!r} to {end!r} with reason {reason!r}", remedy)
        marks.append(Mark(start, end, reason))
    return tuple(sorted(marks, key=lambda mark: (mark.start_us, mark.end_us)))


def _corrections(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or set(value) - set(CORRECTIONS):
        raise UsageError(f"corrections are {str(value)[:80]!r}", f"Known: {', '.join(CORRECTIONS)}")
    found: dict[str, Any] = {}
    for name in ("emotion", "transcript"):
        text = _text(value, name)
        if text is not None:
            found[name] = text.strip()
    offset = value.get("sync_offset_ms")
    if offset is not None:
        good = isinstance(offset, (int, float)) and not isinstance(offset, bool) and math.isfinite(offset)
        if not good or abs(offset) > MAX_SYNC_MS:
            raise UsageError(f"sync_offset_ms is {offset!r}", f"Give milliseconds within +-{MAX_SYNC_MS:.0f}")
        found["sync_offset_ms"] = float(offset)
    return found


def to_line(decision: Decision) -> str:
    """One line of JSON without the line break; `check` is the start of the hash of the rest."""
    values = {name: value for name, value in asdict(decision).items() if value not in (None, "", (), {}, [])}
    values["verdict"] = decision.verdict
    body = _canonical(values)
    return _canonical({**values, "check": hashlib.sha256(body.encode()).hexdigest()[:16]})


def from_line(line: str) -> Decision:
    """The decision in a line. Raises UsageError for a line that is not whole or not a decision."""
    try:
        values = json.loads(line)
        check = values.pop("check")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UsageError(f"not a decision: {line[:60]!r}", "The line is damaged") from error
    if hashlib.sha256(_canonical(values).encode()).hexdigest()[:16] != check:
        raise UsageError(f"a decision that does not match its own checksum: {line[:60]!r}", "The line was altered")
    return checked(values)


def _canonical(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
