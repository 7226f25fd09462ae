"""From shots, faces, speech and speakers to clips and rejected spans, which together cover the source exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.segmentation.clip_json import clip_to_json
from pipelines.segmentation.dominant import dominant_pieces
from pipelines.segmentation.pieces import Int64, Piece, check_lengths, nothing, part_of, reach_of
from pipelines.segmentation.scan import Scan
from pipelines.segmentation.spoken import Voice, spoken_pieces
from schemas.config import SegmentConfig, SpeakerConfig
from schemas.types import Clip, FaceTrack, Rejection, Span


@dataclass(frozen=True)
class Chosen:
    """How a source is divided."""

    clips: list[Clip] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    """Number of the track of each clip, by clip id."""
    scores: dict[str, Mapping[str, float | int | None]] = field(default_factory=dict)
    """Index columns of each clip, by clip id."""


def choose_clips(
    source_sha256: str,
    source_id: str,
    scan: Scan,
    voice: Voice | None,
    config: SegmentConfig,
    speaker: SpeakerConfig,
) -> Chosen:
    """Divide a source into clips of one person each and rejected spans with their reason.

    With a `voice` a clip is where exactly one visible person speaks; without, the dominant face of a shot. Clips and
    rejections together cover the frames exactly once, and all their borders are frame times. Raises UsageError when the
    configured lengths contradict each other or the frame times do not grow.
    """
    check_lengths(config, scan.pts_us, scan.end_us)
    borders = np.append(scan.pts_us, np.int64(scan.end_us))
    faces: Mapping[int, FaceTrack] = {number: track.face for number, track in enumerate(scan.tracks)}
    chosen = Chosen()
    shots = [(span, False) for span in scan.shots] + [(span, True) for span in scan.transitions]
    for span, mixed in sorted(shots, key=lambda pair: pair[0].start_us):
        first, last = (int(np.searchsorted(borders, time)) for time in (span.start_us, span.end_us))
        if mixed:
            _take(
                chosen,
                nothing(first, last, "transition", "a fade or dissolve"),
                borders,
                faces,
                source_sha256,
                source_id,
            )
            continue
        own = {key: face for key, face in faces.items() if span.start_us <= face.pts_us[0] < span.end_us}
        if voice is None:
            pieces = [
                _counted(piece, own, span, borders, config)
                for piece in dominant_pieces(own, first, last, borders, config)
            ]
        else:
            pieces = spoken_pieces(own, first, last, borders, voice, config, speaker)
        _take(chosen, pieces, borders, faces, source_sha256, source_id)
    return chosen


def _take(
    chosen: Chosen,
    pieces: list[Piece],
    borders: Int64,
    faces: Mapping[int, FaceTrack],
    source_sha256: str,
    source_id: str,
) -> None:
    """Add pieces as clips and rejections."""
    for piece in pieces:
        span = Span(int(borders[piece.first]), int(borders[piece.last]))
        if piece.number is None:
            chosen.rejections.append(Rejection(span, piece.reason or "no_face", piece.message))
            continue
        clip_id = f"{source_sha256[:12]}-{span.start_us:010d}-{span.end_us:010d}"
        chosen.clips.append(Clip(clip_id, source_id, span, part_of(faces[piece.number], span)))
        chosen.numbers[clip_id] = piece.number
        chosen.scores[clip_id] = piece.scores


def _counted(piece: Piece, faces: Mapping[int, FaceTrack], shot: Span, borders: Int64, config: SegmentConfig) -> Piece:
    """A clip without sound, with what can be said of its faces."""
    if piece.number is None:
        return piece
    times = borders[piece.first : piece.last]
    counts = np.zeros(len(times), np.int64)
    for face in faces.values():
        if float(np.median(face.box_xywh[:, 2])) >= config.min_face_px:
            reach = reach_of(face, shot, config)
            counts += (times >= reach.start_us) & (times < reach.end_us)
    scores = {"num_faces": int(counts.max()), "single_face_ratio": float(np.mean(counts == 1))}
    return Piece(piece.first, piece.last, piece.number, scores=scores)


def chosen_to_json(chosen: Chosen) -> dict[str, Any]:
    """JSON values, without what is known of the file."""
    return {
        "clips": [clip_to_json(clip) for clip in chosen.clips],
        "tracks": chosen.numbers,
        "scores": {clip_id: dict(scores) for clip_id, scores in chosen.scores.items()},
        "rejections": [{**vars(r.span), "reason": r.reason, "message": r.message} for r in chosen.rejections],
    }
