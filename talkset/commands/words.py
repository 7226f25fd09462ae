"""The commands for words: align a file, convert and export words, make tracks of phones and visemes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from schemas.errors import UsageError

if TYPE_CHECKING:
    from annotate.align.base import Alignment

FORMATS = ("textgrid", "ctm", "srt", "vtt", "whisperx-json")
TIMED_FORMATS = ("textgrid", "ctm")
"""Those that cannot hold a word without times."""
FormatOption = Annotated[str, typer.Option("--format", "-f", help=", ".join(FORMATS))]
SetOption = Annotated[list[str] | None, typer.Option("--set", "-s", help="One value, as align.backend=whisperx.")]
console = Console(stderr=True, highlight=False)


def register(app: typer.Typer) -> None:
    """Add the group `words` to the `talkset` command."""
    group = typer.Typer(help="Words, phones and visemes.", no_args_is_help=True)
    group.command("align")(align_command)
    group.command("convert")(convert_command)
    group.command("export")(export_command)
    group.command("tracks")(tracks_command)
    app.add_typer(group, name="words")


def align_command(
    media: Annotated[Path, typer.Argument(help="A video or a sound file.", exists=True, dir_okay=False)],
    transcript: Annotated[str | None, typer.Option(help="What is said; without it words are recognised.")] = None,
    transcript_file: Annotated[
        Path | None, typer.Option(help="The same from a UTF-8 file.", exists=True, dir_okay=False)
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language tag, as en or de.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write.", dir_okay=False)] = None,
    format_: FormatOption = "textgrid",
    set_: SetOption = None,
    json_: Annotated[bool, typer.Option("--json", help="Print words, phones and checks as JSON on stdout.")] = False,
) -> int:
    """Time the words and phones of a recording and say whether they are to be believed."""
    import tempfile

    from annotate.align import make_aligner
    from annotate.audio import audio_span_us, read_audio
    from annotate.sound import spooled
    from annotate.word_checks import FLAGS, check_words
    from schemas.config import load_config
    from schemas.records import word_values

    if transcript is not None and transcript_file is not None:
        raise UsageError("both --transcript and --transcript-file are given", "Give one of them")
    if transcript_file is not None:
        transcript = transcript_file.read_text(encoding="utf-8-sig")
    config = load_config(None, set_ or []).align
    aligner = make_aligner(config.backend, config)
    _, duration_us = audio_span_us(media)
    with tempfile.TemporaryDirectory(prefix="talkset-words-") as folder:
        sound = spooled(lambda a, b: read_audio(media, a, b), 0, duration_us, Path(folder, "sound.raw"))
        found = aligner.align(sound, transcript, language) if transcript else aligner.recognize(sound, language)
        report = check_words(sound, found)
    if out is not None:
        _write(out, format_, found, duration_us, media.stem)
    if json_:
        rows = {"words": [_row(word) for word in word_values(found)], "phones": [_row(vars(p)) for p in found.phones]}
        checks = {name: _value(value) for name, value in vars(report).items() if name != "speech"}
        typer.echo(
            json.dumps(
                {**rows, "untimed": [word.label for word in found.untimed], "checks": checks},
                ensure_ascii=False,
                indent=1,
            )
        )
    console.print(
        f"{len(found.words)} words, {len(found.phones)} phones, {report.words_per_minute:.0f} words a minute,"
        f" mismatch {report.mismatch:.2f}"
    )
    for flag in report.flags:
        console.print(f"[yellow]{flag}[/]: {FLAGS[flag]}")
    return 0


def convert_command(
    source: Annotated[Path, typer.Argument(help="TextGrid, SRT, VTT, CTM, WhisperX JSON or GRID .align.", exists=True)],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write.", dir_okay=False)],
    format_: FormatOption = "textgrid",
    from_: Annotated[str | None, typer.Option("--from", help="Format of the file, where its suffix lies.")] = None,
    utterance: Annotated[str | None, typer.Option(help="One of a CTM file that holds several.")] = None,
) -> int:
    """Turn a file of timed words into another format."""
    from annotate.importers import read_words

    found = read_words(source, from_, utterance)
    times = [interval.end_us for interval in (*found.words, *found.phones)]
    _write(out, format_, found, max(times, default=1), utterance or source.stem)
    console.print(f"wrote {len(found.words)} words into {escape(str(out))}", soft_wrap=True)
    if found.untimed and format_ in TIMED_FORMATS:
        missing = " ".join(word.label for word in found.untimed)
        console.print(f"[yellow]without times, left out[/]: {escape(missing)}", soft_wrap=True)
    return 0


def export_command(
    dataset: Annotated[Path, typer.Argument(help="Folder of a data set.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.", file_okay=False)],
    format_: FormatOption = "textgrid",
) -> int:
    """Write the words of all clips in a foreign format."""
    from exports.ctm import export_ctm
    from exports.srt import export_srt
    from exports.textgrid import export_textgrids
    from exports.vtt import export_vtt
    from exports.whisperx_json import export_whisperx_json

    exporters = (export_textgrids, export_ctm, export_srt, export_vtt, export_whisperx_json)
    makers = dict(zip(FORMATS, exporters, strict=True))
    written = makers[_known(format_)](dataset, out)
    console.print(f"wrote {len(written)} files into {escape(str(out))}", soft_wrap=True)
    return 0


def tracks_command(
    dataset: Annotated[Path, typer.Argument(help="Folder of a data set.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.", file_okay=False)],
) -> int:
    """Write visemes as rows, and visemes and ARKit weights for every frame, for `talkset add-column`."""
    from pipelines.word_tracks import write_word_tracks

    for path in write_word_tracks(dataset, out):
        console.print(f"wrote {escape(str(path))}", soft_wrap=True)
    return 0


def _known(format_: str) -> str:
    if format_ not in FORMATS:
        raise UsageError(f"unknown format {format_!r}", f"Known: {', '.join(FORMATS)}")
    return format_


def _write(out: Path, format_: str, found: Alignment, duration_us: int, name: str) -> None:
    """One file of words, whole or not at all."""
    from exports.ctm import ctm
    from exports.spoken import StoredClip
    from exports.srt import srt
    from exports.textgrid import textgrid
    from exports.vtt import vtt
    from exports.whisperx_json import whisperx_json
    from schemas.files import write_atomic

    tiers = {"words": [vars(word) for word in found.words], "phones": [vars(phone) for phone in found.phones]}
    made = {
        "textgrid": lambda: textgrid(found.words, found.phones, duration_us),
        "ctm": lambda: ctm([StoredClip(name.replace(" ", "_"), duration_us, tiers)]),
        "srt": lambda: srt(found),
        "vtt": lambda: vtt(found),
        "whisperx-json": lambda: whisperx_json(found),
    }
    write_atomic(out, made[_known(format_)]().encode("utf-8"))


def _row(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _value(value) for name, value in values.items()}


def _value(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value
