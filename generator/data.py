"""Training batches straight from the shards: windows through talkset's loader, as motion vectors with their conditions.

The loader decides order, ranks, workers and where to go on after a stop; here its signals become normalised vectors at
the generator's own frame rate, beside the sound's features, emotion, shape and the group of clips of one style.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generator.config import GeneratorConfig
from generator.features import LOGMEL, MELS, PARTS
from generator.motion import MotionLayout
from schemas.errors import UsageError
from schemas.labels import EMOTIONS
from talkset.dataset import Dataset
from talkset.training.loader import Loader

SHAPE: Final = "shape"
STYLE_LABELS: Final = ("manner", "style")
"""Labels of the manifest that tell manners of one speaker apart."""
LEVEL_SD: Final = 0.7
"""Random gain in training, in nepers of power (3 dB)."""
MEL_SHIFT: Final = 2
"""Largest random shift of the mel bands in training: voices of other vocal tracts."""


@dataclass(frozen=True)
class Batch:
    """B windows of T frames."""

    motion: Tensor
    """(B, T, D) normalised; zero where not valid."""
    valid: Tensor
    """(B, T) bool."""
    audio: Tensor
    """(B, T, F) features."""
    shape: Tensor
    """(B, S)"""
    emotion: Tensor
    """(B, len(EMOTIONS)) intensity at the emotion's place; all zero for neutral."""
    emotion_known: Tensor
    """(B,) bool, false where nobody says."""
    group: Tensor
    """(B,) number of the clips of one style."""
    clip: Tensor
    """(B,) position among the selected clips."""

    def part(self, chosen: slice) -> Batch:
        """Some of the windows."""
        return Batch(**{item.name: getattr(self, item.name)[chosen] for item in dataclasses.fields(self)})

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        return Batch(**{item.name: getattr(self, item.name).to(device) for item in dataclasses.fields(self)})


@dataclass(frozen=True)
class Clips:
    """B whole clips at their own frame rates, padded to the longest."""

    motion: Tensor
    """(B, T, D) normalised; zero where not valid."""
    valid: Tensor
    """(B, T) bool."""
    place: Tensor
    """(B,) position among the selected clips."""


def whole_clips(
    dataset: Dataset, layout: MotionLayout, batch: int, seed: int | None = None
) -> Generator[Clips, None, None]:
    """All selected clips once in order; with a seed for ever in random order, in full batches."""
    shuffle = seed is not None
    loader = dataset.loader(
        [*layout.signals], batch, shuffle=shuffle, seed=seed or 0, drop_last=shuffle, rank=0, world_size=1
    )
    places = {clip_id: place for place, clip_id in enumerate(dataset.column("clip_id").to_pylist())}
    try:
        for _ in itertools.count() if shuffle else range(1):
            for raw in loader:
                motion = layout.vector({name: raw[name].float() for name in layout.signals})
                motion = torch.where(raw["valid"][..., None], motion, torch.zeros((), dtype=motion.dtype))
                yield Clips(motion, raw["valid"], torch.tensor([places[clip_id] for clip_id in raw["clip_id"]]))
    finally:
        loader.close()


def feature_column(audio: str) -> str:
    """The column group that caches features of that name."""
    return "audio_" + "".join(c if c.isalnum() else "_" for c in audio.lower().rstrip("/").split("/")[-1])[:50]


def emotion_vector(name: str, intensity: float) -> NDArray[np.float32]:
    """(len(EMOTIONS),) what an emotion of an intensity is to the generator. Raises UsageError for an unknown one."""
    if name not in EMOTIONS:
        raise UsageError(f"unknown emotion {name!r}", f"Known: {', '.join(EMOTIONS)}")
    if not 0 <= intensity <= 1:
        raise UsageError(f"the intensity {intensity} of {name} is out of range", "Choose 0 to 1")
    vector = np.zeros(len(EMOTIONS), np.float32)
    if name != "neutral":
        vector[EMOTIONS.index(name)] = intensity
    return vector


def clip_emotions(dataset: Dataset) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N, len(EMOTIONS)) vectors of the selected clips, and (N,) whether their emotion is known.

    What the source's labels say goes before what was recognised; an emotion without an intensity counts as full.
    """
    names = dataset.index.column_names
    vectors = np.zeros((len(dataset), len(EMOTIONS)), np.float32)
    known = np.zeros(len(dataset), bool)
    for label, strength in (("emotion", "emotion_intensity"), ("emotion_given", "emotion_given_intensity")):
        if label not in names:
            continue
        labels = dataset.column(label).to_pylist()
        strengths = dataset.column(strength).to_pylist() if strength in names else [None] * len(labels)
        for place, (name, much) in enumerate(zip(labels, strengths, strict=True)):
            if name in EMOTIONS:
                vectors[place] = emotion_vector(name, 1.0 if much is None else float(much))
                known[place] = True
    return vectors, known


def style_groups(dataset: Dataset) -> NDArray[np.int64]:
    """(N,) a number for each selected clip, equal for clips of one speaker and manner.

    A manner is a label `manner` or `style` of the manifest; without it clips of one source share theirs, and where
    every source is one clip, those of one speaker.
    """
    columns = {name: dataset.column(name).to_pylist() for name in ("clip_id", "speaker", "source_id", "labels")}
    several = len(set(columns["source_id"])) < len(dataset)
    keys = []
    for clip_id, speaker, source, labels in zip(*columns.values(), strict=True):
        told = json.loads(labels) if labels else {}
        manner = next((told[name] for name in STYLE_LABELS if name in told), None)
        if manner is not None:
            keys.append(("manner", speaker, manner))
        elif several or speaker is None:
            keys.append(("source", source if several else clip_id, None))
        else:
            keys.append(("speaker", speaker, None))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys], np.int64)


class TrainingData:
    """An endless iterator over batches of one data set; `state_dict` and `load_state_dict` as the loader's."""

    def __init__(
        self,
        dataset: Dataset,
        config: GeneratorConfig,
        layout: MotionLayout,
        *,
        batch: int,
        seed: int,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """Raises UsageError for clips of another head model or without the features' column, and as the loader does."""
        self._config, self._layout = config, layout
        self._features = feature_column(config.audio)
        models = set(dataset.column("head_model").to_pylist())
        if models != {layout.head_model}:
            message = (
                f"the selected clips have the head models {', '.join(map(str, sorted(models, key=str))) or 'none'}"
            )
            raise UsageError(f"{message}, the generator {layout.head_model}", "Select clips of one head model")
        try:
            dataset.locate(self._features)
        except KeyError as error:
            message = f"the data set has no column {self._features} with features of the sound"
            raise UsageError(message, "Make it with `talkset train features DATA --out FOLDER`") from error
        self._steps = round(config.window_s * config.fps)
        self._native = _all_at(dataset, config.fps)
        extra = 0.0 if self._native else 2.0 / config.fps  # frames around the window's last step
        columns = (*layout.signals, "pts_us", SHAPE, self._features)
        workers = config.train.workers
        self.loader: Loader = dataset.loader(
            columns,
            batch,
            window_s=config.window_s + extra,
            hop_s=config.train.hop_s,
            seed=seed,
            drop_last=True,
            rank=rank,
            world_size=world_size,
            num_workers=workers,
            threads=0 if workers else 2,
        )
        self._emotion, self._known = clip_emotions(dataset)
        self.groups = style_groups(dataset)
        ids = dataset.column("clip_id").to_pylist()
        self._place = {clip_id: place for place, clip_id in enumerate(ids)}

    @property
    def features_width(self) -> int:
        """F."""
        shape = self.loader.dataset.shape(self._features)
        return int(shape[1])

    def __iter__(self) -> Iterator[Batch]:
        while True:
            for raw in self.loader:
                yield self._batch(raw)

    def _batch(self, raw: dict[str, Any]) -> Batch:
        signals = {name: raw[name].float() for name in (*self._layout.signals, self._features)}
        valid = raw["valid"]
        if not self._native:
            signals, valid = _at_rate(
                signals, valid, raw["pts_us"], raw["length"], raw["start_s"], self._config.fps, self._steps
            )
        features = signals.pop(self._features)[:, : self._steps]
        valid = valid[:, : self._steps]
        motion = self._layout.vector({name: values[:, : self._steps] for name, values in signals.items()})
        motion = torch.where(valid[..., None], motion, torch.zeros((), dtype=motion.dtype))
        clips = np.array([self._place[clip_id] for clip_id in raw["clip_id"]])
        return Batch(
            motion,
            valid,
            features,
            raw[SHAPE].float(),
            torch.as_tensor(self._emotion[clips]),
            torch.as_tensor(self._known[clips]),
            torch.as_tensor(self.groups[clips]),
            torch.as_tensor(clips),
        )

    def state_dict(self) -> dict[str, Any]:
        """Where reading stands, of what was handed out."""
        return self.loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on there. Raises DatasetError for the state of other data."""
        self.loader.load_state_dict(state)

    def close(self) -> None:
        """End threads and workers."""
        self.loader.close()


def _all_at(dataset: Dataset, fps: int) -> bool:
    """Whether every selected clip has the generator's frame rate, so that nothing is resampled."""
    rates = zip(dataset.column("fps_num").to_pylist(), dataset.column("fps_den").to_pylist(), strict=True)
    return all(num == fps * den for num, den in rates)


def _at_rate(
    signals: dict[str, Tensor], valid: Tensor, pts_us: Tensor, length: Tensor, start_s: Tensor, fps: int, steps: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Signals (B, T, ...) at k / fps after each window's start: linear between frames, of which both must be valid.

    Rotations are interpolated as they are stored: unwrapped, neighbours are near each other.
    """
    wanted = torch.arange(steps) * (1e6 / fps)
    count = torch.arange(valid.shape[1])
    times = pts_us.double() - start_s[:, None] * 1e6
    times = torch.where(count[None] < length[:, None], times, torch.full((), float("inf"), dtype=times.dtype))
    after = torch.searchsorted(times.contiguous(), wanted.double().expand(len(times), -1).contiguous())
    after = torch.minimum(after.clamp(min=0), (length - 1)[:, None])
    before = (after - 1).clamp(min=0)
    early, late = times.gather(1, before), times.gather(1, after)
    share = ((wanted[None] - early) / (late - early).clamp(min=1.0)).clamp(0, 1).float()
    made = {}
    for name, values in signals.items():
        first, second = (values[torch.arange(len(values))[:, None], place] for place in (before, after))
        made[name] = first + share[..., None] * (second - first)
    inside = (wanted[None] >= early - 1) & (wanted[None] <= late + 1e6 / fps / 2)
    return made, valid.gather(1, before) & valid.gather(1, after) & inside


def augmented(features: Tensor, audio: str, generator: torch.Generator) -> Tensor:
    """Log-mel features (B, T, F) of other levels and vocal tracts; features of pretrained networks as they are."""
    if audio != LOGMEL:
        return features
    items, steps, width = features.shape
    level = LEVEL_SD * torch.randn(items, 1, 1, generator=generator)
    shift = torch.randint(-MEL_SHIFT, MEL_SHIFT + 1, (items, 1), generator=generator)
    bands = (torch.arange(MELS)[None] + shift).clamp(0, MELS - 1)
    parts = features.reshape(items, steps * PARTS, MELS)
    moved = parts.gather(2, bands[:, None].expand(-1, steps * PARTS, -1))
    return moved.reshape(items, steps, width) + level


def selected(dataset: Dataset, split: str | None = "train") -> Dataset:
    """The clips to learn from: those with sound of a split, or of all where the data set has no splits."""
    splits: Sequence[str | None] = dataset.column("split").unique().to_pylist()
    chosen = split if split in splits else None
    found = dataset.select("has_audio == True", split=chosen)
    if not len(found):
        raise UsageError(f"{dataset!r} has no clips with sound", "Build it from videos with sound and with media")
    return found
