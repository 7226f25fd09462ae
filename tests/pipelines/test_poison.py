"""A run over sources that hang, lie or explode: each ends with its reason, and the good one beside them as ever."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import poison_clips
import pytest
from talking_clips import people, write_clip

from schemas.verify import verify_dataset
from talkset.dataset import open_dataset

QUICK = (
    *("overlay.enabled=false", "fit.iterations=3", "landmarks.confidence=none", "shards.figures=false"),
    "run.retry.wait_s=0.05",
    "segment.require_speech=false",
)
SECONDS = 90.0
"""The corpus takes 20 s on a quiet core, and without limits hours."""
CHILD_MB = 1000
"""The limit of 600 MB, and what can be written between two looks at it."""


@dataclass(frozen=True)
class Made:
    """The data set of the corpus, and that of the good clip alone."""

    folder: Path
    rows: pd.DataFrame
    status: int
    seconds: float
    child_mb: float


MEASURED = """
import json, resource, sys
from pipelines.child import close_children
from talkset.cli import main

status = main(sys.argv[1:])
close_children()
print(json.dumps([status, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024]))
"""
"""A run that tells its exit status and the memory of its largest child; this process has had other children."""


def run(folder: Path, uris: list[str], out: str) -> tuple[int, float]:
    manifest = folder / f"{out}.jsonl"
    manifest.write_text("".join(json.dumps({"uri": uri}) + "\n" for uri in uris))
    options = [part for value in (*poison_clips.LIMITS, *QUICK) for part in ("--set", value)]
    command = ["run", str(manifest), "--out", str(folder / out), "--engine", "local", *options]
    made = subprocess.run([sys.executable, "-c", MEASURED, *command], stdout=subprocess.PIPE, text=True, check=True)
    status, child_mb = json.loads(made.stdout)
    return int(status), float(child_mb)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("poison")
    write_clip(folder / "good.mp4", people()[1])
    corpus = poison_clips.write_all(folder)
    assert run(folder, ["good.mp4"], "alone")[0] == 0
    started = time.monotonic()
    middle = len(corpus) // 2
    names = [poison.name for poison in corpus]
    status, child_mb = run(folder, [*names[:middle], "good.mp4", *names[middle:]], "all")
    seconds = time.monotonic() - started
    rows = pd.read_parquet(folder / "all" / "index.parquet")
    return Made(folder, rows, status, seconds, child_mb)


@pytest.mark.parametrize("poison", poison_clips.CORPUS, ids=lambda poison: poison.name)
def test_each_source_ends_as_documented(made: Made, poison: poison_clips.Poison) -> None:
    rows = made.rows[made.rows.source_uri == poison.name]
    found = [(row.status, None if pd.isna(row.reason) else row.reason) for row in rows.itertuples()]
    assert found == [(poison.status, poison.reason)]
    [row] = rows.itertuples()
    if poison.warning is not None:
        assert poison.warning in row.warnings
    if poison.status == "accepted":
        assert row.num_frames >= 30
        assert row.nme_mean < 0.05


def test_times_and_directions_of_the_unusual_are_kept(made: Made) -> None:
    data = open_dataset(made.folder / "all")
    clips = {clip.index["source_uri"]: clip for clip in data}
    steps = np.diff(clips["variable rate.mp4"]["pts_us"][:6])
    np.testing.assert_array_equal(steps, [33_333, 41_667, 16_667, 80_000, 40_000])
    ntsc = made.rows[made.rows.source_uri == "29.97.mp4"].iloc[0]
    assert (ntsc.fps_num, ntsc.fps_den) == (30_000, 1001)
    upright, rotated = clips["no audio.mp4"], clips["rotated.mp4"]
    difference = np.abs(rotated["global_pose"] - upright["global_pose"])[rotated["valid"]]
    assert np.median(difference) < 0.03  # the same person, the same way up


def test_a_good_clip_among_them_is_as_it_is_alone(made: Made) -> None:
    alone, among = (open_dataset(made.folder / name) for name in ("alone", "all"))
    [truth] = list(alone)
    [found] = [clip for clip in among if clip.index["source_uri"] == "good.mp4"]
    assert found.clip_id == truth.clip_id
    assert list(found) == list(truth)
    for name in truth:
        np.testing.assert_array_equal(found[name], truth[name])
    places = {"shard", "row"}
    assert {k: v for k, v in _known(found.index).items() if k not in places} == {
        k: v for k, v in _known(truth.index).items() if k not in places
    }


def _known(row: Any) -> dict[str, Any]:
    return {name: value for name, value in dict(row).items() if value is not None and not pd.isna(value)}


def test_time_and_memory_are_bounded_and_the_data_set_is_whole(made: Made) -> None:
    assert made.seconds < SECONDS
    assert made.child_mb < CHILD_MB
    assert made.status == 1  # failures beyond the error budget
    assert verify_dataset(made.folder / "all") == []
