"""How well sources are divided into clips of one person who speaks, and how fast.

    python benchmarks/segmentation.py [--only cuts,speakers,sync,duplicates,speed] [--minutes 1,60] [--quick]

cuts: joins, fades and dissolves with known frames, at even and uneven rates, rotated, with a start offset; clips whose
frames carry their number. speakers: people side by side of whom one is heard, beside the biggest face and the plain
correlation with loudness; voices whose owner is not seen. sync: known offsets of sound and picture. duplicates: copies
and distinct clips. speed: times real time, and memory over videos of so many minutes. Truth is made of the evaluation
recordings (TALKSET_EVAL_DATA, by default ../shared/eval beside the checkout). TALKSET_BENCHMARK_CACHE=DIR keeps videos
of cuts and speakers and what was found in them. Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from reconstruction_parts.limits import Limits

PARTS = ("cuts", "speakers", "sync", "duplicates", "speed")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small samples, to see that everything runs")
    parser.add_argument(
        "--minutes", default="1,20", help="lengths of the videos of `speed`; an hour takes a quarter of one"
    )
    arguments = parser.parse_args()
    minutes = tuple(int(length) for length in arguments.minutes.split(","))
    chosen = arguments.only.split(",")
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        parser.error(f"unknown parts {', '.join(unknown)}; known: {', '.join(PARTS)}")
    limits = Limits(arguments.quick)
    for name in chosen:
        started = time.perf_counter()
        print(f"\n== {name}")
        part = getattr(importlib.import_module(f"segmentation_parts.{name}"), name)
        part(limits, minutes=minutes) if name == "speed" else part(limits)
        print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)
    if limits.missed:
        print(f"\nmissed: {'; '.join(limits.missed)}")
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
