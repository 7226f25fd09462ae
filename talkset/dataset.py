"""Reading a finished data set: numpy arrays by clip, windows in seconds, filters over the index.

Needs only numpy and pyarrow; what needs more (torch, pandas, video, the head models) is imported when it is called. A
shard describes itself: the shape of a flat column stands in its Arrow field metadata, so columns that this version
does not know open as well.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from talkset.cells import Array
from talkset.index import Index, IndexRow, added_columns
from talkset.store import DatasetError, Store
from talkset.where import unknown_column

if TYPE_CHECKING:
    from talkset.training.loader import Loader
    from talkset.training.normalise import Normaliser
    from talkset.training.torch_dataset import WindowDataset

__all__ = ["Clip", "Dataset", "DatasetError", "open_dataset"]

TABLES: Final = ("params", "landmarks")
"""Sharded tables in the order in which a signal is looked up; columns that users added come after them."""
_KEYS: Final = ("clip_id", "num_frames")


def open_dataset(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    where: str | pc.Expression | None = None,
    split: str | None = None,
) -> Dataset:
    """Open a data set: a folder, or a URL such as s3://bucket/name, gs://bucket/name or hf://datasets/user/name.

    `columns` limits the signals of a clip (default: all of params; others are read when asked for).
    `where` is a condition over the index, such as "nme_mean < 0.02 and speaker == 's1'" (see talkset.where) or a
    pyarrow expression; only accepted clips are read unless it mentions `status`. `split` selects train, val or test.
    Raises DatasetError (a ValueError) for a missing or incompatible data set or a bad filter, KeyError for an unknown
    column.
    """
    return Dataset(Index(Store(path)).select(where, split), columns)


class Dataset:
    """The selected clips of a data set: `len`, iteration, `ds[i]` and `ds["clip_id"]` give `Clip`s."""

    def __init__(self, rows: Index, columns: Sequence[str] | None = None) -> None:
        self.store: Store = rows.store
        self.rows = rows
        """The selected rows of the index."""
        self.selected = None if columns is None else tuple(columns)
        """The columns asked for, None for all of params."""
        if self.selected is not None and self._schema("params") is not None:
            for name in self.selected:
                self.locate(name)

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "rows": self.rows, "selected": self.selected}

    def __repr__(self) -> str:
        facts = self.facts
        return f"<talkset data set {facts.get('name')} {facts.get('version')}: {len(self)} clips of {self.store.shown}>"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Clip]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, key: int | str) -> Clip:
        """A clip by position or id. Raises IndexError or KeyError."""
        if isinstance(key, str):
            position = self.rows.position(key)
            if position < 0:
                raise KeyError(f"clip {key!r} is not among the {len(self)} selected clips of {self.store.shown}")
            return Clip(self, position)
        return Clip(self, range(len(self))[key])

    def select(
        self,
        where: str | pc.Expression | None = None,
        split: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> Dataset:
        """The clips of this selection that pass a further condition; with other columns, where they are given."""
        return Dataset(self.rows.select(where, split, every_status=True), columns or self.selected)

    @property
    def index(self) -> pa.Table:
        """The selected rows of the index as an Arrow table, read at every call; `column` reads one column."""
        return self.rows.table()

    def column(self, name: str) -> pa.ChunkedArray:
        """One index column of the selected clips. Raises KeyError with a suggestion."""
        return self.rows.column(name)

    @functools.cached_property
    def _places(self) -> tuple[list[str], NDArray[np.int32], NDArray[np.int32]]:
        coded = self.column("shard").combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = coded.combine_chunks()
        codes = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32)
        rows = pc.fill_null(self.column("row"), -1).to_numpy().astype(np.int32)
        return coded.dictionary.to_pylist(), codes, rows

    @property
    def shard_names(self) -> list[str]:
        """The parts in which the selected clips are."""
        return self._places[0]

    @property
    def shard_of(self) -> NDArray[np.int32]:
        """(N,) for each selected clip its part in `shard_names`, -1 for one without parameters."""
        return self._places[1]

    @property
    def row_of(self) -> NDArray[np.int32]:
        """(N,) row of each selected clip inside its part, -1 for one without parameters."""
        return self._places[2]

    @property
    def facts(self) -> dict[str, Any]:
        """The content of dataset.json: name, version, models, licences, counts, history."""
        return dict(self.store.facts)

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The signals of a clip: those asked for, else all of params."""
        if self.selected is not None:
            return self.selected
        schema = self._schema("params")
        return tuple(name for name in schema.names if name not in _KEYS) if schema is not None else ()

    @property
    def stats(self) -> dict[str, Any]:
        """The content of stats.json, of all accepted clips: `totals`, and by head model count, mean, std, min, max and
        quantiles of every signal.
        """
        try:
            return self.store.read_json("stats.json")
        except FileNotFoundError as error:
            raise DatasetError(f"{self.store.shown} has no stats.json; run `talkset verify`") from error

    def normaliser(self, columns: Sequence[str], kind: str = "mean_std") -> Normaliser:
        """Normalisation of signals by stats.json; see talkset.training.normalise.

        Raises DatasetError where the selected clips have different head models.
        """
        from talkset.training.normalise import Normaliser

        models = pc.unique(self.column("head_model").drop_null()).to_pylist()
        if len(models) != 1:
            message = (
                f"the selected clips have the head models {', '.join(sorted(models)) or 'none'}, whose codes differ"
            )
            raise DatasetError(f"{message}; select one with where=\"head_model == '...'\"")
        return Normaliser.from_stats(self.stats, columns, models[0], kind)

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The selected rows of the index, or of the named signals with clip_id and num_frames, in flat columns."""
        from talkset.tables import signals_table

        return self.index if columns is None else signals_table(self, columns)

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """`to_arrow` as a pandas DataFrame; a tensor cell is a flat float32 array."""
        return self.to_arrow(columns).to_pandas()

    def to_polars(self, columns: Sequence[str] | None = None) -> Any:
        """`to_arrow` as a polars DataFrame. Raises DatasetError when polars is missing."""
        from talkset.tables import to_polars

        return to_polars(self.to_arrow(columns))

    def to_hf(self, columns: Sequence[str]) -> Any:
        """A Hugging Face `datasets.Dataset` of the named signals with typed features: (T, 52) is an Array2D."""
        from talkset.tables import to_hf

        return to_hf(self, columns)

    def window(self, clip: int | str | Clip, start_s: float, seconds: float) -> dict[str, Any]:
        """`seconds` of a clip from `start_s` on; see `Clip.window`."""
        chosen = clip if isinstance(clip, Clip) else self[clip]
        return chosen.window(start_s, start_s + seconds)

    def torch(self, columns: Sequence[str], window_s: float | None = None, hop_s: float | None = None) -> WindowDataset:
        """A map-style torch data set of dictionaries of tensors, whole clips or windows of `window_s` every `hop_s`.

        Windows do not overlap unless `hop_s` is shorter; a rest that is shorter than a window is left out. The number
        of frames may differ between clips and, at odd frame rates, by one between windows: pass
        `collate_fn=dataset.collate` to a DataLoader to pad them. `loader` is many times faster.
        Raises DatasetError when torch is missing or a column is not numeric.
        """
        _need_torch("Dataset.torch")
        from talkset.training.torch_dataset import WindowDataset

        return WindowDataset(self.select(columns=columns), window_s, hop_s)

    def loader(self, columns: Sequence[str], batch_size: int, **options: Any) -> Loader:
        """Shuffled, padded, optionally normalised batches of torch tensors; see talkset.training.loader.Loader.

        Raises DatasetError when torch is missing or a column is not numeric.
        """
        _need_torch("Dataset.loader")
        from talkset.training.loader import Loader

        return Loader(self, columns, batch_size, **options)

    def has_file(self, name: str) -> bool:
        """Whether the data set has a file of that relative name."""
        return self.store.has_file(name)

    def list_files(self, folder: str) -> list[str]:
        """Relative names of the files in a folder of the data set."""
        return self.store.list_files(folder)

    def local_path(self, name: str) -> Path:
        """A file of the data set as a path of this machine, fetched where it is remote."""
        return self.store.local_path(name)

    @functools.cached_property
    def _tables(self) -> tuple[str, ...]:
        return (*TABLES, *(f"columns/{name}" for name in added_columns(self.store, "params")))

    def _schema(self, table: str) -> pa.Schema | None:
        """Schema of a sharded table, from the first selected part; None when no selected clip has parameters."""
        return self.store.schema(f"{table}/{self.shard_names[0]}") if self.shard_names else None

    @functools.cached_property
    def _located(self) -> dict[str, tuple[str, str]]:
        return {}

    def locate(self, name: str) -> tuple[str, str]:
        """Table and column behind a name; `landmarks.valid` names a table where both have the column.

        Raises KeyError with a suggestion.
        """
        if name not in self._located:
            self._located[name] = self._find(name)
        return self._located[name]

    def _find(self, name: str) -> tuple[str, str]:
        prefix, dot, rest = name.partition(".")
        qualified = dot and prefix in TABLES
        column = rest if qualified else name
        known: list[str] = []
        for table in (prefix,) if qualified else self._tables:
            schema = self._schema(table)
            if schema is not None:
                if column in schema.names and column not in _KEYS:
                    return table, column
                known += [other for other in schema.names if other not in known and other not in _KEYS]
        raise KeyError(unknown_column(column, known))

    def field(self, name: str) -> pa.Field:
        """Arrow field of a signal; shape (JSON), unit, space, rotation, range and meaning are its metadata."""
        table, column = self.locate(name)
        schema = self._schema(table)
        if schema is None:
            raise KeyError(f"no selected clip has a signal {name!r}")
        return schema.field(column)

    def field_metadata(self, name: str) -> dict[str, str]:
        """The metadata of a signal's field as text."""
        return {key.decode(): value.decode() for key, value in (self.field(name).metadata or {}).items()}

    def shape(self, name: str) -> tuple[str | int, ...]:
        """Logical shape of a signal, such as ("T", 3); () for a number."""
        if name not in self._shapes:
            field = self.field(name)
            text = (field.metadata or {}).get(b"shape", b"[-1]" if pa.types.is_list(field.type) else b"[]")
            self._shapes[name] = self._parsed_shape(name, text)
        return self._shapes[name]

    def _parsed_shape(self, name: str, text: bytes) -> tuple[str | int, ...]:
        try:
            shape = json.loads(text)
        except ValueError:
            shape = None
        if not isinstance(shape, list) or not all(isinstance(axis, (str, int)) for axis in shape):
            message = f"{self.store.shown}: the shape of {name} is {text!r}, which is no list of axes"
            raise DatasetError(f"{message}; run `talkset verify`")
        return tuple(shape)

    @functools.cached_property
    def _shapes(self) -> dict[str, tuple[str | int, ...]]:
        return {}

    def in_table(self, table: str, names: Sequence[str]) -> Sequence[str]:
        """Those of the named signals that are columns of `table`: worth decoding in one read."""
        key = (table, tuple(names))
        if key not in self._together:
            places = [self.locate(name) for name in names]
            self._together[key] = [column for place, column in places if place == table]
        return self._together[key]

    @functools.cached_property
    def _together(self) -> dict[tuple[str, tuple[str, ...]], Sequence[str]]:
        return {}


def _need_torch(who: str) -> None:
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise DatasetError(f"{who} needs PyTorch: pip install torch") from error


class Clip(Mapping[str, Any]):
    """One clip: a mapping from signal name to array, with the index values as `.index` and as attributes."""

    def __init__(self, dataset: Dataset, position: int) -> None:
        self.dataset = dataset
        self.position = position
        """Place among the selected clips."""
        self.index: Mapping[str, Any] = IndexRow(dataset.rows, position)
        """Every value of the clip's index row, read when asked for."""
        self._wanted: tuple[str, ...] = dataset.selected or ()
        self._places: dict[str, tuple[str, int, int]] = {}

    def __repr__(self) -> str:
        return f"<clip {self.clip_id}: {self.num_frames} frames>"

    def __getattr__(self, name: str) -> Any:
        """A value of the index row."""
        if not name.startswith("_") and name not in ("index", "dataset") and name in self.index:
            return self.index[name]
        raise AttributeError(f"a clip has no {name!r}; signals are clip[{name!r}], index values are in clip.index")

    @property
    def clip_id(self) -> str:
        """The id of the clip."""
        return str(self.index["clip_id"])

    @property
    def num_frames(self) -> int:
        """Number of frames T; 0 for a clip that failed before it had any."""
        return int(self.index["num_frames"] or 0)

    @property
    def duration_us(self) -> int:
        """Length of the clip in microseconds. Raises DatasetError for a row without a span."""
        start, end = self.index["start_us"], self.index["end_us"]
        if start is None or end is None:
            raise DatasetError(f"clip {self.clip_id} ({self.index['status']}) has no span")
        return int(end - start)

    @property
    def media_path(self) -> Path | None:
        """The clip's own video, None where the data set has none for it (or is not on this machine)."""
        path = Path(self.dataset.store.path, "media", f"{self.clip_id}.mp4")
        return path if path.is_file() else None

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals of this clip; none for one without parameters."""
        return self.dataset.columns if self.dataset.shard_of[self.position] >= 0 else ()

    def __iter__(self) -> Iterator[str]:
        self._wanted = self.signals  # who goes through all names wants them all: they are decoded in one read
        return iter(self._wanted)

    def __len__(self) -> int:
        return len(self.signals)

    def __contains__(self, name: object) -> bool:
        return name in self.signals

    def __getitem__(self, name: str) -> Any:
        """A signal: arrays in their logical shape, such as (T, 52) float32 for `expression`; None where absent.

        Raises KeyError for an unknown signal, one not among the columns asked for, or a clip without parameters.
        """
        selected = self.dataset.selected
        if selected is not None and name not in selected:
            raise KeyError(f"{name!r} is not among the columns the data set was opened with: {', '.join(selected)}")
        return self.read(name, self._wanted)

    def read(self, name: str, wanted: Sequence[str] = ()) -> Any:
        """A signal whether or not it is among the columns asked for; `wanted` are worth decoding in the same read."""
        dataset = self.dataset
        if dataset.shard_of[self.position] < 0:
            raise KeyError(f"clip {self.clip_id} ({self.index['status']}) has no parameters, so no {name!r}")
        table, column = dataset.locate(name)
        part, group, row = self._place(table)
        together = dataset.in_table(table, wanted)
        cells = dataset.store.cells(part, group, column, together)
        if cells is None:
            return dataset.store.column(part, group, column, together)[row].as_py()
        if row in cells.absent:
            return None
        flat = np.array(cells.values[cells.bounds[row] : cells.bounds[row + 1]])
        shape = dataset.shape(name)
        frames = self._frames
        sizes = [frames if axis == "T" else axis if isinstance(axis, int) else -1 for axis in shape]
        try:
            return flat.reshape(sizes)
        except ValueError as error:
            message = f"clip {self.clip_id}: {name} has {flat.size} values, not {shape} with T = {self.num_frames}"
            raise DatasetError(f"{message}; run `talkset verify`") from error

    def _place(self, table: str) -> tuple[str, int, int]:
        """Part, row group and row in it of this clip in a sharded table, looked up once."""
        if table not in self._places:
            dataset = self.dataset
            part = f"{table}/{dataset.shard_names[dataset.shard_of[self.position]]}"
            self._places[table] = (part, *dataset.store.locate(part, int(dataset.row_of[self.position])))
        return self._places[table]

    @functools.cached_property
    def _frames(self) -> int:
        return self.num_frames

    def is_per_frame(self, name: str) -> bool:
        """Whether the first axis of a signal is time."""
        return self.dataset.shape(name)[:1] == ("T",)

    def window(self, start_s: float, end_s: float) -> dict[str, Any]:
        """The signals of the frames with start_s <= PTS < end_s; signals without a time axis come whole.

        Seconds count from the start of the clip. Raises ValueError for a window that crosses the clip's border.
        """
        start, end = round(start_s * 1e6), round(end_s * 1e6)
        if not 0 <= start < end <= self.duration_us:
            raise ValueError(
                f"window {start_s}..{end_s} s is not inside clip {self.clip_id}, which is 0..{self.duration_us / 1e6} s"
            )
        wanted = (*self.signals, "pts_us")
        first, last = np.searchsorted(self.read("pts_us", wanted), (start, end), side="left")
        window: dict[str, Any] = {}
        for name in self.signals:
            value = self.read(name, wanted)
            window[name] = value[first:last] if value is not None and self.is_per_frame(name) else value
        return window

    def words(self) -> list[dict[str, Any]]:
        """The words in order: start_us, end_us (clip clock), label, score, interpolated, source, position.

        Both times are None for a word that is said, but nobody knows when.
        """
        return self.dataset.store.rows_of_clip("words", self.clip_id)

    def phones(self) -> list[dict[str, Any]]:
        """The phones in order, with the same keys as words."""
        return self.dataset.store.rows_of_clip("phones", self.clip_id)

    def events(self) -> list[dict[str, Any]]:
        """Emotions, gestures, blinks and the like, with the keys of words and `kind`."""
        return self.dataset.store.rows_of_clip("events", self.clip_id)

    def vertices(self, **options: Any) -> Array:
        """Mesh vertices (T, V, 3) in metres, camera space by default; see talkset.geometry.clip_vertices."""
        from talkset.geometry import clip_vertices

        return clip_vertices(self, **options)

    def landmarks3d(self, **options: Any) -> Array:
        """The landmarks as points of the fitted surface (T, 478, 3) in metres; see talkset.geometry."""
        from talkset.geometry import clip_landmarks3d

        return clip_landmarks3d(self, **options)

    def arkit(self, **options: Any) -> Array:
        """ARKit's 52 blend-shape weights (T, 52), from the open head; see talkset.geometry.clip_arkit."""
        from talkset.geometry import clip_arkit

        return clip_arkit(self, **options)

    def rotations(self, name: str, kind: str) -> Array:
        """A rotation signal as "matrix" (T, 3, 3), "6d" (T, 6), "quaternion" (T, 4) or "axis_angle" (T, 3)."""
        from talkset.geometry import clip_rotations

        return clip_rotations(self, name, kind)

    def resampled(self, fps: float | Fraction, **options: Any) -> dict[str, Any]:
        """The signals at another frame rate, rotations on their manifold; see talkset.resample."""
        from talkset.geometry import clip_resampled

        return clip_resampled(self, fps, **options)

    def frames(self, start_s: float | None = None, end_s: float | None = None, **options: Any) -> Iterator[Any]:
        """The pictures (pts_us, (H, W, 3) uint8 RGB) of the clip's own video; see talkset.media.clip_frames."""
        from talkset.media import clip_frames

        return clip_frames(self, start_s, end_s, **options)

    def frame(self, number: int, **options: Any) -> Array:
        """The picture of one frame, found by its PTS."""
        from talkset.media import clip_frame

        return clip_frame(self, number, **options)

    def audio(self, rate_hz: int | None = None, mono: bool = False) -> tuple[Array, int]:
        """The clip's sound (N, channels) float32 from time zero on, and its rate."""
        from talkset.media import clip_audio

        return clip_audio(self, rate_hz, mono)
