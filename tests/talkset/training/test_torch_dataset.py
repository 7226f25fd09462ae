"""The map-style torch data set: windows by hop, against the windows of a clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_builder import build

from schemas.config import ShardConfig
from talkset import open_dataset
from talkset.dataset import Dataset
from talkset.store import DatasetError

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root: Path = tmp_path_factory.mktemp("torch") / "ds"
    build(root, clips=6, shards=ShardConfig(clips_per_row_group=4, figures=False))
    return open_dataset(root)


@pytest.mark.parametrize("hop_s", [None, 0.16, 0.7])
def test_windows_every_hop(dataset: Dataset, hop_s: float | None) -> None:
    windows = dataset.torch(["jaw_pose", "pts_us"], window_s=0.4, hop_s=hop_s)
    step = round((hop_s or 0.4) * 1e6)
    expected = [(clip, start / 1e6) for clip in dataset for start in range(0, clip.duration_us - 400_000 + 1, step)]
    assert len(windows) == len(expected)
    for item, (clip, start) in zip((windows[i] for i in range(len(windows))), expected, strict=True):
        window = clip.window(start, start + 0.4)
        np.testing.assert_array_equal(item["jaw_pose"].numpy(), window["jaw_pose"])
        np.testing.assert_array_equal(item["pts_us"].numpy(), window["pts_us"])


def test_the_loader_gives_the_same_windows(dataset: Dataset) -> None:
    windows = dataset.torch(["jaw_pose"], window_s=0.4, hop_s=0.2)
    loader = dataset.loader(["jaw_pose"], 4, window_s=0.4, hop_s=0.2, shuffle=False)
    joined = torch.cat([batch["jaw_pose"] for batch in loader])
    assert torch.equal(joined, torch.stack([windows[i]["jaw_pose"] for i in range(len(windows))]))


def test_impossible_windows(dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="hop_s must be a positive number"):
        dataset.torch(["jaw_pose"], window_s=0.4, hop_s=0.0)
    with pytest.raises(DatasetError, match="without window_s"):
        dataset.torch(["jaw_pose"], hop_s=0.4)
