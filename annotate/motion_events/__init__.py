"""Events of motion: blinks, nods and shakes, gaze aversions, key motions; one file each."""

from __future__ import annotations

from annotate.motion_events.blinks import find_blinks
from annotate.motion_events.gaze import find_gaze_aversions
from annotate.motion_events.head_gestures import find_head_gestures
from annotate.motion_events.key_motions import find_key_motions
from annotate.motion_events.made import within
from annotate.performance import Performance
from schemas.types import Event

__all__ = ["find_blinks", "find_gaze_aversions", "find_head_gestures", "find_key_motions", "motion_events"]


def motion_events(clip: Performance) -> list[Event]:
    """All events of a clip's motion in order of time; kinds whose signal is missing have none."""
    found = find_blinks(clip)
    if clip.head is not None:
        found += find_head_gestures(clip.pts_us, clip.head)
    if clip.gaze is not None:
        found += find_gaze_aversions(clip.pts_us, clip.gaze)
    return within(found + find_key_motions(clip), clip.duration_us)
