"""The alignments that come with the GRID corpus: `start end word`, in units of 1/25000 s."""

from __future__ import annotations

from typing import Final

from annotate.align.base import Alignment
from annotate.timing import TimedWord, settle
from schemas.errors import TalksetError

UNIT_US: Final = 40
_SILENT: Final = frozenset(("sil", "sp"))
_SOURCE: Final = "grid-align"


def parse_grid(text: str, name: str) -> Alignment:
    """The words of an `.align` file; silences are left out. Raises TalksetError(corrupt_data) naming a wrong line."""
    words: list[TimedWord] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        fields = line.split()
        if len(fields) != 3 or not (fields[0].isdigit() and fields[1].isdigit()):
            message = f"{name}, line {number}: {line.strip()!r} is not `start end word`"
            raise TalksetError("corrupt_data", message, "Supply an .align file of the GRID corpus")
        if fields[2] not in _SILENT:
            words.append(TimedWord(fields[2], int(fields[0]) * UNIT_US, int(fields[1]) * UNIT_US))
    timed, untimed = settle(words, _SOURCE)
    return Alignment(timed, (), untimed=untimed)
