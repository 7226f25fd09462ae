"""Training batches from every peer: the same columns of the same clips, padded torch tensors with a mask.

Each peer is used as its documentation shows for PyTorch; `arrow by hand` is what an expert would write instead. A
batch is a dictionary with the signals (B, T, ...), `valid` and `mask` (B, T).
"""

from __future__ import annotations

import importlib
import io
import os
import random
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset

from talkset.dataset import open_dataset

COLUMNS: Final = ("expression", "jaw_pose", "global_pose", "pts_us", "valid")
WIDTHS: Final = {"expression": 52, "jaw_pose": 3, "global_pose": 3}
BATCH: Final = 32
BUFFER: Final = 1000
"""Samples of a shuffle buffer."""

Batch = dict[str, Any]
Epochs = Callable[[int], Iterable[Batch]]
"""Epoch number to its batches."""


def pad(items: list[dict[str, torch.Tensor]]) -> Batch:
    """Clips as a padded batch."""
    clips = [
        {n: item[n].reshape(-1, WIDTHS[n]) if n in WIDTHS else item[n].reshape(-1) for n in COLUMNS} for item in items
    ]
    batch: Batch = {name: pad_sequence([clip[name] for clip in clips], batch_first=True) for name in COLUMNS}
    lengths = torch.tensor([len(clip["pts_us"]) for clip in clips])
    batch["mask"] = torch.arange(batch["pts_us"].shape[1]) < lengths[:, None]
    return batch


def load_hf(pattern: str) -> Any:
    """Parquet as Hugging Face datasets opens it: converted to Arrow files in its cache, which are mapped."""
    import datasets

    datasets.disable_progress_bars()
    return datasets.load_dataset("parquet", data_files=[pattern], split="train")


def talkset(folder: Path, workers: int, cache_mb: float, threads: int, prepared: bool) -> Epochs:
    """Our own loader; `prepared` with its files beside the data set, made where they are missing."""
    place = folder / "prepared" if prepared else False
    options: dict[str, Any] = {"num_workers": workers, "cache_mb": cache_mb, "threads": threads, "prepared": place}
    loader = open_dataset(folder / "big").loader(list(COLUMNS), BATCH, **options)

    def epochs(epoch: int) -> Iterable[Batch]:
        loader.set_epoch(epoch)
        return loader

    return epochs


def hf_map(folder: Path, workers: int) -> Epochs:
    """huggingface.co/docs/datasets/use_with_pytorch: with_format("torch") and a DataLoader that shuffles."""
    rows = load_hf(str(folder / "big/params/*.parquet")).select_columns(list(COLUMNS)).with_format("torch")
    loader: Any = DataLoader(rows, BATCH, shuffle=True, collate_fn=pad, num_workers=workers)
    return lambda _: loader


def hf_iterable(folder: Path, workers: int) -> Epochs:
    """huggingface.co/docs/datasets/stream: to_iterable_dataset with shards, and a shuffle buffer."""
    rows = load_hf(str(folder / "big/params/*.parquet")).select_columns(list(COLUMNS))
    stream = rows.to_iterable_dataset(num_shards=64).shuffle(seed=1, buffer_size=BUFFER).with_format("torch")
    loader: DataLoader[Batch] = DataLoader(stream, BATCH, collate_fn=pad, num_workers=workers)

    def epochs(epoch: int) -> Iterable[Batch]:
        stream.set_epoch(epoch)
        return loader

    return epochs


class _ByHand(Dataset[Batch]):
    """Whole batches from mapped Arrow tables: flat values, one copy into the padded batch."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows.with_format("arrow")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, numbers: list[int]) -> Batch:
        table = self.rows[numbers]
        counts = None
        batch: Batch = {}
        for name in COLUMNS[::-1]:
            cells = table[name].combine_chunks()
            width = WIDTHS.get(name, 1)
            if counts is None:
                counts = np.diff(cells.offsets.to_numpy())
                mask = np.arange(counts.max()) < counts[:, None]
                batch["mask"] = torch.from_numpy(mask)
            values = cells.flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
            padded = np.zeros((*mask.shape, width), values.dtype)
            padded[mask] = values
            batch[name] = torch.from_numpy(padded if name in WIDTHS else padded[..., 0])
        return batch


def _same(batch: Any) -> Any:
    return batch


def arrow_by_hand(folder: Path, workers: int) -> Epochs:
    """Hugging Face's Arrow files read by an expert."""
    rows = _ByHand(load_hf(str(folder / "big/params/*.parquet")).select_columns(list(COLUMNS)))
    loader: Any = DataLoader(rows, BATCH, shuffle=True, collate_fn=_same, num_workers=workers)
    return lambda _: loader


class _Episodes(Dataset[Batch]):
    """LeRobot's layout: a table with one row per frame, an episode is a range of its rows."""

    def __init__(self, rows: Any, ends: np.ndarray[Any, Any]) -> None:
        self.rows, self.ends = rows.with_format("torch"), ends

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> Batch:
        first = int(self.ends[number - 1]) if number else 0
        return dict(self.rows[first : int(self.ends[number])])


def frame_rows(folder: Path, workers: int) -> Epochs:
    """One row per frame, the rows of an episode as one slice."""
    rows = load_hf(str(folder / "peers/frames/*.parquet")).select_columns(list(COLUMNS))
    episodes = _Episodes(rows, np.load(folder / "peers/frames/ends.npy"))
    loader: Any = DataLoader(episodes, BATCH, shuffle=True, collate_fn=pad, num_workers=workers)
    return lambda _: loader


def _from_npz(source: Any) -> dict[str, torch.Tensor]:
    with np.load(source) as arrays:  # members are read when they are asked for
        return {name: torch.from_numpy(arrays[name]) for name in COLUMNS}


class _Tar(IterableDataset[Batch]):
    """WebDataset's way with the standard library: tar files in random order, a shuffle buffer, then decoding."""

    def __init__(self, parts: list[Path]) -> None:
        self.parts = parts
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        chance = random.Random(self.epoch)
        parts = chance.sample(self.parts, len(self.parts))
        info = torch.utils.data.get_worker_info()
        buffer: list[bytes] = []
        for part in parts if info is None else parts[info.id :: info.num_workers]:
            with tarfile.open(part, "r|") as stream:
                for member in stream:
                    stored = stream.extractfile(member)
                    assert stored is not None
                    data = stored.read()
                    if len(buffer) < BUFFER:
                        buffer.append(data)
                        continue
                    place = chance.randrange(BUFFER)
                    data, buffer[place] = buffer[place], data
                    yield _from_npz(io.BytesIO(data))
        chance.shuffle(buffer)
        yield from (_from_npz(io.BytesIO(data)) for data in buffer)


def tar_stream(folder: Path, workers: int) -> Epochs:
    """Tar files through tarfile."""
    stream = _Tar(sorted((folder / "peers/tar").glob("*.tar")))
    loader: DataLoader[Batch] = DataLoader(stream, BATCH, collate_fn=pad, num_workers=workers)

    def epochs(epoch: int) -> Iterable[Batch]:
        stream.epoch = epoch
        return loader

    return epochs


def _sample(sample: dict[str, Any]) -> dict[str, torch.Tensor]:
    return _from_npz(io.BytesIO(sample["npz"]))


def webdataset(folder: Path, workers: int) -> Epochs:
    """github.com/webdataset/webdataset: WebDataset(...).shuffle(1000).map(...), WebLoader. ImportError without it."""
    wds = importlib.import_module("webdataset")
    parts = [str(path) for path in sorted((folder / "peers/tar").glob("*.tar"))]
    stream = wds.WebDataset(parts, shardshuffle=len(parts), empty_check=False).shuffle(BUFFER).map(_sample)
    loader = wds.WebLoader(stream, batch_size=BATCH, collate_fn=pad, num_workers=workers)
    return lambda _: loader


class _Files(Dataset[Batch]):
    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, number: int) -> Batch:
        return _from_npz(self.paths[number])


def npz_folder(folder: Path, workers: int) -> Epochs:
    """One .npz for each clip."""
    files = _Files(sorted(entry.path for entry in os.scandir(folder / "peers/npz")))
    loader: Any = DataLoader(files, BATCH, shuffle=True, collate_fn=pad, num_workers=workers)
    return lambda _: loader


PEERS: Final[dict[str, tuple[str, Callable[[Path, int], Epochs]]]] = {
    "hf_map": ("HF datasets, torch format, DataLoader", hf_map),
    "hf_iterable": ("HF datasets, iterable, shuffle buffer", hf_iterable),
    "frame_rows": ("HF datasets, row per frame (LeRobot)", frame_rows),
    "webdataset": ("webdataset package", webdataset),
    "tar_stream": ("tar of .npz by tarfile (WebDataset's way)", tar_stream),
    "npz_folder": ("folder of .npz, DataLoader", npz_folder),
}
"""What the documentation of each library shows."""
EXPERT: Final = ("HF's Arrow files by hand (expert)", arrow_by_hand)
