"""Parts of a shot: what becomes a clip, and what does not and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pipelines.segmentation.tracker import bridge_us
from schemas.config import SegmentConfig
from schemas.errors import UsageError
from schemas.types import FaceTrack, Span

Int64 = NDArray[np.int64]

US: Final = 1_000_000


@dataclass(frozen=True)
class Piece:
    """Frames first..last-1 and what becomes of them: a clip of the numbered track, or nothing, for a reason."""

    first: int
    last: int
    number: int | None
    reason: str | None = None
    message: str = ""
    scores: Mapping[str, float | int | None] = field(default_factory=dict)
    """Index columns of a clip."""


def nothing(first: int, last: int, reason: str, message: str) -> list[Piece]:
    """The piece that is no clip, or none where it has no frame."""
    return [Piece(first, last, None, reason, message)] if last > first else []


def reach_of(track: FaceTrack, shot: Span, config: SegmentConfig) -> Span:
    """Time that a track stands for: to the shot's border when that is near, else half a sample further."""
    bridge, half_us = bridge_us(config), round(config.detect_every_s * US / 2)
    seen_first, seen_last = int(track.pts_us[0]), int(track.pts_us[-1])
    start = shot.start_us if seen_first - shot.start_us <= bridge else seen_first - half_us
    end = shot.end_us if shot.end_us - seen_last <= bridge else seen_last + half_us + 1
    return Span(start, end)


def part_of(track: FaceTrack, span: Span) -> FaceTrack:
    """The samples of a span and one on either side, so that interpolation reaches its borders."""
    low = max(0, int(np.searchsorted(track.pts_us, span.start_us, side="right")) - 1)
    high = int(np.searchsorted(track.pts_us, span.end_us)) + 1
    return FaceTrack(track.pts_us[low:high].copy(), track.box_xywh[low:high].copy())


def size_problem(track: FaceTrack, config: SegmentConfig) -> str | None:
    """What is wrong with the size of a face."""
    width = float(np.median(track.box_xywh[:, 2]))
    if width >= config.min_face_px:
        return None
    return f"the face is {width:.0f} px wide, segment.min_face_px is {config.min_face_px:g}"


def seconds(span: Span) -> str:
    """Length for a message."""
    return f"{(span.end_us - span.start_us) / US:.2f} s"


def check_lengths(config: SegmentConfig, pts_us: Sequence[int] | Int64, end_us: int) -> None:
    """Raise UsageError when the configured lengths contradict each other or the frame times do not grow."""
    if not 0 < config.min_clip_s <= config.max_clip_s:
        raise UsageError(
            f"segment.min_clip_s {config.min_clip_s:g} and max_clip_s {config.max_clip_s:g} leave no length",
            "Set 0 < min_clip_s <= max_clip_s",
        )
    times = np.append(np.asarray(pts_us, np.int64), np.int64(end_us))
    if len(times) < 2 or (np.diff(times) <= 0).any():
        raise UsageError(f"{len(times) - 1} frame times until {end_us} us do not grow", "Pass those of `Reader.frames`")
