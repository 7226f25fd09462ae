"""What a run will take, told before it is started: counts from the manifest, costs from a pilot that is measured.

A pilot runs the whole pipeline, with one worker on this machine, on a few sources spread over the sizes of all. Each
stage's CPU time for a frame of source video, without what a worker pays once (loading models), is scaled up to all
sources.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipelines.build import SOURCE_STAGES, stages_named
from pipelines.checks import check_config
from pipelines.decoding import probe
from pipelines.download import content_path, is_remote, known_sha256
from pipelines.events import EventReader
from pipelines.keys import source_unit
from pipelines.output import locked_output
from pipelines.report import NoProgress, Progress
from pipelines.results import ResultStore
from pipelines.run import read_sources, run
from pipelines.work import DOWNLOAD
from schemas.config import Config
from schemas.errors import TalksetError
from schemas.files import HIDDEN_FOLDER, named_errors
from schemas.manifest import local_path
from schemas.types import Source

PILOT_SPAN_S: Final = 60.0
"""Of longer sources the pilot takes so much, from the middle."""
BY_SOURCE: Final = frozenset({"probe", "download"})
"""Stages whose cost does not grow with the length of a source."""
CONSTANT: Final = "models and card"
"""Outputs that do not grow with the data."""


@dataclass(frozen=True)
class Look:
    """A source as far as it is known without working on it."""

    source: Source
    frames: float | None
    """Of the asked span; None where the file is not here."""
    seconds: float | None
    pixels: int = 0
    reason: str | None = None
    """Why it cannot be used."""


@dataclass(frozen=True)
class StageCost:
    """CPU time of one stage."""

    pilot_cpu_s: float
    """Measured."""
    startup_s: float
    """Of it what a worker pays once."""
    cpu_s: float
    """Predicted for the whole run."""
    share: float
    """Of the CPU time of all stages."""
    gpu_s: float = 0.0
    """Predicted GPU time: wall time of the stage, times the part of a GPU that it declares."""


@dataclass(frozen=True)
class Plan:
    """What a run will take."""

    sources: int
    usable: int
    unknown: int
    """Sources whose length is not known, because they are not fetched yet; they count with the mean of the others."""
    problems: Mapping[str, int]
    """Reason -> sources that cannot be used."""
    hours: float
    """Of source video in the asked spans."""
    frames: float
    workers: int
    pilot_sources: int = 0
    pilot_frames: float = 0.0
    pilot_accepted: int = 0
    pilot_kept: bool = False
    """Whether the later run takes over the pilot's results."""
    stages: Mapping[str, StageCost] = field(default_factory=dict)
    disk_bytes: Mapping[str, float] = field(default_factory=dict)
    gpus: int = 0
    """GPUs that so many workers hold together."""
    wall_s: float | None = None
    cost: float | None = None

    @property
    def cpu_s(self) -> float:
        """Predicted CPU time of all stages, seconds."""
        return sum(stage.cpu_s for stage in self.stages.values())

    @property
    def gpu_s(self) -> float:
        """Predicted GPU time of all stages, seconds."""
        return sum(stage.gpu_s for stage in self.stages.values())

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**dataclasses.asdict(self), "cpu_s": self.cpu_s, "gpu_s": self.gpu_s}

    def lines(self) -> list[str]:
        """The plan in words."""
        found = [f"{self.usable} of {self.sources} sources can be used: {self.hours:.2f} h, {self.frames:.0f} frames"]
        if self.unknown:
            found.append(f"{self.unknown} are not fetched yet and count with the mean length of the others")
        found += [f"  {count} fail: {reason}" for reason, count in sorted(self.problems.items())]
        if not self.stages:
            return [*found, "CPU time, disk and wall time need a pilot: --pilot 8"]
        used = f"{self.pilot_sources} sources, {self.pilot_frames:.0f} frames, {self.pilot_accepted} clips accepted"
        found.append(f"based on a pilot on this machine: {used}")
        if self.pilot_kept:
            found.append("its results are kept for the run")
        gpu = f"{self.gpu_s / 3600:.3f} GPU hours" if self.gpus else "no GPU hours"
        disk = f"{sum(self.disk_bytes.values()) / 1e9:.3f} GB on disk"
        found.append(f"{self.cpu_s / 3600:.3f} CPU hours, {gpu}, {disk}")
        if self.wall_s is not None:
            each = "with a core like those of this machine for each, without fetching"
            found.append(f"{self.wall_s / 3600:.3f} h with {self.workers} workers, {each}")
        if self.cost is not None:
            gpus = f" and {self.gpus} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else ""
            found.append(f"cost {self.cost:.4g}: {self.workers} cores{gpus} for that time")
        return found


def make_plan(
    manifest: Path,
    config: Config,
    *,
    pilot: int = 0,
    out: Path | None = None,
    workers: int | None = None,
    price: float | None = None,
    gpu_price: float | None = None,
    progress: Progress | None = None,
) -> Plan:
    """What `run(manifest, out, config)` will take with so many workers, at prices of a core and a GPU for an hour.

    Every file that is here is opened; remote ones are fetched only for a pilot. A pilot of `pilot` sources is run in a
    scratch folder. With `out` its results are put there, so that the run does not make them again; the folder is
    locked meanwhile. Raises what `run` raises.
    """
    check_config(config)
    sources, base = read_sources(manifest)
    progress = progress or NoProgress()
    progress.begin("sources", len(sources))
    looks: list[Look] = []
    for source in _distinct(sources):
        looks.append(_look(source, base, config))
        progress.step()
    count = workers or config.run.workers or len(os.sched_getaffinity(0))
    plan = _counted(len(sources), looks, count)
    chosen = _spread(looks, pilot)
    if not chosen:
        return plan
    with _scratch(out) as folder:
        measured = _measure(chosen, base, config, folder, progress)
        if out is not None:
            _keep_results(folder, out)
    predicted = _predicted(plan, looks, measured, config)
    return dataclasses.replace(predicted, pilot_kept=out is not None, cost=_cost(predicted, price, gpu_price))


@dataclass(frozen=True)
class _Measured:
    """What a pilot took."""

    sources: int
    frames: float
    seconds: float
    accepted: int
    cpu_s: Mapping[str, float]
    startup_s: Mapping[str, float]
    wall_s: Mapping[str, float]
    wall_startup_s: Mapping[str, float]
    disk_bytes: Mapping[str, float]


def _distinct(sources: Sequence[Source]) -> list[Source]:
    return list({(source.uri, source.start_us, source.end_us): source for source in reversed(sources)}.values())[::-1]


def _look(source: Source, base: Path, config: Config) -> Look:
    """Open a source that is here."""
    try:
        if is_remote(source.uri):
            sha256 = known_sha256(source.uri, source.sha256, config.run.download)
            path = content_path(sha256, config.run.download) if sha256 is not None else None
            if path is None or not path.is_file():
                return Look(source, None, None)
        else:
            path = local_path(source.uri, base)
            if not path.is_file():
                return Look(source, None, None, reason="missing_file")
        info = probe(path, config.run.decode)
    except TalksetError as error:
        return Look(source, None, None, reason=error.reason)
    end = info.video_start_us + info.duration_us
    start_us = max(source.start_us or 0, info.video_start_us)
    seconds = max(0, min(end if source.end_us is None else source.end_us, end) - start_us) / 1e6
    if seconds == 0:
        return Look(source, None, None, reason="bad_value")
    return Look(source, seconds * float(info.fps), seconds, info.width * info.height)


def _counted(sources: int, looks: Sequence[Look], workers: int) -> Plan:
    usable = [look for look in looks if look.reason is None]
    known = [look for look in usable if look.frames is not None]
    problems: dict[str, int] = {"duplicate": sources - len(looks)} if sources > len(looks) else {}
    for look in looks:
        if look.reason is not None:
            problems[look.reason] = problems.get(look.reason, 0) + 1
    scale = len(usable) / len(known) if known else 0.0
    hours = sum(look.seconds or 0.0 for look in known) * scale / 3600
    frames = sum(look.frames or 0.0 for look in known) * scale
    return Plan(sources, len(usable), len(usable) - len(known), problems, hours, frames, workers)


def _spread(looks: Sequence[Look], count: int) -> list[Look]:
    """So many usable sources, evenly spread over the sizes of all; those that are here before those that are not."""
    usable = [look for look in looks if look.reason is None]
    pool = [look for look in usable if look.frames is not None] or usable
    pool = sorted(pool, key=lambda look: ((look.frames or 0) * look.pixels, look.source.uri))
    count = min(count, len(pool))
    return [pool[int((number + 0.5) * len(pool) / count)] for number in range(count)]


@contextlib.contextmanager
def _scratch(out: Path | None) -> Iterator[Path]:
    """A folder for the pilot, gone afterwards; in the output folder, so that results can be moved there."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="talkset-plan-") as folder:
            yield Path(folder) / "pilot"
        return
    with locked_output(out):
        pilot = out / HIDDEN_FOLDER / "pilot"
        shutil.rmtree(pilot, ignore_errors=True)
        try:
            yield pilot
        finally:
            shutil.rmtree(pilot, ignore_errors=True)


def _measure(chosen: Sequence[Look], base: Path, config: Config, folder: Path, progress: Progress) -> _Measured:
    """Run the pilot and read from its record what it took."""
    looks = [_shortened(look) for look in chosen]
    # a worker of its own, so that what a worker pays once is seen
    settings = dataclasses.replace(config, run=dataclasses.replace(config.run, address=None, workers=1))
    report = run([look.source for look in looks], folder, settings, base=base, progress=progress)
    if any(look.frames is None for look in looks):  # they have been fetched now
        looks = [_look(look.source, base, config) for look in looks]
    frames = sum(look.frames or 0.0 for look in looks)
    sizes = {source_unit(look.source): look.frames or 0.0 for look in looks} | _clip_frames(folder)
    cpu: dict[str, list[tuple[float, float]]] = {}
    wall: dict[str, list[tuple[float, float]]] = {}
    for event in EventReader(folder).new():
        if event["event"] == "step":
            size = 1.0 if event["stage"] in BY_SOURCE else sizes.get(event["unit"], 0.0)
            cpu.setdefault(event["stage"], []).append((float(event["cpu_seconds"]), size))
            wall.setdefault(event["stage"], []).append((float(event["seconds"]), size))
    seconds = sum(look.seconds or 0.0 for look in looks)
    times = (_sums(cpu), _startups(cpu), _sums(wall), _startups(wall))
    return _Measured(len(looks), frames, seconds, report.accepted, *times, _disk(folder))


def _shortened(look: Look) -> Look:
    """The source, or a part from the middle of a long one."""
    if look.frames is None or look.seconds is None or look.seconds <= PILOT_SPAN_S:
        return look
    start = round(((look.source.start_us or 0) / 1e6 + (look.seconds - PILOT_SPAN_S) / 2) * 1e6)
    source = dataclasses.replace(look.source, start_us=start, end_us=start + round(PILOT_SPAN_S * 1e6))
    return dataclasses.replace(
        look, source=source, seconds=PILOT_SPAN_S, frames=look.frames * PILOT_SPAN_S / look.seconds
    )


def _clip_frames(folder: Path) -> dict[str, float]:
    """Frames of the clips of a data set, by clip id."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "index.parquet", columns=["clip_id", "num_frames"])
    return dict(zip(table["clip_id"].to_pylist(), map(float, table["num_frames"].to_pylist()), strict=True))


def _sums(steps: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, float]:
    return {stage: sum(seconds for seconds, _ in made) for stage, made in steps.items()}


def _startups(steps: Mapping[str, Sequence[tuple[float, float]]]) -> dict[str, float]:
    return {stage: _startup(made) for stage, made in steps.items()}


def _startup(made: Sequence[tuple[float, float]]) -> float:
    """What the first of a stage's (seconds, size) took beyond what its size explains, going by the others."""
    (first, first_size), others = made[0], made[1:]
    size = sum(size for _, size in others)
    if not size:
        return 0.0
    return max(0.0, first - first_size * sum(seconds for seconds, _ in others) / size)


def _disk(folder: Path) -> dict[str, float]:
    """Bytes by output; a file that is linked from two places counts once."""
    sizes: dict[str, float] = {}
    seen: set[tuple[int, int]] = set()
    for path in sorted(folder.rglob("*"), key=lambda path: (HIDDEN_FOLDER in path.parts, path)):
        stat = path.lstat()
        if not path.is_file() or (stat.st_dev, stat.st_ino) in seen:
            continue
        seen.add((stat.st_dev, stat.st_ino))
        place = path.relative_to(folder).parts
        name = place[0] if len(place) > 1 else "tables" if path.suffix == ".parquet" else CONSTANT
        name = {HIDDEN_FOLDER: "run state (.talkset)", "models": CONSTANT, "figures": CONSTANT}.get(name, name)
        sizes[name] = sizes.get(name, 0.0) + stat.st_size
    return sizes


def _keep_results(pilot: Path, out: Path) -> None:
    """Link the pilot's results into the store of the later run, each after its payloads."""
    source, target = ResultStore(pilot).folder, ResultStore(out).folder
    with named_errors(target):
        for path in sorted(source.rglob("*.*"), key=lambda path: (path.suffix == ".json", path)):
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                os.link(path, place)


def _predicted(plan: Plan, looks: Sequence[Look], measured: _Measured, config: Config) -> Plan:
    if not plan.frames:  # nothing was here before the pilot
        each = plan.usable / measured.sources
        plan = dataclasses.replace(plan, frames=measured.frames * each, hours=measured.seconds * each / 3600)
    by_frames, by_source = plan.frames / max(1.0, measured.frames), plan.usable / measured.sources
    crew = min(plan.workers, plan.usable)

    def scaled(stage: str, total: float, startup: float) -> float:
        return (total - startup) * (by_source if stage in BY_SOURCE else by_frames) + startup * crew

    totals = {stage: scaled(stage, cpu, measured.startup_s[stage]) for stage, cpu in measured.cpu_s.items()}
    walls = {stage: scaled(stage, wall, measured.wall_startup_s[stage]) for stage, wall in measured.wall_s.items()}
    parts = {stage: gpu_part(stage, config) for stage in totals}
    whole = sum(totals.values()) or 1.0
    stages = {
        stage: StageCost(
            measured.cpu_s[stage], measured.startup_s[stage], total, total / whole, walls[stage] * parts[stage]
        )
        for stage, total in totals.items()
    }
    disk = {name: size * (1.0 if name == CONSTANT else by_frames) for name, size in measured.disk_bytes.items()}
    startup = sum(measured.startup_s.values())
    work = max(0.0, whole - startup * crew)
    longest = max((look.frames or 0.0 for look in looks), default=0.0) / max(1.0, measured.frames)
    serial = [stage for stage in SOURCE_STAGES if stage in stages and stage not in BY_SOURCE]  # one worker does them
    alone = longest * sum(measured.cpu_s[stage] - measured.startup_s[stage] for stage in serial)
    wall = startup + max(work / plan.workers, alone)
    return dataclasses.replace(
        plan,
        pilot_sources=measured.sources,
        pilot_frames=measured.frames,
        pilot_accepted=measured.accepted,
        stages=stages,
        disk_bytes=disk,
        gpus=math.ceil(plan.workers * max(parts.values(), default=0.0) - 1e-9),  # 10 tenths are one
        wall_s=wall,
    )


def gpu_part(stage: str, config: Config) -> float:
    """The part of a GPU that a worker holds for a stage; 0 for one that declares none."""
    if stage == DOWNLOAD:
        return 0.0
    [declared] = stages_named([stage])
    return declared.resources(config).gpus


def _cost(plan: Plan, price: float | None, gpu_price: float | None) -> float | None:
    """Cores and GPUs for the whole wall time; None without a price or a pilot."""
    if plan.wall_s is None or (price is None and gpu_price is None):
        return None
    return ((price or 0.0) * plan.workers + (gpu_price or 0.0) * plan.gpus) * plan.wall_s / 3600
