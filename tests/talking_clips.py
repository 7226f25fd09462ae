"""Short talking videos, written for the tests of whole runs."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reconstruct.video import frames, write_video

REPOSITORY = Path(__file__).resolve().parents[1]
Pictures = list[NDArray[np.uint8]]
FPS = 25
FRAMES = 30


def write_clip(path: Path, pictures: Sequence[NDArray[np.uint8]], sound: bool = True, fps: int = FPS) -> Path:
    """A video of those pictures at 25 frames a second, with a quiet tone."""
    step = 1_000_000 // fps
    seconds = len(pictures) / fps
    tone = 0.1 * np.sin(2 * np.pi * 220 * np.arange(int(16_000 * seconds)) / 16_000)
    audio = (tone.astype(np.float32), 16_000) if sound else None
    write_video(path, ((i * step, rgb) for i, rgb in enumerate(pictures)), Fraction(fps), audio)
    return path


@functools.cache
def people() -> list[Pictures]:
    """Two people, 30 pictures each: from the evaluation data, or rendered where there is none."""
    folder = Path(os.environ.get("TALKSET_EVAL_DATA", REPOSITORY.parent / "shared" / "eval")) / "grid"
    videos = sorted(folder.glob("*.mpg"))[:2]
    if len(videos) == 2:
        return [[rgb for _, rgb in itertools.islice(frames(video), FRAMES)] for video in videos]
    return [_rendered(seed) for seed in (1, 2)]


def _rendered(seed: int) -> Pictures:
    from reconstruct.calibration import LOOKS, View, render_view
    from reconstruct.models.registry import load_model

    model = load_model()
    turns = [0.3 * float(np.sin(2 * np.pi * i / FRAMES)) for i in range(FRAMES)]
    return [render_view(model, View(turn, 0.0, 0.0, 0.1, {}, seed, LOOKS[seed])).picture for turn in turns]
