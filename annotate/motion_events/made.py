"""Events of motion from seconds, checked and rounded in one place."""

from __future__ import annotations

from schemas.types import Event


def made(kind: str, label: str, start_s: float, end_s: float, score: float, source: str) -> Event:
    """An event of the clip clock; the score is cut to 0..1."""
    start_us = max(0, round(1e6 * start_s))
    return Event(
        start_us=start_us,
        end_us=max(start_us, round(1e6 * end_s)),
        label=label,
        score=float(min(max(score, 0.0), 1.0)),
        interpolated=False,
        source=source,
        kind=kind,
    )


def within(events: list[Event], duration_us: int) -> list[Event]:
    """Events cut at the end of the clip, in order of their starts."""
    kept = [
        Event(**{**vars(event), "start_us": min(event.start_us, duration_us), "end_us": min(event.end_us, duration_us)})
        for event in events
    ]
    return sorted(kept, key=lambda event: (event.start_us, event.end_us, event.kind, event.label))
