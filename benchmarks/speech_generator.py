"""The bundled generator's claims: unseen speakers beside baselines, real clips learned by heart, size, speed.

    python benchmarks/speech_generator.py [--demo FOLDER] [--real FOLDER] [--only demo,base,real]

`demo` is `make demo-train` (15 minutes; a folder that has one is measured again). `real` makes a data set of ten GRID
clips through the pipeline and lets `tiny` learn them by heart; it needs the evaluation data. `base` counts parameters
and memory and measures steps, on a GPU where there is one. Exit status 1 where a claim does not hold.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from generator.api import load_speaker
from generator.audio_column import add_features
from generator.checkpoint import Sizes, make_networks
from generator.config import load_config
from generator.data import selected
from generator.evaluate import Evaluation
from generator.features import WIDTH
from generator.model import parameter_count
from generator.motion import make_layout
from generator.train import Place, Trainer, train
from pipelines.run import run
from reconstruct.models.registry import load_model
from schemas.config import Config
from talkset.dataset import open_dataset
from talkset.demo_train import run_demo_train

EVAL = Path(os.environ.get("TALKSET_EVAL_DATA", Path(__file__).resolve().parents[2] / "shared" / "eval"))
CLIPS = 10
LIMIT_MM = 1.5
REAL = (
    "train.steps=1200", "train.batch=16", "train.hop_s=0.08", "style.steps=100", "loss.style=0.0",
    *(f"diffusion.drop_{name}=0.0" for name in ("audio", "style", "emotion", "shape")),
    *(f"diffusion.guidance_{name}=1.0" for name in ("audio", "style", "emotion")),
)  # fmt: skip
"""Nothing is left out in training, so nothing can be guided away from."""
GPU_STEPS = 300


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--demo", type=Path)
    parser.add_argument("--real", type=Path)
    parser.add_argument("--only", default="demo,base,real")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    good = True
    with tempfile.TemporaryDirectory(prefix="talkset-generator-") as scratch:
        demo = arguments.demo or Path(scratch, "demo")
        if "demo" in chosen:
            good &= run_demo_train(demo, "tiny", [], None) == 0
        if "base" in chosen:
            base(demo)
        if "real" in chosen:
            good &= real(arguments.real or Path(scratch, "real"))
    return 0 if good else 1


def base(demo: Path) -> None:
    """Parameters and memory of every configuration; a few hundred steps of `base` where there is a GPU."""
    model = load_model()
    stats = {"signals": {model.name: _widths(model.num_expression)}}
    for name in ("tiny", "base", "body"):
        config = load_config(name)
        layout = make_layout(model, stats, config.body)
        network, style = make_networks(config, layout, Sizes(WIDTH, model.num_shape))
        count = parameter_count(network)
        states = count * 4 * 5 / 2**20  # weights, their average, gradients, and two moments of AdamW
        print(
            f"{name}: {count / 1e6:.2f} million parameters (style encoder {parameter_count(style) / 1e6:.2f}), weights"
            f" {count * 4 / 2**20:.0f} MiB, in training {states:.0f} MiB and activations"
        )
    if not torch.cuda.is_available():
        print("base: no GPU is at hand, so it was not trained")
        return
    data = demo / "training" / "data"
    config = load_config("base", [f"train.steps={GPU_STEPS}", "style.steps=100", "window=60", "train.workers=0"])
    trainer = Trainer(selected(open_dataset(data)), demo / "base", config, Place(0, 1, torch.device("cuda")))
    trainer.prepare(None)
    started = time.perf_counter()
    trainer.run()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / 2**30
    print(f"base on {torch.cuda.get_device_name()}: {GPU_STEPS / seconds:.1f} steps/s, {peak:.1f} GiB at most")


def _widths(expression: int) -> dict[str, dict[str, list[float]]]:
    widths = {"expression": expression, "jaw_pose": 3, "global_pose": 3, "neck_pose": 3, "left_eye_pose": 3}
    widths |= {"right_eye_pose": 3, "body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45, "body_global_pose": 3}
    return {name: {"mean": [0.0] * width, "std": [1.0] * width} for name, width in widths.items()}


def real(folder: Path) -> bool:
    """Ten real clips learned by heart: lip error on the training clips themselves."""
    videos = sorted((EVAL / "grid_s1").glob("*.mpg"))[:CLIPS]
    if len(videos) < CLIPS:
        print(f"real clips: no evaluation data at {EVAL}, not measured")
        return True
    data = folder / "dataset"
    if not (data / "dataset.json").is_file():
        links = folder / "videos"
        links.mkdir(parents=True, exist_ok=True)
        for video in videos:
            (links / video.name).symlink_to(video)
        config = Config(name="grid-ten", licence="research only")
        chosen = dataclasses.replace(config.run, engine="local")
        run(
            links,
            data,
            dataclasses.replace(config, run=chosen, overlay=dataclasses.replace(config.overlay, enabled=False)),
        )
    ready = folder / "features"
    if not ready.is_dir():
        add_features(data, ready)
    out = folder / "training"
    started = time.perf_counter()
    if not (out / "checkpoint.safetensors").is_file():
        train(ready, out, load_config("tiny", REAL), place=Place(0, 1, torch.device("cpu")), split=None)
    seconds = time.perf_counter() - started
    dataset = selected(open_dataset(ready), None)
    setting = Evaluation(load_speaker(out), dataset, dataset)
    scores = setting.scores(setting.generated(0))
    mean = setting.scores(setting.baselines(None)["mean face"])
    print(
        f"real clips: lve_l2 {scores['lve_l2']:.2f} mm on {len(dataset)} clips that it learned from (mean face"
        f" {mean['lve_l2']:.2f} mm), wanted < {LIMIT_MM}; trained in {seconds:.0f} s"
    )
    print(json.dumps({name: round(value, 3) for name, value in scores.items()}))
    return scores["lve_l2"] < LIMIT_MM


if __name__ == "__main__":
    sys.exit(main())
