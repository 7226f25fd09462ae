"""Features of the sound as a column group of a data set: computed once, read with the motion from then on."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from generator.data import feature_column
from generator.features import RATE_HZ, make_extractor
from schemas.errors import UsageError
from talkset.dataset import Clip, open_dataset
from talkset.store import DatasetError
from talkset.versions.add_column import add_column

REGULAR_US = 1000
"""Frames whose times are within this of k / fps need no interpolation."""


def add_features(root: Path, out: Path, audio: str = "logmel") -> Path:
    """A version of a data set with the features of that name at every frame; returns its folder, `root` if it has them.

    Parts that are there are linked, not copied. Clips without sound have none. Raises UsageError for an unknown model
    or where no clip has sound, TalksetError for a full disk.
    """
    dataset = open_dataset(root)
    column = feature_column(audio)
    if column in {entry["name"] for entry in dataset.facts.get("sidecars", [])}:
        return root
    extract, width = make_extractor(audio)
    heard = 0

    def values(clip_id: str) -> NDArray[np.float32] | None:
        nonlocal heard
        clip = dataset[clip_id]
        if clip.index.get("has_audio") is False:
            return None
        heard += 1
        return clip_features(clip, extract)

    if width is None:
        clip = next((one for one in dataset if one.index.get("has_audio") is not False), None)
        if clip is None:
            raise UsageError(f"no clip of {root} has sound", "Build the data set from videos with sound")
        width = int(clip_features(clip, extract).shape[1])
    meaning = f"features of the sound around each frame: {audio}"
    made = add_column(root, out, column, values, shape=("T", width), meaning=meaning)
    if not heard:
        raise UsageError(f"no clip of {root} has sound", "Build the data set from videos with sound")
    return made


def clip_features(clip: Clip, extract) -> NDArray[np.float32]:  # type: ignore[no-untyped-def]
    """(T, F) features at a clip's frame times."""
    try:
        sound, _ = clip.audio(RATE_HZ, mono=True)
    except DatasetError as error:
        raise UsageError(str(error), "The generator needs the sound of media/") from error
    fps = Fraction(int(clip.index["fps_num"]), int(clip.index["fps_den"]))
    pts = np.asarray(clip.read("pts_us"), np.int64)
    steps = int(pts[-1] * fps / 1_000_000) + 2
    found = extract(sound[:, 0], steps, fps)
    regular = np.arange(steps) * float(1_000_000 / fps)
    if np.abs(regular[: len(pts)] - pts).max() <= REGULAR_US:
        return np.asarray(found[: len(pts)], np.float32)
    after = np.clip(np.searchsorted(regular, pts), 1, steps - 1)
    share = ((pts - regular[after - 1]) / (regular[after] - regular[after - 1]))[:, None]
    return np.asarray(found[after - 1] + share * (found[after] - found[after - 1]), np.float32)
