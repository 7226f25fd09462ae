"""Manner of a clip: descriptors that people can read, and embeddings in which clips of one manner are near."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Protocol

from annotate.performance import Performance
from annotate.style.voice import Voice
from schemas.types import Style

STATISTICAL = "statistical"


class StyleEncoder(Protocol):
    """From a clip to its style embedding."""

    @property
    def name(self) -> str:
        """Name and version, for results' keys."""

    def embed(self, clip: Performance, voice: Voice | None = None) -> Style | None:
        """The embedding; None for a clip without anything that the encoder reads."""


@functools.lru_cache(maxsize=4)
def make_encoder(encoder: str) -> StyleEncoder:
    """`statistical`, or the network in a file that `talkset train style` wrote.

    Raises TalksetError missing_model or corrupt_data for a file that is no encoder.
    """
    if encoder == STATISTICAL:
        from annotate.style.statistical import StatisticalEncoder

        return StatisticalEncoder()
    from annotate.style.contrastive import load_encoder

    return load_encoder(Path(encoder))


def encoder_name(encoder: str) -> str:
    """Name of an encoder with its file's hash, without loading the network."""
    if encoder == STATISTICAL:
        from annotate.style.statistical import StatisticalEncoder

        return StatisticalEncoder().name
    from annotate.style.contrastive import stored_name

    return stored_name(Path(encoder))
