"""Clips of a source that has no sound, or whose sound does not matter: the dominant face of each shot."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from pipelines.segmentation.pieces import US, Int64, Piece, nothing, reach_of, seconds, size_problem
from schemas.config import SegmentConfig
from schemas.types import FaceTrack, Span

SHARED_PART: Final = 0.25
"""Part of a track's samples that a rival must share to make the speaker unknown."""


def dominant_pieces(
    tracks: Mapping[int, FaceTrack], first: int, last: int, borders: Int64, config: SegmentConfig
) -> list[Piece]:
    """The frames first..last-1 of one shot, in order: each part of it that one face dominates, and what is left.

    tracks are those of the shot by number, the dominant one first; borders are the frame times of the source and its
    end. Reasons: no_face, face_too_small, ambiguous_faces, too_short.
    """
    shot = Span(int(borders[first]), int(borders[last]))
    if shot.end_us - shot.start_us < config.min_clip_s * US:
        message = f"the shot has {seconds(shot)}, segment.min_clip_s is {config.min_clip_s:g} s"
        return [Piece(first, last, None, "too_short", message)]
    chosen: list[tuple[Span, int]] = []
    for number, track in tracks.items():
        reach = reach_of(track, shot, config)
        if all(reach.end_us <= other.start_us or reach.start_us >= other.end_us for other, _ in chosen):
            chosen.append((reach, number))
    pieces: list[Piece] = []
    position = first
    for reach, number in sorted(chosen, key=lambda pair: pair[0].start_us):
        start = max(position, int(np.searchsorted(borders, reach.start_us)))
        stop = min(last, int(np.searchsorted(borders, reach.end_us)))
        if stop <= start:
            continue
        pieces += nothing(position, start, "no_face", "no face was found")
        pieces += _judge(number, tracks, start, stop, borders, config)
        position = stop
    return pieces + nothing(position, last, "no_face", "no face was found")


def _judge(
    number: int, tracks: Mapping[int, FaceTrack], first: int, last: int, borders: Int64, config: SegmentConfig
) -> list[Piece]:
    """What becomes of the frames of one track."""
    span = Span(int(borders[first]), int(borders[last]))
    track = tracks[number]
    problem = size_problem(track, config)
    if problem is not None:
        return [Piece(first, last, None, "face_too_small", problem)]
    ratio = min((_area_ratio(track, other) for key, other in tracks.items() if key != number), default=math.inf)
    if ratio < config.dominance:
        message = f"the face is {ratio:.2f} times the next one, segment.dominance is {config.dominance:g}"
        return [Piece(first, last, None, "ambiguous_faces", message)]
    if span.end_us - span.start_us < config.min_clip_s * US:
        message = f"the face is seen for {seconds(span)}, segment.min_clip_s is {config.min_clip_s:g} s"
        return [Piece(first, last, None, "too_short", message)]
    return divide(number, first, last, borders, config)


def divide(number: int, first: int, last: int, borders: Int64, config: SegmentConfig) -> list[Piece]:
    """Equal parts of at most `max_clip_s` and at least `min_clip_s`; what cannot be divided so loses its tail."""
    least, most = config.min_clip_s * US, config.max_clip_s * US
    length = float(borders[last] - borders[first])
    for count in range(math.ceil(length / most), last - first + 1):
        if length / count < least:
            break
        ideal = borders[first] + np.arange(1, count) * (length / count)
        middle = borders[first : last + 1]
        after = np.clip(np.searchsorted(middle, ideal), 1, len(middle) - 1)
        nearest = after - (ideal - middle[after - 1] <= middle[after] - ideal)
        cuts = [first, *(first + int(i) for i in nearest), last]
        lengths = np.diff(borders[cuts])
        if lengths.min() >= least and lengths.max() <= most:
            return [Piece(a, b, number) for a, b in itertools.pairwise(cuts)]
    pieces: list[Piece] = []
    position = first
    while position < last:
        stop = int(np.searchsorted(borders, borders[position] + most, side="right")) - 1
        stop = min(last, max(stop, position + 1))
        span = Span(int(borders[position]), int(borders[stop]))
        if least <= span.end_us - span.start_us <= most:
            pieces.append(Piece(position, stop, number))
        else:
            message = f"{seconds(span)} are left over between segment.min_clip_s and segment.max_clip_s"
            pieces.append(Piece(position, stop, None, "too_short", message))
        position = stop
    return pieces


def _area_ratio(track: FaceTrack, other: FaceTrack) -> float:
    """Summed area over the other's where both are seen; infinite when that is hardly ever."""
    _, mine, theirs = np.intersect1d(track.pts_us, other.pts_us, return_indices=True)
    if len(mine) < max(1.0, SHARED_PART * len(track.pts_us)):
        return math.inf
    areas = [float(np.prod(box[:, 2:], axis=1).sum()) for box in (track.box_xywh[mine], other.box_xywh[theirs])]
    return areas[0] / areas[1]
