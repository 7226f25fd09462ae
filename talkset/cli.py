"""The `talkset` command: thin; everything heavy is imported by the command that needs it.

What people read goes to stderr, what machines read (--json) to stdout. Exit status: 0 all good, 1 the run ended with
failures beyond the error budget or could not go on, 2 the call itself is wrong.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from schemas.errors import TalksetError, UsageError
from talkset.commands.clean import register as register_clean
from talkset.commands.debug import register as register_debug
from talkset.commands.generate import register as register_generate
from talkset.commands.labels import register as register_labels
from talkset.commands.review import register as register_review
from talkset.commands.runs import register as register_runs
from talkset.commands.segment import register as register_segment
from talkset.commands.train import register as register_train
from talkset.commands.words import register as register_words
from talkset.stdout import stdout_kept_clean
from talkset.versions.commands import register as register_versions

if TYPE_CHECKING:
    from pipelines.report import RunReport
    from schemas.config import Config

given: list[str] = []
"""The arguments of this call: what a run records as the way to start it again."""
MAX_SHOWN = 20
"""Problems that a summary lists; --json has them all."""

# click's base of usage errors, whether typer brings its own copy of click (newer ones do) or imports it
CLICK_ERRORS: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    help="Turn talking videos into data sets of fitted 3D heads, aligned words and Parquet shards.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="The head models of this installation.", no_args_is_help=True)
app.add_typer(models_app, name="models")
evaluate_app = typer.Typer(help="Measure what was made.", no_args_is_help=True)
app.add_typer(evaluate_app, name="evaluate")
register_versions(app)
register_review(app)
register_runs(app)
register_clean(app)
register_debug(app)
register_segment(app)
register_words(app)
train_app = register_train(app)
register_labels(train_app, evaluate_app)
register_generate(app, evaluate_app)
console = Console(stderr=True, highlight=False)

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="YAML file over the defaults.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="One value, as section.key=value.")]
EngineOption = Annotated[str | None, typer.Option(help="ray, or local for this process alone.")]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Parallel workers; one per core by default.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
DatasetArgument = Annotated[Path, typer.Argument(help="Folder of a data set.", exists=True, file_okay=False)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    command = typer.main.get_command(app)
    given[:] = sys.argv[1:] if arguments is None else arguments
    try:
        status = command.main(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except UsageError as error:
        return _complain(error, 2)
    except TalksetError as error:
        return _complain(error, 1)
    except CLICK_ERRORS as error:
        error.show()
        return int(error.exit_code)
    except typer.Abort:
        console.print("stopped")
        return 130
    return status if isinstance(status, int) else 0


@app.command("run")
def run_command(
    manifest: Annotated[
        Path | None, typer.Argument(help="Manifest (.csv, .jsonl, .parquet), a video, or a folder of videos.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder of the data set.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    engine: EngineOption = None,
    workers: WorkersOption = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster: host:port, or auto for that of this machine or job.")
    ] = None,
    overlays: Annotated[bool, typer.Option("--overlays/--no-overlays", help="Render mesh over video.")] = True,
    show_config: Annotated[bool, typer.Option("--show-config", help="Print the resolved configuration.")] = False,
    json_: JsonOption = False,
) -> int:
    """Build a data set, or bring it up to date: only what changed is made again."""
    overrides = list(set_ or [])
    if not overlays:
        overrides.append("overlay.enabled=false")
    if address is not None:
        overrides += ["run.engine=ray", f"run.address={json.dumps(address)}"]
    settings = _settings(config, overrides, engine, workers)
    if show_config:
        from schemas.config import dump_yaml

        typer.echo(dump_yaml(settings), nl=False)
        return 0
    if manifest is None or out is None:
        raise UsageError("run needs a manifest and --out", "Write `talkset run MANIFEST --out FOLDER`")
    return _run(manifest, out, settings, json_)


@app.command()
def fit(
    video: Annotated[Path, typer.Argument(help="One video.", exists=True, dir_okay=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the data set.")],
    config: ConfigOption = None,
    set_: SetOption = None,
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    json_: JsonOption = False,
) -> int:
    """Fit the head in one video, with mesh over video: a data set of that video alone."""
    overrides = [*(set_ or []), "overlay.enabled=true"]
    return _run(video, out, _settings(config, overrides, engine, workers), json_)


@app.command()
def overlay(
    dataset: DatasetArgument,
    clip_ids: Annotated[list[str] | None, typer.Argument(help="Clips; all accepted ones by default.")] = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> int:
    """Render mesh over video again, from the parameters in the data set."""
    from pipelines.overlays import render_overlays
    from schemas.config import load_config

    settings = load_config(dataset / "config.yaml", set_ or ())
    made = render_overlays(dataset, clip_ids or [], settings)
    if json_:
        _print_json([str(path) for path in made])
    for path in made:
        console.print(f"wrote {escape(str(path))}")
    return 0


@app.command()
def verify(dataset: DatasetArgument, json_: JsonOption = False) -> int:
    """Prove that a data set is complete, unchanged and consistent with itself."""
    from schemas.verify import verify_dataset

    problems = verify_dataset(dataset)
    if json_:
        _print_json([vars(problem) for problem in problems])
    for problem in problems:
        console.print(f"[red]{escape(problem.file)}[/]: {escape(problem.message)}")
    if problems:
        console.print(f"{len(problems)} problems in {escape(str(dataset))}: fetch the files again, or run again")
        return 1
    console.print(f"{escape(str(dataset))} is complete and unchanged")
    return 0


@app.command()
def export(
    dataset: DatasetArgument,
    format_: Annotated[
        str,
        typer.Option(
            "--format", "-f", help="textgrid: words and phones for Praat; beat2: bodies as npz files, with TextGrids."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.", file_okay=False)],
    json_: JsonOption = False,
) -> int:
    """Write a data set in a foreign format."""
    from exports.beat2 import export_beat2
    from exports.textgrid import export_textgrids

    if format_ == "textgrid":
        written = export_textgrids(dataset, out)
    elif format_ == "beat2":
        done = export_beat2(dataset, out)
        written = list(done.written)
        for clip_id, reason in done.left_out.items():
            console.print(f"[yellow]{escape(clip_id)}[/] is left out: {escape(reason)}", soft_wrap=True)
    else:
        raise UsageError(f"unknown format {format_!r}", "Known: textgrid, beat2")
    if json_:
        _print_json([str(path) for path in written])
    console.print(f"wrote {len(written)} files into {escape(str(out))}")
    return 0


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the demo.")] = Path("talkset-demo"),
    engine: EngineOption = None,
    workers: WorkersOption = None,
) -> int:
    """Make talkers with known truth and run everything on them."""
    from talkset.demo import run_demo

    return int(run_demo(out, engine, workers))


@app.command()
def doctor(json_: JsonOption = False) -> int:
    """Look for everything that a run needs."""
    from pipelines.doctor import examine

    findings = examine()
    if json_:
        _print_json([vars(finding) for finding in findings])
    for finding in findings:
        mark = "[green]ok[/]  " if finding.good else "[red]bad[/] "
        console.print(f"{mark} {escape(finding.name)}: {escape(finding.text)}")
    return 0 if all(finding.good for finding in findings) else 1


@evaluate_app.callback()
def evaluate_callback() -> None:
    """Measure what was made, against truth or against itself."""


@evaluate_app.command("reconstruction")
def reconstruction_command(
    paths: Annotated[list[Path], typer.Argument(help="Folders of data sets (or of the demo), and videos.")],
    truth: Annotated[Path | None, typer.Option(help="Folder of <name>.npz and .json, as the demo writes.")] = None,
    second: Annotated[str | None, typer.Option(help="Another detector for the noise floor.")] = None,
    floor: Annotated[bool, typer.Option("--floor/--no-floor", help="Detect again in the pictures.")] = True,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the JSON and the picture.")] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    json_: JsonOption = False,
) -> int:
    """Say how good fitted heads are: against truth, on points left out of the fit, and against a second look."""
    from talkset import evaluate

    with stdout_kept_clean():
        settings = _settings(config, set_ or (), "local", None)
        reports = evaluate.evaluate_reconstruction(paths, settings, truth, second, floor)
    if json_:
        _print_json(evaluate.to_json(reports))
    _print_table(evaluate.COLUMNS, evaluate.table_rows(reports))
    console.print(evaluate.NOTE, style="dim")
    if against_truth := evaluate.truth_rows(reports):
        console.print("\nagainst the known truth:")
        _print_table(evaluate.TRUTH_COLUMNS, against_truth)
    for path in evaluate.write_reports(reports, out) if out is not None else ():
        console.print(f"wrote {escape(str(path))}")
    return 0


@models_app.command("list")
def list_models(json_: JsonOption = False) -> int:
    """Every head and body model that is known here."""
    from reconstruct.models.registry import entries

    found = entries()
    if json_:
        _print_json([{**vars(entry), "path": str(entry.path)} for entry in found])
    rows = [
        (
            *(entry.name, entry.kind, "yes" if entry.built else "no", entry.licence),
            *(entry.origin or "built here", str(entry.path)),
        )
        for entry in found
    ]
    _print_table(("name", "kind", "built", "licence", "from", "path"), rows)
    return 0


@models_app.command("add")
def add_model(
    path: Annotated[Path, typer.Argument(help="Your own FLAME or SMPL-X file: generic_model.pkl, SMPLX_NEUTRAL.npz.")],
    name: Annotated[str | None, typer.Option(help="Its name here; by default flame2020, flame2023 ...")] = None,
    masks: Annotated[Path | None, typer.Option(help="FLAME_masks.pkl; otherwise regions come from geometry.")] = None,
    embedding: Annotated[
        list[Path] | None, typer.Option(help="landmark_embedding.npy, mediapipe_landmark_embedding.npz; repeatable.")
    ] = None,
    json_: JsonOption = False,
) -> int:
    """Check your own FLAME file and convert it into the cache; it never leaves this machine with a data set."""
    from reconstruct.models.registry import add_model

    entry = add_model(path, name, masks, embedding or ())
    if json_:
        _print_json({**vars(entry), "path": str(entry.path)})
    console.print(f"{escape(entry.name)} is here ({escape(entry.licence)})", soft_wrap=True)
    use = "fit.head_model" if entry.kind == "head" else "reconstruct.body=true --set reconstruct.body_model"
    console.print(f"use it: talkset run ... --set {use}={escape(entry.name)}", soft_wrap=True)
    return 0


@models_app.command("check")
def check_model(
    target: Annotated[str, typer.Argument(help="A FLAME file, FLAME_masks.pkl, landmark embedding, or model name.")],
    json_: JsonOption = False,
) -> int:
    """Say everything that is found out about a model file or a model, without adding anything."""
    from reconstruct.models.registry import check_model

    findings = check_model(target)
    if json_:
        _print_json([vars(finding) for finding in findings])
    rows = [(found.what, found.found, found.expected, "" if found.good else "!") for found in findings]
    _print_table(("what", "found", "expected", ""), rows)
    return 0


@models_app.command("remove")
def remove_model(name: Annotated[str, typer.Argument(help="A model that was added.")]) -> int:
    """Delete a model that you added from the cache; your own file stays where it is."""
    from reconstruct.models.registry import remove_model

    remove_model(name)
    console.print(f"removed {escape(name)}")
    return 0


@models_app.command("build")
def build_models(
    force: Annotated[bool, typer.Option("--force", help="Build again what is there.")] = False,
    body: Annotated[bool, typer.Option("--body", help="The open body instead (about a minute).")] = False,
) -> int:
    """Build the open head now (about 20 seconds) instead of at the first run."""
    from reconstruct.models.registry import build_open_body, build_open_head

    built = build_open_body(force) if body else build_open_head(force)
    console.print(f"built {escape(str(built))}")
    return 0


def _settings(config: Path | None, overrides: Sequence[str], engine: str | None, workers: int | None) -> Config:
    """The configuration; what is asked for by name wins over --set, which wins over the file."""
    from schemas.config import load_config

    asked = [f"run.engine={engine}"] if engine is not None else []
    asked += [f"run.workers={workers}"] if workers is not None else []
    return load_config(config, [*overrides, *asked])


def _run(manifest: Path, out: Path, config: Config, json_: bool) -> int:
    # BLAS reads these when it is loaded; more threads would fight the workers and change the last digits
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from pipelines.process import stopped_by_sigterm
    from pipelines.run import run
    from talkset.progress import bar

    command = ["talkset", *given]
    try:
        with stdout_kept_clean(), stopped_by_sigterm(), bar(console) as progress:
            report = run(manifest, out, config, progress=progress, command=command)
    except UsageError:
        raise
    except KeyboardInterrupt:
        _print_resume("stopped", command)
        return 130
    except TalksetError:
        _print_resume("the run could not go on", command)
        raise
    if json_:
        _print_json(report.to_json())
    _print_report(report)
    return 0 if report.within(config.run.error_budget) else 1


def _print_resume(what: str, command: Sequence[str]) -> None:
    console.print(f"\n{what}; nothing that is done is lost. Go on with:")
    console.print(f"  {shlex.join(command)}", markup=False, soft_wrap=True)


def _print_report(report: RunReport) -> None:
    for problem in report.problems[:MAX_SHOWN]:
        where = f"row {problem.row} " if problem.row else ""
        who = f"{where}{problem.uri}" + (f" ({problem.clip_id})" if problem.clip_id else "")
        console.print(f"[yellow]{problem.reason}[/] {escape(who)}: {escape(problem.message)}", soft_wrap=True)
    if len(report.problems) > MAX_SHOWN:
        console.print(f"... and {len(report.problems) - MAX_SHOWN} more; see index.parquet or --json")
    state = "wrote" if report.written else "nothing to do, unchanged:"
    console.print(
        f"{state} {escape(str(report.output))}: {report.accepted} clips accepted ({report.frames} frames),"
        f" {report.rejected} rejected, {report.failed} failed; {report.sources_failed} of {report.sources}"
        " sources gave no clip",
        soft_wrap=True,
    )
    if report.frames_made:
        overlays = f", overlays {report.overlay_seconds:.1f} s" if report.overlay_seconds > 0.05 else ""
        console.print(f"{report.seconds:.1f} s, {report.frames_per_second:.1f} frames/s{overlays}")


def _print_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.table import Table

    table = Table(*names, box=None)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _complain(error: TalksetError, status: int) -> int:
    console.print(f"[red]error[/] ({error.reason}): {escape(error.message)}", soft_wrap=True)
    if error.remedy:
        console.print(escape(error.remedy), soft_wrap=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
