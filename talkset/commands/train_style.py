"""`talkset train style`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

console = Console(stderr=True, highlight=False)


def style_command(
    data: Annotated[Path, typer.Option("--data", "-d", help="Folder of a data set.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.", dir_okay=False)] = Path(
        "style.safetensors"
    ),
    manner: Annotated[
        str | None, typer.Option(help="Column of the index that tells manners of one speaker apart.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the training.")] = 400,
    dimension: Annotated[int, typer.Option(min=2, help="Numbers of an embedding.")] = 32,
    seed: Annotated[int, typer.Option(help="The same seed gives the same encoder.")] = 0,
    judge: Annotated[bool, typer.Option(help="Measure retrieval on left-out halves first.")] = True,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Train a style encoder on the speakers of a data set; use it with --set style.encoder=FILE."""
    from annotate.style.contrastive import EncoderConfig
    from talkset.labels.style import train_style

    config = EncoderConfig(steps=steps, dimension=dimension, seed=seed)
    made = train_style(data, out, config, manner, judge, lambda text: console.print(escape(text), soft_wrap=True))
    worth = "" if made.top1 != made.top1 else f", top-1 {made.top1:.0%} of left-out halves (chance {made.chance:.0%})"
    size = f"{made.clips} clips of {made.owners} speakers"
    console.print(f"wrote {escape(str(out))}: {escape(made.name)}, {size}{worth}", soft_wrap=True)
    if json_:
        typer.echo(json.dumps(made.report()))
    return 0
