"""`talkset demo`: synthetic talkers with known truth through the ordinary pipeline, and one table of what came out."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from pipelines.report import RunReport
from pipelines.run import run
from reconstruct.landmarks import make_detector
from reconstruct.landmarks.embed import embedding_for
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from schemas.config import Config, LandmarkConfig
from schemas.types import HEAD_ARRAYS, HeadTrack, Interval
from synthetic.evaluate import Errors, compare
from synthetic.make import Truth, load_truth, make_all
from talkset.dataset import Clip, open_dataset

console = Console(stderr=True)

NOTE = (
    "vertex: face region after similarity alignment; head: rotation, and with its constant offset taken out; word: "
    "mean distance of word boundaries; all against the known truth. NME: 468 points, of the outer eye corner distance."
)


@dataclasses.dataclass(frozen=True)
class Score:
    """One talker's line of the table."""

    name: str
    frames: int
    true_frames: int
    words: int
    word_error_ms: float
    nme_percent: float
    errors: Errors


def run_demo(folder: Path, engine: str | None = None, workers: int | None = None) -> int:
    """Make the talkers in `folder`/videos and /truth, run the pipeline into `folder`/dataset, print the table.

    Returns 0 when every talker became a clip with all its frames, else 1.
    """
    started = time.perf_counter()
    console.print("Preparing the open head and its landmarks (first time only) ...")
    model = load_model()
    embedding_for(model, make_detector(LandmarkConfig()).name)
    prepared = time.perf_counter() - started
    console.print("Rendering and voicing the talkers ...")
    manifest, made = make_all(folder)
    rendered = time.perf_counter() - started - prepared
    console.print("Running the pipeline on their videos ...")
    config = Config(name="talkset-demo", licence="CC0-1.0")
    chosen = dataclasses.replace(config.run, engine=engine or config.run.engine, workers=workers)
    report = run(manifest, folder / "dataset", dataclasses.replace(config, run=chosen))
    dataset = open_dataset(folder / "dataset")
    clips = {Path(str(clip.index["source_uri"])).stem: clip for clip in dataset}
    scores = []
    for files in made:
        name = files.talker.name
        if name in clips:
            scores.append(score(name, clips[name], load_truth(files.track, files.labels), model))
    _print(scores, report, folder, rendered)
    complete = len(scores) == len(made) and all(line.frames == line.true_frames for line in scores)
    (folder / "scores.json").write_text(json.dumps([dataclasses.asdict(line) for line in scores], indent=1) + "\n")
    return 0 if complete else 1


def score(name: str, clip: Clip, truth: Truth, model: HeadModel) -> Score:
    """Compare one clip of a data set with the truth of its talker; the clip starts at the talker's first frame."""
    head = head_track(clip)
    words = list(clip.words())
    return Score(
        name=name,
        frames=int(head.valid.sum()),
        true_frames=len(truth.pts_us),
        words=len(words),
        word_error_ms=word_boundary_error_ms(truth.speech.words, words),
        nme_percent=100 * float(np.nanmean(head.nme)),
        errors=compare(truth.track, head, model, truth.pts_us, np.asarray(clip["params.pts_us"], dtype=np.int64)),
    )


def head_track(clip: Clip) -> HeadTrack:
    """The head parameters of a clip of a data set as one record."""
    arrays = {name: np.asarray(clip[f"params.{name}"]) for name in HEAD_ARRAYS}
    return HeadTrack(
        head_model=str(clip["params.head_model"]),
        model_sha256=str(clip.index["model_sha256"]),
        focal_px=float(clip["params.focal_px"]),
        **arrays,
    )


def word_boundary_error_ms(truth: tuple[Interval, ...], found: list[dict[str, Any]]) -> float:
    """Mean absolute distance of starts and ends in ms; NaN when the words are not the same, or one has no times."""
    same = [word.label.lower() for word in truth] == [str(word["label"]).lower() for word in found]
    if not same or any(word["start_us"] is None for word in found):
        return float("nan")
    pairs = zip(truth, found, strict=True)
    errors = [(abs(a.start_us - b["start_us"]) + abs(a.end_us - b["end_us"])) / 2 for a, b in pairs]
    return float(np.mean(errors)) / 1000


def _print(scores: list[Score], report: RunReport, folder: Path, rendered: float) -> None:
    table = Table(title="fitted heads against their known truth", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    headings = ("talker", "frames\nof", "words\n", "word\nms", "vertex\nmm", "p95\nmm", "jaw\n°", "gaze\n°")
    for heading in (*headings, "head\n°", "centred\n°", "NME\n%"):
        table.add_column(heading, justify="left" if heading == "talker" else "right", no_wrap=True)
    for line in scores:
        e = line.errors
        figures = (e.vertex_mm, e.vertex_p95_mm, e.jaw_deg, e.gaze_deg, e.head_deg, e.head_centred_deg)
        table.add_row(
            line.name,
            f"{line.frames}/{line.true_frames}",
            str(line.words),
            f"{line.word_error_ms:.0f}",
            *(f"{figure:.2f}" for figure in figures),
            f"{line.nme_percent:.2f}",
        )
    out = Console()
    out.print(table)
    out.print(NOTE, style="dim")
    for problem in report.problems:
        out.print(f"{problem.uri}: {problem.reason}: {problem.message}", style="red", markup=False)
    out.print(
        f"{report.frames} frames; {report.frames_per_second:.1f} frames/s from video to shards "
        f"({report.seconds:.1f} s), overlays {report.overlay_seconds:.1f} s, talkers made in {rendered:.1f} s"
    )
    for what, where in (
        ("mesh over video", folder / "dataset" / "overlays"),
        ("the numbers", folder / "dataset" / "index.parquet"),
        ("videos and truth", folder / "videos"),
    ):
        out.print(f"  {what}: {where}", soft_wrap=True)
    query = f"SELECT clip_id, nme_mean, num_frames FROM '{folder}/dataset/index.parquet'"
    out.print(f'  try: duckdb -c "{query}"', soft_wrap=True, markup=False)
