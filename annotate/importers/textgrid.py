"""Praat TextGrids, long and short, in any encoding: those of hand labels, of MFA, and of BEAT2."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from annotate.align.base import Alignment
from annotate.phones import ARPABET, IPA_TO_ARPABET
from annotate.timing import TimedWord, settle
from schemas.errors import TalksetError
from schemas.types import Interval

SILENT: Final = frozenset(("", "sil", "sp", "spn", "<eps>", "<sil>", "silence", "#"))
_SOURCE: Final = "textgrid"


def read_textgrid(path: Path) -> Alignment:
    """Words and phones of the interval tiers whose names say so (words, word, speaker - words, ...).

    Phones in ARPAbet lose their stress digit, those in IPA become ARPAbet where a symbol is one phone; other labels
    stay. Silence is left out. Raises TalksetError(corrupt_data) for a file that praatio cannot read or without a tier
    of words.
    """
    from praatio import textgrid
    from praatio.utilities.errors import PraatioException

    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=False, reportingMode="silence")
    except (PraatioException, OSError, ValueError, IndexError, KeyError, AssertionError) as error:
        raise TalksetError("corrupt_data", f"{path} is not a TextGrid ({error})", "Save it again in Praat") from error
    words, phones = _tier(grid, "word"), _tier(grid, "phone")
    if words is None:
        names = ", ".join(map(repr, grid.tierNames)) or "none"
        message = f"{path} has no interval tier of words; its tiers: {names}"
        raise TalksetError("corrupt_data", message, "Name the tier 'words'")
    timed, untimed = settle([TimedWord(label, start, end) for start, end, label in words], _SOURCE)
    units = [Interval(a, b, _phone(label), float("nan"), False, _SOURCE) for a, b, label in phones or [] if b > a]
    return Alignment(timed, tuple(units), untimed=untimed)


def _tier(grid: Any, kind: str) -> list[tuple[int, int, str]] | None:
    """Start, end and label of the first interval tier with such a name."""
    for name in grid.tierNames:
        last = name.lower().rpartition(" - ")[2].strip()
        if last in (kind, f"{kind}s") and hasattr(grid.getTier(name), "entries"):
            entries = grid.getTier(name).entries
            if entries and len(entries[0]) != 3:
                continue
            rows = ((round(start * 1e6), round(end * 1e6), label.strip()) for start, end, label in entries)
            return [row for row in rows if row[2].lower() not in SILENT]
    return None


def _phone(label: str) -> str:
    arpabet = label.rstrip("012").upper()
    if arpabet in ARPABET and label[:1].isupper():
        return arpabet
    single = IPA_TO_ARPABET.get(label.strip("ˈˌː"), ())
    return single[0] if len(single) == 1 else label
