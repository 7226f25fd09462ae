"""Runs that are killed: the data set afterwards is the undisturbed one, and nothing finished was made twice.

    python benchmarks/run_faults.py [--clips 64] [--kills 20] [--eval ../shared/eval]

Three experiments on that many clips (spans of the recordings in grid/ and grid_s1/ of the evaluation data), each
compared byte for byte with one undisturbed run of the in-process engine:

- `driver`: `talkset run` with the Ray engine is killed (SIGKILL to the process alone) at random moments and started
  again, until it has been killed that often and a last run ends by itself;
- `workers`: one run during which random workers are killed;
- `node`: a cluster of three local nodes (`ray.cluster_utils`), one of which is killed in the middle.

Every stored result is looked at after each kill: one that was there must be the same file at the end (inode and time
of change), so nothing that was finished was made again. Prints the counts of the ledger. Exits with 1 where one of the
three does not hold. Takes about fifteen minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from run_parts.corpus import EVALUATION, write_manifest
from run_parts.processes import workers_of

SETTINGS: Final = ("run.workers=2", "overlay.height=160", "run.retry.wait_s=0.2")
Stamps = Mapping[str, tuple[int, int]]


def command(manifest: Path, out: Path, *settings: str) -> list[str]:
    """The command that a user gives."""
    options = [part for value in (*SETTINGS, *settings) for part in ("--set", value)]
    return [sys.executable, "-m", "talkset.cli", "run", str(manifest), "--out", str(out), *options]


def digests(root: Path) -> dict[str, str]:
    """Hash of every file of a data set but the run state."""
    files = [path for path in root.rglob("*") if path.is_file() and ".talkset" not in path.parts]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def stamps(root: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every result that is there."""
    found = {}
    for path in (root / ".talkset" / "results").rglob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            found[path.name] = (stat.st_ino, stat.st_mtime_ns)
    return found


def verdict(name: str, root: Path, expected: Mapping[str, str], seen: Stamps, told: str) -> bool:
    """Print and judge an experiment."""
    from pipelines.ledger import Ledger

    found, now = digests(root), stamps(root)
    differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    again = sorted(name for name, stamp in seen.items() if now.get(name) != stamp)
    with Ledger(root) as ledger:
        counts = [(stage, state, units) for stage, state, _, units, _ in ledger.summary()]
    print(f"{name}: {told}")
    print(f"  ledger: {', '.join(f'{stage} {units} {state}' for stage, state, units in counts)}")
    print(f"  {len(found)} files, {len(differ)} differ from the undisturbed run {differ[:3] if differ else ''}")
    print(f"  {len(seen)} results seen at kills, {len(again)} made again", flush=True)
    return not differ and not again


def kill_driver(manifest: Path, out: Path, kills: int, seconds: float, expected: Mapping[str, str]) -> bool:
    """Kill the driver at random moments of a run that takes so many seconds undisturbed."""
    rng = random.Random(0)
    seen: dict[str, tuple[int, int]] = {}
    done, starts, ended_early = 0, 0, 0
    while done < kills:
        process = subprocess.Popen(command(manifest, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        starts += 1
        try:
            process.wait(timeout=rng.uniform(2.0, 2.0 + 1.5 * seconds / kills + 8.0))
            ended_early += 1
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        done += 1
        seen |= {name: stamp for name, stamp in stamps(out).items() if name not in seen}
    subprocess.run(command(manifest, out), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told = f"{done - ended_early} kills in {starts} starts ({ended_early} runs were through before their kill)"
    return verdict("driver killed", out, expected, seen, told)


def kill_workers(manifest: Path, out: Path, kills: int, expected: Mapping[str, str]) -> bool:
    """Kill random workers of one run."""
    rng = random.Random(1)
    seen: dict[str, tuple[int, int]] = {}
    process = subprocess.Popen(command(manifest, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    killed = 0
    while process.poll() is None:
        time.sleep(rng.uniform(1.0, 4.0))
        workers = workers_of(process.pid)
        if killed < kills and workers and len(stamps(out)) > 4:
            victim = rng.choice(workers)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                killed += 1
            seen |= {name: stamp for name, stamp in stamps(out).items() if name not in seen}
    return verdict("workers killed", out, expected, seen, f"{killed} kills in one run") and process.returncode == 0


def kill_node(manifest: Path, out: Path, expected: Mapping[str, str]) -> bool:
    """Lose one of three nodes in the middle."""
    import ray
    from ray.cluster_utils import Cluster

    from pipelines.run import run
    from schemas.config import load_config

    seen: dict[str, tuple[int, int]] = {}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    victims = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()

    def lose() -> None:
        while len(stamps(out)) < len(expected) // 3:
            time.sleep(0.2)
        cluster.remove_node(victims[0], allow_graceful=False)
        seen.update(stamps(out))

    loser = threading.Thread(target=lose, daemon=True)
    loser.start()
    try:
        settings = ("run.workers=3", f"run.address={cluster.address}", "overlay.height=160", "run.retry.wait_s=0.2")
        run(manifest, out, load_config(None, settings))
    finally:
        ray.shutdown()
        cluster.shutdown()
    loser.join(timeout=10)
    told = f"one of three nodes lost with {len(seen)} results there"
    return verdict("node killed", out, expected, seen, told) and bool(seen)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def main() -> int:
    """Run the experiments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--eval", type=Path, default=EVALUATION)
    parser.add_argument("--only", choices=("driver", "workers", "node"), action="append")
    parser.add_argument("--keep", type=Path, help="Folder that is kept, instead of a temporary one.")
    options: Any = parser.parse_args()
    with _folder(options.keep) as folder:
        manifest = write_manifest(options.eval, folder / "manifest.csv", options.clips)
        started = time.perf_counter()
        plain = command(manifest, folder / "plain", "run.engine=local")
        subprocess.run(plain, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        expected = digests(folder / "plain")
        print(f"undisturbed, in process: {seconds:.0f} s, {len(expected)} files", flush=True)
        wanted = options.only or ["driver", "workers", "node"]
        held = []
        if "driver" in wanted:
            held.append(kill_driver(manifest, folder / "driver", options.kills, seconds, expected))
        if "workers" in wanted:
            held.append(kill_workers(manifest, folder / "workers", options.kills // 2, expected))
        if "node" in wanted:
            held.append(kill_node(manifest, folder / "node", expected))
    return 0 if all(held) else 1


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    sys.exit(main())
