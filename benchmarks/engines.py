"""What the engines cost: Ray beside the in-process engine and beside a plain pool of processes, and memory over time.

    python benchmarks/engines.py [--clips 100] [--only overhead|memory] [--picture FILE]

`overhead`: the same clips (spans of the recordings in grid/ and grid_s1/) through the whole pipeline, in process, with
Ray on one and on two workers, and, as the peer, through `multiprocessing.Pool` that calls the same tasks and keeps no
ledger, no record and no data set. Times are those of the phases, from the first item that is done to the last, so
start-up and model loading of the first item are left out. Limits: Ray at most 10 % above the in-process engine on one
worker; two workers at least 1.7 times as fast as one.

`memory`: 1,000 spans of a second through Ray on two workers; resident memory of driver and workers is read every
second and drawn. Limit: in each phase (sources, clips) the last fifth at most 10 % above the second; from one phase to
the next workers load other models.

Exits with 1 where a limit is missed. Machines share their cores with others: what counts are the ratios of one run.
"""

from __future__ import annotations

import argparse
import itertools
import math
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from run_parts.corpus import EVALUATION, write_manifest
from run_parts.processes import resident_mb, tree_mb, workers_of

OVERHEAD: Final = 1.1
SCALING: Final = 1.7
GROWTH: Final = 1.1
SETTINGS: Final = ("overlay.enabled=false",)


def seconds_of(times: Sequence[float]) -> float:
    """Seconds that so many items would take at the rate between the first that was done and the last."""
    ordered = sorted(times)
    return (ordered[-1] - ordered[0]) * len(ordered) / (len(ordered) - 1)


def by_engine(manifest: Path, out: Path, *settings: str) -> dict[str, float]:
    """Seconds by phase of a run."""
    from pipelines.events import EventReader
    from pipelines.run import run
    from schemas.config import load_config

    report = run(manifest, out, load_config(None, [*SETTINGS, *settings]))
    times: dict[str, list[float]] = {}
    for event in EventReader(out).new():
        if event["event"] == "end":
            times.setdefault(event["phase"], []).append(float(event["time"]))
    assert report.accepted, "no clip was accepted"
    return {phase: seconds_of(found) for phase, found in times.items()}


def by_pool(manifest: Path, out: Path, workers: int) -> dict[str, float]:
    """Seconds by phase of a pool of processes with the same tasks."""
    from pipelines.build import CLIP_STAGES, SOURCE_STAGES
    from pipelines.digests import model_digests
    from pipelines.keys import source_unit
    from pipelines.process import settle_process
    from pipelines.session import SourceState, clips_of
    from pipelines.work import ClipTask, SourceRow, SourceTask
    from schemas.config import load_config
    from schemas.manifest import local_path, read_manifest

    config = load_config(None, list(SETTINGS))
    digests = model_digests(config)
    rows, states = [], {}
    for source in read_manifest(manifest):
        path = local_path(source.uri, manifest.parent)
        row = SourceRow(source_unit(source), source, path, None, path.stat().st_size, path.stat().st_mtime_ns)
        rows.append(row)
        states[row.unit] = SourceState(row.unit, source, path)
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=settle_process) as pool:
        sources, times = _timed(pool, SourceTask(out, config, digests, SOURCE_STAGES), rows)
        clips = []
        for row, outcome in sources:
            state = states[row.unit]
            state.sha256, state.steps = outcome.sha256, outcome.steps
            clips += clips_of(state)
        _, clip_times = _timed(pool, ClipTask(out, config, digests, CLIP_STAGES), clips)
    return {"sources": seconds_of(times), "clips": seconds_of(clip_times)}


def _timed(pool: Any, task: Callable[[Any], Any], items: Iterable[Any]) -> tuple[list[tuple[Any, Any]], list[float]]:
    done, times = [], []
    for pair in pool.imap_unordered(_Paired(task), items):
        done.append(pair)
        times.append(time.time())
    return done, times


class _Paired:
    """A task that returns its item too."""

    def __init__(self, task: Callable[[Any], Any]) -> None:
        self._task = task

    def __call__(self, item: Any) -> tuple[Any, Any]:
        return item, self._task(item)


def overhead(manifest: Path, folder: Path) -> bool:
    """Print and judge the times."""
    runs: dict[str, Callable[[], dict[str, float]]] = {
        "in process": lambda: by_engine(manifest, folder / "local", "run.engine=local"),
        "Ray, 1 worker": lambda: by_engine(manifest, folder / "ray1", "run.workers=1"),
        "pool, 1 worker": lambda: by_pool(manifest, folder / "pool1", 1),
        "Ray, 2 workers": lambda: by_engine(manifest, folder / "ray2", "run.workers=2"),
        "pool, 2 workers": lambda: by_pool(manifest, folder / "pool2", 2),
    }
    totals = {}
    for name, measure in runs.items():
        phases = measure()
        totals[name] = sum(phases.values())
        told = ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in phases.items())
        print(f"{name:16s} {totals[name]:7.1f} s  ({told})", flush=True)
    above = totals["Ray, 1 worker"] / totals["in process"]
    gains = {name: totals[f"{name}, 1 worker"] / totals[f"{name}, 2 workers"] for name in ("Ray", "pool")}
    print(f"Ray over in-process on one worker: {above:.2f} x (limit {OVERHEAD})")
    print(f"1 -> 2 workers: Ray {gains['Ray']:.2f} x (limit {SCALING}), pool {gains['pool']:.2f} x")
    return above <= OVERHEAD and gains["Ray"] >= SCALING


class MemoryWatch:
    """Resident memory of this process and of Ray's actors, every second."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float, float]] = []
        self.phases: list[tuple[str, float]] = []
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def begin(self, phase: str, total: int) -> None:
        """A phase of the run begins."""
        del total
        self.phases.append((phase, time.monotonic() - self._started))

    def step(self) -> None:
        """An item is done."""

    def _watch(self) -> None:
        driver = os.getpid()
        while not self._stop.wait(1.0):
            workers = sum(map(tree_mb, workers_of(driver)))
            self.rows.append((time.monotonic() - self._started, resident_mb(driver), workers))


def memory(manifest: Path, folder: Path, picture: Path | None) -> bool:
    """Print, draw and judge memory over a long run."""
    from pipelines.run import run
    from schemas.config import load_config

    with MemoryWatch() as watch:
        config = load_config(None, [*SETTINGS, "run.workers=2", "shards.figures=false"])
        report = run(manifest, folder / "many", config, progress=watch)
    rows = [row for row in watch.rows if row[2] > 0]
    fine = True
    for (phase, begin), (_, end) in itertools.pairwise([*watch.phases, ("", math.inf)]):
        during = [row for row in rows if begin <= row[0] < end]
        fifth = len(during) // 5
        if phase not in ("sources", "clips") or not fifth:
            continue
        for name, column in (("driver", 1), ("workers", 2)):
            early, late = ([row[column] for row in part] for part in (during[fifth : 2 * fifth], during[-fifth:]))
            ratio = (sum(late) / len(late)) / (sum(early) / len(early))
            fine &= ratio <= GROWTH
            most = max(row[column] for row in during)
            print(f"{phase}, {name}: {most:.0f} MB at most, last fifth / second {ratio:.3f} ({GROWTH})")
    print(f"{report.accepted} clips accepted of {report.sources} sources in {rows[-1][0]:.0f} s")
    if picture is not None:
        _draw(rows, picture)
    return fine


def _draw(rows: Sequence[tuple[float, float, float]], picture: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3.5), layout="constrained")
    times, driver, workers = zip(*rows, strict=True)
    axes.plot(times, workers, label="2 workers with their decoders")
    axes.plot(times, driver, label="driver")
    axes.set(xlabel="seconds", ylabel="resident memory, MB", ylim=(0, None), title="1,000 clips in one run")
    axes.legend()
    figure.savefig(picture, dpi=110)


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--many", type=int, default=1000)
    parser.add_argument("--only", choices=("overhead", "memory"))
    parser.add_argument("--eval", type=Path, default=EVALUATION)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    held = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only in (None, "overhead"):
            held.append(overhead(write_manifest(options.eval, folder / "m.csv", options.clips), folder))
        if options.only in (None, "memory"):
            many = write_manifest(options.eval, folder / "many.csv", options.many, 1.0)
            held.append(memory(many, folder, options.picture))
    return 0 if all(held) else 1


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    sys.exit(main())
