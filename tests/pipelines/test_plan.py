"""A plan against the truth: stages whose cost is known to the last bit, on a clock that is made up."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import scripted_stages
from scripted_stages import attempts, config, install, write_sources

from pipelines import plan, work
from pipelines.declarations import Resources
from pipelines.plan import make_plan
from pipelines.results import Result
from pipelines.run import run
from pipelines.stage import Job, SourceItem
from schemas.config import Config, DecodeConfig
from schemas.errors import TalksetError, UsageError
from schemas.types import VideoInfo
from talkset.cli import main

FPS = 25
STARTUP_S = 20.0
PROBE_S = 0.5
SECONDS_A_FRAME = 0.02


@dataclass
class Clock:
    """CPU seconds that the stages say they took."""

    now: float = 0.0
    loaded: bool = False


def length_s(path: Path) -> float:
    """The made-up length of a source: its name is `<seconds>s-....mp4`."""
    return float(path.name.partition("s-")[0])


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The scripted stages, each taking time on a clock of its own: loading once, then so much a frame."""
    install(monkeypatch)
    made = Clock()

    def told(path: Path, decode: DecodeConfig) -> VideoInfo:
        del decode
        if "bad" in path.name:
            raise TalksetError("not_a_video", f"{path} is none")
        return VideoInfo(64, 48, Fraction(FPS), round(length_s(path) * 1e6), 0, 0, None, None)

    def probing(self: scripted_stages.Probe, job: Job[SourceItem]) -> Result:
        made.now += PROBE_S
        return real(self, job)

    def cutting(self: scripted_stages.Clips, job: Job[SourceItem]) -> Result:
        item = job.item
        seconds = length_s(item.path)
        if item.source.end_us is not None:
            seconds = (item.source.end_us - (item.source.start_us or 0)) / 1e6
        made.now += SECONDS_A_FRAME * FPS * seconds + (0 if made.loaded else STARTUP_S)
        made.loaded = True
        span = {"start_us": 0, "end_us": 1_000_000, "reason": "no_face", "message": "made up"}
        return Result({"clips": [], "rejections": [span], "warnings": []})

    real = scripted_stages.Probe.run
    monkeypatch.setattr(plan, "probe", told)
    monkeypatch.setattr(scripted_stages.Probe, "run", probing)
    monkeypatch.setattr(scripted_stages.Clips, "run", cutting)
    monkeypatch.setattr(work, "cpu_seconds", lambda: made.now)
    return made


LENGTHS = (4, 30, 8, 12, 50, 20, 16, 40)


def sources(tmp_path: Path) -> Path:
    names = {f"{seconds}s-{n}.mp4": "ok" for n, seconds in enumerate(LENGTHS)}
    return write_sources(tmp_path, {**names, "3s-bad.mp4": "not_a_video"})


def test_without_a_pilot_only_counts_are_told(tmp_path: Path, clock: Clock) -> None:
    manifest = sources(tmp_path)
    text = manifest.read_text()
    manifest.write_text(f"{text}{json.dumps({'uri': 'gone.mp4'})}\n{json.dumps({'uri': '4s-0.mp4'})}\n")
    found = make_plan(manifest, config())
    assert (found.sources, found.usable, found.unknown) == (11, 8, 0)
    assert found.problems == {"not_a_video": 1, "missing_file": 1, "duplicate": 1}
    assert found.hours == pytest.approx(sum(LENGTHS) / 3600)
    assert found.frames == pytest.approx(sum(LENGTHS) * FPS)
    assert (found.stages, found.wall_s, clock.now) == ({}, None, 0.0)


@pytest.mark.parametrize("pilot", [2, 3, 8, 100])
def test_a_pilot_predicts_what_the_run_takes(tmp_path: Path, clock: Clock, pilot: int) -> None:
    manifest = sources(tmp_path)
    found = make_plan(manifest, config(), pilot=pilot, workers=2, price=0.5)
    assert found.pilot_sources == min(pilot, 8)
    truth = sum(LENGTHS) * FPS * SECONDS_A_FRAME
    assert found.stages["clips"].startup_s == pytest.approx(STARTUP_S)
    assert found.stages["clips"].cpu_s == pytest.approx(truth + 2 * STARTUP_S)  # each worker loads its models
    assert found.stages["probe"].cpu_s == pytest.approx(8 * PROBE_S)
    assert found.wall_s == pytest.approx(max((truth + 8 * PROBE_S) / 2, 50 * FPS * SECONDS_A_FRAME) + STARTUP_S)
    assert found.cost == pytest.approx(0.5 * 2 * (found.wall_s or 0) / 3600)
    assert sum(stage.share for stage in found.stages.values()) == pytest.approx(1)
    clock.now, clock.loaded = 0.0, False
    run(manifest, tmp_path / "out", config())
    # one worker instead of two, and a source that cannot be used is looked at too
    assert clock.now == pytest.approx(found.cpu_s - STARTUP_S + PROBE_S)


def test_gpu_time_is_wall_time_times_the_declared_part(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def asked(stage: scripted_stages.Clips, config: Config) -> Resources:
        return Resources(gpus=config.run.gpu_fraction)

    monkeypatch.setattr(scripted_stages.Clips, "resources", asked)
    quarter = config("run.gpu_fraction=0.25")
    monkeypatch.setattr(work, "time", SimpleNamespace(perf_counter=lambda: 3 * clock.now, time=time.time))
    manifest = sources(tmp_path)
    found = make_plan(manifest, quarter, pilot=3, workers=6, price=0.5, gpu_price=4.0)
    truth = 3 * sum(LENGTHS) * FPS * SECONDS_A_FRAME + 6 * 3 * STARTUP_S  # each worker loads its models
    assert found.stages["clips"].gpu_s == pytest.approx(0.25 * truth)
    assert found.stages["probe"].gpu_s == 0
    assert found.gpu_s == found.to_json()["gpu_s"] == found.stages["clips"].gpu_s
    assert found.gpus == 2  # six quarters
    assert found.wall_s is not None
    assert found.cost == pytest.approx((0.5 * 6 + 4.0 * 2) * found.wall_s / 3600)
    only_gpu = make_plan(manifest, quarter, pilot=3, workers=8, gpu_price=4.0)
    assert only_gpu.gpus == 2
    assert only_gpu.cost == pytest.approx(4.0 * 2 * (only_gpu.wall_s or 0) / 3600)
    clock.loaded = False
    options = ["--pilot=2", "--workers=4", "--gpu-price=2", *scripted_stages.options(["run.gpu_fraction=0.25"])]
    assert main(["plan", str(manifest), *options]) == 0
    shown = capfd.readouterr().err
    for part in ("GPU predicted", "4 cores and 1 GPU for that time"):
        assert part in shown
    assert "no GPU hours" not in shown


def test_no_wall_time_is_shorter_than_the_longest_source(tmp_path: Path) -> None:
    manifest = write_sources(tmp_path, {"59s-a.mp4": "ok", "2s-b.mp4": "ok", "2s-c.mp4": "ok"})
    found = make_plan(manifest, config(), pilot=3, workers=32)
    assert found.wall_s == pytest.approx(STARTUP_S + 59 * FPS * SECONDS_A_FRAME)


def test_of_a_long_source_the_pilot_takes_the_middle(tmp_path: Path, clock: Clock) -> None:
    manifest = write_sources(tmp_path, {"3600s-long.mp4": "ok", "7200s-longer.mp4": "ok"})
    found = make_plan(manifest, config(), pilot=2, workers=1)
    assert clock.now == pytest.approx(2 * PROBE_S + STARTUP_S + 2 * 60 * FPS * SECONDS_A_FRAME)
    assert found.stages["clips"].cpu_s == pytest.approx(STARTUP_S + 10_800 * FPS * SECONDS_A_FRAME)


def test_the_run_takes_over_what_the_pilot_made(tmp_path: Path) -> None:
    manifest, out = sources(tmp_path), tmp_path / "out"
    found = make_plan(manifest, config(), pilot=3, out=out)
    assert found.pilot_kept
    assert not (out / ".talkset" / "pilot").exists()
    assert not (out / "index.parquet").exists()
    tried = sum(attempts(tmp_path, f"{seconds}s-{n}.mp4") for n, seconds in enumerate(LENGTHS))
    assert tried == 3
    report = run(manifest, out, config())
    assert (report.stages["clips"].made, report.stages["clips"].reused) == (5, 3)
    assert make_plan(manifest, config(), pilot=3, out=out).stages  # beside a finished run too
    assert not run(manifest, out, config()).written


def test_disk_grows_with_the_frames_but_not_the_models(tmp_path: Path) -> None:
    manifest = sources(tmp_path)
    small, large = (make_plan(manifest, config(), pilot=pilot).disk_bytes for pilot in (2, 8))
    assert set(small) == set(large)
    assert small["models and card"] == pytest.approx(large["models and card"], rel=0.5)
    assert all(size > 0 for size in large.values())


def test_the_command_tells_what_it_is_based_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    manifest = sources(tmp_path)
    assert main(["plan", str(manifest), *scripted_stages.options()]) == 0
    assert "need a pilot" in capfd.readouterr().err
    arguments = ["plan", str(manifest), "--pilot", "2", "--workers", "4", "--price", "0.1", "--json"]
    assert main([*arguments, *scripted_stages.options()]) == 0
    captured = capfd.readouterr()
    found = json.loads(captured.out)
    assert (found["pilot_sources"], found["workers"], found["gpu_s"]) == (2, 4, 0)
    for part in ("based on a pilot on this machine: 2 sources", "1 fail: not_a_video", "h with 4 workers", "cost"):
        assert part in captured.err


def test_a_manifest_without_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no video"):
        make_plan(tmp_path, config(), pilot=2)
