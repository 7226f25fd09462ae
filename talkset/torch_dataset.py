"""A data set of clips or windows as a map-style torch data set; imported only by `Dataset.torch`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from talkset.dataset import Dataset, DatasetError


class WindowDataset(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Items are dictionaries of the data set's columns as tensors, of a whole clip or of one window of a clip."""

    def __init__(self, dataset: Dataset, window_s: float | None) -> None:
        if window_s is not None and not (math.isfinite(window_s) and round(window_s * 1e6) > 0):
            raise DatasetError(f"window_s must be a positive number of seconds, got {window_s!r}")
        for name in dataset.columns:
            if len(dataset) == 0:
                break
            table, column = dataset.locate(name)
            kind = dataset.field_type(table, column)
            leaf = kind.value_type if pa.types.is_list(kind) else kind
            if not (pa.types.is_floating(leaf) or pa.types.is_integer(leaf) or pa.types.is_boolean(leaf)):
                raise DatasetError(f"column {name!r} is {kind}, which cannot be a tensor; leave it out")
        self._dataset = dataset
        self._window_us = None if window_s is None else round(window_s * 1e6)
        index = dataset.index
        if index["shard"].null_count:
            raise DatasetError(f"{index['shard'].null_count} selected rows have no parameters; select accepted clips")
        if self._window_us is None:
            counts = np.ones(len(dataset), np.int64)
        else:
            duration = pc.subtract(index["end_us"], index["start_us"]).to_numpy()
            counts = duration // self._window_us
        self._ends = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        position = range(len(self))[item]
        clip_number = int(np.searchsorted(self._ends, position, side="right"))
        clip = self._dataset[clip_number]
        if self._window_us is None:
            values = dict(clip)
        else:
            number = position - (int(self._ends[clip_number - 1]) if clip_number else 0)
            values = clip.window(number * self._window_us / 1e6, (number + 1) * self._window_us / 1e6)
        return {name: torch.as_tensor(value) for name, value in values.items()}

    @staticmethod
    def collate(items: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """A batch: tensors of different first size are padded with zeros, `<name>_length` holds their true size."""
        batch: dict[str, Any] = {}
        for name in items[0]:
            tensors = [item[name] for item in items]
            if all(tensor.shape == tensors[0].shape for tensor in tensors):
                batch[name] = torch.stack(tensors)
            else:
                batch[name] = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)
                batch[f"{name}_length"] = torch.tensor([len(tensor) for tensor in tensors])
        return batch
