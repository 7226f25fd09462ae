"""Results are whole or absent, the same bytes each time, and what went in comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_builder import random_clip

from pipelines.results import Result, ResultStore, Stored, pack, unpack
from schemas.errors import TalksetError
from schemas.types import HeadTrack, LandmarkTrack

KEY = "ab" + "0" * 62


def test_tracks_survive_the_store_exactly(tmp_path: Path) -> None:
    record = random_clip(3)
    store = ResultStore(tmp_path)
    for stage, track in (("fit", record.head), ("landmarks", record.landmarks)):
        store.save(stage, KEY, "clip", pack(track))
        loaded = store.load(stage, KEY)
        kind: type[HeadTrack] | type[LandmarkTrack] = HeadTrack if stage == "fit" else LandmarkTrack
        again = unpack(kind, loaded)
        for name, value in vars(track).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(getattr(again, name), value)
                assert getattr(again, name).dtype == value.dtype
            else:
                assert getattr(again, name) == value


def test_the_same_result_is_the_same_bytes(tmp_path: Path) -> None:
    content = []
    for name in ("one", "two"):
        store = ResultStore(tmp_path / name)
        store.save("fit", KEY, "clip", pack(random_clip(1).head))
        content.append({p.name: p.read_bytes() for p in sorted(store.folder.rglob("*")) if p.is_file()})
    assert content[0] == content[1]
    assert set(content[0]) == {f"{KEY}.json", f"{KEY}.npz"}


def test_files_move_in_and_scratch_is_gone(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    with store.scratch() as scratch:
        (scratch / "clip.mp4").write_bytes(b"video")
        store.save("media", KEY, "clip", Result({"suffixes": [".mp4"]}, files={".mp4": scratch / "clip.mp4"}))
    assert store.path("media", KEY, ".mp4").read_bytes() == b"video"
    assert not scratch.exists()
    assert list(store.scan()) == [Stored("clip", "media", KEY)]


@pytest.mark.parametrize("damage", ["json", "payload"])
def test_a_damaged_result_counts_as_absent(tmp_path: Path, damage: str) -> None:
    store = ResultStore(tmp_path)
    store.save("fit", KEY, "clip", pack(random_clip(1).head))
    if damage == "json":
        store.path("fit", KEY).write_text('{"value": {')
    else:
        store.path("fit", KEY, ".npz").unlink()
    assert store.value("fit", KEY) is None
    assert not store.path("fit", KEY).exists()


def test_damaged_arrays_are_named_and_made_again(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.save("fit", KEY, "clip", pack(random_clip(1).head))
    path = store.path("fit", KEY, ".npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(TalksetError, match="damaged") as caught:
        store.load("fit", KEY)
    assert caught.value.reason == "corrupt_data"
    assert store.value("fit", KEY) is None
