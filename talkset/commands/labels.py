"""`talkset train emotion` and `talkset evaluate labels`: learning and measuring labels of a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from talkset.labels.evaluate import LabelReport

console = Console(stderr=True, highlight=False)

DataOption = Annotated[Path, typer.Option("--data", "-d", help="Folder of a data set.", exists=True, file_okay=False)]
LabelOption = Annotated[str, typer.Option(help="Column of the index with the class of each clip.")]


def register(train: typer.Typer, evaluate: typer.Typer) -> None:
    """Add `emotion` to the group `train` and `labels` to the group `evaluate`."""
    train.command("emotion")(emotion_command)
    evaluate.command("labels")(labels_command)


def emotion_command(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new version; it must not exist.")],
    label: LabelOption = "emotion_given",
    version: Annotated[str | None, typer.Option(help="Of the new version; by default the next MINOR one.")] = None,
) -> int:
    """Train a small calibrated classifier of emotion, cross-validated by speaker, and store it with the data set."""
    from talkset.labels.train import FILE, train_emotion

    found = train_emotion(data, out, label, version)
    console.print(
        f"{found.clips} clips of {found.speakers} speakers, {found.folds} folds without a speaker in both parts: "
        f"{100 * found.top1:.0f} % right (most frequent class: {100 * found.chance:.0f} %), "
        f"calibration error {found.ece:.3f}"
    )
    console.print(f"wrote {escape(str(out / FILE))}; use it with --set emotion.classifier=PATH", soft_wrap=True)
    return 0


def labels_command(
    data: DataOption,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the JSON and the picture.")] = None,
    label: LabelOption = "emotion_given",
    train: Annotated[bool, typer.Option("--train/--no-train", help="Cross-validate a trained classifier too.")] = True,
    json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> int:
    """Compare inferred emotions with the labels of the sources, on speakers that nothing was trained on."""
    from talkset.labels.evaluate import evaluate_labels, write_reports

    report = evaluate_labels(data, label, train)
    if json_:
        typer.echo(json.dumps(report.as_json()))
    _print(report)
    for path in write_reports(report, out) if out is not None else ():
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    return 0


def _print(report: LabelReport) -> None:
    table = Table(title=f"emotions against {report.label}")
    for heading in ("", "clips", "speakers", "top-1", "chance", "macro F1", "ECE", "worst speaker"):
        table.add_column(heading, justify="right" if heading else "left")
    for way in report.ways:
        found = way.as_json()
        table.add_row(
            way.name,
            *(str(found[name]) for name in ("clips", "speakers")),
            *(f"{figure:.2f}" for figure in (way.top1, report.chance, found["macro_f1"], found["ece"])),
            f"{found['top1_worst_speaker']:.2f}",
        )
    console.print(table)
    for name, (value, count) in report.scales.items():
        console.print(f"{name}: concordance {value:.2f} over {count} clips")
