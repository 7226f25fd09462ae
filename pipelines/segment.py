"""From a source video to its clips: one pass over the frames that finds cuts and faces at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.decoding import GuardedReader
from pipelines.shots import ShotFinder
from pipelines.tracks import FaceFinder, follow_faces, plan_clips
from reconstruct.video import Reader
from schemas.config import SegmentConfig
from schemas.errors import TalksetError
from schemas.types import Clip, FaceTrack, Span


def segment_source(
    reader: Reader | GuardedReader,
    sha256: str,
    source_id: str,
    span: tuple[int | None, int | None],
    finder: FaceFinder,
    config: SegmentConfig,
) -> dict[str, Any]:
    """Clips and rejected spans of [start, end) microseconds of a source, as JSON values.

    Raises TalksetError: truncated when the stream ends before its container says, decode_error without a frame.
    """
    shots = ShotFinder(config.shot_threshold)
    finder.finish()  # an earlier source may have ended in an error
    pts: list[int] = []
    for pts_us, rgb in reader.frames(*span):
        shots.push(pts_us, rgb)
        finder.push(pts_us, rgb)
        pts.append(pts_us)
    if reader.truncated:
        promised, seen = reader.info.duration_us / 1e6, (reader.end_us - reader.info.video_start_us) / 1e6
        message = f"{reader.path} promises {promised:.2f} s and ends after {seen:.2f} s"
        raise TalksetError("truncated", message, "Fetch the file again")
    if not pts:
        raise TalksetError("decode_error", f"{reader.path} has no frame in the asked span", "Mend start and end")
    end_us, corrupt = reader.end_us, reader.corrupt_packets
    samples = finder.finish()
    cuts = shots.finish(end_us)
    tracks = [track for shot in cuts for track in follow_faces(samples, shot, config)]
    clips, rejections = plan_clips(sha256, source_id, cuts, tracks, config, pts, end_us)
    return {
        "clips": [clip_to_json(clip) for clip in clips],
        "tracks": {clip.clip_id: _number(clip, tracks) for clip in clips},
        "rejections": [{**vars(r.span), "reason": r.reason, "message": r.message} for r in rejections],
        "corrupt_packets": corrupt,
    }


def clip_to_json(clip: Clip) -> dict[str, Any]:
    """A clip as JSON values; float32 boxes survive the way exactly."""
    track = {"pts_us": clip.track.pts_us.tolist(), "box_xywh": clip.track.box_xywh.tolist()}
    return {"clip_id": clip.clip_id, "source_id": clip.source_id, **vars(clip.span), "track": track}


def clip_from_json(value: Mapping[str, Any]) -> Clip:
    """What `clip_to_json` was given."""
    boxes = np.array(value["track"]["box_xywh"], np.float32).reshape(-1, 4)
    track = FaceTrack(np.array(value["track"]["pts_us"], np.int64), boxes)
    return Clip(value["clip_id"], value["source_id"], Span(value["start_us"], value["end_us"]), track)


def _number(clip: Clip, tracks: Sequence[FaceTrack]) -> int:
    """Number of the track that a clip was cut from."""
    pts_us, box = clip.track.pts_us[0], clip.track.box_xywh[0]
    for number, track in enumerate(tracks):
        if (track.box_xywh[track.pts_us == pts_us] == box).all(axis=1).any():
            return number
    raise ValueError(f"no track of the source holds the first box of {clip.clip_id}")
