"""SubRip (.srt) and WebVTT (.vtt) subtitles: lines with times, and in some WebVTT files times of single words."""

from __future__ import annotations

import html
import re
from typing import Final

import numpy as np

from annotate.align.base import Alignment
from annotate.timing import TimedWord, settle
from schemas.errors import TalksetError

_STAMP: Final = r"(?:(\d{1,3}):)?(\d{1,2}):(\d{2})[.,](\d{3})"
_CUE: Final = re.compile(rf"^\s*{_STAMP}\s*-->\s*{_STAMP}(?:\s.*)?$")
_INNER: Final = re.compile(rf"<{_STAMP}>")
_TAG: Final = re.compile(r"</?[^<>]+>|\{\\[^{}]*\}")
_SOURCE: Final = "subtitles"


def parse_subtitles(text: str, name: str) -> Alignment:
    """The words of all cues.

    Inside a cue words share its time by their numbers of letters, marked interpolated; where a WebVTT cue carries
    times of words, those hold. Lines that repeat the cue before (rolling captions) count once. Tags, remarks in square
    brackets and names of speakers (`>> ANNA:`) are left out.

    Raises TalksetError(corrupt_data) for a file without a cue, naming the line of a wrong time.
    """
    words: list[TimedWord] = []
    lines = text.splitlines()
    previous: list[str] = []
    index = cues = 0
    while index < len(lines):
        match = _CUE.match(lines[index])
        if match is None:
            if "-->" in lines[index]:
                message = f"{name}, line {index + 1}: {lines[index].strip()!r} is no time of a cue"
                raise TalksetError("corrupt_data", message, "Write 00:00:01,000 --> 00:00:02,500")
            index += 1
            continue
        start, end = _us(match.groups()[:4]), _us(match.groups()[4:])
        if end < start:
            message = f"{name}, line {index + 1}: the cue ends before it starts"
            raise TalksetError("corrupt_data", message, "Correct its times")
        cues += 1
        body: list[str] = []
        index += 1
        while index < len(lines) and lines[index].strip() and _CUE.match(lines[index]) is None:
            body.append(lines[index].strip())
            index += 1
        fresh = [line for line in body if line not in previous]
        previous = body
        words += _words(" ".join(fresh), start, end)
    if not cues:
        raise TalksetError("corrupt_data", f"{name} holds no cue", "Supply an .srt or .vtt file")
    timed, untimed = settle(words, _SOURCE)
    return Alignment(timed, (), untimed=untimed)


def _words(text: str, start: int, end: int) -> list[TimedWord]:
    """Words of one cue."""
    parts = _INNER.split(text)
    times = [start, *(_us(tuple(parts[i : i + 4])) for i in range(1, len(parts), 5)), end]
    found: list[TimedWord] = []
    for number, part in enumerate(parts[::5]):
        labels = _plain(part).split()
        if not labels:
            continue
        edges = np.cumsum([0, *(len(label) + 1 for label in labels)])
        places = np.interp(edges, (0, edges[-1]), (times[number], times[number + 1])).round().astype(int).tolist()
        measured = len(parts) > 1 and len(labels) == 1
        found += [
            TimedWord(label, places[i], places[i + 1], interpolated=not measured) for i, label in enumerate(labels)
        ]
    return found


def _plain(text: str) -> str:
    spoken = html.unescape(_TAG.sub("", text))
    spoken = re.sub(r"\[[^\]]*\]|♪", " ", spoken)
    return re.sub(r"^\s*(?:>>|-)?\s*(?:[A-Z][A-Z .']+:)?", " ", spoken)


def _us(groups: tuple[str | None, ...]) -> int:
    hours, minutes, seconds, milliseconds = (int(value or 0) for value in groups)
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + milliseconds * 1000
