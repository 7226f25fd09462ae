"""What annotators are given of one clip: plain arrays on the clip's clock, whatever model and detector they came from.

Everything but times may be missing. An annotator says less, and with less confidence, of a clip that has less.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate.sound import RATE
from schemas.types import Bool, Float32, Int64, Interval

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Hands:
    """The wrists of a clip in the trunk's own axes."""

    wrists_m: Float32
    """(T, 2, 3) left and right (the subject's) from the middle of the shoulders: to the subject's left, up, forward;
    metres. NaN where not seen."""

    @property
    def seen(self) -> Bool:
        """(T, 2) whether each wrist is seen."""
        return np.asarray(np.isfinite(self.wrists_m).all(2))


@dataclass(frozen=True)
class Performance:
    """One clip."""

    pts_us: Int64
    """(T,) of the frames, from the start of the clip."""
    duration_us: int
    valid: Bool
    """(T,) whether a face was seen."""
    names: tuple[str, ...] = ()
    """Of the weights: ARKit's blend shapes; empty where the head model does not have them."""
    weights: Float32 | None = None
    """(T, len(names)) 0..1, NaN where not valid."""
    surface: Float32 | None = None
    """(T, len(names)) the same with what the face looks like at rest added: a fit takes a face that smiles a little now
    for its shape, now for an expression, and only the sum is measured. None where it is not known."""
    head: Float32 | None = None
    """(T, 3) yaw (to the subject's left), pitch (down), roll of the head against the camera, radians; NaN likewise."""
    gaze: Float32 | None = None
    """(T, 2) yaw and pitch of both eyes' mean direction against the line to the camera, radians; NaN likewise."""
    lip_opening: Float32 | None = None
    """(T,) opening of the lips over the distance of the outer eye corners; NaN likewise."""
    lid_opening: Float32 | None = None
    """(T, 2) opening of the left and right eye over its width; NaN likewise."""
    samples: Float32 | None = None
    """(N,) sound at 16 kHz, full scale 1; None for a clip without sound."""
    words: tuple[Interval, ...] = ()
    phones: tuple[Interval, ...] = ()
    hands: Hands | None = None

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return self.duration_us / 1e6

    @functools.cached_property
    def _columns(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.names)}

    def has(self, *names: str) -> bool:
        """Whether there are weights of those names."""
        return self.weights is not None and all(name in self._columns for name in names)

    def weight(self, *names: str) -> Float64:
        """(T,) mean weight of those names; NaN throughout where one is not there."""
        return self._mean(self.weights, names)

    def look(self, *names: str) -> Float64:
        """(T,) the same of the surface, or of the weights where it is not known."""
        return self._mean(self.weights if self.surface is None else self.surface, names)

    def _mean(self, table: Float32 | None, names: tuple[str, ...]) -> Float64:
        if table is None or not self.has(*names):
            return np.full(len(self.pts_us), np.nan)
        columns = table[:, [self._columns[name] for name in names]]
        return np.asarray(columns.mean(axis=1, dtype=np.float64))


def part_of(clip: Performance, start_us: int, end_us: int) -> Performance:
    """The clip's part [start_us, end_us) on a clock of its own; words and phones that its borders cut are left out."""
    rows = (clip.pts_us >= start_us) & (clip.pts_us < end_us)

    def cut(values: Float32 | None) -> Float32 | None:
        return None if values is None else values[rows]

    def spoken(intervals: tuple[Interval, ...]) -> tuple[Interval, ...]:
        return tuple(
            dataclasses.replace(each, start_us=each.start_us - start_us, end_us=each.end_us - start_us)
            for each in intervals
            if start_us <= each.start_us and each.end_us <= end_us
        )

    samples = None
    if clip.samples is not None:
        samples = clip.samples[start_us * RATE // 1_000_000 : end_us * RATE // 1_000_000]
    return dataclasses.replace(
        clip,
        pts_us=clip.pts_us[rows] - start_us,
        duration_us=end_us - start_us,
        valid=clip.valid[rows],
        weights=cut(clip.weights),
        surface=cut(clip.surface),
        head=cut(clip.head),
        gaze=cut(clip.gaze),
        lip_opening=cut(clip.lip_opening),
        lid_opening=cut(clip.lid_opening),
        samples=samples,
        words=spoken(clip.words),
        phones=spoken(clip.phones),
        hands=None if clip.hands is None else Hands(clip.hands.wrists_m[rows]),
    )
