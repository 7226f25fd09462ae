"""The group `talkset train`: what learns from a data set. Each sub-command has its own function here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from schemas.errors import UsageError
from talkset.commands.train_style import style_command

console = Console(stderr=True, highlight=False)

DataOption = Annotated[Path, typer.Option("--data", "-d", help="Folder of a data set.", exists=True, file_okay=False)]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="One value, as train.steps=200.")]


def register(app: typer.Typer) -> typer.Typer:
    """Add the group `train` to the `talkset` command; the group."""
    group = typer.Typer(help="Learn from a data set.", no_args_is_help=True)
    group.command("generator")(generator_command)
    group.command("features")(features_command)
    group.command("demo")(demo_command)
    group.command("style")(style_command)
    app.add_typer(group, name="train")
    return group


def generator_command(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the training.", file_okay=False)],
    config: Annotated[str, typer.Option("--config", "-c", help="tiny, base or body.")] = "tiny",
    set_: SetOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the folder stands.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; by default a GPU where there is one.")] = None,
    ray: Annotated[int | None, typer.Option(min=1, help="Workers of a Ray Train run.")] = None,
) -> int:
    """Train the bundled speech-driven generator; under torchrun or --ray on several devices."""
    from generator.checkpoint import make_networks
    from generator.config import load_config
    from generator.model import parameter_count
    from talkset.progress import bar

    settings = load_config(config, set_ or [])
    ready = with_features(data, out, settings.audio)
    if ray is not None:
        from generator.train_ray import train_on_ray

        made = train_on_ray(ready, out, settings, workers=ray, resume=resume, device=device)
    else:
        from generator.train import place_from_environment, train

        place = place_from_environment(device)
        with bar(console) as progress:
            made = train(ready, out, settings, resume=resume, place=place, progress=progress if place.first else None)
        if not place.first:
            return 0
    from generator.checkpoint import load_checkpoint

    generator = load_checkpoint(made)
    size = parameter_count(make_networks(generator.config, generator.layout, generator.sizes)[0])
    console.print(f"{escape(str(made))}: {size / 1e6:.2f} million parameters, {generator.step} steps", soft_wrap=True)
    return 0


def features_command(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new version; it must not exist.")],
    audio: Annotated[
        str, typer.Option(help="logmel, or the folder or hub name of a HuBERT or wav2vec2 model.")
    ] = "logmel",
) -> int:
    """Add features of the sound as a column group, so that no training computes them again."""
    from generator.audio_column import add_features

    made = add_features(data, out, audio)
    console.print(f"wrote {escape(str(made))}" if made != data else "they are there already", soft_wrap=True)
    return 0


def demo_command(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for data, training and results.", file_okay=False)],
    config: Annotated[str, typer.Option("--config", "-c", help="tiny, base or body.")] = "tiny",
    set_: SetOption = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that make the data; one per core.")] = None,
) -> int:
    """Make synthetic speakers, train on some of them, and measure on the others: fifteen minutes of two cores."""
    from talkset.demo_train import run_demo_train

    return run_demo_train(out, config, set_ or [], workers)


def with_features(data: Path, out: Path, audio: str) -> Path:
    """The data set if it has the features, else a version with them beside the training, made once.

    Of several processes of one training the first makes it and the others wait.
    """
    import time

    from generator.audio_column import add_features
    from generator.data import feature_column
    from talkset.dataset import open_dataset

    def has(folder: Path) -> bool:
        sidecars = open_dataset(folder).facts.get("sidecars", [])
        return feature_column(audio) in {entry["name"] for entry in sidecars}

    if has(data):
        return data
    cached = out / "data"
    if int(os.environ.get("RANK", "0")) > 0:
        while not (cached / "dataset.json").is_file():
            time.sleep(0.5)
        return cached
    if cached.exists():
        made, given = open_dataset(cached).facts, open_dataset(data).facts
        if made.get("config_digest") != given.get("config_digest") or made.get("name") != given.get("name"):
            raise UsageError(f"{cached} holds features of another data set", "Train into another folder")
        if has(cached):
            return cached
    console.print(f"computing features of the sound ({escape(audio)}) ...")
    out.mkdir(parents=True, exist_ok=True)
    return add_features(data, cached, audio)
