"""Words and phones that somebody else has timed, by file format."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Final

from annotate.align.base import Alignment
from schemas.errors import TalksetError, UsageError

SUFFIXES: Final = {
    ".textgrid": "textgrid",
    ".srt": "subtitles",
    ".vtt": "subtitles",
    ".ctm": "ctm",
    ".json": "whisperx-json",
    ".align": "grid-align",
}
"""Suffix in lower case -> format."""

FORMATS: Final = tuple(dict.fromkeys(SUFFIXES.values()))


def read_words(path: Path, format_: str | None = None, utterance: str | None = None) -> Alignment:
    """The words and phones in a file, in microseconds from the start of its sound.

    The format follows from the suffix unless it is given. `utterance` chooses one of a CTM file that holds several.

    Raises UsageError for an unknown format or utterance, TalksetError: missing_file, unreadable_file, and corrupt_data
    for a file that is not in its format, naming the line where there is one.
    """
    kind = format_ or SUFFIXES.get(path.suffix.lower())
    if kind not in FORMATS:
        named = kind or path.name
        close = difflib.get_close_matches(named, FORMATS, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"no known format of words: {named!r}", f"{hint}Known: {', '.join(FORMATS)}")
    if kind == "textgrid":  # praatio reads the file itself, in any of Praat's encodings
        from annotate.importers.textgrid import read_textgrid

        _text(path)
        return read_textgrid(path)
    text = _text(path)
    if kind == "ctm":
        from annotate.importers.ctm import parse_ctm

        return _chosen(parse_ctm(text, path.name), utterance, path)
    parse = _parser(kind)
    return parse(text, path.name)


def _parser(kind: str) -> Callable[[str, str], Alignment]:
    if kind == "subtitles":
        from annotate.importers.subtitles import parse_subtitles

        return parse_subtitles
    if kind == "whisperx-json":
        from annotate.importers.whisperx_json import parse_whisperx

        return parse_whisperx
    from annotate.importers.grid_align import parse_grid

    return parse_grid


def _chosen(utterances: dict[str, Alignment], name: str | None, path: Path) -> Alignment:
    if name is None and len(utterances) == 1:
        return next(iter(utterances.values()))
    if name not in utterances:
        shown = ", ".join(sorted(utterances)[:10])
        raise UsageError(
            f"{path} has {len(utterances)} utterances and none is chosen by {name!r}", f"There are: {shown}"
        )
    return utterances[name]


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise TalksetError("missing_file", f"{path} does not exist", "Check the path") from error
    except OSError as error:
        raise TalksetError("unreadable_file", f"{path} cannot be read: {error.strerror}", "Check its rights") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise TalksetError(
            "corrupt_data", f"{path} is not {encoding} text ({error.reason})", "Save it as UTF-8"
        ) from error
