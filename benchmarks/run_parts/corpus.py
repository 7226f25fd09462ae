"""Many small clips: spans of the recordings of the evaluation data."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

EVALUATION: Final = Path(__file__).resolve().parents[3] / "shared" / "eval"
SHORTEST_S: Final = 3.0
"""Length of the shortest recording."""


def write_manifest(evaluation: Path, path: Path, clips: int, span_s: float = 1.2) -> Path:
    """A manifest of so many distinct spans; ends the program with a message where there are no recordings."""
    videos = [*sorted((evaluation / "grid").glob("*.mpg")), *sorted((evaluation / "grid_s1").glob("*.mpg"))]
    if not videos:
        raise SystemExit(f"no recordings under {evaluation}: give the folder of the evaluation data with --eval")
    starts = -(-clips // len(videos))
    step = (SHORTEST_S - span_s) / max(1, starts)
    spans = [(video, number * step) for number in range(starts) for video in videos][:clips]
    with path.open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["uri", "start", "end"])
        rows.writerows([video.resolve().as_uri(), f"{start:.3f}", f"{start + span_s:.3f}"] for video, start in spans)
    return path
