"""Clips as JSON values: all that a driver needs of segmentation, without the code that finds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from schemas.types import Clip, FaceTrack, Span


def clip_to_json(clip: Clip) -> dict[str, Any]:
    """A clip as JSON values; float32 boxes survive the way exactly."""
    track = {"pts_us": clip.track.pts_us.tolist(), "box_xywh": clip.track.box_xywh.tolist()}
    return {"clip_id": clip.clip_id, "source_id": clip.source_id, **vars(clip.span), "track": track}


def clip_from_json(value: Mapping[str, Any]) -> Clip:
    """What `clip_to_json` was given."""
    boxes = np.array(value["track"]["box_xywh"], np.float32).reshape(-1, 4)
    track = FaceTrack(np.array(value["track"]["pts_us"], np.int64), boxes)
    return Clip(value["clip_id"], value["source_id"], Span(value["start_us"], value["end_us"]), track)
