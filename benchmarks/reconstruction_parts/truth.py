"""Known truth and exact landmarks: error of the landmark fit, its speed and memory, and Adam on the full mesh."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from reconstruct.embedding import Embedding
from reconstruct.fit import fit_clip
from reconstruct.landmarks import make_detector
from reconstruct.landmarks.embed import embedding_for
from reconstruct.models import open_head
from reconstruct.models.head_model import HeadModel
from reconstruct.models.registry import load_model
from reconstruction_parts.limits import Limits, table
from reconstruction_parts.peer import PEER, fit_with_adam
from schemas.config import FitConfig, LandmarkConfig
from synthetic.evaluate import Errors, compare, face_errors_mm
from synthetic.known_truth import INTEROCULAR_PX, anny_clip, model_clip

FRAMES = 75
NOISE_PX = 1.0
EXACT_MM, NOISE_MM, OUTSIDE_MM = 0.4, 0.7, 1.5
JAW_DEG, GAZE_DEG, HEAD_DEG = 1.0, 2.0, 0.5
JITTER_FACTOR = 1.2
FRAMES_PER_SECOND = 150.0
LINEAR_FACTOR = 1.25
"""Most time per frame of the longest clip over that of the shortest."""
PEAK_MB = 2000.0
CORES = 2
LENGTHS = (75, 250, 750)
PEER_FACTOR = 10.0
FIRST_SEED = 100
HEADS = (
    "mean mm", "p95 mm", "jaw deg", "gaze deg", "head deg", "lips mm", "lids mm", "expr corr", "jitter/own",
    "canonical", "focal %", "NME %",
)  # fmt: skip


def prepared() -> tuple[HeadModel, Embedding]:
    """The open head and where MediaPipe's landmarks lie on it."""
    model = load_model()
    # of a detector that sees its surface points: the landmarks here are made of those
    return model, embedding_for(model, make_detector(LandmarkConfig()).name).on_surface()


def cells(errors: Errors, focal: float, true_focal: float, nme: float) -> list[float]:
    """A line of the table under `HEADS`."""
    return [
        errors.vertex_mm,
        errors.vertex_p95_mm,
        errors.jaw_deg,
        errors.gaze_deg,
        errors.head_deg,
        errors.lips_mm,
        errors.lids_mm,
        errors.expression_correlation,
        errors.jitter_mm / errors.jitter_truth_mm,
        errors.jitter_canonical_mm / errors.jitter_canonical_truth_mm,
        100 * (focal / true_focal - 1),
        100 * nme,
    ]


def inside(limits: Limits, count: int, noise_px: float) -> None:
    """Heads of the model's own space, with exact or noisy landmarks."""
    model, embedding = prepared()
    rows: list[tuple[str, list[float]]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        clip = model_clip(model, embedding, seed, FRAMES, noise_px)
        fit = fit_clip(model, embedding, clip.landmarks, FitConfig())
        line = cells(compare(clip.truth, fit, model), fit.focal_px, clip.truth.focal_px, float(np.nanmean(fit.nme)))
        rows.append((f"head {seed}", line))
    mean = np.mean([line for _, line in rows], axis=0)
    rows.append(("mean", mean.tolist()))
    what = f"{noise_px:g} px noise" if noise_px else "exact landmarks"
    size = " to ".join(f"{side:g}" for side in INTEROCULAR_PX)
    table(f"{what}: {count} heads of the model, {FRAMES} frames, eye corners {size} px apart", HEADS, rows)
    if noise_px:
        limits.check(f"{what}: face region, mean", mean[0], NOISE_MM, "mm")
        limits.check(f"{what}: jitter of the posed face against the truth's own", mean[8], JITTER_FACTOR, "x")
        limits.check(f"{what}: jitter in the canonical pose likewise", mean[9], JITTER_FACTOR, "x")
        return
    limits.check(f"{what}: face region, mean", mean[0], EXACT_MM, "mm")
    limits.check(f"{what}: jaw", mean[2], JAW_DEG, "deg")
    limits.check(f"{what}: gaze", mean[3], GAZE_DEG, "deg")
    limits.check(f"{what}: head", mean[4], HEAD_DEG, "deg")


def outside(limits: Limits, count: int) -> None:
    """Heads that the model cannot represent; beside them what the nearest coefficients would reach."""
    model, embedding = prepared()
    anny = open_head.load_anny_head()
    rows: list[tuple[str, list[float]]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        clip = anny_clip(anny, model, embedding, seed, FRAMES)
        if clip.face is None:
            sys.exit("a head outside the model came without its mesh")
        fit = fit_clip(model, embedding, clip.landmarks, FitConfig())
        errors, nearest = (face_errors_mm(clip.face, track, model) for track in (fit, clip.truth))
        focal = 100 * (fit.focal_px / clip.truth.focal_px - 1)
        line = [np.nanmean(errors), np.nanpercentile(errors, 95), nearest.mean(), focal, 100 * np.nanmean(fit.nme)]
        rows.append((f"head {seed}", [float(value) for value in line]))
    mean = np.mean([line for _, line in rows], axis=0)
    rows.append(("mean", mean.tolist()))
    heads = ("mean mm", "p95 mm", "nearest mm", "focal %", "NME %")
    table(f"outside the model: {count} heads of anny with extreme local changes, exact landmarks", heads, rows)
    limits.check("outside the model: face region, mean", mean[0], OUTSIDE_MM, "mm")


def time_fit(frames: int, times: int) -> dict[str, float]:
    """Seconds of the fastest of some fits of one clip on one core, and the peak memory of this process, its own."""
    torch.set_num_threads(1)
    model, embedding = prepared()
    clip = model_clip(model, embedding, FIRST_SEED, frames, NOISE_PX)
    fit_clip(model, embedding, model_clip(model, embedding, FIRST_SEED, 20).landmarks, FitConfig())  # first-time costs
    found = []
    for _ in range(times):
        started, worked = time.perf_counter(), time.process_time()
        fit_clip(model, embedding, clip.landmarks, FitConfig())
        found.append((time.perf_counter() - started, time.process_time() - worked))
    seconds, cpu = min(found)
    return {"seconds": seconds, "cpu": cpu, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def speed(limits: Limits) -> None:
    """Frames per second and peak memory by clip length: as in a run, one clip on each of two cores at a time."""
    rows, per_frame, peak = [], [], 0.0
    for frames in LENGTHS:
        script = str(Path(__file__).parents[1] / "reconstruction.py")
        command = [sys.executable, "-W", "ignore", script, "--job", str(frames)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(CORES)]
        told = [process.communicate()[0] for process in running]
        if any(process.returncode for process in running):
            sys.exit(f"fitting {frames} frames failed")
        found = [json.loads(text.splitlines()[-1]) for text in told]
        seconds = max(one["seconds"] for one in found)
        per_frame.append(seconds / frames / CORES)
        peak = max(one["peak_mb"] for one in found)
        rows.append((f"{frames} frames", [seconds, found[0]["cpu"], 1 / per_frame[-1], peak]))
    load = os.getloadavg()[0]
    title = f"speed of the landmark fit, {NOISE_PX:g} px noise, {CORES} clips at once; load of the machine {load:.1f}"
    table(title, ("s a clip", "CPU s", "frames/s", "peak MB"), rows)
    for frames, seconds in zip(LENGTHS, per_frame, strict=True):
        limits.check(f"speed: {frames} frames", 1 / seconds, FRAMES_PER_SECOND, "frames/s", at_least=True)
    claim = f"speed: time per frame, {LENGTHS[-1]} against {LENGTHS[0]} frames"
    limits.check(claim, per_frame[-1] / per_frame[0], LINEAR_FACTOR, "x")
    limits.check(f"speed: peak memory of a process that fits {LENGTHS[-1]} frames (30 s)", peak, PEAK_MB, "MB")


def peer(limits: Limits) -> None:
    """Ours against the published way on the same noisy clip."""
    model, embedding = prepared()
    frames = 10 if limits.quick else 25
    clip = model_clip(model, embedding, FIRST_SEED, frames, NOISE_PX)
    fit_clip(model, embedding, clip.landmarks, FitConfig())  # first-time costs
    started = time.perf_counter()
    ours = fit_clip(model, embedding, clip.landmarks, FitConfig())
    own_seconds = (time.perf_counter() - started) / frames
    theirs, seconds = fit_with_adam(model, embedding, clip.landmarks)
    rows = []
    found = {}
    for name, fit, cost in (("talkset", ours, own_seconds), (PEER, theirs, seconds / frames)):
        errors = found[name] = compare(clip.truth, fit, model)
        line = [1000 * cost, errors.vertex_mm, errors.vertex_p95_mm, errors.jaw_deg, errors.gaze_deg]
        rows.append((name, [*line, errors.head_deg, errors.jitter_mm / errors.jitter_truth_mm]))
    heads = ("ms a frame", "mean mm", "p95 mm", "jaw deg", "gaze deg", "head deg", "jitter/own")
    table(f"against the published way: {frames} frames, {NOISE_PX:g} px noise", heads, rows, width=44)
    limits.check("peer: faster by", seconds / frames / own_seconds, PEER_FACTOR, "x", at_least=True)
    limits.check("peer: our error against its error", found["talkset"].vertex_mm / found[PEER].vertex_mm, 1.0, "x")
