"""Aligners, by name."""

from __future__ import annotations

import difflib

from annotate.align.base import Aligner, Alignment
from schemas.config import AlignConfig
from schemas.errors import UsageError

__all__ = ["ALIGNERS", "Aligner", "Alignment", "aligner_version", "make_aligner"]

ALIGNERS = ("pocketsphinx", "whisperx")
"""Names that `make_aligner` knows."""


def make_aligner(name: str, config: AlignConfig | None = None) -> Aligner:
    """Build the aligner of that name; its model is loaded in a tenth of a second (pocketsphinx) or on first use.

    Raises UsageError for a name that is not in `ALIGNERS`, and TalksetError(missing_model) where WhisperX' environment
    is not there.
    """
    _known(name)
    if name == "pocketsphinx":
        from annotate.align.pocketsphinx import PocketsphinxAligner

        return PocketsphinxAligner()
    from annotate.align.whisperx import WhisperxAligner

    return WhisperxAligner((config or AlignConfig()).whisperx)


def aligner_version(config: AlignConfig) -> str:
    """Engine, version and models of a configuration, without loading them: it changes when results may.

    Raises what `make_aligner` raises.
    """
    _known(config.backend)
    if config.backend == "pocketsphinx":
        from importlib.metadata import version

        return f"pocketsphinx-{version('pocketsphinx')}"
    from annotate.align.whisperx import WhisperxAligner

    return WhisperxAligner(config.whisperx).name


def _known(name: str) -> None:
    if name not in ALIGNERS:
        close = difflib.get_close_matches(name, ALIGNERS, n=1)
        hint = f"Did you mean {close[0]!r}? " if close else ""
        raise UsageError(f"unknown aligner align.backend={name!r}", f"{hint}Known: {', '.join(ALIGNERS)}")
