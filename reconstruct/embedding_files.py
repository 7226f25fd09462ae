"""Where embeddings are kept, without the code that computes them: who only asks for a name need not load torch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from reconstruct.models.registry import cache_folder

VERSION: Final = 4
"""Raise when embeddings of the same model and detector change."""


def embedding_path(model_sha256: str, detector: str) -> Path:
    """Cache file of an embedding, keyed by the model's content and the detector."""
    safe = "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in detector)
    return cache_folder() / "embeddings" / f"{model_sha256[:16]}-{safe}-v{VERSION}.npz"
