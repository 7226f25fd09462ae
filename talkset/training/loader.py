"""Training batches from a data set, fast and repeatable: shuffled, padded, normalised, resumable, for any ranks.

Decoded row groups are shared by the threads of a process and kept up to a limit, so that a data set that fits is read
once. The order of an epoch (talkset.training.order) does not depend on who reads it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import os
import queue
import threading
import warnings
import weakref
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray

from talkset.dataset import Dataset
from talkset.store import DatasetError
from talkset.training.batches import Cache, Reader, Request
from talkset.training.decoding import Signal, Source
from talkset.training.normalise import Normaliser
from talkset.training.order import EpochOrder, Windows, in_order, shuffled
from talkset.training.prepared import folder_for, prepare, user_cache

PREFETCH: Final = 4
"""Batches that each thread or worker makes ahead."""
_STATE_FORMAT: Final = 1
_IDS_AT_ONCE: Final = 1 << 16

_ALIGNED: Final = 64

Batch = dict[str, Any]
Packed = tuple[torch.Tensor, list[tuple[str, str, tuple[int, ...], int]], Batch]
"""A block of bytes; name, dtype, shape and place in the block of each array; what is no array."""


class Loader:
    """Iterates over the batches of an epoch; make one with `Dataset.loader(columns, batch_size, ...)`.

    A batch of B items, T frames in the longest of them, is a dictionary:
        signals with a time axis    (B, T, ...) in their own dtype, zero where there is no frame
        signals without one         (B, ...)
        `mask`      (B, T) bool, true inside the clip or window, false in the padding
        `valid`     (B, T) bool, true where `mask` is, the face was seen (`valid` of the tables of these signals) and
                    every float of the frame is finite: **multiply the loss by this one**
        `length`    (B,) int64, frames
        `clip_id`   list of B str
        `start_s`   (B,) float64, start of the window in the clip, seconds
    A value that is not finite is never given out: it is 0, in normalised units where they are asked for, and its frame
    is not `valid`. Other values of frames that are not valid are as stored. Asking for the column `valid` is allowed
    and gives the same mask. Without any signal that has a time axis there are no `mask`, `valid` and `length`. With
    `pad=False` signals with a time axis and `valid` are lists of B tensors (T_i, ...), and there is no `mask`.

    `window_s` cuts clips into windows of so many seconds every `hop_s` (default: `window_s`); None gives whole clips.
    `normalise` is "mean_std" or "quantile" of the data set's statistics for all float columns, or a `Normaliser`,
    which leaves columns that it does not name alone; the one in use is `loader.normaliser`.

    The order of an epoch follows from `seed` and the epoch alone (`lanes` and `shuffle_groups`: see
    `talkset.training.order.shuffled`), so it is the same for any number of ranks, workers and threads. Rank r of R
    takes the batches r, r + R, ...; every rank gets the same number of batches, so up to R - 1 at the end of an epoch
    are left out. An epoch that was read to its end is followed by the next one; `set_epoch` chooses.

    Reading: `threads` of this process (0: none, in the caller's), or `num_workers` processes instead. Row groups are
    decoded once in an epoch where ranks x workers (or threads) divides `lanes`, more often elsewhere. Each process
    keeps decoded row groups up to `cache_mb` for good, and those at hand besides: at most `shuffle_groups` for each
    lane it reads, and those of a batch.
    For data larger than that, `prepared` decodes the selected parts once into files that are mapped, in that folder,
    or with True in the user's cache folder (TALKSET_CACHE): about the size of the raw floats, made at the first
    iteration and found again by every later loader of the same version, columns and normalisation. Then no epoch
    decodes anything, and all processes of a machine share one copy.
    One iteration at a time: a new one ends the one before. `close` ends threads and workers.
    """

    def __init__(
        self,
        dataset: Dataset,
        columns: Sequence[str],
        batch_size: int,
        *,
        window_s: float | None = None,
        hop_s: float | None = None,
        shuffle: bool = True,
        seed: int = 0,
        epoch: int = 0,
        drop_last: bool = False,
        normalise: str | Normaliser | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        num_workers: int = 0,
        threads: int = 2,
        cache_mb: float = 256,
        lanes: int = 8,
        shuffle_groups: int = 16,
        pad: bool = True,
        pin_memory: bool = False,
        prepared: bool | str | os.PathLike[str] = False,
        multiprocessing_context: str | None = None,
    ) -> None:
        """`rank` and `world_size` default to those of torch.distributed where it is initialised, else to 0 of 1.

        `multiprocessing_context` is "fork", "spawn" or "forkserver" for workers. Raises DatasetError for arguments
        that cannot be used, such as windows longer than every clip; KeyError for an unknown column.
        """
        self._rank, self._world = _ranks(rank, world_size)
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("seed", seed, 0),
            ("epoch", epoch, 0),
            ("num_workers", num_workers, 0),
            ("threads", threads, 0),
            ("cache_mb", cache_mb, 0),
            ("lanes", lanes, 1),
            ("shuffle_groups", shuffle_groups, 1),
        ):
            if value < least:
                raise DatasetError(f"{name} must be at least {least}, got {value!r}")
        if not columns:
            raise DatasetError("name the columns to load, such as columns=['expression', 'jaw_pose']")
        self.dataset = dataset
        self.batch_size = batch_size
        self._epoch = epoch
        self._seed, self._shuffle, self._drop_last = seed, shuffle, drop_last
        self._lanes, self._shuffle_groups = lanes, shuffle_groups
        self._windows = plan_windows(dataset, window_s, hop_s)
        if not len(self._windows):
            raise DatasetError(
                f"there is nothing to load: none of the {len(dataset)} selected clips "
                + ("is chosen" if window_s is None else f"is {window_s} s long; choose a shorter window_s")
            )
        signals = tuple(Signal.of(dataset, name) for name in dict.fromkeys(columns))
        self.normaliser = _normaliser(dataset, signals, normalise)
        """The normalisation in use, None for none; save `normaliser.to_json()` with a model."""
        self._source = Source(
            dataset.store, dataset.shard_names, signals, self._windows.window_us, self.normaliser, pad
        )
        if prepared:
            cache = user_cache() if prepared is True else Path(prepared)
            self._source = dataclasses.replace(self._source, prepared=folder_for(self._source, cache))
        self._settings: dict[str, Any] = {
            "columns": list(columns),
            "batch_size": batch_size,
            "window_s": window_s,
            "hop_s": hop_s,
            "shuffle": shuffle,
            "seed": seed,
            "lanes": lanes,
            "shuffle_groups": shuffle_groups,
        }
        if len(self) == 0:
            raise DatasetError(
                f"{len(self._windows)} items in batches of {batch_size} leave none for each of {self._world} ranks; "
                "choose a smaller batch_size"
            )
        self._workers, self._threads, self._context = num_workers, threads, multiprocessing_context
        self._pin = pin_memory and _can_pin()
        self._cache = Cache(int(cache_mb * 2**20))
        self._readers: list[Reader] = []
        self._pool: torch.utils.data.DataLoader[Packed] | None = None
        self._feed = _Feed()
        self._places: tuple[NDArray[np.int64], int] | None = None
        self._is_prepared = False
        self._digest: str | None = None
        self._active: weakref.ref[Any] | None = None
        self._run = 0
        self._first = 0  # batch of the epoch at which the iteration starts
        self._given = 0  # batches that it has handed out

    def __repr__(self) -> str:
        return f"<loader of {len(self)} batches of {self.batch_size} from {self.dataset!r}>"

    def _total(self) -> int:
        full, rest = divmod(len(self._windows), self.batch_size)
        return full + (rest > 0 and not self._drop_last)

    def __len__(self) -> int:
        """Batches of a whole epoch for this rank."""
        return self._total() // self._world

    @property
    def epoch(self) -> int:
        """The epoch that is being read, or that the next iteration reads."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; a position restored in that epoch stays."""
        if epoch < 0:
            raise DatasetError(f"epoch must be at least 0, got {epoch!r}")
        if epoch != self._epoch:
            self._stop()
            self._epoch, self._first, self._given = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Where training stands, as plain values: the batches that were handed out, not those made ahead.

        The same on every rank, so one rank's is enough; it may be restored with other numbers of ranks and workers.
        """
        epoch, position = self._epoch, self._first + self._given * self._world
        if position + self._world > self._total():
            epoch, position = epoch + 1, 0
        return {
            "format": _STATE_FORMAT,
            "data": self._fingerprint(),
            "settings": dict(self._settings),
            "epoch": epoch,
            "batches": position,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken: the next iteration gives the batches that were left of its epoch.

        Raises DatasetError for a state of other clips, or of another order or content of batches.
        """
        if state.get("format") != _STATE_FORMAT:
            raise DatasetError(
                f"this is no state of a loader that this talkset can read (format {state.get('format')!r})"
            )
        settings = state["settings"]
        for name, value in self._settings.items():
            if settings.get(name) != value:
                raise DatasetError(
                    f"the state is of a loader with {name}={settings.get(name)!r}, this one has {value!r}; "
                    "make it with the same to resume, or start the epoch anew"
                )
        if state["data"] != self._fingerprint():
            raise DatasetError(
                f"the state is of other clips than the {len(self.dataset)} selected of {self.dataset.store.path}; "
                "open the data set version, split and filter that it was taken with"
            )
        self._stop()
        self._epoch, self._first, self._given = int(state["epoch"]), int(state["batches"]), 0

    def _fingerprint(self) -> str:
        """A digest of what the order of an epoch depends on besides the settings."""
        if self._digest is None:
            dataset = self.dataset
            digest = hashlib.sha256(json.dumps([dataset.facts.get("name"), dataset.shard_names]).encode())
            for array in (dataset.shard_of, dataset.row_of, self._windows.ends):
                digest.update(np.ascontiguousarray(array).tobytes())
            ids = dataset.column("clip_id")
            for first in range(0, len(ids), _IDS_AT_ONCE):
                digest.update("\n".join(ids.slice(first, _IDS_AT_ONCE).to_pylist()).encode() + b"\n")
            self._digest = digest.hexdigest()
        return self._digest

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the epoch, or what is left of it after `load_state_dict`."""
        self._stop()
        iteration = self._iterate()
        self._active = weakref.ref(iteration)
        return iteration

    def _stop(self) -> None:
        active = self._active() if self._active is not None else None
        self._active = None
        if active is not None:
            active.close()

    def close(self) -> None:
        """End the threads and worker processes; a later iteration starts new ones."""
        self._stop()
        self._pool = None  # torch ends the workers with it

    def _iterate(self) -> Iterator[Batch]:
        epoch, first = self._epoch, self._first
        self._given = 0
        count = (self._total() - first) // self._world
        numbers = range(first + self._rank, first + count * self._world, self._world)
        self._run += 1
        plan = self._plan()
        batches = self._from_workers(plan, numbers) if self._workers else self._from_threads(plan, numbers)
        try:
            for batch in batches:
                self._given += 1
                yield batch
        finally:
            batches.close()
        self._epoch, self._first, self._given = epoch + 1, 0, 0

    def _plan(self) -> _Plan:
        """What every batch of the epoch consists of."""
        if self._source.prepared is not None and not self._is_prepared:
            prepare(self._source, np.unique(self.dataset.shard_of).tolist(), self._source.prepared)
            self._is_prepared = True
        dataset, windows = self.dataset, self._windows
        readers = self._world * max(1, self._workers or self._threads)
        last_use = None
        if not self._shuffle:
            order = in_order(len(windows), self.batch_size)
        else:
            if self._places is None:
                self._places = row_groups(dataset, self._source.tables[0])
            of_clip, count = self._places
            groups = np.repeat(of_clip, windows.counts)
            seeds = {"seed": self._seed, "epoch": self._epoch}
            mixing = {"lanes": self._lanes, "shuffle_groups": self._shuffle_groups}
            order = shuffled(groups, count, self.batch_size, **seeds, **mixing)
            last_use = order.last_use(groups, count)[of_clip]
        return _Plan(self._run, dataset, windows, order, last_use, readers)

    def _from_threads(self, plan: _Plan, numbers: range) -> Generator[Batch, None, None]:
        count = max(1, self._threads)
        while len(self._readers) < count:
            self._readers.append(Reader(self._source, self._cache))
        if self._threads == 0:
            for number in numbers:
                yield _tensors(self._readers[0].read(plan.request(number)), self._pin)
            return
        crew = _Crew(self._readers, plan, numbers, self._pin)
        try:
            yield from crew
        finally:
            crew.end()

    def _from_workers(self, plan: _Plan, numbers: range) -> Generator[Batch, None, None]:
        self._feed.requests = (plan.request(number) for number in numbers)
        if self._pool is None:
            self._pool = torch.utils.data.DataLoader(
                _InWorker(self._source, self._cache.limit),
                batch_size=None,
                sampler=self._feed,
                num_workers=self._workers,
                collate_fn=_as_it_is,
                pin_memory=self._pin,
                prefetch_factor=PREFETCH,
                persistent_workers=True,  # they keep their row groups
                multiprocessing_context=self._context,
            )
        try:
            for packed in self._pool:
                yield _unpacked(*packed)
        except RuntimeError:  # a worker died; torch says which
            self._pool = None
            raise
        except (ConnectionError, EOFError) as error:  # it died while it handed a batch over
            self._pool = None
            raise RuntimeError(
                f"a worker process of the loader died ({error}); its memory may not have sufficed"
            ) from error
        finally:
            self._feed.requests = ()


class _Plan:
    """The batches of an epoch as requests; may be asked by several threads."""

    def __init__(
        self,
        run: int,
        dataset: Dataset,
        windows: Windows,
        order: EpochOrder,
        last_use: NDArray[np.int64] | None,
        readers: int,
    ) -> None:
        """`last_use` is the last batch that needs each clip's row group (N,), None where clips come in order."""
        self._run, self._windows, self._order = run, windows, order
        self._last_use, self._readers = last_use, readers
        self._ids = dataset.column("clip_id").combine_chunks()
        self._frames = dataset.column("num_frames").to_numpy()
        self._shards, self._rows = dataset.shard_of, dataset.row_of

    def request(self, number: int) -> Request:
        """What a reader must know for one batch."""
        items = self._order.batch(number)
        clips = self._windows.clips(items)
        next_batch = number + self._readers  # of the same reader
        return Request(
            run=self._run,
            number=number,
            clip_ids=self._ids.take(pa.array(clips)).to_pylist(),
            shards=self._shards[clips].tolist(),
            rows=self._rows[clips].tolist(),
            frames=self._frames[clips].tolist(),
            starts_us=self._windows.starts_us(items).tolist(),
            last_use=[next_batch] * len(items) if self._last_use is None else self._last_use[clips].tolist(),
        )


class _Crew:
    """Threads that make batches ahead: thread i of n makes every n-th, from the i-th on."""

    def __init__(self, readers: Sequence[Reader], plan: _Plan, numbers: range, pin: bool) -> None:
        self._lines: list[queue.Queue[Any]] = [queue.Queue(PREFETCH) for _ in readers]
        stop = threading.Event()
        threads = [
            threading.Thread(
                target=_make,
                args=(reader, plan, numbers[place :: len(readers)], pin, line, stop),
                name=f"talkset-loader-{place}",
                daemon=True,  # the end of the program does not wait for them; `_end` is called there as well
            )
            for place, (reader, line) in enumerate(zip(readers, self._lines, strict=True))
        ]
        self.end = weakref.finalize(self, _end, stop, self._lines, threads)
        """Ends the threads; harmless when they have ended."""
        for thread in threads:
            thread.start()

    def __iter__(self) -> Iterator[Batch]:
        for line in itertools.cycle(self._lines):
            made = line.get()
            if made is None:
                return
            if isinstance(made, BaseException):
                raise made
            yield made


def _make(
    reader: Reader, plan: _Plan, numbers: range, pin: bool, line: queue.Queue[Any], stop: threading.Event
) -> None:
    """Put the batches into a line, then None; or the error that ended it."""
    try:
        for number in numbers:
            if stop.is_set():
                return
            line.put(_tensors(reader.read(plan.request(number)), pin))
    except BaseException as error:  # whatever it is, it belongs to who waits for the batch
        line.put(error)
    else:
        line.put(None)


def _end(stop: threading.Event, lines: Sequence[queue.Queue[Any]], threads: Sequence[threading.Thread]) -> None:
    stop.set()
    for line, thread in zip(lines, threads, strict=True):
        with contextlib.suppress(queue.Empty):
            while True:
                line.get_nowait()  # makes room: a thread puts at most once more
        if thread.ident is not None:
            thread.join()


class _Feed:
    """The requests of the current iteration, for torch's DataLoader."""

    requests: Iterable[Request] = ()

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)


class _InWorker(torch.utils.data.Dataset[Packed]):
    """Makes batches in a worker process, which has a cache of its own.

    All arrays of a batch travel in one block of shared memory: one file and one mapping instead of one for each.
    """

    def __init__(self, source: Source, cache_bytes: int) -> None:
        self._source = source
        self._cache_bytes = cache_bytes
        self._reader: Reader | None = None

    def __getitem__(self, request: Request) -> Packed:
        if self._reader is None:
            self._reader = Reader(self._source, Cache(self._cache_bytes))
        return _packed(self._reader.read(request))


def _packed(batch: dict[str, Any]) -> Packed:
    layout: list[tuple[str, str, tuple[int, ...], int]] = []
    size = 0
    for name, value in batch.items():
        if isinstance(value, np.ndarray):
            layout.append((name, value.dtype.name, value.shape, size))
            size += -(-value.nbytes // _ALIGNED) * _ALIGNED
    block = torch.empty(size, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
    for name, _, _, start in layout:
        array = batch[name]
        block.numpy()[start : start + array.nbytes] = np.frombuffer(array, np.uint8)
    rest = {name: value for name, value in batch.items() if not isinstance(value, np.ndarray)}
    return block, layout, _tensors(rest, False)


def _unpacked(block: torch.Tensor, layout: Sequence[tuple[str, str, tuple[int, ...], int]], rest: Batch) -> Batch:
    batch = {}
    for name, kind, shape, start in layout:
        dtype: torch.dtype = getattr(torch, kind)
        size = math.prod(shape) * dtype.itemsize
        batch[name] = block[start : start + size].view(dtype).reshape(shape)
    return {**batch, **rest}


def _as_it_is(batch: Any) -> Any:
    return batch


def _tensors(batch: dict[str, Any], pin: bool) -> Batch:
    def tensor(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            made = torch.from_numpy(value)
            return made.pin_memory() if pin else made
        return [tensor(item) for item in value] if isinstance(value, list) else value

    return {name: tensor(value) for name, value in batch.items()}


def _ranks(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise DatasetError(f"give both rank and world_size or neither, got rank={rank!r}, world_size={world_size!r}")
    if rank is None or world_size is None:
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        return distributed.get_rank(), distributed.get_world_size()
    if not 0 <= rank < world_size:
        raise DatasetError(f"rank must be one of 0..{world_size - 1}, got {rank}")
    return rank, world_size


def _can_pin() -> bool:
    if torch.cuda.is_available():
        return True
    warnings.warn("pin_memory=True changes nothing: torch finds no CUDA device", stacklevel=3)
    return False


def _normaliser(dataset: Dataset, signals: Sequence[Signal], normalise: str | Normaliser | None) -> Normaliser | None:
    if normalise is None or isinstance(normalise, Normaliser):
        return normalise
    return dataset.normaliser([signal.name for signal in signals if signal.floating], normalise)


def plan_windows(dataset: Dataset, window_s: float | None, hop_s: float | None) -> Windows:
    """The windows of the selected clips. Raises DatasetError for clips without parameters or an impossible length."""
    without = int((dataset.shard_of < 0).sum())
    if without:
        raise DatasetError(f"{without} selected rows have no parameters; select accepted clips")
    if window_s is None:
        durations = np.zeros(len(dataset), np.int64)
    else:
        durations = pc.subtract(dataset.column("end_us"), dataset.column("start_us")).to_numpy()
    try:
        return Windows.cut(durations, window_s, hop_s)
    except ValueError as error:
        raise DatasetError(str(error)) from error


def row_groups(dataset: Dataset, table: str) -> tuple[NDArray[np.int64], int]:
    """The row group of each selected clip (N,), numbered from 0 without gaps, and how many there are.

    Reads the footer of every part.
    """
    by_shard = np.argsort(dataset.shard_of, kind="stable")
    borders = np.searchsorted(dataset.shard_of[by_shard], np.arange(len(dataset.shard_names) + 1))
    groups = np.zeros(len(dataset), np.int64)
    before = 0
    for code, name in enumerate(dataset.shard_names):
        clips = by_shard[borders[code] : borders[code + 1]]
        ends = dataset.store.group_ends(f"{table}/{name}")
        groups[clips] = before + np.searchsorted(ends, dataset.row_of[clips], side="right")
        before += len(ends) + 1  # one more for rows that the part does not have, which reading reports
    used, dense = np.unique(groups, return_inverse=True)
    return dense.astype(np.int64), len(used)
