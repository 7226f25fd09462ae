"""The command that shows how sources would be divided into clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

console = Console(stderr=True, highlight=False)


def register(app: typer.Typer) -> None:
    """Add `segment` to the `talkset` command."""
    app.command("segment")(segment_command)


def segment_command(
    source: Annotated[Path, typer.Argument(help="A video, a folder of videos or a manifest.", exists=True)],
    report: Annotated[Path | None, typer.Option(help="HTML file for the contact sheet.", dir_okay=False)] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of a run that takes over the results.", file_okay=False)
    ] = None,
    config_: Annotated[Path | None, typer.Option("--config", "-c", help="YAML configuration.", dir_okay=False)] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", "-s", help="One value, as segment.min_clip_s=2.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print clips and rejected spans as JSON on stdout.")] = False,
) -> int:
    """Find shots, faces, speech and speakers, and show which clips would be made and why not the rest."""
    import tempfile

    from pipelines.run import read_sources
    from pipelines.segmentation.report import write_report
    from pipelines.segmentation.survey import survey
    from schemas.config import load_config
    from schemas.files import write_atomic

    config = load_config(config_, set_ or [])
    sources, base = read_sources(source)
    told = []
    with tempfile.TemporaryDirectory(prefix="talkset-segment-") as folder:
        found = list(survey(sources, base, out or Path(folder), config))
        for one in found:
            uri = escape(one.source.uri)
            if one.failure is not None:
                console.print(f"[red]{uri}[/]: {one.failure.reason}: {escape(one.failure.message or '')}")
                told.append({"uri": one.source.uri, "reason": one.failure.reason, "message": one.failure.message})
                continue
            chosen = one.value("clips")
            reasons = sorted({str(r["reason"]) for r in chosen["rejections"]})
            console.print(f"{uri}: {len(chosen['clips'])} clips, rejected: {', '.join(reasons) or 'nothing'}")
            told.append({"uri": one.source.uri, **chosen})
        if report is not None:
            write_atomic(report, write_report(found, f"Segmentation of {source.name}"))
            console.print(f"wrote {escape(str(report))}", soft_wrap=True)
    if json_:
        typer.echo(json.dumps(told, ensure_ascii=False))
    return 1 if any(one.failure is not None for one in found) else 0
