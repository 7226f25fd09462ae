"""The measurements behind benchmarks/dataset.py; each runs in a process of its own, so that its memory is its own."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_peers import data
from talkset.dataset import Dataset, open_dataset

WHERE: Final = "nme_mean < 0.02 and speaker == 's1'"
CHECK_EVERY: Final = 20
"""Batches between two looks at the memory of all processes."""

_TURN: Final = 16
"""Clips that a reader reads before it is the next one's turn."""

Job = Callable[..., dict[str, Any]]
JOBS: Final[dict[str, Job]] = {}


def job(function: Job) -> Job:
    """Make a measurement known by its name."""
    JOBS[function.__name__] = function
    return function


def _status_mb(entry: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {entry}")


def peak_mb() -> float:
    """Highest resident size so far, mapped files included."""
    return _status_mb("VmHWM")


def reset_peak() -> float:
    """Forget the highest resident size; returns the one at hand."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status_mb("VmRSS")


def processes_pss_mb() -> float:
    """Proportional size of this process and its children: shared pages count once."""
    pids = [os.getpid()]
    for task in Path("/proc/self/task").iterdir():
        pids += [int(pid) for pid in (task / "children").read_text().split()]
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # a worker that has ended
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _median_ms(function: Callable[[], Any], times: int) -> float:
    function()
    return 1000 * statistics.median(_seconds(function) for _ in range(times))


@job
def make_params(folder: str, megabytes: float) -> dict[str, Any]:
    """The large part, and what its floats take raw."""
    started = time.perf_counter()
    clips = data.write_params(Path(folder, "big"), megabytes)
    return {"clips": clips, "seconds": time.perf_counter() - started}


@job
def make_peers(folder: str) -> dict[str, Any]:
    """The same clips in the peers' formats; Hugging Face converts Parquet on the first load."""
    from dataset_peers.loaders import load_hf

    here = Path(folder)
    started = time.perf_counter()
    data.write_peers(here / "big/params/part-00000.parquet", here / "peers")
    found: dict[str, Any] = {"seconds": time.perf_counter() - started}
    for name in ("big/params", "peers/frames"):
        started = time.perf_counter()
        rows = load_hf(str(here / name / "*.parquet"))
        found[name] = {
            "seconds": time.perf_counter() - started,
            "bytes": sum(Path(file["filename"]).stat().st_size for file in rows.cache_files),
        }
    return found


@job
def random_clip(folder: str, clips: int) -> dict[str, Any]:
    """Milliseconds (median, p95) for one random clip with all signals as arrays, all readers open, files in the cache.

    The readers take turns on the same clips; no two clips share a row group, so none is decoded already.
    """
    from dataset_peers.loaders import load_hf

    here = Path(folder)
    ours = open_dataset(here / "big")
    named = open_dataset(here / "big", columns=ours.columns)
    rows = load_hf(str(here / "big/params/*.parquet")).with_format("numpy")
    frames = load_hf(str(here / "peers/frames/*.parquet")).with_format("numpy")
    ends = np.load(here / "peers/frames/ends.npy")
    parquet = str(here / "peers/frames/file-000.parquet")
    offsets = np.load(here / "peers/tar/offsets.npy").tolist()
    tars = [path.open("rb") for path in sorted((here / "peers/tar").glob("*.tar"))]
    npz = str(here / "peers/npz")

    def from_tar(number: int) -> Any:
        part, offset, length = offsets[number]
        tars[part].seek(offset)
        return _arrays(io.BytesIO(tars[part].read(length)))

    readers: dict[str, tuple[Callable[[int], Any], int]] = {
        "talkset": (lambda n: dict(ours[n]), _TURN),
        "talkset, opened with columns=[all]": (lambda n: dict(named[n]), _TURN),
        "HF datasets, numpy format": (lambda n: rows[n], _TURN),
        "HF datasets, row per frame (LeRobot)": (lambda n: frames[int(ends[n - 1]) if n else 0 : int(ends[n])], _TURN),
        "Parquet, row per frame, pyarrow filter": (
            lambda n: pq.read_table(parquet, filters=[("episode_index", "==", n)]),
            2,
        ),
        "tar of .npz, offsets (WebDataset)": (from_tar, _TURN),
        "folder of .npz": (lambda n: _arrays(f"{npz}/{n:08d}.npz"), _TURN),
    }
    groups = np.random.default_rng(5).permutation(len(ours) // data.CLIPS_PER_GROUP)[:clips]
    numbers = (groups * data.CLIPS_PER_GROUP + groups % data.CLIPS_PER_GROUP).tolist()
    times: dict[str, list[float]] = {name: [] for name in readers}
    for first in range(0, len(numbers), _TURN):
        turn = numbers[first : first + _TURN]
        for name, (read, few) in readers.items():
            read(turn[0])  # opens what is opened lazily
            for number in turn[1:few]:
                times[name].append(1000 * _seconds(lambda read=read, number=number: read(number)))  # type: ignore[misc]
    expected, found = _arrays(f"{npz}/{numbers[1]:08d}.npz"), dict(ours[numbers[1]])
    same = all(
        np.array_equal(found[name], expected[name], equal_nan=expected[name].dtype.kind == "f") for name in expected
    )
    return {
        "signals": len(found),
        "same": same,
        "times": {name: [statistics.median(t), float(np.percentile(t, 95))] for name, t in times.items()},
    }


def _arrays(source: Any) -> dict[str, Any]:
    with np.load(source) as stored:
        return {name: stored[name] for name in stored.files}


@job
def one_column(folder: str, times: int) -> dict[str, Any]:
    """Seconds to read jaw_pose, all of params, and params with landmarks, of every clip of the small data set."""
    path = Path(folder, "small")
    params = list(open_dataset(path).columns)
    choices = {"jaw_pose": ["jaw_pose"], "params": params, "params + landmarks": [*params, "face_xy"]}

    def arrays(columns: list[str]) -> None:
        for clip in open_dataset(path, columns=columns):
            dict(clip)

    found: dict[str, Any] = {"clips": len(open_dataset(path))}
    ways: dict[str, Callable[[list[str]], Any]] = {
        "clip by clip": arrays,
        "to_arrow": lambda columns: open_dataset(path).to_arrow(columns),
    }
    for way, read in ways.items():
        taken: dict[str, list[float]] = {name: [] for name in choices}
        for _, (name, columns) in itertools.product(range(times), choices.items()):
            taken[name].append(_seconds(lambda read=read, columns=columns: read(columns)))  # type: ignore[misc]
        found[way] = {name: statistics.median(t) for name, t in taken.items()}
    return found


@job
def make_index(folder: str, name: str, rows: int) -> dict[str, Any]:
    """An index, its bytes, seconds and the growth of the memory."""
    before = reset_peak()
    started = time.perf_counter()
    data.write_index(Path(folder, name), rows, figures=True)
    seconds = time.perf_counter() - started
    growth = peak_mb() - before
    return {"seconds": seconds, "growth_mb": growth, "bytes": Path(folder, name, "index.parquet").stat().st_size}


@job
def filters(folder: str, name: str, times: int) -> dict[str, Any]:
    """Milliseconds for the same filter over an index by talkset, pandas and DuckDB; all must find as many clips."""
    import duckdb
    import pandas as pd

    path = Path(folder, name)
    index = str(path / "index.parquet")
    needed = ["nme_mean", "speaker", "status"]
    whole = open_dataset(path)

    def mask(frame: Any) -> Any:
        return frame[(frame.nme_mean < 0.02) & (frame.speaker == "s1") & (frame.status == "accepted")]

    query = f"from '{index}' where nme_mean < 0.02 and speaker = 's1' and status = 'accepted'"
    connection = duckdb.connect()
    ways: dict[str, Callable[[], Any]] = {
        "open_dataset(path, where=...)": lambda: open_dataset(path, where=WHERE),
        "dataset.select(where)": lambda: whole.select(WHERE),
        "pandas.read_parquet + mask": lambda: mask(pd.read_parquet(index)),
        "pandas, the three columns only": lambda: mask(pd.read_parquet(index, columns=needed)),
        "DuckDB, clip ids": lambda: connection.execute(f"select clip_id {query}").fetchall(),
    }
    found = {way: len(read()) for way, read in ways.items()}
    taken = {way: _median_ms(read, times) for way, read in ways.items()}
    connection.close()
    return {"found": found, "ms": taken}


def _open_filter(path: Path) -> Dataset:
    dataset = open_dataset(path)
    chosen = dataset.select(WHERE)
    assert 0 < len(chosen) < len(dataset)
    return chosen


def _index_rows(path: Path, count: int) -> int:
    """The whole index rows of random clips, by clip."""
    dataset = open_dataset(path)
    numbers = np.random.default_rng(2).integers(0, len(dataset), count).tolist()
    return len([dict(dataset[number].index) for number in numbers])


def _index_table(path: Path, count: int) -> int:
    """The whole index rows of random clips, as one table."""
    dataset = open_dataset(path)
    numbers = np.random.default_rng(2).permutation(len(dataset))[:count]
    ids = dataset.column("clip_id").combine_chunks().take(pa.array(numbers))
    return int(dataset.select(pc.field("clip_id").isin(ids)).index.num_rows)


def _verify(path: Path, _: int) -> int:
    from schemas.verify import verify_dataset

    known = ("is missing, the index has", "of this kind: a part is missing")
    other = [problem for problem in verify_dataset(path) if not any(text in problem.message for text in known)]
    if other:
        raise ValueError(f"the index has other problems than the parts that were not made: {other[:3]}")
    return 0


@job
def use_index(folder: str, name: str, step: str) -> dict[str, Any]:
    """Seconds and growth of the memory of one step over a large index."""
    import pandas as pd

    import schemas.verify  # noqa: F401

    path = Path(folder, name)
    steps: dict[str, Callable[[], Any]] = {
        "open": lambda: open_dataset(path),
        "open and filter": lambda: _open_filter(path),
        "1,000 index rows by clip": lambda: _index_rows(path, 1000),
        "1,000 index rows as a table": lambda: _index_table(path, 1000),
        "verify": lambda: _verify(path, 0),
        "pandas.read_parquet": lambda: pd.read_parquet(path / "index.parquet"),
    }
    before = reset_peak()
    seconds = _seconds(steps[step])
    return {"seconds": seconds, "growth_mb": peak_mb() - before}


@job
def writing(folder: str, clips: int) -> dict[str, Any]:
    """Seconds to write clips with landmarks: records one by one, and row groups of Arrow tables."""
    here = Path(folder)
    ids, made, records = data.make_small(clips)
    raw = sum(values.nbytes for values in made.values() if values.dtype == np.float32)
    return {
        "megabytes": raw / 2**20,
        "records": _seconds(lambda: data.write_records(here / "small", records)),
        "tables": _seconds(lambda: data.write_tables(here / "small_tables", ids, made)),
        "clips": len(ids),
    }


@job
def sizes(folder: str) -> dict[str, Any]:
    """Bytes of every format and the raw bytes of its float32 signals."""
    here = Path(folder)
    large, small = here / "big/params/part-00000.parquet", here / "small/landmarks/part-00000.parquet"

    def total(path: Path, pattern: str) -> int:
        return sum(file.stat().st_size for file in path.rglob(pattern) if file.is_file())

    packed = stored = 0
    for path in sorted((here / "peers/npz").iterdir())[:200]:
        stream = io.BytesIO()
        np.savez_compressed(stream, **_arrays(path))
        packed, stored = packed + len(stream.getvalue()), stored + path.stat().st_size
    npz = total(here / "peers/npz", "*.npz")
    return {
        "params_raw": _raw_floats(large),
        "params": {
            "talkset": large.stat().st_size,
            "Parquet, row per frame (LeRobot's settings)": total(here / "peers/frames", "*.parquet"),
            "tar of .npz": total(here / "peers/tar", "*.tar"),
            "folder of .npz": npz,
            "folder of .npz, compressed (of 200)": round(npz * packed / stored),
        },
        "landmarks_raw": _raw_floats(small),
        "landmarks": {"talkset": small.stat().st_size},
    }


def _raw_floats(path: Path) -> int:
    """Bytes of all float32 values of a part."""
    metadata = pq.read_metadata(path)
    chunks = (
        metadata.row_group(group).column(leaf)
        for group in range(metadata.num_row_groups)
        for leaf in range(metadata.num_columns)
    )
    return sum(4 * chunk.num_values for chunk in chunks if chunk.physical_type == "FLOAT")


@job
def train(
    folder: str, peer: str, workers: int, seconds: float, cache_mb: float = 0, threads: int = 1, prepared: bool = False
) -> dict[str, Any]:
    """Clips/s, CPU microseconds a clip and the peak memory of two epochs, each cut after so many `seconds`.

    A third epoch looks at the memory of all processes and at what came out: `sum` and `frames`, None of a cut one.
    """
    from dataset_peers import loaders

    here = Path(folder)
    imported = peak_mb()
    try:
        if peer == "talkset":
            epochs = loaders.talkset(here, workers, cache_mb, threads, prepared)
        elif peer == "arrow_by_hand":
            epochs = loaders.arrow_by_hand(here, workers)
        else:
            epochs = loaders.PEERS[peer][1](here, workers)
    except ModuleNotFoundError as error:
        return {"skipped": f"{error.name} is not installed"}
    started = time.perf_counter()
    if prepared:
        next(iter(epochs(0)))  # makes the files
    made_s = time.perf_counter() - started
    rates, cpu_us = [], []
    for epoch in range(2):
        clips = 0
        cpu, started = time.process_time(), time.perf_counter()
        for batch in epochs(epoch):
            clips += len(batch["mask"])
            if time.perf_counter() - started > seconds:
                break
        rates.append(clips / (time.perf_counter() - started))
        cpu_us.append(1e6 * (time.process_time() - cpu) / clips)
    found = {"rates": rates, "cpu_us": cpu_us, "peak_mb": peak_mb(), "imports_mb": imported, "made_s": made_s}
    return found | _content(epochs(2), seconds)


def _content(batches: Iterable[Any], seconds: float) -> dict[str, Any]:
    """What an epoch gave, and the largest memory of all processes meanwhile."""
    pss = total = 0.0
    frames = 0
    whole = True
    started = time.perf_counter()
    for number, batch in enumerate(batches):
        total += float(batch["expression"].double().sum())
        frames += int(batch["mask"].sum())
        if number % CHECK_EVERY == 0:
            pss = max(pss, processes_pss_mb())
        if time.perf_counter() - started > seconds:
            whole = False
            break
    return {"pss_mb": pss, "frames": frames if whole else None, "sum": total if whole else None}
