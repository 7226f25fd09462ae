"""Source stages on made-up videos, for the parts of the benchmark."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.segmentation.survey import Survey, survey
from schemas.config import load_config
from schemas.types import Source


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A folder for videos and results: that of TALKSET_BENCHMARK_CACHE, which stays, or one that goes.

    The same videos come out byte for byte, so what was found in them is found again by their hash.
    """
    kept = os.environ.get("TALKSET_BENCHMARK_CACHE")
    if kept is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept)


def surveyed(path: Path, folder: Path, overrides: Sequence[str] = ()) -> Survey:
    """The survey of one video. Raises RuntimeError where it failed."""
    (found,) = survey([Source(str(path), 1)], path.parent, folder, load_config(None, list(overrides)))
    if found.failure is not None:
        raise RuntimeError(f"{path}: {found.failure.message}\n{found.failure.traceback}")
    return found
