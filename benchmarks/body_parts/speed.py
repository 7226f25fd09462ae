"""How fast the body branch is on two cores: two processes at once, each with pictures of its own."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np
import torch

from reconstruct.body.calibrate import points_for
from reconstruct.body.detect import BodyDetector
from reconstruct.body.fit import BodyFitter
from reconstruct.body.picture import BodyLook, render_body
from reconstruct.body.quality import BodyChecks, body_quality
from reconstruct.cache import cache_folder
from reconstruct.models.registry import load_body
from schemas.config import ReconstructConfig
from synthetic.body_motion import make_scene

WORKERS = 2
_barrier: Barrier | None = None


@dataclass(frozen=True)
class Times:
    """Seconds of one process, as the clock on the wall and the processor have them."""

    frames: int
    wall: dict[str, float]
    cpu: dict[str, float]


def measure(seconds: float) -> list[Times]:
    """Detect, fit and judge a rendered clip in each of two processes at the same time."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(WORKERS)
    with ProcessPoolExecutor(WORKERS, context, _settle, (barrier,)) as pool:
        return list(pool.map(_job, range(WORKERS), [seconds] * WORKERS))


def _settle(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier
    torch.set_num_threads(1)


def _job(number: int, seconds: float) -> Times:
    config = ReconstructConfig()
    model = load_body()
    points = points_for(model, config, cache_folder() / "embeddings")
    fitter, checks = BodyFitter.of(model, points, config), BodyChecks.of(model)
    scene = make_scene(model, points, 3000 + number, seconds)
    poses, place = (part.astype(np.float32) for part in scene.vertices_motion())
    centre = scene.camera.centre.astype(np.float32)
    betas, size = scene.betas.astype(np.float32), (scene.width, scene.height)
    drawn = render_body(model, betas, poses, place, scene.camera.focal_px, centre, *size, BodyLook(), number)
    pictures = list(zip(scene.pts_us.tolist(), drawn, strict=True))
    wall: dict[str, float] = {}
    cpu: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        assert _barrier is not None
        _barrier.wait()
        started = time.perf_counter(), time.process_time()
        result = work()
        wall[name], cpu[name] = time.perf_counter() - started[0], time.process_time() - started[1]
        return result

    with BodyDetector(config) as detector:
        detector.detect(pictures[:3], None, *size)  # the networks are loaded
        found = timed("detect", lambda: detector.detect(pictures, None, *size))
    track = timed("fit", lambda: fitter.fit(found, scene.head, scene.camera))
    timed("flags", lambda: body_quality(checks, found, track))
    return Times(len(pictures), wall, cpu)
