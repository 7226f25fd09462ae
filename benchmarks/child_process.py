"""What it costs to decode in a child process: a call beside multiprocessing's, and two stages beside decoding in place.

    python benchmarks/child_process.py [VIDEO ...]

Without videos four GRID recordings of the evaluation data are taken. Runs in place and in the child alternate; CPU time
is that of the worker and its child together, because on a full machine that is what counts. Exits with 1 when a call
costs 2 ms or more, or a stage 5 % more CPU time. Takes about a minute.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipelines import child, decoding
from pipelines.child import Limits, call_in_child, close_children
from pipelines.process import settle_process
from pipelines.segmentation.choose import choose_clips, chosen_to_json
from pipelines.segmentation.clip_json import clip_from_json
from pipelines.segmentation.faces import FaceFinder
from pipelines.segmentation.scan import scan_source
from reconstruct.landmarks import make_detector
from reconstruct.video import Reader, frames
from schemas.config import Config

CALL_MS: Final = 2.0
STAGE_RATIO: Final = 1.05
ROUNDS: Final = 4
LIMITS: Final = Limits(60.0, 4_000_000_000)
TICKS: Final = os.sysconf("SC_CLK_TCK")


def nothing() -> None:
    """The smallest call."""


def picture() -> NDArray[np.uint8]:
    """A picture of 1080p."""
    return np.zeros((1080, 1920, 3), np.uint8)


def calls() -> bool:
    """Median of a call, here and with a pool of one spawned process; whether ours is within its limit."""
    from child_process import nothing, picture  # by a name that a child can import

    print(f"{'call':<28}{'child':>10}{'multiprocessing':>18}")
    within = True
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        kinds: list[tuple[str, Callable[[], Any], int]] = [("nothing", nothing, 500), ("1080p picture", picture, 50)]
        for name, function, count in kinds:
            ours = _median_ms(functools.partial(call_in_child, "a call", LIMITS, function), count)
            peer = _median_ms(functools.partial(pool.apply, function), count)
            print(f"{name:<28}{ours:>7.2f} ms{peer:>15.2f} ms")
            within = within and (name != "nothing" or ours < CALL_MS)
    return within


def _median_ms(call: Callable[[], Any], count: int) -> float:
    times = []
    call()
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def stages(videos: list[Path]) -> bool:
    """Wall and CPU time of the segment and landmarks stages on videos, both ways; whether the CPU time is within."""
    config = Config()
    decode = config.run.decode
    detector = make_detector(config.landmarks)
    spent: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    with FaceFinder(config.segment) as finder:

        def segment(path: Path, apart: bool) -> Any:
            with decoding.GuardedReader(path, decode) if apart else Reader(path) as reader:
                scan = scan_source(reader, (None, None), finder, None, config.segment)
            return chosen_to_json(choose_clips("0" * 64, "0" * 16, scan, None, config.segment, config.speaker))

        def landmarks(path: Path, apart: bool) -> Any:
            clip, info = clip_from_json(segmented[path]["clips"][0]), decoding.probe(path, decode)
            span = clip.span.start_us, clip.span.end_us
            pictures = decoding.frames(path, *span, decode) if apart else frames(path, *span)
            return detector.detect(pictures, clip.track, info.width, info.height).face_xy.tobytes()

        segmented = {path: segment(path, True) for path in videos}
        for number in range(ROUNDS):
            for path in videos:
                for name, stage in (("segment", segment), ("landmarks", landmarks)):
                    results = []
                    for apart in (False, True) if number % 2 else (True, False):
                        wall, cpu = time.perf_counter(), _cpu_s()
                        results.append(stage(path, apart))
                        spent.setdefault((name, apart), []).append((time.perf_counter() - wall, _cpu_s() - cpu))
                    assert results[0] == results[1], f"{name} of {path} differs"
    print(f"{'stage, mean of ' + str(len(videos)):<28}{'in place':>10}{'child':>10}{'ratio':>8}")
    within = True
    for name in ("segment", "landmarks"):
        for place, what in enumerate(("wall", "CPU")):
            here_s, child_s = (statistics.mean(times[place] for times in spent[name, way]) for way in (False, True))
            print(f"{name + ', ' + what:<28}{here_s:>8.3f} s{child_s:>8.3f} s{child_s / here_s:>8.3f}")
            within = within and (what == "wall" or child_s / here_s < STAGE_RATIO)
    return within


def _cpu_s() -> float:
    """CPU time of this process and its child processes so far, seconds."""
    total = time.process_time()
    for running in child.idle_children():
        fields = Path(f"/proc/{running.pid}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def main(arguments: list[str]) -> int:
    """Measure; returns the exit status."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    settle_process()
    data = Path(os.environ.get("TALKSET_EVAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "eval"))
    videos = [Path(name) for name in arguments] or sorted((data / "grid").glob("*.mpg"))[:4]
    within = calls()
    if videos:
        within = stages(videos) and within
    else:
        print("no evaluation data; give videos to measure the stages", file=sys.stderr)
    close_children()
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
