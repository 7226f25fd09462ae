"""Tracks read back from the tables of a data set, current and older."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from pipelines.overlays import OLDEST_DETECTOR, stored_tracks
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
