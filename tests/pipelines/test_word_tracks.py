from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_builder import build

from annotate.visemes import ARKIT_NAMES, OCULUS15, viseme_track
from exports.spoken import intervals
from pipelines.word_tracks import write_word_tracks
from schemas.errors import TalksetError
from talkset.dataset import open_dataset
from talkset.versions.add_column import add_column


def test_phones_that_no_map_knows_are_named(tmp_path: Path) -> None:
    build(tmp_path / "data", clips=2)
    table = pq.read_table(tmp_path / "data" / "phones.parquet")
    rows = [{**row, "label": "œ"} for row in table.to_pylist()]
    pq.write_table(table.from_pylist(rows, schema=table.schema), tmp_path / "data" / "phones.parquet")
    with pytest.raises(TalksetError, match="'œ'"):
        write_word_tracks(tmp_path / "data", tmp_path / "out")
    assert not (tmp_path / "out" / "visemes.parquet").exists()


def test_rows_and_tracks_of_a_data_set_with_phones(tmp_path: Path) -> None:
    build(tmp_path / "data", clips=4)
    table = pq.read_table(tmp_path / "data" / "phones.parquet")
    rows = table.to_pylist()
    for number, row in enumerate(rows):
        row["label"] = ("M", "AY", "S")[number % 3]
    pq.write_table(table.from_pylist(rows, schema=table.schema), tmp_path / "data" / "phones.parquet")
    visemes, tracks = write_word_tracks(tmp_path / "data", tmp_path / "out")
    shown = pq.read_table(visemes).to_pylist()
    assert {row["label"] for row in shown} <= set(OCULUS15.visemes)
    assert {row["clip_id"] for row in shown} == {row["clip_id"] for row in rows}
    found = {row["clip_id"]: row for row in pq.read_table(tracks).to_pylist()}
    data = open_dataset(tmp_path / "data")
    assert set(found) == {clip.clip_id for clip in data}
    for clip in data:
        track = np.array(found[clip.clip_id]["visemes"], np.float32).reshape(-1, 15)
        expected = viseme_track(intervals(clip.phones()), np.asarray(clip["pts_us"], np.int64))
        np.testing.assert_array_equal(track, expected)
        assert len(found[clip.clip_id]["arkit_speech"]) == len(track) * len(ARKIT_NAMES)


def test_tracks_become_a_column(tmp_path: Path) -> None:
    build(tmp_path / "data", clips=3)
    table = pq.read_table(tmp_path / "data" / "phones.parquet")
    rows = [{**row, "label": "AA"} for row in table.to_pylist()]
    pq.write_table(table.from_pylist(rows, schema=table.schema), tmp_path / "data" / "phones.parquet")
    _, tracks = write_word_tracks(tmp_path / "data", tmp_path / "out")
    build(tmp_path / "fresh", clips=3)
    made = add_column(tmp_path / "fresh", tmp_path / "v2", "visemes", tracks, shape=["T", 15])
    clip = open_dataset(made)[0]
    np.testing.assert_allclose(np.asarray(clip["visemes"]).sum(axis=1), 1, atol=1e-5)
