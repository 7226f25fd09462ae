"""A data set of clips or windows as a map-style torch data set; imported only by `Dataset.torch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from talkset.dataset import Dataset
from talkset.training.decoding import Signal
from talkset.training.loader import plan_windows


class WindowDataset(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Items are dictionaries of the data set's columns as tensors, of a whole clip or of one window of a clip."""

    def __init__(self, dataset: Dataset, window_s: float | None, hop_s: float | None = None) -> None:
        """Windows of `window_s` seconds every `hop_s` (default: `window_s`), None for whole clips.

        Raises DatasetError for a length that is not positive, a column that is no number, clips without parameters.
        """
        self._windows = plan_windows(dataset, window_s, hop_s)
        for name in dataset.columns if len(dataset) else ():
            Signal.of(dataset, name)  # refuses what cannot be a tensor
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, item: int) -> dict[str, torch.Tensor]:
        number = np.array([range(len(self))[item]])
        clip = self._dataset[int(self._windows.clips(number)[0])]
        if self._windows.window_us is None:
            values = dict(clip)
        else:
            start = int(self._windows.starts_us(number)[0])
            values = clip.window(start / 1e6, (start + self._windows.window_us) / 1e6)
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
