"""What a run costs beside its work: a run with nothing to do over 10,000 finished clips, and memory while it grows.

    python benchmarks/runs.py [CLIPS]
    python benchmarks/runs.py --plan MANIFEST

The finished clips are made through the real driver, ledger, store and writer; only what a stage would compute is made
up (three frames of noise). The rerun is `talkset run` in a fresh process; beside it stands what it has to look at in
any case: `os.stat` of each source and one read of each stored JSON value. Exits with 1 when the rerun takes 10 s or
more, makes anything, or the driver's memory grows by more than 10 kB a clip. Takes about five minutes with TMPDIR on a
RAM disk; on others the many fsyncs of the preparation take longer.

With --plan the prediction of a pilot of 4, 8 and all sources is compared with the CPU time of the whole run, and the
exit status is 1 beyond 25 %.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np

from pipelines import build, digests
from pipelines.events import EventReader
from pipelines.plan import make_plan
from pipelines.results import Result, pack
from pipelines.run import run
from pipelines.segmentation.clip_json import clip_to_json
from pipelines.stage import Job
from reconstruct.models.registry import entries
from schemas.config import load_config
from schemas.types import Clip, FaceTrack, HeadTrack, LandmarkTrack, Span

CLIPS: Final = 10_000
NOOP_S: Final = 10.0
GROWTH_KB: Final = 10.0
FRAMES: Final = 3
PLAN_RATIO: Final = 0.25
SETTINGS: Final = (
    *("overlay.enabled=false", "media.enabled=false", "shards.figures=false"),
    *("sync.enabled=false", "quality.enabled=false", "duplicates.enabled=false"),
)


class Watch:
    """Notes the driver's memory as clips are done."""

    def __init__(self) -> None:
        self.clips: list[float] = []
        self._phase = ""

    def begin(self, phase: str, total: int) -> None:
        """A phase begins."""
        del total
        self._phase = phase

    def step(self) -> None:
        """An item is done."""
        if self._phase == "clips":
            self.clips.append(_resident_mb())


def noop(count: int) -> bool:
    """Make that many clips, then run again with nothing to do."""
    config = load_config(None, ["run.engine=local", *SETTINGS])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(count):
            (folder / f"{number:05d}.mp4").write_text(f"video {number}")
        manifest = folder / "manifest.csv"
        manifest.write_text("uri\n" + "".join(f"{number:05d}.mp4\n" for number in range(count)))
        watch, started = Watch(), time.perf_counter()
        with _made_up():
            report = run(manifest, folder / "out", config, progress=watch)
        seconds = time.perf_counter() - started
        print(
            f"made {report.accepted} clips in {seconds:.0f} s, {1000 * seconds / count:.1f} ms a clip beside its work"
        )
        growth = 1000 * (watch.clips[-1] - watch.clips[count // 10]) / (len(watch.clips) - count // 10)
        print(f"driver: {watch.clips[-1]:.0f} MB after the last clip, {growth:.1f} kB a clip since the first tenth")
        options = [part for value in SETTINGS for part in ("--set", value)]
        command = [sys.executable, "-m", "talkset.cli", "run", str(manifest), "--out", str(folder / "out"), *options]
        started = time.perf_counter()
        before = _children_cpu_s()
        done = subprocess.run([*command, "--json"], check=False, capture_output=True, text=True)
        again, cpu = time.perf_counter() - started, _children_cpu_s() - before
        told = json.loads(done.stdout)
        made = sum(stage["made"] + stage["failed"] for stage in told["stages"].values())
        started = time.perf_counter()
        for path in folder.glob("*.mp4"):
            path.stat()
        for path in (folder / "out" / ".talkset" / "results").rglob("*.json"):
            path.read_bytes()
        peer = time.perf_counter() - started
    print(f"nothing to do: {again:.1f} s ({cpu:.1f} s of CPU), {made} made, written {told['written']}")
    print(f"reading alone: {peer:.1f} s")
    return again < NOOP_S and made == 0 and not told["written"] and growth < GROWTH_KB


def plan(manifest: Path) -> bool:
    """Predictions beside the truth, CPU seconds of all stages."""
    config = load_config(None, ["run.engine=local"])
    found = {}
    for pilot in (4, 8, 10_000):
        found[pilot] = make_plan(manifest, config, pilot=pilot, workers=1).cpu_s
    with tempfile.TemporaryDirectory() as folder:
        run(manifest, Path(folder) / "out", config)
        steps = [event for event in EventReader(Path(folder) / "out").new() if event["event"] == "step"]
    truth = sum(step["cpu_seconds"] for step in steps)
    for pilot, predicted in found.items():
        print(f"pilot of {pilot}: {predicted:.1f} CPU s, truth {truth:.1f}, {predicted / truth - 1:+.0%}")
    return all(abs(predicted / truth - 1) <= PLAN_RATIO for predicted in found.values())


@contextlib.contextmanager
def _made_up() -> Iterator[None]:
    """The stages without their work; keys, store and ledger are the real ones."""
    rng = np.random.default_rng(0)
    model = next(entry for entry in entries() if entry.name == "open-head")
    sha256 = digests._recorded_sha256(model.path)
    pts, valid = np.arange(FRAMES, dtype=np.int64) * 40_000, np.ones(FRAMES, bool)

    def noise(*shape: int) -> Any:
        return (0.1 * rng.normal(size=shape)).astype(np.float32)

    def probe(*_: Any) -> Result:
        value = {"width": 64, "height": 48, "fps": [25, 1], "duration_us": 120_000, "rotation_deg": 0}
        return Result({**value, "video_start_us": 0, "audio_rate": None, "audio_start_us": None})

    def nothing(*_: Any) -> Result:
        return Result({})

    def clips(_: Any, job: Job[Any]) -> Result:
        face = FaceTrack(pts, np.full((FRAMES, 4), 20, np.float32))
        clip = Clip(f"{job.item.source_id}-000000000", job.item.source_id, Span(0, 120_000), face)
        of_clip = {"tracks": {clip.clip_id: 0}, "scores": {clip.clip_id: {}}}
        return Result({"clips": [clip_to_json(clip)], **of_clip, "rejections": [], "corrupt_packets": 0})

    def landmarks(*_: Any) -> Result:
        track = LandmarkTrack(
            pts, noise(FRAMES, 478, 2), np.ones((FRAMES, 478), np.float32), valid, 64, 48, "mediapipe"
        )
        packed = pack(track)
        summary = {"num_frames": FRAMES, "valid_ratio": 1.0, "detector_jitter_px": 0.1}
        return Result({"record": dict(packed.value), **summary}, packed.arrays)

    def fit(*_: Any) -> Result:
        error = np.full(FRAMES, 0.01, np.float32)
        head = HeadTrack(
            head_model="open-head",
            model_sha256=sha256,
            shape=noise(80),
            expression=noise(FRAMES, 52),
            global_pose=noise(FRAMES, 3),
            neck_pose=noise(FRAMES, 3),
            jaw_pose=noise(FRAMES, 3),
            left_eye_pose=noise(FRAMES, 3),
            right_eye_pose=noise(FRAMES, 3),
            translation=noise(FRAMES, 3),
            focal_px=80.0,
            principal_point=np.array([32, 24], np.float32),
            valid=valid,
            residual_px=error,
            nme=error,
        )
        packed = pack(head)
        names = ("nme_mean", "nme_p95", "held_out_nme", "uncertainty_mm", "jitter_px", "psnr_db")
        return Result({"record": dict(packed.value), **dict.fromkeys(names, 0.01)}, packed.arrays)

    with contextlib.ExitStack() as stack:
        made_up: dict[str, Any] = {
            "probe": probe,
            "segment": nothing,
            "speech": nothing,
            "speakers": nothing,
            "clips": clips,
            "landmarks": landmarks,
            "fit": fit,
        }
        for name, work in made_up.items():
            (stage,) = build.stages_named([name])
            stack.enter_context(mock.patch.object(type(stage), "run", work))
        yield


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(variable, "1")
    if sys.argv[1:2] == ["--plan"]:
        sys.exit(0 if plan(Path(sys.argv[2])) else 1)
    sys.exit(0 if noop(int(sys.argv[1]) if len(sys.argv) > 1 else CLIPS) else 1)
