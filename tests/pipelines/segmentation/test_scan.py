"""One pass over frames: what it finds, and what comes back from the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from talking_clips import people, write_clip

from pipelines.results import ResultStore
from pipelines.segmentation.faces import FaceFinder
from pipelines.segmentation.mouth import MouthReader
from pipelines.segmentation.scan import Scan, pack_scan, scan_source, unpack_scan
from reconstruct.video import Reader
from schemas.config import SegmentConfig
from schemas.errors import TalksetError

CONFIG = SegmentConfig()


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """One person, then both side by side."""
    one, two = people()
    both = [np.concatenate([a, b], axis=1) for a, b in zip(one, two, strict=True)]
    alone = [np.pad(a, ((0, 0), (180, 180), (0, 0)), mode="edge")[:, : both[0].shape[1]] for a in one]
    path = write_clip(tmp_path_factory.mktemp("scan") / "a.mp4", alone + both)
    with FaceFinder(CONFIG) as finder, Reader(path) as reader:
        return scan_source(reader, (None, None), finder, MouthReader(), CONFIG)


def test_shots_faces_and_mouths(scan: Scan) -> None:
    assert [(s.start_us, s.end_us) for s in scan.shots] == [(0, 1_200_000), (1_200_000, 2_400_000)]
    assert scan.transitions == []
    assert [int(t.face.pts_us[0]) for t in scan.tracks] == [0, 1_200_000, 1_200_000]  # looked at the cut
    for track in scan.tracks:
        assert len(track.mouth_us) == 30
        assert np.isfinite(track.mouth).all()
    left, right = sorted(float(t.face.box_xywh[:, 0].mean()) for t in scan.tracks[1:])
    assert right - left > 200


def test_the_store_gives_back_the_same(scan: Scan, tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save("segment", "0" * 64, "unit", pack_scan(scan))
    back = unpack_scan(store.load("segment", "0" * 64))
    assert (back.shots, back.transitions, back.end_us) == (scan.shots, scan.transitions, scan.end_us)
    np.testing.assert_array_equal(back.pts_us, scan.pts_us)
    assert len(back.tracks) == len(scan.tracks)
    for one, other in zip(back.tracks, scan.tracks, strict=True):
        np.testing.assert_array_equal(one.face.box_xywh, other.face.box_xywh)
        np.testing.assert_array_equal(one.mouth_us, other.mouth_us)
        np.testing.assert_array_equal(one.mouth, other.mouth)
    empty = Scan(scan.pts_us, scan.end_us, scan.shots, [], [])
    assert unpack_scan(pack_scan(empty)).tracks == []


def test_an_empty_span_is_an_error(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", people()[0][:5])
    with FaceFinder(CONFIG) as finder, Reader(path) as reader, pytest.raises(TalksetError, match="no frame"):
        scan_source(reader, (50_000_000, 60_000_000), finder, None, CONFIG)
