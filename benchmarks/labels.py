"""How right the labels of emotion are, beside what a simple way gives, and how fast they come.

    python benchmarks/labels.py [--only faces,voices,speed] [--quick] [--cache DIR] [--calibrate]

faces: ten rendered heads that speak in eight classes at three intensities, through detector and fit (about eight
minutes of one core the first time; what was detected is kept in the cache). voices: the same talkers' sound, arousal
and class. speed: all judges of emotion over a clip, times real time. --calibrate makes the tables of
annotate/emotion again, from other heads. Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

from labels_parts.setting import Setting
from reconstruction_parts.limits import Limits

from reconstruct.models.registry import load_model
from talkset.training.prepared import user_cache

PARTS = ("faces", "voices", "speed")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small samples, to see that everything runs")
    parser.add_argument("--cache", type=Path, default=None, help="folder of what was detected")
    parser.add_argument("--calibrate", action="store_true", help="make the tables of the face again, and end")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    unknown = sorted(set(chosen) - set(PARTS))
    if unknown:
        parser.error(f"unknown parts {', '.join(unknown)}; known: {', '.join(PARTS)}")
    limits = Limits(arguments.quick)
    setting = Setting(limits, load_model(), arguments.cache or user_cache() / "benchmark-labels")
    if arguments.calibrate:
        from labels_parts.calibrate import calibrate

        calibrate(setting.model, setting.cache)
        return 0
    for name in chosen:
        started = time.perf_counter()
        print(f"\n== {name}")
        getattr(importlib.import_module(f"labels_parts.{name}"), name)(setting)
        print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)
    if limits.missed:
        print(f"\nmissed: {'; '.join(limits.missed)}")
    return 1 if limits.missed else 0


if __name__ == "__main__":
    sys.exit(main())
