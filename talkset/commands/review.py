"""The review: a page to judge clips on, and the version that follows from what was said."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from schemas.errors import TalksetError, UsageError

if TYPE_CHECKING:
    from review.session import ReviewSession, Settings

DatasetArgument = Annotated[Path, typer.Argument(help="Folder of a data set.", exists=True, file_okay=False)]
JournalOption = Annotated[
    Path | None, typer.Option("--journal", help="Folder of the decisions; by default inside the data set.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
console = Console(stderr=True, highlight=False)


class _WithDefault(typer.core.TyperGroup):
    """A group whose first word may be left out: `talkset review DIR` opens it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command before arguments that name none."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["open", *args]
        return list(super().parse_args(ctx, args))


def register(app: typer.Typer) -> None:
    """Add the commands to the `talkset` command."""
    group = typer.Typer(
        cls=_WithDefault,
        no_args_is_help=True,
        help="Judge clips in the browser, worst first: `talkset review DIR`; `talkset review apply DIR --out NEW`.",
    )
    group.command("open")(open_command)
    group.command("apply")(apply_command)
    group.command("status")(status_command)
    app.add_typer(group, name="review")


def open_command(
    dataset: DatasetArgument,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free port.")] = 8760,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine need a token.")
    ] = "127.0.0.1",
    token: Annotated[str | None, typer.Option(help="Secret of the address; made up where it is needed.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(help="Another name that browsers call it by.")] = None,
    reviewer: Annotated[
        str | None, typer.Option(help="Your name in the decisions; by default that of the account.")
    ] = None,
    journal: JournalOption = None,
    blind: Annotated[int, typer.Option(min=0, help="Judge so many judged clips again, not seeing what was said.")] = 0,
    seed: Annotated[int, typer.Option(help="Draws another sample for --blind.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Only write this PNG: the worst clips, each at its worst frame.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Only write this folder: the page with the worst clips, serverless.")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips on the sheet or in the export.")] = 12,
    json_: JsonOption = False,
) -> int:
    """Serve the review page of a data set on this machine, or write a sheet or an export of it."""
    if sheet is not None:
        return _write_sheet(dataset, sheet, clips, json_)
    from review.session import ReviewSession

    settings = _settings(dataset, reviewer, journal, blind, seed)
    with contextlib.closing(ReviewSession(settings, _renderer(dataset))) as session:
        if export is not None:
            return _write_export(session, export, clips, json_)
        return _serve(session, host, port, token, allow_host or [], browser, json_)


def _write_export(session: ReviewSession, output: Path, clips: int, json_: bool) -> int:
    from review.static_export import export_page

    shown = export_page(session, output, clips, lambda clip_id: console.print(f"  {escape(clip_id)}"))
    if json_:
        typer.echo(json.dumps(shown, indent=1))
    console.print(f"wrote {len(shown)} clips; open {escape(str(output / 'index.html'))}", soft_wrap=True)
    return 0


def apply_command(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the new version; it must not exist.")],
    journal: JournalOption = None,
    on_conflict: Annotated[
        str, typer.Option("--conflicts", help="Clips that reviewers disagree about: drop, keep or stop.")
    ] = "drop",
    only_accepted: Annotated[bool, typer.Option("--only-accepted", help="Leave out what nobody accepted.")] = False,
    keep_rejected: Annotated[bool, typer.Option("--keep-rejected", help="Only note verdicts in `review`.")] = False,
    version: Annotated[str | None, typer.Option(help="MAJOR.MINOR.PATCH; by default the next one.")] = None,
    json_: JsonOption = False,
) -> int:
    """Make the version that follows from the decisions: without rejected clips, with what was corrected."""
    from review.journal import to_table
    from talkset.versions.reviewed import apply_review

    decisions, plan = _plan(dataset, journal)
    _print_unclear(plan)
    done = apply_review(
        dataset,
        out,
        to_table(decisions),
        plan.verdicts,
        plan.corrections,
        sorted(plan.dropped(on_conflict, keep_rejected)),
        only_accepted=only_accepted,
        align=_aligner(dataset),
        version=version,
    )
    if json_:
        typer.echo(json.dumps({**done, **_unclear(plan)}, indent=1, ensure_ascii=False))
    for clip_id, problem in done["not_aligned"].items():
        console.print(f"[yellow]{escape(clip_id)}[/] has no words now: {escape(problem)}", soft_wrap=True)
    corrected = ", ".join(f"{count} {name}" for name, count in done["corrected"].items() if count) or "nothing"
    console.print(
        f"wrote {escape(str(out))}: version {done['version']}, {done['rows']} of {done['rows_before']} clips, corrected"
        f" {corrected}, aligned again {done['realigned']}",
        soft_wrap=True,
    )
    return 0


def status_command(dataset: DatasetArgument, journal: JournalOption = None, json_: JsonOption = False) -> int:
    """Say how far the review is, how much reviewers agree, and where they do not."""
    from review.agreement import agreement, outcomes, work
    from review.journal import Journal

    kept = Journal(dataset, journal)
    decisions, plan = _plan(dataset, journal)
    found = agreement(decisions)
    reviewers = sorted({item.reviewer for item in decisions})
    facts = {
        "judged": len(outcomes(decisions)),
        "reviewers": {name: work(decisions, name) for name in reviewers},
        "agreement": vars(found),
        **_unclear(plan),
        "damage": [vars(item) for item in kept.damage],
    }
    if json_:
        typer.echo(json.dumps(facts, indent=1, ensure_ascii=False))
    for name, done in facts["reviewers"].items():
        said = ", ".join(f"{count} {verdict}" for verdict, count in done["verdicts"].items())
        pace = f", {done['clips_per_hour']:.0f} an hour" if done["clips_per_hour"] else ""
        console.print(f"{escape(name)}: {done['decided']} clips ({said}){pace}")
    kappa = "unknown" if found.kappa is None else f"{found.kappa:.2f}"
    console.print(f"looked at twice: {found.clips}, alike {found.same}, Cohen's kappa {kappa}")
    _print_unclear(plan)
    for item in kept.damage:
        console.print(f"[yellow]{escape(item.file)} line {item.line}[/]: {escape(item.message)}; all others count")
    return 0


def _plan(dataset: Path, journal: Path | None) -> tuple[list[Any], Any]:
    """All decisions about a data set, and what they lead to."""
    from review.decisions import content_sha256
    from review.journal import Journal
    from review.plan import make_plan
    from review.session import ANY_STATUS
    from talkset.dataset import DatasetError, open_dataset

    try:
        opened = open_dataset(dataset, where=ANY_STATUS)
    except DatasetError as error:
        raise UsageError(str(error), "Give the folder of a finished data set") from error

    def content(clip_id: str) -> str | None:
        try:
            return content_sha256(opened[clip_id])
        except KeyError:
            return None

    decisions = Journal(dataset, journal).decisions
    if not decisions:
        raise UsageError(f"nothing of {dataset} was judged yet", "Judge clips with `talkset review`")
    try:
        return decisions, make_plan(decisions, content)
    except DatasetError as error:
        raise TalksetError("corrupt_data", str(error)) from error


def _unclear(plan: Any) -> dict[str, Any]:
    names = ("conflicting", "disputed", "stale", "unknown")
    return {name: getattr(plan, name) for name in names}


def _print_unclear(plan: Any) -> None:
    for clip_id, said in plan.conflicting.items():
        text = ", ".join(f"{who}: {verdict}" for who, verdict in said.items())
        console.print(f"[yellow]conflict[/] {escape(clip_id)}: {escape(text)}", soft_wrap=True)
    for clip_id, columns in plan.disputed.items():
        for name, values in columns.items():
            text = ", ".join(f"{who}: {value}" for who, value in values.items())
            console.print(
                f"[yellow]{name} differs[/] {escape(clip_id)}: {escape(text)}; the latest counts", soft_wrap=True
            )
    for what, ids in (("fitted again since they were judged", plan.stale), ("not in this data set", plan.unknown)):
        if ids:
            shown = ", ".join(ids[:5]) + (" ..." if len(ids) > 5 else "")
            console.print(f"{len(ids)} judged clips are {what}: {escape(shown)}", soft_wrap=True)


def _aligner(root: Path) -> Any:
    """Aligns a clip's sound with another transcript, as the data set's configuration says."""

    def align(clip: Any, transcript: str) -> Any:
        from annotate.align import make_aligner
        from schemas.config import load_config

        backend = load_config(root / "config.yaml").align.backend
        language = (clip.index["language"] or "en").lower()
        if language.replace("_", "-").partition("-")[0] not in ("en", "eng", "english"):
            raise TalksetError(
                "bad_transcript", f"the transcript is in {language!r}, the aligner {backend} knows English"
            )
        samples, _ = clip.audio(16_000, mono=True)
        return make_aligner(backend).align(samples[:, 0], transcript)

    return align


def _write_sheet(dataset: Path, sheet: Path, clips: int, json_: bool) -> int:
    from review.contact_sheet import contact_sheet

    shown = contact_sheet(dataset, sheet, clips)
    if json_:
        typer.echo(json.dumps(shown, indent=1))
    console.print(f"wrote {escape(str(sheet))}: {len(shown)} clips, the worst first")
    return 0


def _settings(dataset: Path, reviewer: str | None, journal: Path | None, blind: int, seed: int) -> Settings:
    import getpass

    from review.session import Settings
    from talkset.training.prepared import user_cache

    name = reviewer
    if name is None:
        try:
            name = getpass.getuser()
        except (OSError, KeyError) as error:
            raise UsageError("this account has no name", "Give yours with --reviewer NAME") from error
    return Settings(dataset, name, user_cache().parent / "review", journal, blind, seed)


def _serve(
    session: ReviewSession, host: str, port: int, token: str | None, names: list[str], browser: bool, json_: bool
) -> int:
    import secrets
    import threading
    import webbrowser

    from review.guard import Guard, is_loopback
    from review.server import listen, make_app, serve

    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    if token is not None and len(token) < 12:
        raise UsageError("the token is shorter than 12 characters", "Leave --token out to have one made up")
    guard = Guard(host, token, tuple(names))
    with contextlib.closing(listen(host, port)) as bound:
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
        shown = f"[{shown}]" if ":" in shown else shown
        address = f"http://{shown}:{bound.getsockname()[1]}/" + (f"?token={token}" if token else "")
        if json_:
            typer.echo(json.dumps({"address": address}))
        console.print(f"review {escape(str(session.settings.root))} at {escape(address)}", soft_wrap=True)
        console.print("Ctrl-C ends it; every decision is saved at once")
        if session.save_problem is not None:
            console.print(f"[yellow]decisions cannot be saved[/]: {escape(session.save_problem)}", soft_wrap=True)
            console.print("Give a folder for them with --journal FOLDER")
        for item in session.journal.damage:
            console.print(f"[yellow]{escape(item.file)} line {item.line}[/]: {escape(item.message)}; all others count")
        threading.Thread(target=_warm_up, args=(session,), daemon=True).start()
        if browser:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        serve(make_app(session, guard), bound)
    return 0


def _warm_up(session: ReviewSession) -> None:
    """Load what the first mesh needs (torch, the head model) while the page opens."""
    from review.catalogue import Query
    from review.session import UnknownClipError

    with contextlib.suppress(TalksetError, UnknownClipError, IndexError):  # the page says what is missing
        rows = session.queue(Query(verdict="open", facets={"status": "accepted"}, limit=1))["rows"]
        for row in rows:
            session.array(row["clip_id"], "vertices", 0)


def _renderer(root: Path) -> Callable[[str, Path], None]:
    """Renders the overlay of one clip of the data set into a file, from its own tables and media."""

    def render(clip_id: str, output: Path) -> None:
        import pyarrow.parquet as pq

        from pipelines.overlays import stored_clip
        from pipelines.stored_body import stored_layer
        from reconstruct.models.registry import load_model
        from reconstruct.overlay import render_overlay
        from schemas.config import load_config

        columns = ["clip_id", "status", "shard", "width", "height", "model_sha256"]
        found = pq.read_table(root / "index.parquet", columns=columns, filters=[("clip_id", "=", clip_id)]).to_pylist()
        if not found or found[0]["status"] != "accepted":
            raise TalksetError("missing_file", f"clip {clip_id} was not fitted, so there is nothing to draw")
        video = root / "media" / f"{clip_id}.mp4"
        if not video.is_file():
            raise TalksetError("missing_file", f"{video} is missing", "Fetch it, or build with media.enabled=true")
        head, landmarks, body = stored_clip(root, found[0])
        model = load_model(head.head_model)
        if model.sha256 != head.model_sha256:
            message = f"clip {clip_id} was fitted with another {head.head_model} ({head.model_sha256})"
            raise TalksetError(
                "missing_model", message, "Install that one, or run again to fit it with the installed one"
            )
        layer = stored_layer(root, body, head)
        render_overlay(video, 0, head, landmarks, model, output, load_config(None).overlay, layer)

    return render
