"""The commands that make new versions of a data set, and the one that publishes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from schemas.errors import UsageError

DatasetArgument = Annotated[Path, typer.Argument(help="Folder of a data set.", exists=True, file_okay=False)]
OutOption = Annotated[Path, typer.Option("--out", "-o", help="Folder of the new version; it must not exist.")]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", "-w", help="Condition over the index, as \"nme_mean < 0.02 and speaker == 's1'\"."),
]
NameOption = Annotated[str | None, typer.Option(help="Name of the new data set; by default that of the first.")]
VersionOption = Annotated[str | None, typer.Option(help="MAJOR.MINOR.PATCH; by default the next one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
console = Console(stderr=True, highlight=False)


def register(app: typer.Typer) -> None:
    """Add the commands to the `talkset` command."""
    app.command("filter")(filter_command)
    app.command("split")(split_command)
    app.command("merge")(merge_command)
    app.command("add-column")(add_column_command)
    app.command("upgrade")(upgrade_command)
    app.command("push")(push_command)


def filter_command(
    dataset: DatasetArgument,
    out: OutOption,
    where: WhereOption = None,
    split: Annotated[str | None, typer.Option(help="Keep only train, val or test.")] = None,
    name: NameOption = None,
    version: VersionOption = None,
    json_: JsonOption = False,
) -> int:
    """Make a version with only the clips that pass a condition."""
    from talkset.versions.rewrite import filter_dataset

    if where is None and split is None:
        raise UsageError("filter needs a condition", "Give --where, --split or both")
    return _told(filter_dataset(dataset, out, where, split, name=name, version=version), json_)


def split_command(
    dataset: DatasetArgument,
    out: OutOption,
    train: Annotated[float, typer.Option(min=0, max=1)] = 0.8,
    val: Annotated[float, typer.Option(min=0, max=1)] = 0.1,
    test: Annotated[float, typer.Option(min=0, max=1)] = 0.1,
    by: Annotated[str, typer.Option(help="speaker or source: what may not be in two splits.")] = "speaker",
    seed: Annotated[int, typer.Option(help="Draws another order.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave clips that have a split where they are.")] = False,
    version: VersionOption = None,
    json_: JsonOption = False,
) -> int:
    """Make a version with train, val and test parts, as shares of the duration."""
    from talkset.versions.split import split_dataset

    shares = {name: share for name, share in (("train", train), ("val", val), ("test", test)) if share > 0}
    return _told(split_dataset(dataset, out, shares, by=by, seed=seed, keep=keep, version=version), json_)


def merge_command(
    datasets: Annotated[list[Path], typer.Argument(help="Folders of data sets.", exists=True, file_okay=False)],
    out: OutOption,
    name: NameOption = None,
    version: VersionOption = None,
    json_: JsonOption = False,
) -> int:
    """Make one data set of several; nothing is copied where the file system has links."""
    from talkset.versions.merge import merge_datasets

    return _told(merge_datasets(datasets, out, name=name, version=version), json_)


def add_column_command(
    dataset: DatasetArgument,
    name: Annotated[str, typer.Argument(help="Name of the new column.")],
    values: Annotated[
        Path,
        typer.Option("--from", help="Parquet, or CSV for single values, with clip_id and the column.", exists=True),
    ],
    out: OutOption,
    shape: Annotated[str | None, typer.Option(help="Of an array, as T,768 (T: frames) or 256; else a value.")] = None,
    kind: Annotated[str | None, typer.Option(help="float, int, bool, text; of arrays float32, int64, bool.")] = None,
    unit: Annotated[str | None, typer.Option(help="Such as m, rad, px.")] = None,
    meaning: Annotated[str, typer.Option(help="One line for the data card.")] = "",
    low: Annotated[float | None, typer.Option(help="Smallest possible value.")] = None,
    high: Annotated[float | None, typer.Option(help="Largest possible value.")] = None,
    version: VersionOption = None,
    json_: JsonOption = False,
) -> int:
    """Make a version with a column of your own: features, scores or labels of every clip."""
    from talkset.versions.add_column import add_column

    axes = None if shape is None else [_axis(part.strip()) for part in shape.split(",")]
    made = add_column(
        dataset,
        out,
        name,
        values,
        shape=axes,
        kind=kind,
        unit=unit,
        meaning=meaning,
        low=low,
        high=high,
        version=version,
    )
    return _told(made, json_)


def _axis(text: str) -> str | int:
    if text == "T":
        return text
    if not text.isdigit():
        raise UsageError(f"--shape has the axis {text!r}", "Write for example T,768 or 256")
    return int(text)


def upgrade_command(
    dataset: DatasetArgument, out: OutOption, version: VersionOption = None, json_: JsonOption = False
) -> int:
    """Bring a data set of an older schema version up to date."""
    from talkset.versions.rewrite import upgrade_dataset

    return _told(upgrade_dataset(dataset, out, version=version), json_)


def push_command(
    dataset: DatasetArgument,
    url: Annotated[
        str, typer.Argument(help="s3://bucket/name, gs://bucket/name, file:///name, hf://datasets/user/name")
    ],
    replace: Annotated[bool, typer.Option("--replace", help="Put it in the place of the version there.")] = False,
    public: Annotated[bool, typer.Option("--public", help="Make a new hub repository public.")] = False,
    json_: JsonOption = False,
) -> int:
    """Publish a data set: every file is checked first, and what is there can be opened only when all of it is."""
    from talkset.progress import bar
    from talkset.push import push

    with bar(console) as progress:
        report = push(dataset, url, replace=replace, private=not public, progress=progress)
    if json_:
        typer.echo(json.dumps(vars(report), indent=1))
    size = f"{report.bytes / 1e6:.1f} MB"
    were_there = f"; {report.skipped} were there already" if report.skipped else ""
    console.print(f"pushed {report.files} files, {size} to {escape(report.url)}{were_there}", soft_wrap=True)
    return 0


def _told(made: Path, json_: bool) -> int:
    facts = json.loads((made / "dataset.json").read_bytes())
    if json_:
        typer.echo(json.dumps({"path": str(made), "version": facts["version"], "counts": facts["counts"]}, indent=1))
    counts = facts["counts"]
    console.print(
        f"wrote {escape(str(made))}: {escape(facts['name'])} {facts['version']}, {counts['accepted']} clips,"
        f" {counts['seconds'] / 3600:.3f} hours",
        soft_wrap=True,
    )
    return 0
