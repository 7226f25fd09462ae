"""Speed of the whole segmentation, and its memory over long videos."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import imageio_ffmpeg
from reconstruction_parts.limits import Limits, table

from segmentation_parts.material import Film, recordings, write_film

PARTS = (10, 25, 50, 75, 95)
"""Of a run, in percent of its time."""

MEASURED = """
import json, os, sys, threading, time
from pathlib import Path
from pipelines.process import cpu_seconds, settle_process
settle_process()
from segmentation_parts.survey import surveyed

def rss(pid):
    try:
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0]) / 1024
    except (OSError, KeyError):
        return 0.0

seen, done = [], threading.Event()
def watch():
    while not done.wait(1.0):
        threads = Path(f"/proc/{os.getpid()}/task").iterdir()
        children = {child for thread in threads for child in (thread / "children").read_text().split()}
        seen.append(rss(os.getpid()) + sum(rss(int(child)) for child in children))
threading.Thread(target=watch, daemon=True).start()
started = time.perf_counter()
found = surveyed(Path(sys.argv[1]), Path(sys.argv[2]))
wall = time.perf_counter() - started
done.set()
clips = len(found.value("clips")["clips"])
stages = {step.stage: step.cpu_seconds for step in found.steps}
print(json.dumps([wall, cpu_seconds(), seen or [0.0], clips, stages]))
"""


def speed(limits: Limits, minutes: tuple[int, ...] = (1, 20)) -> None:
    """Print times real time and memory of videos of 640x480 that show four people in turn."""
    people = recordings("grid")[:4]
    rows = []
    peaks: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        film = Film()
        for person in people:
            first = len(film.pictures)
            film.pictures += person.pictures
            film.pts_us += [(first + i) * 40_000 for i in range(len(person.pictures))]
            film.samples.append(person.samples)
        short, large = Path(folder) / "short.mp4", Path(folder) / "large.mp4"
        write_film(short, film)
        ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
        scaled = ["-vf", "scale=640:480", "-c:v", "libx264", "-preset", "veryfast", "-c:a", "copy"]
        subprocess.run([*ffmpeg, "-i", str(short), *scaled, str(large)], check=True)
        times = 0.0
        for length in minutes[:1] if limits.quick else minutes:
            path = Path(folder) / f"{length}.mp4"
            looped = ["-stream_loop", "-1", "-i", str(large), "-t", str(60 * length), "-c", "copy"]
            subprocess.run([*ffmpeg, *looped, str(path)], check=True)
            wall, cpu, memory, clips, stages = _run(path, Path(folder) / f"results-{length}")
            times = 60 * length / wall
            peaks.append((length, max(memory)))
            parts = [memory[min(len(memory) - 1, len(memory) * part // 100)] for part in PARTS]
            shown = [f"{times:.2f}", f"{60 * length / cpu:.2f}", *(f"{value:.0f}" for value in (*parts, max(memory)))]
            rows.append((f"{length} min: segment {stages['segment']:.0f} CPU s, {clips} clips", shown))
    heads = ["x real time", "per CPU s", *(f"MB at {part} %" for part in PARTS), "peak MB"]
    table("speed of 640x480 at 25 fps, two cores; memory of all processes", heads, rows, 40)
    limits.check("whole segmentation, times real time", times, 4.0, "x", at_least=True)
    if len(peaks) > 1:
        (short_min, low), (long_min, high) = peaks[0], peaks[-1]
        growth = (high - low) / (long_min - short_min) * 60
        limits.check("growth of the memory for an hour", growth, 300.0, "MB")


def _run(path: Path, results: Path) -> tuple[float, float, list[float], int, dict[str, float]]:
    """Wall and CPU seconds, MB at each second, clips, CPU seconds of each stage."""
    here = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    command = [sys.executable, "-c", MEASURED, str(path), str(results)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    wall, cpu, memory, clips, stages = json.loads(done.stdout.splitlines()[-1])
    return wall, cpu, memory, clips, stages
