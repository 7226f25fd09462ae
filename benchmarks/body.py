"""Body and hands against the limits that they must keep: known truth, through pixels, real clips, speed.

    python -m benchmarks.body [--scenes 6] [--pictures 3] [--clips FOLDER] [--json FILE]

Scenes are animated open bodies (synthetic.body_motion) with identity coefficients that the fit does not all have.
"Exact" are exact 2D points with a depth that is wrong by 4 cm, differently for each landmark; the camera and the head
are those of a perfect face fit. "Pixels" are rendered pictures and the detector, with the same face fit. Real clips go
through the pipeline itself. Each figure is printed beside its limit; the exit status is 1 where one is not kept.
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

from reconstruct.body.articulation import articulation_of
from reconstruct.body.calibrate import points_for
from reconstruct.body.detect import BodyDetector
from reconstruct.body.fit import BodyFitter, body_poses
from reconstruct.body.picture import BodyLook, render_body
from reconstruct.body.points import BodyPoints
from reconstruct.body.quality import beyond_limits
from reconstruct.body.reprojection import reprojection_errors
from reconstruct.models.registry import cache_folder, load_body
from schemas.config import ReconstructConfig, load_config
from schemas.types import BodyLandmarks, BodyTrack
from synthetic.body_evaluate import body_errors
from synthetic.body_motion import BodyScene, make_scene, seen_by_exact_detectors

Figures = list[tuple[str, float, float | None, bool]]
"""What, value, limit, whether less is better."""
CLIPS = Path("../shared/eval/signing")


def exact(fitter: BodyFitter, scenes: Sequence[BodyScene]) -> Figures:
    """Exact 2D points, and with 2 px noise."""
    clean: list[dict[str, float]] = []
    noisy: list[dict[str, float]] = []
    frames, seconds, outside = 0, 0.0, 0
    articulation = articulation_of(fitter.model)
    for scene in scenes:
        for noise, into in ((0.0, clean), (2.0, noisy)):
            landmarks = seen_by_exact_detectors(scene, noise_px=noise)
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
        ("2 px noise: jitter over the truth's", mean(noisy, "jitter_ratio"), 1.3, True),
        ("2 px noise: upper-body joints, mm", mean(noisy, "upper_mm"), None, True),
        ("2 px noise: hand joints, mm", mean(noisy, "hands_mm"), None, True),
        ("frames with an elbow or finger beyond its limits", float(outside), 0, True),
        ("fit, frames per second of one core", frames / seconds, 25, False),
    ]


def pixels(fitter: BodyFitter, detector: BodyDetector, scenes: Sequence[BodyScene]) -> Figures:
    """Rendered pictures, detected and fitted."""
    rows, detect_s, fit_s, frames, hands = [], 0.0, 0.0, 0, []
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
        started = time.perf_counter()
        found = detector.detect(zip(scene.pts_us.tolist(), pictures, strict=True), None, scene.width, scene.height)
        detect_s += time.perf_counter() - started
        started = time.perf_counter()
        track = fitter.fit(found, scene.head, scene.camera)
        fit_s += time.perf_counter() - started
        frames += len(pictures)
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
        ("pixels: detection, frames/s", frames / detect_s, None, False),
        ("pixels: body branch over detection alone", (detect_s + fit_s) / detect_s, 2, True),
    ]


def real(fitter: BodyFitter, points: BodyPoints, folder: Path, keep: Path | None) -> Figures:
    """Real clips through the pipeline: reprojection of what is stored."""
    from pipelines.run import run

    with tempfile.TemporaryDirectory() as scratch:
        out = keep or Path(scratch) / "dataset"
        config = load_config(None, ["reconstruct.body=true", "run.engine=local", "media.enabled=false"])
        run(folder, out, config)
        body, hands, both, accepted, rows = [], [], [], 0, 0
        index = {row["clip_id"]: row for row in pq.read_table(out / "index.parquet").to_pylist()}
        for row in index.values():
            rows += 1
            if row["status"] != "accepted":
                print(f"  {row['source_uri']}: {row['status']}, {row['warnings']}")
                continue
            accepted += 1
            track, landmarks = stored_body(out, row)
            of_body, of_hands = reprojection_errors(fitter.model, points, track, landmarks)
            body.append(of_body)
            hands.append(of_hands)
            seen = np.isfinite(landmarks.left_hand_xyc[:, 0, 0]), np.isfinite(landmarks.right_hand_xyc[:, 0, 0])
            fitted = track.body_joint_valid[:, 20], track.body_joint_valid[:, 21]
            told = seen[0] & seen[1]
            both.append((fitted[0] & fitted[1])[told].mean() if told.any() else np.nan)
            print(
                f"  {row['source_uri']}: body {np.median(of_body):.2%}, hands "
                f"{np.median(of_hands) if len(of_hands) else np.nan:.2%}, left seen {seen[0].mean():.0%}, right "
                f"{seen[1].mean():.0%}, jitter {row['body_jitter']:.4f}, inside {row['body_penetration']:.2%}"
            )
    every = np.concatenate(hands)
    return [
        ("real: clips accepted, fraction", accepted / rows, None, False),
        (
            "real: visible upper body, median, % of shoulder width",
            100 * float(np.median(np.concatenate(body))),
            3,
            True,
        ),
        ("real: hands, median, % of hand size", 100 * float(np.median(every)), 6, True),
        ("real: both hands fitted where both are seen", float(np.nanmean(both)), 0.9, False),
    ]


def stored_body(out: Path, row: dict[str, Any]) -> tuple[BodyTrack, BodyLandmarks]:
    """Body and landmarks of a clip as a data set holds them."""
    cells: dict[str, Any] = {}
    for table in ("params", "landmarks"):
        found = pq.read_table(out / table / row["shard"], filters=[("clip_id", "=", row["clip_id"])])
        cells |= {name: found[name][0].as_py() for name in found.column_names}
    count = row["num_frames"]

    def array(name: str, width: int) -> Any:
        return np.array(cells[name], dtype=np.float32).reshape(count, width)

    valid = np.array(cells["valid"])
    sizes = {"pose": 33, "left_hand": 21, "right_hand": 21}
    points = {name: array(f"{name}_xyc", 3 * size).reshape(count, size, 3) for name, size in sizes.items()}
    for name in ("left_hand", "right_hand"):
        points[name][points[name][..., 2].max(1) == 0] = np.nan
    nothing = np.full((count, 21, 3), np.nan, np.float32)
    track = BodyTrack(
        body_model=cells["body_model"],
        body_model_sha256="",
        betas=np.array(cells["betas"], np.float32),
        body_pose=array("body_pose", 63),
        left_hand_pose=array("left_hand_pose", 45),
        right_hand_pose=array("right_hand_pose", 45),
        body_global_pose=array("body_global_pose", 3),
        body_translation=array("body_translation", 3),
        body_valid=valid,
        body_joint_valid=np.array(cells["body_joint_valid"], bool).reshape(count, 55),
        body_residual_px=np.zeros(count, np.float32),
        focal_px=cells["focal_px"],
        principal_point=np.array(cells["principal_point"], np.float32),
    )
    landmarks = BodyLandmarks(
        pts_us=np.array(cells["pts_us"]),
        pose_xyc=points["pose"],
        pose_world=np.full((count, 33, 4), np.nan, np.float32),
        left_hand_xyc=points["left_hand"],
        right_hand_xyc=points["right_hand"],
        left_hand_world=nothing,
        right_hand_world=nothing,
        valid=valid,
        width=row["width"],
        height=row["height"],
        detector=cells["body_detector"],
    )
    return track, landmarks


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
    if arguments.scenes:
        scenes = [make_scene(model, points, 1000 + seed, arguments.seconds) for seed in range(arguments.scenes)]
        figures += exact(fitter, scenes)
    if arguments.pictures:
        scenes = [make_scene(model, points, 2000 + seed, arguments.seconds) for seed in range(arguments.pictures)]
        with BodyDetector(config) as detector:
            figures += pixels(fitter, detector, scenes)
    if arguments.clips.is_dir():
        figures += real(fitter, points, arguments.clips, arguments.keep)
    good = True
    for what, value, limit, less in figures:
        kept = limit is None or (value <= limit if less else value >= limit)
        good &= kept
        beside = "" if limit is None else f"  limit {limit:g}{'' if kept else '  NOT KEPT'}"
        print(f"{what:58s} {value:8.2f}{beside}")
    if arguments.json:
        arguments.json.write_text(json.dumps([list(figure) for figure in figures], indent=1))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
