"""Source stages on made-up videos, for the parts of the benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.segmentation.survey import Survey, survey
from schemas.config import load_config
from schemas.types import Source


def surveyed(path: Path, folder: Path, overrides: Sequence[str] = ()) -> Survey:
    """The survey of one video. Raises RuntimeError where it failed."""
    (found,) = survey([Source(str(path), 1)], path.parent, folder, load_config(None, list(overrides)))
    if found.failure is not None:
        raise RuntimeError(f"{path}: {found.failure.message}\n{found.failure.traceback}")
    return found
