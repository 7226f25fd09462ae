"""`make demo-train`: synthetic speakers, a `tiny` generator that learns from them, and what it does for new ones."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from generator.evaluate import GENERATOR, Report
from schemas.files import write_atomic

console = Console(stderr=True, highlight=False)

LESS_LIP_ERROR: Final = 0.25
TIMES_CHANCE: Final = 5.0
RECOGNISED: Final = 0.70
LEAST_BLINKS: Final = 3.0
"""A minute; people blink three to thirty times."""
LEAST_HEAD_DEG_S: Final = 1.0
SEEDS: Final = 3
NOTE: Final = (
    "the data are synthetic: known motion and synthesised speech, written without rendering or fitting; the figures are"
    " about the generator, not about reconstruction"
)


@dataclass(frozen=True)
class Check:
    """One thing that must be true at the end."""

    what: str
    found: float
    wanted: str
    good: bool


def run_demo_train(folder: Path, config: str, overrides: Sequence[str], workers: int | None) -> int:
    """Everything in `folder`; returns 0 when all checks are good, else 1."""
    from generator.api import load_speaker
    from generator.config import load_config
    from generator.train import place_from_environment, train
    from synthetic.training_set import Plan, make_training_set
    from talkset.commands.generate import print_report
    from talkset.commands.train import with_features
    from talkset.generated import evaluate_on
    from talkset.progress import bar

    started = time.perf_counter()
    times: dict[str, float] = {}

    def done(name: str) -> None:
        times[name] = round(time.perf_counter() - started - sum(times.values()), 1)
        console.print(f"{name}: {times[name]:.0f} s")

    data, training = folder / "data", folder / "training"
    if not (data / "dataset.json").is_file():
        console.print("Making the speakers ...")
        make_training_set(data, Plan(), workers)
    done("data")
    settings = load_config(config, overrides)
    ready = with_features(data, training, settings.audio)
    done("features of the sound")
    with bar(console) as progress:
        train(ready, training, settings, resume=True, place=place_from_environment("cpu"), progress=progress)
    done("training")
    speaker = load_speaker(training)
    report = evaluate_on(speaker, data, training, SEEDS, "test")
    print_report(report)
    done("evaluation")
    _videos(folder, speaker, data)
    done("videos")
    checks = judge(report)
    for check in checks:
        mark = "[green]yes[/]" if check.good else "[red]no [/]"
        console.print(f"{mark} {check.what}: {check.found:.2f}, wanted {check.wanted}")
    console.print(NOTE, style="dim")
    told = {"checks": [vars(check) for check in checks], "seconds": times, **report.to_json()}
    write_atomic(folder / "report.json", (json.dumps(told, indent=1) + "\n").encode())
    console.print(f"{sum(times.values()):.0f} s in all; figures: {folder / 'report.json'}", soft_wrap=True)
    return 0 if all(check.good for check in checks) else 1


def judge(report: Report) -> list[Check]:
    """What must be true, against the baselines of the same run. Figures that are missing are not good."""

    def figure(method: str, metric: str) -> float:
        found = report.figures.get(method, {}).get(metric)
        return float("nan") if found is None else found.mean

    lips, mean, nearest = (figure(m, "lve_l2") for m in (GENERATOR, "mean face", "nearest in sound"))
    style, chance = figure(GENERATOR, "style_retrieval_top1"), figure("chance", "style_retrieval_top1")
    felt, blinks = figure(GENERATOR, "emotion_recognised"), figure(GENERATOR, "blinks_per_min")
    head, speed = figure(GENERATOR, "head_speed_deg_s"), figure(GENERATOR, "real_time_factor")
    limit = (1 - LESS_LIP_ERROR) * mean
    return [
        Check("lip error in mm (lve_l2) against the mean face", lips, f"<= {limit:.2f} of {mean:.2f}", lips <= limit),
        Check("lip error in mm against the nearest in sound", lips, f"< {nearest:.2f}", lips < nearest),
        Check("style found again (top 1)", style, f">= 5 x {chance:.3f}", style >= TIMES_CHANCE * chance),
        Check("emotion recognised at intensity 1", felt, f">= {RECOGNISED}", felt >= RECOGNISED),
        Check("blinks a minute", blinks, f">= {LEAST_BLINKS}", blinks >= LEAST_BLINKS),
        Check("speed of the head in degrees a second", head, f">= {LEAST_HEAD_DEG_S}", head >= LEAST_HEAD_DEG_S),
        Check("times real time", speed, ">= 5", speed >= 5.0),
    ]


def _videos(folder: Path, speaker: object, data: Path) -> None:
    """Two new speakers, each with its own sound: one as in the data, one with another emotion."""
    from generator.api import Speaker
    from talkset.dataset import open_dataset
    from talkset.motion_video import write_motion_video

    assert isinstance(speaker, Speaker)
    clips = list(open_dataset(data, split="test"))
    for clip, emotion in ((clips[0], "neutral"), (clips[-1], "happiness:1.0"), (clips[len(clips) // 2], "anger:1.0")):
        sound, rate = clip.audio(16_000, mono=True)
        motion = speaker.speak(np.ascontiguousarray(sound[:, 0]), clip, emotion, seed=1)
        path = folder / f"{clip.clip_id}-{emotion.partition(':')[0]}.mp4"
        write_motion_video(path, motion.track, motion.pts_us, speaker.model, motion.fps, (sound[:, 0], rate))
        console.print(f"wrote {path}", soft_wrap=True)
