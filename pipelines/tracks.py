"""The dominant face of each shot, and the clips that come of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from reconstruct import quiet
from schemas.config import SegmentConfig
from schemas.errors import UsageError
from schemas.types import Clip, FaceBox, FaceTrack, Rejection, Span

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

US: Final = 1_000_000
MIN_SCORE: Final = 0.5
LARGE_FACE: Final = 0.1
"""Width over the longer side of the picture from which the whole-picture pass is trusted to see every rival face."""
TILE_FACE: Final = 12.0
"""Tile side over the smallest face width: the model sees a tile at 192 px, so such a face is 16 px wide."""
TILE_OVERLAP: Final = 0.25
SAME_FACE_IOU: Final = 0.3
JUMP: Final = 0.8
"""A face may move by this many of its widths between two samples and stay the same track."""
SHARED_PART: Final = 0.25
"""Part of a track's samples that a rival must share to make the speaker unknown."""


@dataclass(frozen=True)
class FaceSample:
    """Faces found at one time of the source clock."""

    pts_us: int
    boxes: tuple[FaceBox, ...]


class FaceFinder:
    """MediaPipe face detection at any size down to `min_face_px`; a context manager.

    The full-range model sees the whole picture at 192 px. Where it finds no large face and small ones are wanted,
    overlapping tiles are searched too, so that a 40 px face of a 720p picture is found.
    """

    def __init__(self, config: SegmentConfig) -> None:
        self._config = config
        module = quiet.solutions().face_detection
        with quiet.quiet():
            self._far = module.FaceDetection(model_selection=1, min_detection_confidence=MIN_SCORE)
            self._near = module.FaceDetection(model_selection=0, min_detection_confidence=MIN_SCORE)
            for model in (self._far, self._near):
                model.process(np.zeros((64, 64, 3), np.uint8))  # the models start, and talk, with the first picture
        self._next_us: int | None = None
        self._samples: list[FaceSample] = []

    def __enter__(self) -> FaceFinder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the graphs."""
        self._far.close()
        self._near.close()

    def detect(self, rgb: UInt8) -> list[FaceBox]:
        """All faces of a picture (H, W, 3), in its pixels, the surest first."""
        height, width = rgb.shape[:2]
        longest = max(height, width)
        whole = _run(self._far, rgb, 0, 0) or _run(self._near, rgb, 0, 0)
        if any(box.width >= LARGE_FACE * longest for box in whole):
            return _distinct(whole)
        side = round(TILE_FACE * self._config.min_face_px)
        if side >= longest:
            return _distinct(whole)
        tiles: list[FaceBox] = []
        for top, left in itertools.product(_starts(height, side), _starts(width, side)):
            tile = np.ascontiguousarray(rgb[top : top + side, left : left + side])
            tiles += _run(self._far, tile, left, top)
        # A tile shows a small face larger, so its box is the better one.
        return _distinct(sorted(tiles, key=lambda box: -box.score), whole)

    def push(self, pts_us: int, rgb: UInt8) -> None:
        """Take the next frame of a source; one every `detect_every_s` is searched."""
        if self._next_us is None or pts_us >= self._next_us:
            self._samples.append(FaceSample(pts_us, tuple(self.detect(rgb))))
            step_us = round(self._config.detect_every_s * US)
            due = pts_us if self._next_us is None else self._next_us
            self._next_us = max(due + step_us, pts_us + 1) if pts_us < due + step_us else pts_us + step_us

    def finish(self) -> list[FaceSample]:
        """The samples of the source; the next `push` begins another."""
        samples, self._samples, self._next_us = self._samples, [], None
        return samples

    def sample(self, frames: Iterable[tuple[int, UInt8]]) -> list[FaceSample]:
        """Faces of (pts_us, rgb) frames, every `detect_every_s`."""
        self.finish()
        for pts_us, rgb in frames:
            self.push(pts_us, rgb)
        return self.finish()


def follow_faces(samples: Sequence[FaceSample], shot: Span, config: SegmentConfig) -> list[FaceTrack]:
    """Tracks of a shot, the most dominant (summed box area x score) first.

    A face joins the track whose last box overlaps it most, or else is nearest within its own size, if that was seen at
    most `bridge_s` ago.
    """
    bridge_us = _bridge_us(config)
    done: list[list[tuple[int, FaceBox]]] = []
    live: list[list[tuple[int, FaceBox]]] = []
    for sample in samples:
        if not shot.start_us <= sample.pts_us < shot.end_us:
            continue
        done += [track for track in live if sample.pts_us - track[-1][0] > bridge_us]
        live = [track for track in live if sample.pts_us - track[-1][0] <= bridge_us]
        free = set(range(len(sample.boxes)))
        pairs = sorted((-_affinity(track[-1][1], sample.boxes[j]), i, j) for i, track in enumerate(live) for j in free)
        taken: set[int] = set()
        for cost, i, j in pairs:
            if cost < 0 and i not in taken and j in free:
                live[i].append((sample.pts_us, sample.boxes[j]))
                taken.add(i)
                free.remove(j)
        live += [[(sample.pts_us, sample.boxes[j])] for j in sorted(free)]
    tracks = sorted(done + live, key=lambda track: -sum(box.width * box.height * box.score for _, box in track))
    return [
        FaceTrack(
            np.array([pts for pts, _ in track], np.int64),
            np.array([[box.x, box.y, box.width, box.height] for _, box in track], np.float32),
        )
        for track in tracks
    ]


def plan_clips(
    source_sha256: str,
    source_id: str,
    shots: Sequence[Span],
    tracks: Sequence[FaceTrack],
    config: SegmentConfig,
    pts_us: Sequence[int] | Int64,
    end_us: int,
) -> tuple[list[Clip], list[Rejection]]:
    """Divide a source into clips of one dominant face each and rejected spans with their reason.

    shots are consecutive; tracks are those of `follow_faces` for every shot, the dominant one of a shot before its
    others; pts_us are all frames of the source, `end_us` the end of the last one. Clips and rejections together cover
    [pts_us[0], end_us) exactly once, and all their borders are frame times. Reasons: no_face, face_too_small,
    ambiguous_faces, too_short.
    Raises UsageError when the configured lengths contradict each other or the frame times do not grow.
    """
    _check(config, pts_us, end_us)
    borders = np.append(np.asarray(pts_us, np.int64), np.int64(end_us))
    clips: list[Clip] = []
    rejections: list[Rejection] = []
    starts = [int(np.searchsorted(borders[:-1], shot.start_us)) for shot in shots]
    starts = [0, *starts[1:], len(borders) - 1] if starts else [0, len(borders) - 1]
    for first, last in itertools.pairwise(starts):
        if first == last:
            continue
        own = [track for track in tracks if borders[first] <= track.pts_us[0] < borders[last]]
        for piece in _pieces(own, first, last, borders, config):
            span = Span(int(borders[piece.first]), int(borders[piece.last]))
            if piece.reason is not None or piece.track is None:
                rejections.append(Rejection(span, piece.reason or "no_face", piece.message))
                continue
            clip_id = f"{source_sha256[:12]}-{span.start_us:010d}-{span.end_us:010d}"
            clips.append(Clip(clip_id, source_id, span, _part(piece.track, span)))
    return clips, rejections


@dataclass(frozen=True)
class _Piece:
    """Frames first..last-1 and what becomes of them."""

    first: int
    last: int
    track: FaceTrack | None
    reason: str | None = None
    message: str = ""


def _pieces(tracks: Sequence[FaceTrack], first: int, last: int, borders: Int64, config: SegmentConfig) -> list[_Piece]:
    """The frames of one shot, in order."""
    shot = Span(int(borders[first]), int(borders[last]))
    if shot.end_us - shot.start_us < config.min_clip_s * US:
        message = f"the shot has {_seconds(shot)}, segment.min_clip_s is {config.min_clip_s:g} s"
        return [_Piece(first, last, None, "too_short", message)]
    chosen: list[tuple[Span, FaceTrack]] = []
    for track in tracks:
        reach = _reach(track, shot, config)
        if all(reach.end_us <= other.start_us or reach.start_us >= other.end_us for other, _ in chosen):
            chosen.append((reach, track))
    pieces: list[_Piece] = []
    position = first
    for reach, track in sorted(chosen, key=lambda pair: pair[0].start_us):
        start = max(position, int(np.searchsorted(borders, reach.start_us)))
        stop = min(last, int(np.searchsorted(borders, reach.end_us)))
        if stop <= start:
            continue
        pieces += _absent(position, start)
        pieces += _judge(track, tracks, start, stop, borders, config)
        position = stop
    return pieces + _absent(position, last)


def _absent(first: int, last: int) -> list[_Piece]:
    return [_Piece(first, last, None, "no_face", "no face was found")] if last > first else []


def _reach(track: FaceTrack, shot: Span, config: SegmentConfig) -> Span:
    """Time that a track stands for: to the shot's border when that is near, else half a sample further."""
    bridge_us, half_us = _bridge_us(config), round(config.detect_every_s * US / 2)
    seen_first, seen_last = int(track.pts_us[0]), int(track.pts_us[-1])
    start = shot.start_us if seen_first - shot.start_us <= bridge_us else seen_first - half_us
    end = shot.end_us if shot.end_us - seen_last <= bridge_us else seen_last + half_us + 1
    return Span(start, end)


def _judge(
    track: FaceTrack, tracks: Sequence[FaceTrack], first: int, last: int, borders: Int64, config: SegmentConfig
) -> list[_Piece]:
    """What becomes of the frames of one track."""
    span = Span(int(borders[first]), int(borders[last]))
    width = float(np.median(track.box_xywh[:, 2]))
    if width < config.min_face_px:
        message = f"the face is {width:.0f} px wide, segment.min_face_px is {config.min_face_px:g}"
        return [_Piece(first, last, None, "face_too_small", message)]
    ratio = min((_area_ratio(track, other) for other in tracks if other is not track), default=math.inf)
    if ratio < config.dominance:
        message = f"the face is {ratio:.2f} times the next one, segment.dominance is {config.dominance:g}"
        return [_Piece(first, last, None, "ambiguous_faces", message)]
    if span.end_us - span.start_us < config.min_clip_s * US:
        message = f"the face is seen for {_seconds(span)}, segment.min_clip_s is {config.min_clip_s:g} s"
        return [_Piece(first, last, None, "too_short", message)]
    return _divide(track, first, last, borders, config)


def _divide(track: FaceTrack, first: int, last: int, borders: Int64, config: SegmentConfig) -> list[_Piece]:
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
            return [_Piece(a, b, track) for a, b in itertools.pairwise(cuts)]
    pieces: list[_Piece] = []
    position = first
    while position < last:
        stop = int(np.searchsorted(borders, borders[position] + most, side="right")) - 1
        stop = min(last, max(stop, position + 1))
        span = Span(int(borders[position]), int(borders[stop]))
        if least <= span.end_us - span.start_us <= most:
            pieces.append(_Piece(position, stop, track))
        else:
            message = f"{_seconds(span)} are left over between segment.min_clip_s and segment.max_clip_s"
            pieces.append(_Piece(position, stop, None, "too_short", message))
        position = stop
    return pieces


def _area_ratio(track: FaceTrack, other: FaceTrack) -> float:
    """Summed area over the other's where both are seen; infinite when that is hardly ever."""
    _, mine, theirs = np.intersect1d(track.pts_us, other.pts_us, return_indices=True)
    if len(mine) < max(1.0, SHARED_PART * len(track.pts_us)):
        return math.inf
    areas = [float(np.prod(box[:, 2:], axis=1).sum()) for box in (track.box_xywh[mine], other.box_xywh[theirs])]
    return areas[0] / areas[1]


def _part(track: FaceTrack, span: Span) -> FaceTrack:
    """The samples of a span and one on either side, so that interpolation reaches its borders."""
    low = max(0, int(np.searchsorted(track.pts_us, span.start_us, side="right")) - 1)
    high = int(np.searchsorted(track.pts_us, span.end_us)) + 1
    return FaceTrack(track.pts_us[low:high].copy(), track.box_xywh[low:high].copy())


def _check(config: SegmentConfig, pts_us: Sequence[int] | Int64, end_us: int) -> None:
    if not 0 < config.min_clip_s <= config.max_clip_s:
        raise UsageError(
            f"segment.min_clip_s {config.min_clip_s:g} and max_clip_s {config.max_clip_s:g} leave no length",
            "Set 0 < min_clip_s <= max_clip_s",
        )
    times = np.append(np.asarray(pts_us, np.int64), np.int64(end_us))
    if len(times) < 2 or (np.diff(times) <= 0).any():
        raise UsageError(f"{len(times) - 1} frame times until {end_us} us do not grow", "Pass those of `Reader.frames`")


def _bridge_us(config: SegmentConfig) -> float:
    """Longest distance of two sightings; never less than the distance of the samples, with room for frame times."""
    return (max(config.bridge_s, config.detect_every_s) + config.detect_every_s / 2) * US


def _seconds(span: Span) -> str:
    return f"{(span.end_us - span.start_us) / US:.2f} s"


def _run(model: Any, rgb: UInt8, left: int, top: int) -> list[FaceBox]:
    height, width = rgb.shape[:2]
    boxes: list[FaceBox] = []
    for found in model.process(np.ascontiguousarray(rgb)).detections or ():
        box = found.location_data.relative_bounding_box
        x, y = left + box.xmin * width, top + box.ymin * height
        boxes.append(FaceBox(x, y, box.width * width, box.height * height, float(found.score[0])))
    return [box for box in boxes if box.width > 0 and box.height > 0]


def _starts(length: int, side: int) -> list[int]:
    """Corners of tiles that cover a length evenly with at least the wanted overlap."""
    if side >= length:
        return [0]
    count = math.ceil((length - side) / (side * (1 - TILE_OVERLAP))) + 1
    return [round(i * (length - side) / (count - 1)) for i in range(count)]


def _distinct(*groups: Iterable[FaceBox]) -> list[FaceBox]:
    """One box a face: of those that overlap, the earliest given."""
    kept: list[FaceBox] = []
    for box in itertools.chain(*groups):
        if all(_overlap(box, other) < SAME_FACE_IOU for other in kept):
            kept.append(box)
    return sorted(kept, key=lambda box: -box.score)


def _intersection(a: FaceBox, b: FaceBox) -> float:
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(0.0, width) * max(0.0, height)


def _overlap(a: FaceBox, b: FaceBox) -> float:
    """Intersection over union, or 1 where one box lies in the other."""
    shared, areas = _intersection(a, b), (a.width * a.height, b.width * b.height)
    return 1.0 if shared >= 0.8 * min(areas) else shared / (sum(areas) - shared)


def _affinity(a: FaceBox, b: FaceBox) -> float:
    """1..2 for overlap, 0..1 for nearness, 0 for neither; faces of very different size are never the same."""
    if not 0.5 < a.width / b.width < 2.0:
        return 0.0
    shared = _intersection(a, b)
    if shared > 0:
        return 1 + shared / (a.width * a.height + b.width * b.height - shared)
    distance = math.hypot(a.x + a.width / 2 - b.x - b.width / 2, a.y + a.height / 2 - b.y - b.height / 2)
    return max(0.0, 1 - distance / (JUMP * max(a.width, b.width) * math.sqrt(2)))
