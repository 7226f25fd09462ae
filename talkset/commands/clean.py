"""The command that frees the disk of results that nothing rests on any more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

console = Console(stderr=True, highlight=False)


def register(app: typer.Typer) -> None:
    """Add clean to the `talkset` command."""
    app.command("clean")(clean_command)


def clean_command(
    dataset: Annotated[Path, typer.Argument(help="Folder of a data set.", exists=True, file_okay=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Remove stored results of earlier sources, settings and models, which the data set no longer rests on."""
    from pipelines.clean import clean

    cleaned = clean(dataset, dry_run)
    if json_:
        typer.echo(json.dumps(cleaned.to_json(), indent=1))
    did, freed = ("would remove", "which would free") if dry_run else ("removed", "which freed")
    console.print(
        f"{did} {cleaned.results} results ({cleaned.files} files) of {escape(str(dataset))}, {freed}"
        f" {cleaned.bytes / 1e6:.1f} MB; {cleaned.kept} results stay",
        soft_wrap=True,
    )
    return 0
