"""The commands that look at one stage of one clip: run it alone, save what it needs, run that again and compare."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from schemas.errors import UsageError

if TYPE_CHECKING:
    from pipelines.debug import Case, Outcome
    from pipelines.replay import Difference, Golden

console = Console(stderr=True, highlight=False)
MAX_SHOWN = 20
"""Differences that are listed; the JSON has them all."""


def register(app: typer.Typer) -> None:
    """Add debug and replay to the `talkset` command."""
    app.command("debug")(debug_command)
    app.command("replay")(replay_command)


def debug_command(
    dataset: Annotated[Path, typer.Argument(help="Folder of a data set.", exists=True, file_okay=False)],
    only: Annotated[str, typer.Option("--only", help="The stage: segment, landmarks, fit ...")],
    clip: Annotated[str, typer.Option("--clip", help="A clip, or a unit or URI of a source; its beginning will do.")],
    save: Annotated[Path | None, typer.Option(help="Save item, inputs and result into this new folder.")] = None,
    media: Annotated[bool, typer.Option("--media/--no-media", help="Copy the source's file into it.")] = True,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", help="For this stage alone, as section.key=value.")
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="That of the run; by default as the run recorded it.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="With --manifest: that of the run.")] = None,
) -> int:
    """Run one stage on one clip of a run's folder, here, with its stored inputs; nothing of the run is changed."""
    _one_thread()
    from pipelines.debug import find_case, worked
    from pipelines.replay import differences, golden_of, save_case
    from pipelines.run import read_sources
    from schemas.config import load_config
    from talkset.stdout import stdout_kept_clean

    path, file, overrides = (manifest, config, []) if manifest is not None else _recorded(dataset)
    sources, base = read_sources(path)
    settings, changed = load_config(file, overrides), load_config(file, [*overrides, *(set_ or [])])
    with stdout_kept_clean():
        case, stored = find_case(dataset, sources, base, settings, only, clip, changed if set_ else None)
        _settle()
        with worked(case) as outcome:
            told = {"stage": case.stage, "unit": case.item.unit, **outcome.summary()}
            if stored is not None and outcome.result is not None:
                found = differences(golden_of(stored, outcome.state), _unjudged(outcome), 0.0)
                told["stored"] = "equal" if not found else [str(difference) for difference in found]
            if save is not None:
                save_case(case, outcome, save, media)
    typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    _print_outcome(case, outcome)
    if "stored" in told:
        console.print(f"beside the stored result: {'equal' if told['stored'] == 'equal' else 'differs, see above'}")
    if save is not None:
        console.print(f"saved; run it again: talkset replay {escape(str(save))} --golden", soft_wrap=True)
    return 1 if outcome.state == "failed" else 0


def replay_command(
    folder: Annotated[Path, typer.Argument(help="What `talkset debug --save` wrote.", exists=True, file_okay=False)],
    golden: Annotated[
        bool, typer.Option("--golden", help="Compare with the saved result; exit 1 on a change.")
    ] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="How far numbers may differ.")] = 1e-5,
) -> int:
    """Run a saved case again, and say what is not as it was."""
    _one_thread()
    from pipelines.debug import worked
    from pipelines.replay import load_case
    from talkset.stdout import stdout_kept_clean

    with stdout_kept_clean():
        replay = load_case(folder)
        _settle()
        with worked(replay.case) as outcome:
            told = {"stage": replay.case.stage, "unit": replay.case.item.unit, **outcome.summary()}
            found = _compared(replay.golden, outcome, tolerance) if golden else []
    told["notes"] = list(replay.notes)
    if golden:
        told["differences"] = [str(difference) for difference in found]
    typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
    _print_outcome(replay.case, outcome)
    for note in replay.notes:
        console.print(f"[yellow]changed since[/] {escape(note)}", soft_wrap=True)
    if golden:
        for difference in found[:MAX_SHOWN]:
            console.print(f"[red]differs[/] {escape(str(difference))}", soft_wrap=True)
        if len(found) > MAX_SHOWN:
            console.print(f"... and {len(found) - MAX_SHOWN} more; see the JSON")
        console.print(f"{len(found)} parts differ" if found else f"equal within {tolerance:g}")
        return 1 if found else 0
    return 1 if outcome.state == "failed" else 0


def _compared(golden: Golden, outcome: Outcome, tolerance: float) -> list[Difference]:
    from pipelines.replay import differences

    return differences(golden, outcome, tolerance)


def _unjudged(outcome: Outcome) -> Outcome:
    """A stored result does not say whether it was good enough, so that is not compared."""
    import dataclasses

    return dataclasses.replace(outcome, reason=None)


def _recorded(dataset: Path) -> tuple[Path, Path | None, list[str]]:
    """Manifest, configuration file and overrides of the last run, from the command that is on record."""
    from pipelines.events import last_start
    from pipelines.quarantine import check_run_folder
    from talkset.cli import app

    check_run_folder(dataset)
    start = last_start(dataset)
    command = [str(part) for part in start.get("command", [])]
    if command[:2] not in (["talkset", "run"], ["talkset", "fit"]):
        message = f"the command of the last run of {dataset} is not on record"
        raise UsageError(message, "Give --manifest, and --config where there was one")
    folder = Path(str(start.get("folder") or "."))
    group: Any = typer.main.get_command(app)
    before = Path.cwd()
    try:
        os.chdir(folder)
        given = group.commands[command[1]].make_context(command[1], command[2:]).params
    except FileNotFoundError as error:
        message = f"the folder {folder}, in which the run was started, is not here"
        raise UsageError(message, "Give --manifest, and --config where there was one") from error
    finally:
        os.chdir(before)
    manifest, config = given.get("manifest") or given.get("video"), given.get("config")
    return folder / manifest, None if config is None else folder / config, list(given.get("set_") or [])


def _one_thread() -> None:
    """As a worker has it; BLAS reads these when it is loaded."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


def _settle() -> None:
    from pipelines.process import settle_process

    settle_process()


def _print_outcome(case: Case, outcome: Outcome) -> None:
    times = f"{outcome.seconds:.2f} s, {outcome.cpu_seconds:.2f} s CPU, models included"
    console.print(f"{case.stage} of {escape(case.item.unit)}: {outcome.state} ({times})", soft_wrap=True)
    if outcome.reason:
        console.print(f"[yellow]{outcome.reason}[/] {escape(outcome.message or '')}", soft_wrap=True)
    if outcome.traceback:
        console.print(escape(outcome.traceback), soft_wrap=True)
