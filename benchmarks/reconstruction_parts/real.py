"""Real recordings without truth: landmark error, held-out points, closed lips at p, b, m, noise floor and cost."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate.align import make_aligner
from annotate.align.base import Aligner
from annotate.audio import read_audio
from reconstruct.fit import fit_clip
from reconstruct.landmarks.embed import embedding_for
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from reconstruct.video import frames
from reconstruction_parts.limits import Limits, table
from schemas.config import FitConfig, LandmarkConfig
from schemas.types import FaceTrack, HeadTrack
from synthetic.evaluate import compare
from synthetic.events import bilabial_ratios, gaps_m
from talkset.measures import (
    FOLDS,
    every_nth,
    fitted_and_detected_jitter,
    follow,
    held_out,
    look,
    random_halves,
    second_look,
)

NME_PERCENT = 1.0
HELD_OUT_PERCENT = 1.3
CLOSED_PERCENT = 90.0
COST_FACTOR = 1.5

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Measured:
    """One recording's figures."""

    cells: list[float | str]
    ratios: list[float]
    """Of each bilabial: lip gap over the median of the clip's vowels."""
    seen_s: float
    """Decode and detect."""
    fit_s: float


HEADS = (
    "NME %", "p95 %", "4th out %", "half out %", "valid %", "floor mm", "jaw deg", "gaze deg", "head deg",
    "other mm", "jitter %", "detector's", "p, b, m",
)  # fmt: skip


def recordings() -> list[tuple[Path, str]]:
    """Video and transcript of every GRID recording."""
    root, found = _root(), []
    for folder in (root / "grid", root / "grid_s1"):
        lines = folder / "transcripts.tsv"
        if not lines.is_file():
            sys.exit(f"no evaluation recordings at {root}; set TALKSET_EVAL_DATA")
        for row in lines.read_text(encoding="utf-8").splitlines():
            name, transcript = row.split("\t")[:2]
            found.append((folder / f"{name}.mpg", transcript))
    return found


def other_detector() -> LandmarkConfig | None:
    """A detector to agree with: MediaPipe's Tasks model where its file lies with the recordings."""
    path = _root() / "models" / "face_landmarker_v2_with_blendshapes.task"
    return LandmarkConfig(backend="mediapipe-tasks", task_path=str(path)) if path.is_file() else None


def _root() -> Path:
    return Path(os.environ.get("TALKSET_EVAL_DATA", REPOSITORY.parent / "shared" / "eval"))


def _agreement(
    pictures: Sequence[tuple[int, NDArray[np.uint8]]], face: FaceTrack, fit: HeadTrack, model: HeadModel
) -> float:
    """Vertex distance in mm of the fit of the other detector's landmarks; NaN without one."""
    config = other_detector()
    if config is None:
        return float("nan")
    track = look(pictures, face, config)
    other = fit_clip(model, embedding_for(model, track.detector, config), track, FitConfig())
    return compare(fit, other, model).vertex_mm


def measure(video: Path, transcript: str, model: HeadModel, aligner: Aligner) -> Measured:
    """All figures of one recording."""
    config = LandmarkConfig()
    started = time.perf_counter()
    pictures = list(frames(video))
    face = follow(pictures)
    landmarks = look(pictures, face, config)
    seen = time.perf_counter()
    embedding = embedding_for(model, landmarks.detector)
    ready = time.perf_counter()
    fit = fit_clip(model, embedding, landmarks, FitConfig())
    fitted = time.perf_counter()
    again = fit_clip(model, embedding, second_look(pictures, face, config), FitConfig())
    floor = compare(fit, again, model)
    points = len(embedding.vertices)
    left_out = [
        100 * held_out(model, embedding, landmarks, FitConfig(), folds)
        for folds in (every_nth(points, FOLDS), random_halves(points))
    ]
    jitter = fitted_and_detected_jitter(model, embedding, fit, landmarks)
    ratios = _closures(video, transcript, pictures, fit, model, aligner)
    nme = 100 * fit.nme[fit.valid]
    cells: list[float | str] = [
        float(nme.mean()), float(np.percentile(nme, 95)), *left_out, 100 * float(fit.valid.mean()), floor.vertex_mm,
        floor.jaw_deg, floor.gaze_deg, floor.head_deg, _agreement(pictures, face, fit, model),
        *(100 * value for value in jitter),
        f"{sum(ratio < 1 for ratio in ratios)}/{len(ratios)}",
    ]  # fmt: skip
    return Measured(cells, ratios, seen - started, fitted - ready)


def _closures(
    video: Path,
    transcript: str,
    pictures: Sequence[tuple[int, NDArray[np.uint8]]],
    fit: HeadTrack,
    model: HeadModel,
    aligner: Aligner,
) -> list[float]:
    times = np.array([pts for pts, _ in pictures], dtype=np.int64)
    sound = read_audio(video, 0, int(times[-1]) + 40_000)
    return bilabial_ratios(gaps_m(model, fit)[0], times, aligner.align(sound, transcript).phones)


def real(limits: Limits) -> None:
    """All GRID recordings (three when quick)."""
    model, aligner = load_model(), make_aligner("pocketsphinx")
    videos = recordings()
    warm = measure(*videos[0], model, aligner)  # first-time costs
    found = {video.stem: measure(video, text, model, aligner) for video, text in videos[:: 6 if limits.quick else 1]}
    rows = [(name, one.cells) for name, one in found.items()]
    numbers = [[cell for cell in one.cells if not isinstance(cell, str)] for one in found.values()]
    mean = np.mean(numbers, axis=0).tolist()
    ratios = [ratio for one in found.values() for ratio in one.ratios]
    lower = 100 * float(np.mean([ratio < 1 for ratio in ratios]))
    table(f"real recordings: {len(found)} GRID clips", HEADS, [*rows, ("mean", [*mean, f"{lower:.0f} %"])])
    print("  floor: the fits of the pictures and of the mirrored ones, one against the other; other mm: against the")
    print("  fit of MediaPipe's Tasks model, where its file is there; jitter: RMS second difference of face points,")
    print("  fitted and detected, % of the eye corners' distance per frame^2")
    quarter, half = np.quantile(ratios, [0.9, 0.5])
    print(f"  lip gap at p, b, m over the median of the vowels: median {half:.2f}, 90 % below {quarter:.2f}")
    limits.check("real: NME, mean of the clips", mean[0], NME_PERCENT, "%")
    limits.check("real: held-out points, every 4th", mean[2], HELD_OUT_PERCENT, "%")
    limits.check("real: held-out points, random halves", mean[3], HELD_OUT_PERCENT, "%")
    limits.check("real: lips at p, b, m closer than at vowels", lower, CLOSED_PERCENT, "%", at_least=True)
    seen, fit = (sum(one.seen_s for one in found.values()), sum(one.fit_s for one in found.values()))
    print(f"  decode + detect {seen:.1f} s, fit {fit:.1f} s (first clip with start-up: {warm.seen_s:.1f} s)")
    limits.check("real: decode + detect + fit against decode + detect", (seen + fit) / seen, COST_FACTOR, "x")
