"""How right motion events, style and semantics are, and how fast they come.

    python benchmarks/labels_style.py [--only motion,style,meaning,pace] [--quick] [--cache DIR]

motion: fifty rendered talkers that nod, shake and blink, through detector and fit (about three minutes of one core the
first time; what was detected is kept in the cache), and sixty by their own angles. style: retrieval of speakers by
halves of the GRID recordings (TALKSET_EVAL_DATA, by default ../shared/eval beside the checkout), and descriptors on
re-encoded copies. meaning: twenty sentences with hand-made truth. pace: all of them and emotion over one clip, times
real time. Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from labels_parts.clips import Clips
from reconstruction_parts.limits import Limits

PARTS = ("motion", "style", "meaning", "pace")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small samples, to see that everything runs")
    parser.add_argument("--cache", type=Path, default=None, help="folder of what was detected and fitted")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        parser.error(f"unknown parts {', '.join(unknown)}; known: {', '.join(PARTS)}")
    limits = Limits(arguments.quick)
    clips = Clips.of(arguments.cache)
    for name in chosen:
        started = time.perf_counter()
        print(f"\n== {name}")
        getattr(importlib.import_module(f"labels_parts.{name}"), name)(limits, clips)
        print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)
    if limits.missed:
        print(f"\nmissed: {'; '.join(limits.missed)}")
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
