"""The body of a clip as a data set holds it, and its layer in an overlay."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.errors import UsageError
from schemas.types import BodyLandmarks, BodyTrack, HeadTrack

if TYPE_CHECKING:
    from reconstruct.body.layer import BodyLayer


def stored_body(
    params: Mapping[str, Any], landmarks: Mapping[str, Any], width: int, height: int
) -> tuple[BodyTrack, BodyLandmarks] | None:
    """Body and landmarks of a clip from its cells, arrays in their own shape; None without a body.

    Frames without a face are not valid, as everywhere in a data set. The detector's metres and the residual are not
    stored: they are NaN.
    """
    if params["body_model"] is None or landmarks["pose_xyc"] is None:
        return None
    count = len(params["pts_us"])
    hands = [landmarks[name].copy() for name in ("left_hand_xyc", "right_hand_xyc")]
    for hand in hands:
        hand[(hand[..., :2] == 0).all((1, 2))] = np.nan  # a hand that was not found
    unknown = np.full(count, np.nan, np.float32)
    valid = params["valid"] & np.isfinite(params["body_translation"]).all(1)
    track = BodyTrack(
        body_model=params["body_model"],
        body_model_sha256="",
        betas=params["betas"],
        body_pose=params["body_pose"],
        left_hand_pose=params["left_hand_pose"],
        right_hand_pose=params["right_hand_pose"],
        body_global_pose=params["body_global_pose"],
        body_translation=params["body_translation"],
        body_valid=valid,
        body_joint_valid=params["body_joint_valid"],
        body_residual_px=unknown,
        focal_px=params["focal_px"],
        principal_point=params["principal_point"],
    )
    found = BodyLandmarks(
        pts_us=landmarks["pts_us"],
        pose_xyc=landmarks["pose_xyc"],
        pose_world=np.full((count, 33, 4), np.nan, np.float32),
        left_hand_xyc=hands[0],
        right_hand_xyc=hands[1],
        left_hand_world=np.full((count, 21, 3), np.nan, np.float32),
        right_hand_world=np.full((count, 21, 3), np.nan, np.float32),
        valid=valid,
        width=width,
        height=height,
        detector=landmarks["body_detector"],
    )
    return track, found


def stored_layer(root: Path, body: tuple[BodyTrack, BodyLandmarks] | None, head: HeadTrack) -> BodyLayer | None:
    """What an overlay draws of a stored body. Raises UsageError where it was fitted with another model of that name."""
    if body is None:
        return None
    from reconstruct.body.layer import BodyLayer
    from reconstruct.models.registry import load_body

    track, landmarks = body
    model = load_body(track.body_model)
    facts = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    stated = {str(known["name"]): str(known["sha256"]) for known in facts["models"]}
    if stated.get(track.body_model, model.sha256) != model.sha256:
        message = f"the bodies of {root} were fitted with another {track.body_model} ({stated[track.body_model]})"
        raise UsageError(message, "Run again to fit them with the installed one")
    return BodyLayer.of(model, track, landmarks, head)
