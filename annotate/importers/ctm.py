"""NIST CTM files: one word a line, as `utterance channel start duration word [confidence]`, times in seconds."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation
from typing import Final

from annotate.align.base import Alignment
from annotate.timing import TimedWord, settle
from schemas.errors import TalksetError

_SOURCE: Final = "ctm"


def parse_ctm(text: str, name: str) -> dict[str, Alignment]:
    """Utterance -> its words, in the order of their times. Comments begin with `;;`; channels are not kept apart.

    Raises TalksetError(corrupt_data) naming a line that is not of this form.
    """
    rows: dict[str, list[TimedWord]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields or line.lstrip().startswith(";;"):
            continue
        try:
            utterance, _, start, duration, word = fields[:5]
            start_us, length_us = (round(Decimal(value) * 1_000_000) for value in (start, duration))
            known = len(fields) > 5 and fields[5].upper() != "NA"
            score = float(fields[5]) if known else math.nan
            if start_us < 0 or length_us < 0 or (known and not 0 <= score <= 1):
                raise ValueError("out of range")
        except (ValueError, InvalidOperation) as error:
            message = f"{name}, line {number}: {line.strip()!r} is no CTM line"
            raise TalksetError("corrupt_data", message, "Write: utterance channel start duration word score") from error
        rows.setdefault(utterance, []).append(TimedWord(word, start_us, start_us + length_us, score))
    if not rows:
        raise TalksetError("corrupt_data", f"{name} holds no word", "Supply a CTM file")
    result = {}
    for utterance, words in rows.items():
        timed, untimed = settle(sorted(words, key=lambda word: word.start_us or 0), _SOURCE)
        result[utterance] = Alignment(timed, (), untimed=untimed)
    return result
