"""Body stages: only where they are asked for, what they judge, and how a body gets into the tables."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bodies import clip_with_body
from dataset_builder import random_clip

from pipelines.build import CLIP_STAGES, REVIEW_STAGES, stages_named
from pipelines.checks import check_config
from pipelines.stages.body_fit import BodyFit, body_columns
from pipelines.stages.body_landmarks import BodyLandmarks
from pipelines.stages.overlay import Overlay
from schemas.config import Config, ReconstructConfig, load_config
from schemas.errors import TalksetError, UsageError
from schemas.records import clip_rows

SCORES: dict[str, Any] = {
    "residual": 0.02,
    "penetration": 0.0,
    "implausible": 1.0,
    "jitter": 0.01,
    "left_hand_ratio": 1.0,
    "right_hand_ratio": 0.5,
    "beyond_limits": 0,
}


def view(body: bool = True, **values: Any) -> Any:
    config = dataclasses.replace(Config(), reconstruct=ReconstructConfig(body=body))
    return SimpleNamespace(config=config, values=values)


def test_a_body_is_made_only_where_it_is_asked_for() -> None:
    assert {"body_landmarks", "body_fit"} <= set(CLIP_STAGES) & set(REVIEW_STAGES)
    for stage in stages_named(("body_landmarks", "body_fit")):
        assert stage.wanted(view())
        assert not stage.wanted(view(body=False))
    assert "body_fit" in Overlay().needed(view().config)
    assert "body_fit" not in Overlay().needed(view(body=False).config)


def test_bad_bodies_are_rejected_with_the_score_and_its_limit() -> None:
    BodyFit().judge(view(body_fit=SCORES))
    for name, value, said in (
        ("jitter", 1.0, r"reconstruct\.max_jitter"),
        ("penetration", 0.5, r"reconstruct\.max_penetration"),
        ("beyond_limits", 2, "limits"),
    ):
        with pytest.raises(TalksetError, match=said) as caught:
            BodyFit().judge(view(body_fit={**SCORES, name: value}))
        assert caught.value.reason == "poor_body"
    BodyFit().judge(view(body_fit={**SCORES, "jitter": None}))  # a clip of two frames has none
    with pytest.raises(TalksetError) as caught:
        BodyLandmarks().judge(view(body_landmarks={"body_ratio": 0.0}))
    assert caught.value.reason == "body_lost"


def test_limits_that_only_judge_are_no_part_of_the_key() -> None:
    plain, strict = load_config(None, []), load_config(None, ["reconstruct.max_jitter=0.01"])
    assert BodyFit().settings(plain) == BodyFit().settings(strict)
    assert BodyFit().settings(plain) != BodyFit().settings(load_config(None, ["reconstruct.num_betas=10"]))
    assert BodyLandmarks().settings(plain) == BodyLandmarks().settings(strict)


def test_impossible_settings_are_refused() -> None:
    check_config(load_config(None, ["reconstruct.body=true"]))
    for wrong in ("smoothness=0", "min_visibility=2", "num_betas=0"):
        with pytest.raises(UsageError, match=r"reconstruct\."):
            check_config(load_config(None, [f"reconstruct.{wrong}"]))


def test_scores_become_columns() -> None:
    columns = body_columns({"body_fit": SCORES})
    assert columns["body_jitter"] == 0.01
    assert columns["right_hand_ratio"] == 0.5
    assert body_columns({}) == {}


def test_a_body_is_stored_with_its_clip() -> None:
    record = clip_with_body(1, 30)
    assert record.head is not None
    frames = len(record.head.valid)
    rows = clip_rows(record)
    assert rows.params is not None
    assert rows.landmarks is not None
    assert rows.params["body_pose"].size == 63 * frames
    assert rows.params["body_joint_valid"].size == 55 * frames
    points = rows.landmarks["left_hand_xyc"].reshape(frames, 21, 3)
    assert not points[2][record.head.valid[2]].any() if record.head.valid[2] else np.isnan(points[2]).all()
    assert rows.landmarks["body_detector"] == "mediapipe-pose"
    without = clip_rows(random_clip(1, 30))
    assert without.params is not None
    assert without.params["body_model"] is None
