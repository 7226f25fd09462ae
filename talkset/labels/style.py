"""`talkset train style`: a contrastive style encoder on a data set's own clips, judged on left-out moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from annotate.performance import Performance
from annotate.style.contrastive import ContrastiveEncoder, EncoderConfig, save_encoder, train_encoder
from annotate.style.frames import FRAME_HZ, frame_features
from annotate.style.retrieval import retrieval_top1
from pipelines.performance import performance_of
from schemas.errors import UsageError
from schemas.types import Float32, LandmarkTrack
from talkset.dataset import Clip, open_dataset
from talkset.demo import head_track
from talkset.geometry import head_and_embedding_of
from talkset.store import DatasetError

RATE: Final = 16_000
LEFT_OUT: Final = 0.25
"""Part of the owners with several clips of which one clip is left out of a training that judges."""


@dataclass(frozen=True)
class TrainedStyle:
    """What was made, and what it is worth."""

    path: Path
    name: str
    clips: int
    owners: int
    top1: float
    """Halves of all clips among all halves, by an encoder that has not seen one half of any; NaN without it."""
    chance: float

    def report(self) -> dict[str, Any]:
        """JSON values."""
        numbers = {name: getattr(self, name) for name in ("clips", "owners")}
        shares = {name: None if np.isnan(getattr(self, name)) else getattr(self, name) for name in ("top1", "chance")}
        return {"path": str(self.path), "name": self.name, **numbers, **shares}


def train_style(
    data: Path,
    out: Path,
    config: EncoderConfig,
    manner: str | None = None,
    judge: bool = True,
    told: Callable[[str], None] = lambda _: None,
) -> TrainedStyle:
    """Train on the accepted clips of a data set and write the encoder as a .safetensors file.

    Args: manner: column of the index that with the speaker makes an owner, such as emotion_given; by default the
    speaker alone. judge: first train on first halves only and measure retrieval of second halves among all halves,
    which takes as long again. Sound is read from the data set's media. Raises UsageError for a column that is not
    there and for too few speakers, DatasetError for damage.
    """
    dataset = open_dataset(data, where="status == 'accepted'")
    features: list[Float32] = []
    owners: list[str] = []
    for position, clip in enumerate(dataset):
        table = frame_features(performance_of_clip(clip))
        if table is not None:
            features.append(table)
            owners.append(_owner(clip, manner))
        if position % 20 == 19:
            told(f"{position + 1} of {len(dataset)} clips read")
    top1 = chance = float("nan")
    if judge and len(set(owners)) > 1:
        told("training on first halves, to judge on second ones")
        top1, chance = _judged(features, owners, config)
    told("training on everything")
    network = train_encoder(features, owners, config)
    facts: dict[str, Any] = {name: dataset.facts[name] for name in ("name", "version") if name in dataset.facts}
    worth = {"top1": None if np.isnan(top1) else top1, "chance": None if np.isnan(chance) else chance}
    name = save_encoder(out, network, config, {**facts, "clips": len(features), "owners": len(set(owners)), **worth})
    return TrainedStyle(out, name, len(features), len(set(owners)), top1, chance)


def _judged(features: Sequence[Float32], owners: Sequence[str], config: EncoderConfig) -> tuple[float, float]:
    """Top-1 retrieval of second halves, which the encoder was not trained on, among the halves of all clips."""
    crop = round(config.crop_s * FRAME_HZ)
    halves = [(table[: len(table) // 2], table[len(table) // 2 :]) for table in features]
    long = [at for at, (first, _) in enumerate(halves) if len(first) >= crop]
    if len({owners[at] for at in long}) < 2:
        return float("nan"), float("nan")
    network = train_encoder([halves[at][0] for at in long], [owners[at] for at in long], config)
    encoder = ContrastiveEncoder("", network)
    vectors = np.stack([encoder.of_features(half) for at in long for half in halves[at]])
    names = [owners[at] for at in long for _ in range(2)]
    return retrieval_top1(vectors, names, list(range(1, len(names), 2)))


def _owner(clip: Clip, manner: str | None) -> str:
    speaker = str(clip.index["speaker"] or clip.index["source_id"])
    if manner is None:
        return speaker
    if manner not in clip.index:
        raise UsageError(f"the index has no column {manner!r}", "Give a label of the clips, as emotion_given")
    return f"{speaker}/{clip.index[manner]}"


def performance_of_clip(clip: Clip, sound: bool = True) -> Performance:
    """A stored clip as annotators take it; without sound where its media is not there. Raises DatasetError."""
    head = head_track(clip)
    model, embedding = head_and_embedding_of(clip)
    points = np.asarray(clip["landmarks.face_xy"], dtype=np.float32)
    landmarks = LandmarkTrack(
        pts_us=np.asarray(clip["params.pts_us"], dtype=np.int64),
        face_xy=points,
        confidence=np.ones(points.shape[:2], dtype=np.float32),
        valid=np.asarray(clip["params.valid"], dtype=np.bool_),
        width=int(clip.index["width"]),
        height=int(clip.index["height"]),
        detector=str(clip.index["detector"] or "mediapipe"),
    )
    samples = _sound(clip) if sound else None
    return performance_of(model, head, landmarks, clip.duration_us, samples, embedding=embedding)


def _sound(clip: Clip) -> Float32 | None:
    try:
        return clip.audio(RATE, mono=True)[0].reshape(-1) if clip.index["has_audio"] else None
    except DatasetError:  # without media
        return None
