"""The commands around a run: plan before, status during, quarantine and retry after."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.markup import escape

from schemas.errors import UsageError

if TYPE_CHECKING:
    from pipelines.plan import Plan, StageCost
    from pipelines.quarantine import Failure
    from pipelines.status import Status, StatusReader

console = Console(stderr=True, highlight=False)
MAX_SHOWN = 50
"""Failures that `quarantine list` shows; --json has them all."""

DatasetArgument = Annotated[Path, typer.Argument(help="Folder of a data set.", exists=True, file_okay=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
UnitsArgument = Annotated[list[str] | None, typer.Argument(help="Units (or how they begin), or URIs of sources.")]
ReasonOption = Annotated[
    list[str] | None, typer.Option("--reason", help="Reason (time_limit), or class (transient, uncertain); repeatable.")
]
StageOption = Annotated[list[str] | None, typer.Option("--stage", help="Only failures of this stage; repeatable.")]


def register(app: typer.Typer) -> None:
    """Add plan, status, retry and the group `quarantine` to the `talkset` command."""
    app.command("plan")(plan_command)
    app.command("status")(status_command)
    app.command("retry")(retry_command)
    group = typer.Typer(help="What failed and is not tried again.", no_args_is_help=True)
    group.command("list")(list_command)
    group.command("show")(show_command)
    group.command("release")(release_command)
    app.add_typer(group, name="quarantine")


def plan_command(
    manifest: Annotated[Path, typer.Argument(help="Manifest, a video, or a folder of videos, as for run.")],
    pilot: Annotated[int, typer.Option(min=0, help="Measure on so many sources; 0 only counts.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the later run, which then keeps the pilot's results.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="YAML file over the defaults.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", "-s", help="One value, as section.key=value.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Workers of the later run; one per core here.")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Price of a core for an hour.")] = None,
    gpu_price: Annotated[float | None, typer.Option(min=0, help="Price of a GPU for an hour.")] = None,
    json_: JsonOption = False,
) -> int:
    """Say what a run will take: sources and hours, and with --pilot CPU and GPU hours, disk, wall time and cost."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # as `talkset run` does
    from pipelines.plan import make_plan
    from schemas.config import load_config
    from talkset.progress import bar
    from talkset.stdout import stdout_kept_clean

    settings = load_config(config, set_ or ())
    with stdout_kept_clean(), bar(console) as progress:
        prices = {"price": price, "gpu_price": gpu_price}
        plan = make_plan(manifest, settings, pilot=pilot, out=out, workers=workers, **prices, progress=progress)
    if json_:
        _print_json(plan.to_json())
    _print_plan(plan)
    return 0


def status_command(
    dataset: DatasetArgument,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show it until the run ends.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks of --watch.")] = 2.0,
    report: Annotated[
        Path | None, typer.Option(help="Write where the time went into this HTML file.", dir_okay=False)
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve Prometheus metrics on this port until Ctrl-C; 0: a free one."),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address to serve them at; 0.0.0.0 is every one of this machine.")
    ] = "127.0.0.1",
    json_: JsonOption = False,
) -> int:
    """Where a run is, or what became of it, stage by stage."""
    from pipelines.status import StatusReader
    from pipelines.status_report import write_report

    def show() -> None:
        reader = StatusReader(dataset)
        status = _watched(reader, interval) if watch else reader.read()
        if json_:
            _print_json(status.to_json())
        if not watch:
            console.print(_shown(status))
        if report is not None:
            write_report(dataset, report)
            console.print(f"wrote {escape(str(report))}")

    if metrics_port is None:
        show()
        return 0
    from pipelines.metrics_server import metrics_server
    from pipelines.process import stopped_by_sigterm

    server = metrics_server(StatusReader(dataset), metrics_host, metrics_port)
    with contextlib.suppress(KeyboardInterrupt), stopped_by_sigterm(), server as address:
        console.print(f"metrics at {escape(address)}", soft_wrap=True)
        show()
        while not watch:
            time.sleep(3600)
    return 0


def _watched(reader: StatusReader, interval: float) -> Status:
    """Show the status until the run ends or Ctrl-C; returns the last one."""
    from rich.live import Live

    status = reader.read()
    with contextlib.suppress(KeyboardInterrupt), Live(_shown(status), console=console) as live:
        while status.state == "running":
            time.sleep(interval)
            status = reader.read()
            live.update(_shown(status))
    return status


def list_command(
    dataset: DatasetArgument,
    reason: ReasonOption = None,
    stage: StageOption = None,
    json_: JsonOption = False,
) -> int:
    """List what failed: in quarantine, or tried again by the next run."""
    from pipelines.quarantine import failures, selected

    found = selected(failures(dataset), (), reason or (), stage or ())
    if json_:
        _print_json([failure.to_json() for failure in found])
    rows = [
        (
            failure.entry.unit,
            failure.entry.uri,
            failure.entry.stage,
            failure.entry.reason or "",
            failure.error_class,
            failure.entry.attempts,
            "quarantined" if failure.quarantined else "tried again",
        )
        for failure in found[:MAX_SHOWN]
    ]
    if rows:
        _print_table(("unit", "source", "stage", "reason", "class", "attempts", "state"), rows)
    if len(found) > MAX_SHOWN:
        console.print(f"... and {len(found) - MAX_SHOWN} more; see --json")
    held = sum(failure.quarantined for failure in found)
    console.print(f"{held} in quarantine, {len(found) - held} that the next run tries again")
    return 0


def show_command(
    dataset: DatasetArgument,
    units: Annotated[list[str], typer.Argument(help="Units (or how they begin), or URIs of sources.")],
    json_: JsonOption = False,
) -> int:
    """Show everything that is known of failures, with their tracebacks."""
    from pipelines.quarantine import failures, selected, traceback_of

    chosen = selected(failures(dataset), units)
    if json_:
        _print_json([{**failure.to_json(), "traceback": traceback_of(dataset, failure)} for failure in chosen])
    for failure in chosen:
        _print_failure(failure, traceback_of(dataset, failure))
    return 0


def release_command(
    dataset: DatasetArgument,
    units: UnitsArgument = None,
    reason: ReasonOption = None,
    stage: StageOption = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything that failed.")] = False,
    json_: JsonOption = False,
) -> int:
    """Let the next run try failures as if for the first time."""
    if not (units or reason or stage or all_):
        raise UsageError("nothing is named", "Give units, --reason, --stage, or --all")
    count = _release(dataset, units, reason, stage)
    if json_:
        _print_json({"released": count})
    console.print(f"released {count}; the next run tries them")
    return 0


def retry_command(
    dataset: DatasetArgument,
    failed: Annotated[bool, typer.Option("--failed", help="Everything that failed.")] = False,
    reason: ReasonOption = None,
    stage: StageOption = None,
) -> int:
    """Release failures and start the last run of the folder again."""
    from pipelines.events import last_start, resume_command
    from talkset.cli import main

    if not (failed or reason or stage):
        raise UsageError("nothing is named", "Give --failed, --reason or --stage")
    start = last_start(dataset)
    count = _release(dataset, None, reason, stage)
    command = [str(part) for part in start.get("command", [])]
    if not count:
        console.print("nothing failed for that: there is nothing to do")
        return 0
    if command[:2] not in (["talkset", "run"], ["talkset", "fit"]):
        console.print(f"released {count}; start the run again: the command is not on record")
        return 0
    console.print(f"released {count}; running:")
    console.print(f"  {resume_command(start)}", markup=False, soft_wrap=True)
    before = Path.cwd()
    os.chdir(_folder_of(start))
    try:
        return main(command[1:])
    finally:
        os.chdir(before)


def _folder_of(start: dict[str, Any]) -> Path:
    folder = Path(str(start.get("folder") or "."))
    if not folder.is_dir():
        command = shlex.join(str(part) for part in start["command"])
        message = f"the folder {folder}, in which the run was started, is not here"
        raise UsageError(message, f"Start the run again yourself: {command}")
    return folder


def _release(
    dataset: Path, units: Sequence[str] | None, reason: Sequence[str] | None, stage: Sequence[str] | None
) -> int:
    from pipelines.quarantine import failures, release, selected

    return release(dataset, selected(failures(dataset), units or (), reason or (), stage or ()))


def _shown(status: Status) -> RenderableType:
    """The status for people."""
    from rich.table import Table
    from rich.text import Text

    table = Table("stage", box=None)
    for name in ("done", "rejected", "running", "failed", "quarantined", "made", "wall", "CPU"):
        table.add_column(name, justify="right")
    for name, stage in status.stages.items():
        counts = (stage.done, stage.rejected, stage.running, stage.failed, stage.quarantined, stage.made)
        shown = (str(count) if count else "" for count in counts)
        table.add_row(Text(name), *shown, f"{stage.seconds:.1f} s", f"{stage.cpu_seconds:.1f} s")
    if not status.run:
        return Group(table, Text("no record of a run: this ledger is older than the record"))
    lines = [f"run {status.run} {status.state} after {_duration(status.seconds)} ({status.owner})"]
    if status.message:
        lines.append(status.message)
    phase = status.phase
    if phase is not None and status.state == "running":
        eta = "" if status.eta_s is None else f", about {_duration(status.eta_s)} left"
        waiting = f", {phase.waiting} tried again later" if phase.waiting else ""
        lines.append(
            f"{phase.name}: {phase.ended} of {phase.items}, {len(phase.running)} running, {phase.queue} queued{waiting}"
            f"; {status.rate:.2f} a second, workers busy {status.utilisation:.0%}{eta}"
        )
    if status.state not in ("running", "finished") and status.resume:
        lines += ["go on with:", f"  {status.resume}"]
    return Group(table, Text("\n".join(lines)))


def _print_failure(failure: Failure, trace: str) -> None:
    entry = failure.entry
    ended = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.ended)) if entry.ended else "not known"
    state = "in quarantine" if failure.quarantined else "the next run tries it again"
    rows = [
        ("unit", entry.unit),
        ("source", entry.uri),
        ("stage", entry.stage),
        ("reason", f"{entry.reason} ({failure.error_class})"),
        ("message", entry.message or ""),
        ("attempts", f"{entry.attempts}, {state}"),
        ("last attempt", f"{ended} on {entry.host or 'a host that is not known'}, {entry.seconds:.1f} s"),
        ("traceback", entry.trace or "none"),
    ]
    for name, text in rows:
        console.print(f"{name:>12}  {escape(text)}", soft_wrap=True)
    if trace:
        console.print(escape(trace), soft_wrap=True)


def _print_plan(plan: Plan) -> None:
    for line in plan.lines():
        console.print(escape(line), soft_wrap=True)
    if plan.stages:
        rows = [
            (name, f"{cost.pilot_cpu_s:.1f} s", *_hours(cost, bool(plan.gpus)), f"{cost.share:.0%}")
            for name, cost in plan.stages.items()
        ]
        gpu = ("GPU predicted",) if plan.gpus else ()
        _print_table(("stage", "CPU in the pilot", "CPU predicted", *gpu, "share"), rows)
        _print_table(("output", "disk"), [(name, f"{size / 1e6:.1f} MB") for name, size in plan.disk_bytes.items()])


def _hours(cost: StageCost, gpu: bool) -> tuple[str, ...]:
    return tuple(f"{seconds / 3600:.3f} h" for seconds in ((cost.cpu_s, cost.gpu_s) if gpu else (cost.cpu_s,)))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _print_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    from rich.table import Table

    table = Table(*names, box=None)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, ensure_ascii=False))
