"""What is claimed of the data set format and its reader, measured beside what people use instead, on the same clips.

The peers are Hugging Face datasets, LeRobot's layout (one row per frame), WebDataset's tar files, folders of .npz,
pandas and DuckDB, in the same run on the same synthetic clips (see dataset_peers), as their documentation shows;
each measurement runs in a process of its own. Files are in the page cache, for everybody.

    python benchmarks/dataset.py [--quick] [--claims 1 4] [--folder FOLDER] [--keep]

Takes about ten minutes and 2 GB of disk on two cores; --quick less than three. Exits with 1 when a limit is
missed. The peer `webdataset` is left out where the package is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dataset_peers import jobs, loaders

MB = 2**20
CLIP_MS = 2.0
COLUMN_FACTOR = 5.0
FILTER_MS = 50.0
LOADER_FACTOR = 2.0
SIZE_RATIO = 0.9
BUILD_INDEX_MB = 300.0
FILTER_INDEX_MB = 100.0
MEMORY_NOISE_MB = 30.0
"""By how much the peak of the same program differs from run to run."""
DECODED_KB = 20.0
"""What the cache needs for the columns of a clip."""


class Bench:
    """Runs measurements and remembers which limits were missed."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder, self.quick = folder, quick
        self.seconds = 1.0 if quick else 5.0
        """Longest time for an epoch."""
        self.missed: list[str] = []
        cache = folder / "hf"
        self._environment = {
            **os.environ,
            "HF_HOME": str(cache),
            "HF_DATASETS_CACHE": str(cache / "datasets"),
            "HF_HUB_OFFLINE": "1",
            "TMPDIR": str(folder),
        }

    def run(self, job: str, **arguments: Any) -> dict[str, Any]:
        """One measurement in a process of its own."""
        given = json.dumps({"folder": str(self.folder), **arguments})
        command = [sys.executable, "-W", "ignore", __file__, "--job", job, given]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{done.stderr}\nthe measurement {job} {given} failed with {done.returncode}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def train(self, peer: str, workers: int = 0, **options: Any) -> dict[str, Any]:
        """The training loader of one peer."""
        return self.run("train", peer=peer, workers=workers, seconds=self.seconds, **options)

    def check(self, claim: str, value: float, limit: float, unit: str, at_least: bool = False) -> None:
        """Print a claim with its limit, and remember it when it is missed."""
        kept = value >= limit if at_least else value <= limit
        if not kept:
            self.missed.append(claim)
        sign = ">=" if at_least else "<="
        print(f"  {claim:<66} {value:8.2f} {unit}  limit {sign} {limit:g} {unit}  {'ok' if kept else 'MISSED'}")


def table(title: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> None:
    """A table with a wide first column."""
    print(f"\n{title}")
    print(" " * 50 + "".join(f"{head:>16}" for head in heads))
    for name, cells in rows:
        print(f"  {name:<48}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def random_clip(bench: Bench) -> None:
    found = bench.run("random_clip", clips=60 if bench.quick else 300)
    if not found["same"]:
        sys.exit("talkset and the .npz of the same clip differ")
    ours = found["times"]["talkset"][0]
    rows = [(name, [f"{t[0]:.3f}", f"{t[1]:.3f}", f"{t[0] / ours:.2f} x"]) for name, t in found["times"].items()]
    table(f"1. one random clip, all {found['signals']} signals as arrays", ["median ms", "p95 ms", "of ours"], rows)
    bench.check("random clip, median", ours, CLIP_MS, "ms")


def one_column(bench: Bench) -> None:
    found = bench.run("one_column", times=2 if bench.quick else 5)
    rows = []
    for way in ("clip by clip", "to_arrow"):
        rows += [(f"{way}: {name}", [f"{1000 * seconds:.1f}"]) for name, seconds in found[way].items()]
    table(f"2. columns of all {found['clips']} clips with landmarks", ["ms"], rows)
    seconds = found["clip by clip"]
    print(f"  jaw_pose against all of params alone: {seconds['params'] / seconds['jaw_pose']:.1f} x faster")
    factor = seconds["params + landmarks"] / seconds["jaw_pose"]
    bench.check("jaw_pose against params + landmarks, faster by", factor, COLUMN_FACTOR, "x", at_least=True)


def filters(bench: Bench) -> None:
    rows = 20_000 if bench.quick else 100_000
    bench.run("make_index", name="index100k", rows=rows)
    found = bench.run("filters", name="index100k", times=10 if bench.quick else 25)
    if len(set(found["found"].values())) != 1:
        sys.exit(f"the filters differ: {found['found']}")
    hits = next(iter(found["found"].values()))
    title = f"3. {jobs.WHERE!r} over {rows:,} clips ({hits} found)"
    table(title, ["median ms"], [(way, [f"{ms:.2f}"]) for way, ms in found["ms"].items()])
    for way, ms in list(found["ms"].items())[:2]:
        bench.check(way, ms, FILTER_MS, "ms")


def _loader_row(name: str, found: dict[str, Any]) -> tuple[str, list[str]]:
    if "skipped" in found:
        return name, [found["skipped"]]
    memory = [f"{found[key]:,.0f}" for key in ("peak_mb", "pss_mb", "imports_mb")]
    return name, [*(f"{rate:,.0f}" for rate in found["rates"]), *(f"{cpu:,.0f}" for cpu in found["cpu_us"]), *memory]


def _better(found: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """Of two runs the faster epochs and the larger memory: other programs only make a run slower."""
    rates = [max(pair) for pair in zip(found["rates"], again["rates"], strict=True)]
    cpu_us = [min(pair) for pair in zip(found["cpu_us"], again["cpu_us"], strict=True)]
    memory = {key: max(found[key], again[key]) for key in ("peak_mb", "pss_mb")}
    return {**found, **memory, "rates": rates, "cpu_us": cpu_us}


HEADS = ("clips/s, 1st", "clips/s, 2nd", "CPU us, 1st", "CPU us, 2nd", "peak MB", "PSS MB", "imports MB")


def _equal_memory(bench: Bench, peer: str, limit_mb: float, clips: int) -> tuple[float, dict[str, Any]]:
    """The largest cache with which our peak stays below a peer's, and what we measure with it."""
    cache_mb = min(256.0, 8 + clips * DECODED_KB / 1024)  # 256 is the default
    while True:
        ours = bench.train("talkset", cache_mb=cache_mb)
        excess = ours["peak_mb"] + MEMORY_NOISE_MB - limit_mb
        if excess <= 0 or cache_mb == 0:
            return cache_mb, ours
        print(f"  with cache_mb={cache_mb:.0f} our peak is {excess:.0f} MB above that of {peer}; trying with less")
        cache_mb = max(0.0, cache_mb - 1.2 * excess - 4)


def training(bench: Bench, clips: int, conversion_s: float) -> None:
    """Claim 4; the peers first, so that our cache can be given what leaves our peak below that of the best.

    Hugging Face datasets decodes Parquet once, into Arrow files that it maps (`conversion_s`); so does our loader with
    `prepared`, and without it reads the Parquet itself. Like is compared with like: prepared files with prepared
    files, and what has to happen before the first epoch with what has to happen there.
    """
    found = {peer: bench.train(peer) for peer in loaders.PEERS}
    ran = {peer: one for peer, one in found.items() if "skipped" not in one}
    best = max(ran, key=lambda peer: max(ran[peer]["rates"]))
    cache_mb, ours = _equal_memory(bench, best, ran[best]["peak_mb"], clips)
    mapped = bench.train("talkset", cache_mb=0, prepared=True)
    expert = bench.train("arrow_by_hand")
    for _ in range(1 if bench.quick else 2):  # in turns, because the load of the machine varies
        found[best] = ran[best] = _better(ran[best], bench.train(best))
        ours = _better(ours, bench.train("talkset", cache_mb=cache_mb))
        mapped = {**_better(mapped, bench.train("talkset", cache_mb=0, prepared=True)), "made_s": mapped["made_s"]}
        expert = _better(expert, bench.train("arrow_by_hand"))
    for peer, one in {**ran, "expert": expert, "prepared": mapped}.items():
        if one["sum"] is not None and ours["sum"] is not None:
            close = abs(one["sum"] - ours["sum"]) <= 1e-6 * abs(ours["sum"])
            if one["frames"] != ours["frames"] or not close:
                sys.exit(f"{peer} gave other values than talkset: {one['sum']} and {ours['sum']}")
    alone = bench.train("talkset", cache_mb=cache_mb, threads=0)
    small = bench.train("talkset", cache_mb=0)
    rows = [
        _loader_row("talkset, prepared, no cache", mapped),
        _loader_row(f"talkset, cache_mb={cache_mb:.0f}, threads=2 (default)", ours),
        _loader_row(f"talkset, cache_mb={cache_mb:.0f}, threads=0", alone),
        _loader_row("talkset, cache_mb=0, not prepared", small),
        *(_loader_row(loaders.PEERS[peer][0], one) for peer, one in found.items()),
        _loader_row(loaders.EXPERT[0], expert),
    ]
    table(f"4. batches of {loaders.BATCH} shuffled clips, {clips:,} clips, no workers", HEADS, rows)
    print(
        f"  Before: Hugging Face's Arrow files {conversion_s:.1f} s, talkset's prepared files {mapped['made_s']:.1f} s."
    )
    print(f"  The best library peer: {loaders.PEERS[best][0]}. Epochs are cut after {bench.seconds:g} s.")

    def check(what: str, rate: float, peer_rate: float) -> None:
        bench.check(f"{what}, clips/s against the best library peer", rate / peer_rate, LOADER_FACTOR, "x", True)

    peer_rates = ran[best]["rates"]
    before_s = conversion_s if best.startswith("hf") else 0.0
    for epoch, name in enumerate(("1st", "2nd")):
        check(f"{name} epoch, both prepared", mapped["rates"][epoch], peer_rates[epoch])
    check("2nd epoch, not prepared", ours["rates"][1], peer_rates[1])
    whole = clips / (clips / peer_rates[0] + before_s)
    words = "1st epoch from Parquet, the peer's conversion counted"
    print(f"    {words:<64} {ours['rates'][0] / whole:8.2f} x")
    for epoch, name in enumerate(("1st", "2nd")):
        for what, one in (("from Parquet", ours), ("from Parquet, no cache", small)):
            words = f"{name} epoch {what}, against the peer's Arrow"
            print(f"    {words:<64} {one['rates'][epoch] / peer_rates[epoch]:8.2f} x")
        words = f"{name} epoch prepared, against Arrow by hand, the expert"
        print(f"    {words:<64} {mapped['rates'][epoch] / expert['rates'][epoch]:8.2f} x")
    if not bench.quick:  # few clips: the imports decide
        for name, one in (("cached", ours), ("prepared", mapped)):
            claim = f"our peak memory, {name}, against the best library peer's"
            bench.check(claim, one["peak_mb"], ran[best]["peak_mb"], "MB")
    _workers(bench, cache_mb, best)


def _workers(bench: Bench, cache_mb: float, best: str) -> None:
    """The same with two worker processes, for information."""
    peers = [best] if bench.quick else list(loaders.PEERS)
    rows = [
        ("talkset, 2 workers", bench.train("talkset", workers=2, cache_mb=cache_mb / 2)),
        ("talkset, prepared, 2 workers", bench.train("talkset", workers=2, cache_mb=0, prepared=True)),
        ("talkset, threads=1", bench.train("talkset", cache_mb=cache_mb, threads=1)),
        *((loaders.PEERS[peer][0], bench.train(peer, workers=2)) for peer in peers),
        (loaders.EXPERT[0], bench.train("arrow_by_hand", workers=2)),
    ]
    print(f"\n  With 2 workers; talkset's cache is {cache_mb / 2:.0f} MB in each.", end="")
    title = "  Peak MB and CPU are the main process's, PSS is of all."
    table(title, HEADS, [_loader_row(*row) for row in rows])


def sizes(bench: Bench, peers: dict[str, Any]) -> None:
    found = bench.run("sizes")
    raw = found["params_raw"]
    params = {
        **found["params"],
        "HF datasets, Arrow files": peers["big/params"]["bytes"],
        "HF datasets, row per frame, Arrow files": peers["peers/frames"]["bytes"],
    }
    rows = [(f"params, {name}", [f"{size / MB:.1f}", f"{size / raw:.3f}"]) for name, size in params.items()]
    size, all_points = found["landmarks"]["talkset"], found["landmarks_raw"]
    rows.append(("landmarks, talkset", [f"{size / MB:.1f}", f"{size / all_points:.3f}"]))
    table("5. bytes of all columns / raw bytes of the float32 signals", ["MB", "of raw"], rows)
    bench.check("params", found["params"]["talkset"] / raw, SIZE_RATIO, "of raw")
    bench.check("landmarks", size / all_points, SIZE_RATIO, "of raw")


def large_index(bench: Bench) -> None:
    count = 50_000 if bench.quick else 1_000_000
    built = bench.run("make_index", name="index1m", rows=count)
    steps = ["open", "open and filter", "1,000 index rows by clip", "1,000 index rows as a table", "verify"]
    steps.append("pandas.read_parquet")
    found = {step: bench.run("use_index", name="index1m", step=step) for step in steps}
    rows = [
        (step, [f"{one['seconds']:.2f}", f"{one['growth_mb']:,.0f}"]) for step, one in {"build": built, **found}.items()
    ]
    table(f"6. an index of {count:,} clips, {built['bytes'] / MB:.0f} MB on disk", ["s", "peak growth MB"], rows)
    bench.check("build, growth of the peak memory", built["growth_mb"], BUILD_INDEX_MB, "MB")
    bench.check("open and filter, growth", found["open and filter"]["growth_mb"], FILTER_INDEX_MB, "MB")


def writing(found: dict[str, Any]) -> None:
    rows = [
        (name, [f"{found['clips'] / found[key]:.0f}", f"{found['megabytes'] / found[key]:.0f}"])
        for key, name in (("records", "DatasetWriter.add"), ("tables", "DatasetFiles.write_group"))
    ]
    table(f"7. writing {found['clips']} clips with landmarks, statistics included", ["clips/s", "MB/s of floats"], rows)


def measure(bench: Bench, claims: Sequence[int]) -> None:
    """Make the clips and go through the claims of the given numbers."""
    made = bench.run("make_params", megabytes=16 if bench.quick else 256)
    part = bench.folder / "big/params/part-00000.parquet"
    print(f"{made['clips']:,} clips in a params part of {part.stat().st_size / MB:.0f} MB, ", end="")
    print(f"written in {made['seconds']:.0f} s ({made['clips'] / made['seconds']:.0f} clips/s, made on the way)")
    peers = bench.run("make_peers")
    print(f"Hugging Face's conversion of that part to Arrow files: {peers['big/params']['seconds']:.1f} s")
    written = bench.run("writing", clips=60 if bench.quick else 500)
    steps: dict[int, Callable[[], None]] = {
        1: lambda: random_clip(bench),
        2: lambda: one_column(bench),
        3: lambda: filters(bench),
        4: lambda: training(bench, made["clips"], peers["big/params"]["seconds"]),
        5: lambda: sizes(bench, peers),
        6: lambda: large_index(bench),
        7: lambda: writing(written),
    }
    for number, step in steps.items():
        if number in claims:
            step()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="leave the files there")
    parser.add_argument("--quick", action="store_true", help="few clips: figures of little meaning")
    parser.add_argument("--claims", type=int, nargs="+", default=range(1, 8), help="numbers of tables; default: all")
    parser.add_argument("--job", nargs=2, metavar=("NAME", "JSON"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        name, given = arguments.job
        print(json.dumps(jobs.JOBS[name](**json.loads(given))))
        return 0
    if arguments.folder is not None:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="talkset-benchmark-", dir=arguments.folder))
    bench = Bench(folder, arguments.quick)
    try:
        measure(bench, arguments.claims)
    finally:
        if arguments.keep:
            print(f"the files are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"\nlimits: {'all kept' if not bench.missed else 'MISSED: ' + '; '.join(bench.missed)}")
    return int(bool(bench.missed))


if __name__ == "__main__":
    sys.exit(main())
