"""Forced aligners, by name."""

from __future__ import annotations

import difflib

from annotate.align.base import Aligner
from schemas.errors import UsageError

ALIGNERS = ("pocketsphinx",)
"""Names that `make_aligner` knows."""


def make_aligner(name: str) -> Aligner:
    """Build the aligner of that name; loading its model takes about a second.

    Raises UsageError for a name that is not in `ALIGNERS`.
    """
    if name == "pocketsphinx":
        from annotate.align.pocketsphinx import PocketsphinxAligner

        return PocketsphinxAligner()
    close = difflib.get_close_matches(name, ALIGNERS, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise UsageError(f"unknown aligner align.backend={name!r}", f"{hint}Known: {', '.join(ALIGNERS)}")
