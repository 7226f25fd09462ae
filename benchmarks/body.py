"""Body and hands against the limits that they must keep: known truth, through pixels, real clips, speed.

    python benchmarks/body.py [--only exact,pixels,speed,real] [--scenes 6] [--pictures 3] [--clips FOLDER]

Scenes are animated open bodies (synthetic.body_motion) with identity coefficients that the fit does not all have.
"Exact" are exact 2D points and the depth cue that a detector gives, wrong by 4 cm for each landmark and always the same
way; the camera and the head are those of a perfect face fit. "2D alone" is the same without any depth. "Pixels" are
rendered pictures and the detector, with the same face fit. Real clips go through the pipeline itself; whether their
hands are there is held against MediaPipe's hands on whole pictures (body_parts/presence.py). Speed is that of two
processes at once and means something only where nothing else runs. Each figure is printed beside its limit; the exit
status is 1 where one is not kept.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from body_parts.presence import plain_hands, presence
from body_parts.speed import measure

from reconstruct.body.articulation import articulation_of
from reconstruct.body.calibrate import points_for
from reconstruct.body.detect import BodyDetector
from reconstruct.body.fit import BodyFitter, body_poses
from reconstruct.body.picture import BodyLook, render_body
from reconstruct.body.points import BodyPoints
from reconstruct.body.quality import beyond_limits
from reconstruct.body.reprojection import reprojection_errors
from reconstruct.cache import cache_folder
from reconstruct.models.registry import load_body
from schemas.config import ReconstructConfig, load_config
from schemas.types import BodyLandmarks
from synthetic.body_evaluate import body_errors
from synthetic.body_motion import BodyScene, make_scene, seen_by_exact_detectors

Figures = list[tuple[str, float, float | None, bool]]
"""What, value, limit, whether less is better."""
CLIPS = Path("../shared/eval/signing")


def exact(fitter: BodyFitter, scenes: Sequence[BodyScene]) -> Figures:
    """Exact 2D points, and with 2 px noise."""
    clean: list[dict[str, float]] = []
    noisy: list[dict[str, float]] = []
    flat: list[dict[str, float]] = []
    frames, seconds, outside = 0, 0.0, 0
    articulation = articulation_of(fitter.model)
    for scene in scenes:
        for noise, with_depth, into in ((0.0, True, clean), (2.0, True, noisy), (0.0, False, flat)):
            landmarks = seen_by_exact_detectors(scene, noise_px=noise, with_depth=with_depth)
            started = time.process_time()
            track = fitter.fit(landmarks, scene.head, scene.camera)
            seconds += time.process_time() - started
            frames += len(landmarks.valid)
            into.append(body_errors(scene, track))
            outside += int(beyond_limits(articulation, body_poses(track)[track.body_valid]).sum())

    def mean(rows: list[dict[str, float]], name: str) -> float:
        return float(np.nanmean([row[name] for row in rows]))

    return [
        ("exact: upper-body joints, mm, neck aligned", mean(clean, "upper_mm"), 15, True),
        ("exact: upper-body joints, mm, pelvis aligned", mean(clean, "upper_pelvis_mm"), None, True),
        ("exact: hand joints, mm, wrist aligned", mean(clean, "hands_mm"), 8, True),
        ("exact: elbow angle, degrees", mean(clean, "elbow_deg"), 5, True),
        ("exact: shoulder angle, degrees", mean(clean, "shoulder_deg"), 5, True),
        ("exact, 2D alone: upper-body joints, mm, neck aligned", mean(flat, "upper_mm"), None, True),
        ("exact, 2D alone: hand joints, mm, wrist aligned", mean(flat, "hands_mm"), None, True),
        ("exact, 2D alone: elbow angle, degrees", mean(flat, "elbow_deg"), None, True),
        ("exact, 2D alone: shoulder angle, degrees", mean(flat, "shoulder_deg"), None, True),
        ("2 px noise: jitter over the truth's", mean(noisy, "jitter_ratio"), 1.3, True),
        ("2 px noise: upper-body joints, mm", mean(noisy, "upper_mm"), None, True),
        ("2 px noise: hand joints, mm", mean(noisy, "hands_mm"), None, True),
        ("frames with an elbow or finger beyond its limits", float(outside), 0, True),
        ("fit, frames per second of one core", frames / seconds, 25, False),
    ]


def pixels(fitter: BodyFitter, detector: BodyDetector, scenes: Sequence[BodyScene]) -> Figures:
    """Rendered pictures, detected and fitted."""
    rows, hands = [], []
    for number, scene in enumerate(scenes):
        poses, translation = scene.vertices_motion()
        pictures = list(
            render_body(
                scene.model,
                scene.betas.astype(np.float32),
                poses.astype(np.float32),
                translation.astype(np.float32),
                scene.camera.focal_px,
                scene.camera.centre.astype(np.float32),
                scene.width,
                scene.height,
                BodyLook(sleeves=number % 2 == 0),
                seed=number,
            )
        )
        found = detector.detect(zip(scene.pts_us.tolist(), pictures, strict=True), None, scene.width, scene.height)
        track = fitter.fit(found, scene.head, scene.camera)
        hands += [float(np.isfinite(h[:, 0, 0]).mean()) for h in (found.left_hand_xyc, found.right_hand_xyc)]
        rows.append(body_errors(scene, track))

    def mean(name: str) -> float:
        return float(np.nanmean([row[name] for row in rows]))

    return [
        ("pixels: upper-body joints, mm, neck aligned", mean("upper_mm"), 45, True),
        ("pixels: hand joints, mm, wrist aligned", mean("hands_mm"), 20, True),
        ("pixels: elbow angle, degrees", mean("elbow_deg"), None, True),
        ("pixels: shoulder angle, degrees", mean("shoulder_deg"), None, True),
        ("pixels: hands found, fraction of frames", float(np.mean(hands)), None, False),
    ]


def real(fitter: BodyFitter, points: BodyPoints, folder: Path, keep: Path | None) -> Figures:
    """Real clips through the pipeline: reprojection of what is stored."""
    from pipelines.overlays import stored_clip
    from pipelines.run import run

    with tempfile.TemporaryDirectory() as scratch:
        out = keep or Path(scratch) / "dataset"
        settings = ["reconstruct.body=true", "run.engine=local", "media.enabled=false", "overlay.enabled=false"]
        run(folder, out, load_config(None, settings))
        body, hands, shown, both, fingers, accepted, rows = [], [], [], [], [], 0, 0
        seen = np.zeros(3, int)
        index = {row["clip_id"]: row for row in pq.read_table(out / "index.parquet").to_pylist()}
        for row in index.values():
            rows += 1
            if row["status"] != "accepted":
                print(f"  {row['source_uri']}: {row['status']}, {row['warnings']}")
                continue
            accepted += 1
            stored = stored_clip(out, row)[2]
            assert stored is not None
            track, landmarks = stored
            of_body, of_hands = reprojection_errors(fitter.model, points, track, landmarks)
            body.append(of_body)
            hands.append(of_hands)
            shown.append(of_hands[confidence_of_hands(landmarks) > 0])
            stored_hands = [np.isfinite(h[:, 0, 0]) for h in (landmarks.left_hand_xyc, landmarks.right_hand_xyc)]
            told = stored_hands[0] & stored_hands[1]
            both.append(track.body_joint_valid[told][:, [20, 21]].all(1))
            fingers.append(track.body_joint_valid[told][:, 25:].all(1))
            counts = presence(plain_hands(folder / row["source_uri"], row["start_us"], row["end_us"]), track, landmarks)
            seen += counts
            found = " and ".join(f"{hand.mean():.0%}" for hand in stored_hands)
            print(
                f"  {row['source_uri']}: body {np.median(of_body):.2%}, hands "
                f"{np.median(of_hands) if len(of_hands) else np.nan:.2%}, left and right found {found}, "
                f"both seen by plain MediaPipe, stored, fitted: {counts}, jitter "
                f"{row['body_jitter']:.4f}, inside {row['body_penetration']:.2%}"
            )
    every, inside = np.concatenate(hands), np.concatenate(shown)
    return [
        ("real: clips accepted, fraction", accepted / rows, None, False),
        (
            "real: visible upper body, median, % of shoulder width",
            100 * float(np.median(np.concatenate(body))),
            3,
            True,
        ),
        ("real: hands, median, % of hand size", 100 * float(np.median(every)), 6, True),
        ("real: the same, only points inside of the picture, %", 100 * float(np.median(inside)), None, True),
        ("real: frames in which plain MediaPipe sees both hands", float(seen[0]), None, False),
        ("real: of those, both hands stored", seen[1] / seen[0], 0.9, False),
        ("real: of those, both hands stored and fitted", seen[2] / seen[0], 0.9, False),
        ("real: both wrists fitted where both hands are stored", float(np.concatenate(both).mean()), None, False),
        ("real: all fingers fitted where both hands are stored", float(np.concatenate(fingers).mean()), None, False),
    ]


def confidence_of_hands(landmarks: BodyLandmarks) -> Any:
    """Confidence of the points of found hands, flat, in the order of `reprojection_errors`."""
    found = [hand[np.isfinite(hand).all((1, 2))] for hand in (landmarks.left_hand_xyc, landmarks.right_hand_xyc)]
    return np.concatenate([hand[..., 2].ravel() for hand in found])


def speed(seconds: float) -> Figures:
    """Two processes at once; of each step the slower one's time counts on the wall, the sum on the processor."""
    times = measure(seconds)
    frames = sum(each.frames for each in times)
    wall = {name: max(each.wall[name] for each in times) for name in times[0].wall}
    cpu = {name: sum(each.cpu[name] for each in times) for name in times[0].cpu}
    return [
        ("speed: detection, frames/s, two processes, wall", frames / wall["detect"], None, False),
        ("speed: fit, frames/s, two processes, wall", frames / wall["fit"], 25, False),
        ("speed: fit, frames/s of one core, CPU", frames / cpu["fit"], None, False),
        ("speed: flags, ms a frame, CPU", 1000 * cpu["flags"] / frames, None, True),
        ("speed: branch with flags over detection alone, wall", sum(wall.values()) / wall["detect"], 2, True),
        ("speed: branch with flags over detection alone, CPU", sum(cpu.values()) / cpu["detect"], 2, True),
    ]


def is_kept(value: float, limit: float | None, less: bool) -> bool:
    """Whether a figure keeps its limit."""
    return limit is None or (value <= limit if less else value >= limit)


def told(figures: Figures) -> Figures:
    """Print the figures of a part beside their limits."""
    for what, value, limit, less in figures:
        beside = "" if limit is None else f"  limit {limit:g}{'' if is_kept(value, limit, less) else '  NOT KEPT'}"
        print(f"{what:58s} {value:8.2f}{beside}", flush=True)
    return figures


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="exact,pixels,speed,real", help="parts, separated by commas")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.4)
    parser.add_argument("--clips", type=Path, default=CLIPS)
    parser.add_argument("--keep", type=Path, help="keep the real clips' data set here")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = ReconstructConfig()
    model = load_body()
    points = points_for(model, config, cache_folder() / "embeddings")
    fitter = BodyFitter.of(model, points, config)
    figures: Figures = []
    parts = arguments.only.split(",")
    if "exact" in parts:
        scenes = [make_scene(model, points, 1000 + seed, arguments.seconds) for seed in range(arguments.scenes)]
        figures += told(exact(fitter, scenes))
    if "pixels" in parts:
        scenes = [make_scene(model, points, 2000 + seed, arguments.seconds) for seed in range(arguments.pictures)]
        with BodyDetector(config) as detector:
            figures += told(pixels(fitter, detector, scenes))
    if "speed" in parts:
        figures += told(speed(2 * arguments.seconds))
    if "real" in parts and arguments.clips.is_dir():
        figures += told(real(fitter, points, arguments.clips, arguments.keep))
    missed = [what for what, value, limit, less in figures if not is_kept(value, limit, less)]
    print(f"limits: {'all kept' if not missed else 'MISSED: ' + '; '.join(missed)}")
    if arguments.json:
        arguments.json.write_text(json.dumps([list(figure) for figure in figures], indent=1))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
