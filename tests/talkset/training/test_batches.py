"""Batches as numpy arrays, against what a Clip gives, and what happens to values that cannot be given."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataset_builder import build, random_clip, writer

from schemas.config import ShardConfig
from talkset import open_dataset
from talkset.dataset import Dataset
from talkset.store import DatasetError
from talkset.training.batches import Cache, Reader, Request
from talkset.training.decoding import RowGroup, Signal, Source


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("batches") / "ds"
    build(root, clips=12, shards=ShardConfig(clips_per_row_group=3, figures=False))
    return open_dataset(root)


def reader(dataset: Dataset, columns: list[str], cache_bytes: int = 0, **options: Any) -> Reader:
    signals = tuple(Signal.of(dataset, name) for name in columns)
    return Reader(Source(dataset.store, dataset.shard_names, signals, **options), Cache(cache_bytes))


def request(
    dataset: Dataset, clips: list[int], starts_us: list[int] | None = None, number: int = 0, last: int = 0, run: int = 0
) -> Request:
    return Request(
        run=run,
        number=number,
        clip_ids=[dataset[clip].clip_id for clip in clips],
        shards=dataset.shard_of[clips].tolist(),
        rows=dataset.row_of[clips].tolist(),
        frames=[dataset[clip].num_frames for clip in clips],
        starts_us=starts_us or [0] * len(clips),
        last_use=[last] * len(clips),
    )


COLUMNS = ["expression", "face_xy", "shape", "focal_px", "pts_us", "landmarks.valid", "residual_px"]


def test_whole_clips_equal_clips(dataset: Dataset) -> None:
    clips = [7, 2, 11, 2]
    batch = reader(dataset, COLUMNS).read(request(dataset, clips))
    lengths = [dataset[clip].num_frames for clip in clips]
    assert batch["length"].tolist() == lengths
    assert len(set(lengths)) > 1
    assert batch["clip_id"] == [dataset[clip].clip_id for clip in clips]
    for place, (clip, frames) in enumerate(zip(clips, lengths, strict=True)):
        np.testing.assert_array_equal(batch["mask"][place], np.arange(max(lengths)) < frames)
        np.testing.assert_array_equal(batch["valid"][place, :frames], dataset[clip].read("valid"))
        for name in COLUMNS:
            stored = np.asarray(dataset[clip].read(name), np.float32 if name == "focal_px" else None)
            given = batch[name][place]
            assert given.dtype == stored.dtype, name
            if stored.ndim and len(stored) == frames and name != "shape":
                assert not given[frames:].any()
                given = given[:frames]
            expected = np.nan_to_num(stored) if stored.dtype == np.float32 else stored
            np.testing.assert_array_equal(given, expected, err_msg=name)
    assert batch["face_xy"].shape == (4, max(lengths), 478, 2)
    assert batch["shape"].shape == (4, 80)
    assert batch["focal_px"].shape == (4,)


def test_windows_equal_clip_windows(dataset: Dataset) -> None:
    starts = [0, 120_000, 30_000, 333_333]
    batch = reader(dataset, ["jaw_pose", "nme", "focal_px"], window_us=250_001).read(
        request(dataset, [0, 1, 5, 9], starts)
    )
    np.testing.assert_allclose(batch["start_s"], np.array(starts) / 1e6)
    for place, (clip, start) in enumerate(zip((0, 1, 5, 9), starts, strict=True)):
        window = dataset[clip].window(start / 1e6, (start + 250_001) / 1e6)
        frames = len(window["pts_us"])
        assert batch["length"][place] == frames
        np.testing.assert_array_equal(batch["jaw_pose"][place, :frames], window["jaw_pose"])
        np.testing.assert_array_equal(batch["valid"][place, :frames], window["valid"])
        assert not batch["valid"][place, frames:].any()


def test_without_padding(dataset: Dataset) -> None:
    batch = reader(dataset, ["jaw_pose"], pad=False).read(request(dataset, [0, 1]))
    assert "mask" not in batch
    for place in (0, 1):
        np.testing.assert_array_equal(batch["jaw_pose"][place], dataset[place]["jaw_pose"])
        np.testing.assert_array_equal(batch["valid"][place], dataset[place]["valid"])


def test_what_is_given_out_is_a_copy(dataset: Dataset) -> None:
    for pad in (True, False):
        made = reader(dataset, ["jaw_pose"], cache_bytes=1 << 20, pad=pad)
        first = made.read(request(dataset, [0]))
        first["jaw_pose"][0][:] = 7
        first["valid"][0][:] = False
        again = made.read(request(dataset, [0]))
        np.testing.assert_array_equal(again["jaw_pose"][0], dataset[0]["jaw_pose"])
        assert again["valid"][0].all()


def test_signals_without_time_have_no_masks(dataset: Dataset) -> None:
    batch = reader(dataset, ["shape"], window_us=200_000).read(request(dataset, [0, 1], [0, 40_000]))
    assert set(batch) == {"shape", "clip_id", "start_s"}


def test_row_groups_are_kept_until_their_last_use(dataset: Dataset) -> None:
    made = reader(dataset, ["jaw_pose"])
    made.read(request(dataset, [0, 4], number=0, last=2))
    assert made.held == 2
    made.read(request(dataset, [1], number=1, last=2))
    assert made.held == 2
    made.read(request(dataset, [8], number=2, last=5))
    assert made.held == 1
    made.read(request(dataset, [8], number=0, last=0, run=1))  # another iteration starts from nothing
    assert made.held == 0


def test_cache_keeps_the_first_that_fit(dataset: Dataset) -> None:
    cache = Cache(1000)
    groups = [RowGroup({}, [], [], nbytes=size) for size in (600, 500, 300, 100)]
    assert [cache.offer(("params", 0, place), group) for place, group in enumerate(groups)] == [True, False, True, True]
    assert (cache.nbytes, len(cache)) == (1000, 3)
    assert cache.get(("params", 0, 1)) is None
    assert cache.get(("params", 0, 2)) is groups[2]
    made = reader(dataset, ["expression"], cache_bytes=20_000)
    for run in range(2):
        for clip in (0, 3, 6, 9):
            made.read(request(dataset, [clip], run=run))
    assert 1 <= len(made.cache) < 4
    assert made.cache.nbytes <= 20_000
    flat = sum(dataset[clip]["expression"].nbytes for clip in range(3))
    kept = made.cache.get(("params", 0, 0))
    assert kept is not None
    assert flat < kept.nbytes < flat + 5000


def test_a_source_is_small_and_travels(dataset: Dataset) -> None:
    made = reader(dataset, ["jaw_pose"])
    data = pickle.dumps(made.source)
    assert len(data) < 10_000
    again = Reader(pickle.loads(data), Cache(0)).read(request(dataset, [3]))
    np.testing.assert_array_equal(again["jaw_pose"][0], dataset[3]["jaw_pose"])


def changed(dataset: Dataset, root: Path, name: str, rows: list[Any]) -> Dataset:
    """A copy of params with another column."""
    folder = Path(dataset.store.path)
    (root / "params").mkdir(parents=True)
    for item in ("dataset.json", "index.parquet", "landmarks"):
        (root / item).symlink_to(folder / item)
    table = pq.read_table(folder / "params" / "part-00000.parquet")
    place = table.schema.get_field_index(name)
    field = table.schema.field(name)
    column = pa.array(rows, type=field.type)
    pq.write_table(table.set_column(place, field, column), root / "params" / "part-00000.parquet", row_group_size=3)
    return open_dataset(root)


def test_values_that_cannot_be_given(dataset: Dataset, tmp_path: Path) -> None:
    jaw = [dataset[clip]["jaw_pose"].reshape(-1).tolist() for clip in range(12)]
    jaw[0] = None
    jaw[1][7] = float("inf")
    jaw[3] = jaw[3][:-1]
    made = reader(changed(dataset, tmp_path / "jaw", "jaw_pose", jaw), ["jaw_pose"])
    with pytest.raises(DatasetError, match="clip clip_0000 has no jaw_pose; leave jaw_pose or this clip out"):
        made.read(request(dataset, [1, 0]))
    with pytest.raises(DatasetError, match=r"clip_0003 has 104 values of jaw_pose for 35 frames"):
        made.read(request(dataset, [3]))
    batch = made.read(request(dataset, [1, 2, 5]))
    expected = dataset[1]["jaw_pose"].copy()
    assert dataset[1]["valid"][2]
    expected[2, 1] = 0
    np.testing.assert_array_equal(batch["jaw_pose"][0, : len(expected)], expected)
    assert not batch["valid"][0, 2]
    np.testing.assert_array_equal(batch["valid"][0, 3 : len(expected)], dataset[1]["valid"][3:])
    np.testing.assert_array_equal(batch["jaw_pose"][2, : batch["length"][2]], dataset[5]["jaw_pose"])

    focal: list[Any] = [500.0] * 12
    focal[4], focal[5] = None, float("nan")
    made = reader(changed(dataset, tmp_path / "focal", "focal_px", focal), ["focal_px"])
    assert made.read(request(dataset, [3]))["focal_px"].tolist() == [500.0]
    with pytest.raises(DatasetError, match="clip_0004 has no focal_px"):
        made.read(request(dataset, [4]))
    with pytest.raises(DatasetError, match="clip_0005 has a focal_px that is not finite"):
        made.read(request(dataset, [5]))

    asked = request(dataset, [6])
    with pytest.raises(DatasetError, match=r"row 6 has 30 frames, the index says 31"):
        reader(dataset, ["pts_us"]).read(dataclasses.replace(asked, frames=[31]))
    with pytest.raises(DatasetError, match="has no row 99"):
        reader(dataset, ["pts_us"]).read(dataclasses.replace(asked, rows=[99]))


def test_head_models_are_not_mixed_in_a_batch(tmp_path: Path) -> None:
    with writer(tmp_path) as target:
        for number in range(2):
            record = random_clip(number, frames=20)
            assert record.head is not None
            if number:
                codes = np.zeros((20, 10), np.float32)
                record = dataclasses.replace(
                    record, head=dataclasses.replace(record.head, head_model="other", expression=codes)
                )
            target.add(record)
        target.finish()
    dataset = open_dataset(tmp_path)  # both clips are in one row group
    with pytest.raises(DatasetError, match=r"52 in another.*head_model"):
        reader(dataset, ["expression"]).read(request(dataset, [0, 1]))
    normaliser = dataset.select("head_model == 'other'").normaliser(["jaw_pose", "expression"])
    made = reader(dataset, ["jaw_pose", "expression"], normaliser=normaliser)
    batch = made.read(request(dataset, [1]))
    assert batch["expression"].shape == (1, 20, 10)
    np.testing.assert_array_equal(batch["jaw_pose"][0], normaliser.normalise("jaw_pose", dataset[1]["jaw_pose"]))
    with pytest.raises(DatasetError, match="clip_0000 cannot be normalised"):
        made.read(request(dataset, [0]))


def test_text_makes_no_tensor(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="'head_model' is string, which cannot be a tensor"):
        Signal.of(dataset, "head_model")
