"""How accurate, steady and fast the face reconstruction is, against known truth and on real recordings.

    python benchmarks/reconstruction.py [--only exact,noise,outside,speed,peer,pixels,real] [--heads N] [--quick]

exact, noise, outside: known truth and projected landmarks. speed: frames/s and memory. peer: Adam through the whole
mesh, frame after frame, on the same clip in the same run. pixels: rendered talkers. real: the GRID recordings
(TALKSET_EVAL_DATA, by default ../shared/eval beside the checkout). Exits with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from reconstruction_parts import truth
from reconstruction_parts.limits import Limits
from reconstruction_parts.pixels import pixels
from reconstruction_parts.real import real


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="parts, separated by commas; default: all")
    parser.add_argument("--heads", type=int, default=None, help="random heads of a known-truth part; default 6")
    parser.add_argument("--quick", action="store_true", help="small samples: figures of little meaning")
    parser.add_argument("--job", type=int, metavar="FRAMES", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(truth.time_fit(arguments.job, 3)))
        return 0
    limits = Limits(arguments.quick)
    heads = arguments.heads or (2 if arguments.quick else 6)
    parts: dict[str, Callable[[], None]] = {
        "exact": lambda: truth.inside(limits, heads, 0.0),
        "noise": lambda: truth.inside(limits, heads, truth.NOISE_PX),
        "outside": lambda: truth.outside(limits, heads),
        "speed": lambda: truth.speed(limits),
        "peer": lambda: truth.peer(limits),
        "pixels": lambda: pixels(limits),
        "real": lambda: real(limits),
    }
    chosen = [name for name in arguments.only.split(",") if name] or list(parts)
    if unknown := sorted(set(chosen) - set(parts)):
        parser.error(f"unknown parts {unknown}; known: {', '.join(parts)}")
    for name in chosen:
        parts[name]()
    print(f"\nlimits: {'all kept' if not limits.missed else 'MISSED: ' + '; '.join(limits.missed)}")
    return int(bool(limits.missed))


if __name__ == "__main__":
    sys.exit(main())
