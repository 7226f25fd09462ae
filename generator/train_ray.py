"""The same training on a Ray cluster: Ray Train starts the workers, each runs the ordinary loop as one rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from generator.checkpoint import CHECKPOINT
from generator.config import GeneratorConfig, from_json, to_json


def train_on_ray(
    data: Path, out: Path, config: GeneratorConfig, *, workers: int, resume: bool = False, device: str | None = None
) -> Path:
    """Train with so many workers, one GPU each unless `device` is "cpu"; returns the checkpoint.

    `data` and `out` must be the same folders on every node. Raises what the training raises.
    """
    import torch
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    gpu = torch.cuda.is_available() if device is None else device != "cpu"
    settings = {
        "data": str(data.resolve()), "out": str(out.resolve()), "config": to_json(config), "resume": resume,
        "device": "cuda" if gpu else "cpu",
    }  # fmt: skip
    TorchTrainer(
        worker,
        train_loop_config=settings,
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu),
        run_config=RunConfig(name="talkset-generator", storage_path=str((out / "ray").resolve())),
    ).fit()
    return out / CHECKPOINT


def worker(settings: dict[str, Any]) -> None:
    """One rank; Ray has joined the process group already."""
    import torch
    from ray import train as ray_train

    from generator.train import Place, train

    context = ray_train.get_context()
    kind = settings["device"]
    device = torch.device(kind if kind == "cpu" else f"cuda:{context.get_local_rank()}")
    place = Place(context.get_world_rank(), context.get_world_size(), device)
    train(
        Path(settings["data"]),
        Path(settings["out"]),
        from_json(settings["config"]),
        resume=settings["resume"],
        place=place,
    )
