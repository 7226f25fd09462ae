"""Tracks read back from the tables of a data set, current and older."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from bodies import clip_with_body
from dataset_builder import build, random_clip, writer

from pipelines.overlays import OLDEST_DETECTOR, stored_clip, stored_tracks
from reconstruct.landmarks.topology import topology_of
from schemas.types import HEAD_ARRAYS

DATA = Path(__file__).resolve().parents[1] / "data"


def test_tracks_come_back_as_they_were_written(tmp_path: Path) -> None:
    records = [record for record in build(tmp_path, clips=5) if record.head is not None]
    rows = {row["clip_id"]: row for row in pq.read_table(tmp_path / "index.parquet").to_pylist()}
    for record in records:
        assert record.head is not None
        assert record.landmarks is not None
        head, landmarks = stored_tracks(tmp_path, rows[str(record.index["clip_id"])])
        for name in HEAD_ARRAYS:
            np.testing.assert_array_equal(getattr(head, name), getattr(record.head, name))
        for name in ("face_xy", "confidence", "valid", "blendshapes", "pts_us"):
            np.testing.assert_array_equal(getattr(landmarks, name), getattr(record.landmarks, name))
        assert landmarks.detector == record.landmarks.detector


def test_a_body_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = clip_with_body(1, 30)  # a third of its frames has no face
    with writer(tmp_path) as target:
        target.add(record)
        target.add(random_clip(2))
        target.finish()
    rows = pq.read_table(tmp_path / "index.parquet").to_pylist()
    assert stored_clip(tmp_path, rows[1])[2] is None
    head, _, stored = stored_clip(tmp_path, rows[0])
    assert stored is not None
    assert record.body is not None
    assert record.body_landmarks is not None
    body, landmarks = stored
    valid = head.valid
    assert (body.body_valid == valid).all()
    assert not valid.all()
    for name in ("body_pose", "left_hand_pose", "body_global_pose", "body_translation", "body_joint_valid"):
        np.testing.assert_array_equal(getattr(body, name)[valid], getattr(record.body, name)[valid])
    np.testing.assert_array_equal(body.betas, record.body.betas)
    assert body.focal_px == pytest.approx(head.focal_px)  # one camera
    for name in ("pose_xyc", "left_hand_xyc", "right_hand_xyc"):  # the hand that was not found is NaN again
        np.testing.assert_array_equal(getattr(landmarks, name)[valid], getattr(record.body_landmarks, name)[valid])


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_an_older_data_set_has_landmarks_of_unknown_confidence(version: str) -> None:
    root = DATA / f"schema-{version}"
    row = next(row for row in pq.read_table(root / "index.parquet").to_pylist() if row["clip_id"] == "clip_0001")
    head, landmarks = stored_tracks(root, row)
    assert head.held_out_nme is None
    assert landmarks.blendshapes is None
    assert landmarks.face_xy.shape[1] == topology_of(OLDEST_DETECTOR).num_points
    assert not landmarks.valid.all()
    assert (landmarks.confidence[landmarks.valid] == 1).all()
    assert np.isnan(landmarks.confidence[~landmarks.valid]).all()
