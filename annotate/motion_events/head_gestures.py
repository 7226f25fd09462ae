"""Nods and shakes: the head goes back and forth several times about one axis.

The rules, with frequency and amplitude in one place:

- Slow turns and drift are taken out: what is left of each angle is its difference from a mean over a second.
- A swing is a rise or fall of pitch by `NOD_DEG`, or of yaw by `SHAKE_DEG`, as fast as half a period of `MIN_HZ` to
  `MAX_HZ`; the first and the last swing may go over into rest.
- `SWINGS` swings in a row about one axis are a gesture: one beat of the voice moves the head down and up, which is two.
- The largest `SWINGS` neighbours among them are `MEAN_OVER_LEAST` times as wide on average, and alike. What is smaller
  before and after them is beats of speech and no part of the gesture.
- The other axis moves less meanwhile, back and forth included.

Head movements of speech reach 0.5 to 4 Hz and a few degrees (Hadar et al. 1983); nods of agreement swing wider and
repeat. Smaller nods than these cannot be told from the beats of speech and are not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.motion_events.made import made
from annotate.signals import HZ, even, runs, smooth, swings
from schemas.types import Event, Float32, Int64

Float64 = NDArray[np.float64]

SOURCE: Final = "head-swings@2"
DRIFT_S: Final = 0.25
"""Standard deviation of the mean that is taken out."""
NOISE_S: Final = 0.03
"""Standard deviation of the smoothing against the jitter of a fit."""
NOD_DEG: Final = 2.4
SHAKE_DEG: Final = 3.2
MEAN_OVER_LEAST: Final = 1.35
MIN_HZ: Final = 1.0
MAX_HZ: Final = 5.0
SWINGS: Final = 3
ALIKE: Final = 0.4
"""Least ratio of the smallest to the largest of the swings that make a gesture, and of the others to their mean."""
OTHER_AXIS: Final = 0.8
"""Most range of the other axis during a swing, as a part of the swing."""


def find_head_gestures(pts_us: Int64, head: Float32 | Float64) -> list[Event]:
    """Nods and shakes of (T, 3) yaw, pitch, roll in radians, NaN where not known.

    Score: grows with the size of the swings over their limit and with their number, and falls with the movement of the
    other axis.
    """
    grid, angles = even(pts_us, np.degrees(np.asarray(head, dtype=np.float64)[:, :2]))
    found = []
    for start, stop in runs(np.isfinite(angles).all(1) if len(grid) else np.zeros(0, np.bool_)):
        steady = smooth(angles[start:stop], NOISE_S)
        moving = steady - smooth(steady, DRIFT_S)
        for axis, label, least in ((1, "nod", NOD_DEG), (0, "shake", SHAKE_DEG)):
            for first, last, score in _gestures(moving[:, axis], moving[:, 1 - axis], least):
                event = made("head_gesture", label, grid[start + first], grid[start + last], score, SOURCE)
                found.append(event)
    return sorted(found, key=lambda event: event.start_us)


def _gestures(own: Float64, other: Float64, least: float) -> list[tuple[int, int, float]]:
    """(first index, last index, score) of the gestures in (N,) degrees about the own axis."""
    judged = (_judged(row, own, other, least) for row in _rows(own, least))
    return [gesture for gesture in judged if gesture is not None]


def _rows(own: Float64, least: float) -> Iterator[list[tuple[int, int]]]:
    """Swings that follow one another in the rhythm of a gesture.

    The first and the last of a row may go over into rest: of them the part that lies within half a period of `MIN_HZ`
    counts, and must be large enough by itself.
    """
    longest = round(HZ / (2 * MIN_HZ))
    row: list[tuple[int, int]] = []
    for begin, end in swings(own, least):
        if end - begin < HZ / (2 * MAX_HZ):
            yield row
            row = []
        elif end - begin <= longest:
            row.append((begin, end))
        else:
            tail, head = (begin, begin + longest), (end - longest, end)
            yield [*row, tail] if abs(own[tail[1]] - own[begin]) >= least else row
            row = [head] if abs(own[end] - own[head[0]]) >= least else []
    yield row


def _judged(
    row: Sequence[tuple[int, int]], own: Float64, other: Float64, least: float
) -> tuple[int, int, float] | None:
    """What is alike in a row of swings as a gesture, None where it is none."""
    if len(row) < SWINGS:
        return None
    sizes = np.array([abs(own[end] - own[start]) for start, end in row])
    best = max(range(len(row) - SWINGS + 1), key=lambda at: sizes[at : at + SWINGS].mean())
    core = sizes[best : best + SWINGS]
    aside = float(np.mean([np.ptp(other[start : end + 1]) for start, end in row[best : best + SWINGS]]) / core.mean())
    if core.mean() < MEAN_OVER_LEAST * least or core.min() < ALIKE * core.max() or aside > OTHER_AXIS:
        return None
    smaller = np.flatnonzero(sizes < ALIKE * core.mean())  # beats of speech before and after
    begin = max((int(at) + 1 for at in smaller if at < best), default=0)
    stop = min((int(at) for at in smaller if at > best), default=len(row))
    size = 1 - np.exp(-float(core.mean()) / (MEAN_OVER_LEAST * least))
    score = float(size * min(1.0, 0.7 + 0.1 * (stop - begin - SWINGS + 1)) * (1 - 0.4 * aside))
    return row[begin][0], row[stop - 1][1], score
