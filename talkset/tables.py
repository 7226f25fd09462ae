"""A selection of clips as a table of another library: Arrow, polars, Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from talkset.store import DatasetError

if TYPE_CHECKING:
    from talkset.dataset import Dataset


def signals_table(dataset: Dataset, columns: Sequence[str]) -> pa.Table:
    """clip_id, num_frames and the named signals of the selected clips as flat columns, in the order of the selection.

    Field metadata carry shape and unit. Raises KeyError for an unknown signal, DatasetError for a selected clip
    without parameters.
    """
    if (dataset.shard_of < 0).any():
        clip = dataset[int(np.flatnonzero(dataset.shard_of < 0)[0])]
        raise DatasetError(f"clip {clip.clip_id} ({clip.index['status']}) has no parameters; select accepted clips")
    table = pa.table({name: dataset.column(name) for name in ("clip_id", "num_frames")})
    for name in columns:
        folder, column = dataset.locate(name)
        parts = [pa.chunked_array([], type=dataset.field(name).type)] if not len(dataset) else []
        for part, group, rows in _runs(dataset, folder):
            parts.append(dataset.store.read_group(part, group, [column])[column].take(pa.array(rows)))
        chunks = [chunk for stored in parts for chunk in stored.chunks]
        table = table.append_column(
            dataset.field(name).with_name(name), pa.chunked_array(chunks, dataset.field(name).type)
        )
    return table


def _runs(dataset: Dataset, folder: str) -> Iterator[tuple[str, int, np.ndarray[Any, Any]]]:
    """Consecutive selected clips that share a row group: part, row group, their rows in it."""
    if not len(dataset):
        return
    groups = np.zeros(len(dataset), np.int64)
    inside = np.zeros(len(dataset), np.int64)
    for code, shard in enumerate(dataset.shard_names):
        here = np.flatnonzero(dataset.shard_of == code)
        ends = dataset.store.group_ends(f"{folder}/{shard}")
        rows = dataset.row_of[here]
        groups[here] = np.searchsorted(ends, rows, side="right")
        starts = np.concatenate([[0], ends])
        inside[here] = rows - starts[groups[here]]
    change = np.flatnonzero((np.diff(groups) != 0) | (np.diff(dataset.shard_of) != 0)) + 1
    for first, last in zip([0, *change.tolist()], [*change.tolist(), len(dataset)], strict=True):
        shard = dataset.shard_names[dataset.shard_of[first]]
        yield f"{folder}/{shard}", int(groups[first]), inside[first:last]


def to_polars(table: pa.Table) -> Any:
    """An Arrow table as a polars DataFrame."""
    try:
        import polars
    except ModuleNotFoundError as error:
        raise DatasetError("to_polars needs polars: pip install polars") from error
    return polars.from_arrow(table)


def to_hf(dataset: Dataset, columns: Sequence[str]) -> Any:
    """A `datasets.Dataset` with clip_id, num_frames and the named signals in their logical shapes.

    Features: a (T, n) signal is Array2D((None, n), "float32"), (T, n, m) Array3D, a flat one a list; numbers and text
    are values. Raises DatasetError when `datasets` is missing.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise DatasetError("to_hf needs Hugging Face datasets: pip install datasets") from error
    features: dict[str, Any] = {"clip_id": datasets.Value("string"), "num_frames": datasets.Value("int32")}
    for name in columns:
        features[name] = _feature(datasets, dataset, name)

    def rows() -> Iterator[dict[str, Any]]:
        for clip in dataset:
            yield {
                "clip_id": clip.clip_id,
                "num_frames": clip.num_frames,
                **{n: clip.read(n, columns) for n in columns},
            }

    return datasets.Dataset.from_generator(
        rows, features=datasets.Features(features), fingerprint=_fingerprint(dataset, columns)
    )


def _feature(datasets: Any, dataset: Dataset, name: str) -> Any:
    kind, shape = dataset.field(name).type, dataset.shape(name)
    leaf = datasets.Value(str(kind.value_type if pa.types.is_list(kind) else kind).replace("bool_", "bool"))
    if not shape or len(shape) == 1:
        return datasets.List(leaf) if shape else leaf
    if len(shape) > 3:
        raise DatasetError(f"{name} has {len(shape)} axes; Hugging Face features have at most 3 here")
    sizes = list(dataset[0].read(name).shape) if len(dataset) else [1] * len(shape)
    axes = tuple(None if axis == "T" else size for axis, size in zip(shape, sizes, strict=True))
    return (datasets.Array2D if len(shape) == 2 else datasets.Array3D)(shape=axes, dtype=leaf.dtype)


def _fingerprint(dataset: Dataset, columns: Sequence[str]) -> str:
    """Names the content, so that Hugging Face's cache is neither stale nor made anew each time."""
    import hashlib
    import json

    digest = hashlib.sha256(json.dumps([dataset.store.path, dataset.facts, list(columns)], sort_keys=True).encode())
    for clip_id in dataset.column("clip_id").to_pylist():
        digest.update(f"{clip_id}\n".encode())
    return digest.hexdigest()[:32]
