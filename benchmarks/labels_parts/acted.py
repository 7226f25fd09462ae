"""Rendered heads that speak and feel: pictures are made, faces detected, and what was found is kept on disk."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotate.performance import Performance
from pipelines.surface import surface_weights
from reconstruct.fit import fit_clip
from reconstruct.landmarks.embed import embedding_for
from reconstruct.models.arkit import ARKIT_NAMES
from reconstruct.models.head_model import HeadModel, write_npz
from schemas.config import FitConfig, LandmarkConfig
from schemas.types import HEAD_ARRAYS, Float32, Interval, LandmarkTrack
from synthetic.affect import Affect
from synthetic.make import Truth, perform
from synthetic.render import render
from synthetic.talker import Talker, random_talker
from talkset.measures import follow, look

SIZE: Final = 256
TEXTS: Final = (
    "We move a big box.", "Bring me a cup, Pamela.", "Both boys paid my bill.", "My bus came by at five.",
    "Please bump the lamp.", "Peter made a pie.", "Maybe buy them a map.", "Bob left the room before me.",
    "The weather was very warm.", "They will show you the way.", "Put five apples above it.", "How much would you pay?",
)  # fmt: skip
"""About a second and a half each; nothing in them tells of a feeling."""
LEVELS: Final = (1 / 3, 2 / 3, 1.0)


@dataclass(frozen=True)
class Acted:
    """One clip: what was felt, and what camera and microphone took of it."""

    talker: Talker
    truth: Truth
    landmarks: LandmarkTrack
    sound: Float32
    """(N,) at 16 kHz."""

    surface: Float32
    """(T, 52) ARKit weights of the fit with what its identity looks like added."""
    identity: Float32
    """(52,) what the identity looks like."""

    @property
    def performance(self) -> Performance:
        """Without sound: what the face alone gives."""
        pts_us, valid = self.truth.pts_us, self.landmarks.valid
        return Performance(pts_us, int(pts_us[-1]) + 40_000, valid, ARKIT_NAMES, self.surface)

    @property
    def words(self) -> tuple[Interval, ...]:
        """Words of the truth."""
        return self.truth.speech.words


def talker_of(person: int, emotion: str, level: float, take: int) -> Talker:
    """A person of that seed who says one of the texts so."""
    base = random_talker(person, SIZE, SIZE)
    return dataclasses.replace(
        base,
        text=TEXTS[take % len(TEXTS)],
        affect=Affect(emotion, 0.0 if emotion == "neutral" else level),
        motion_seed=1000 * person + take,
        focal_px=620.0,
        distance_m=0.75,
        offset_m=(0.0, 0.02),
    )


def acted(model: HeadModel, talker: Talker, cache: Path) -> Acted:
    """A talker as camera and microphone take it; what the detector found is read from `cache` where it is."""
    truth, utterance = perform(talker, model)
    path = cache / f"{talker.affect.emotion}-{talker.motion_seed}-{_digest(talker, truth)}.npz"
    if not path.is_file():
        pictures = list(zip(truth.pts_us.tolist(), render(model, talker, truth.track), strict=True))
        cache.mkdir(parents=True, exist_ok=True)
        write_npz(path, _stored(look(pictures, follow(pictures), LandmarkConfig())))
    with np.load(path, allow_pickle=False) as kept:
        arrays: dict[str, Any] = {name: kept[name] for name in kept.files}
    landmarks = LandmarkTrack(**{key: value if value.ndim else value.item() for key, value in arrays.items()})
    weights, identity = _fitted(model, landmarks, path.with_suffix(".fit.npz"))
    return Acted(talker, truth, landmarks, utterance.samples, weights, identity)


def _fitted(model: HeadModel, landmarks: LandmarkTrack, path: Path) -> tuple[Float32, Float32]:
    """Surface weights (T, 52) and what the identity looks like (52,)."""
    if not path.is_file():
        embedding = embedding_for(model, landmarks.detector)
        head = fit_clip(model, embedding, landmarks, FitConfig())
        write_npz(path, dict(zip(("surface", "identity"), surface_weights(model, embedding, head), strict=True)))
    with np.load(path, allow_pickle=False) as kept:
        return kept["surface"], kept["identity"]


def _digest(talker: Talker, truth: Truth) -> str:
    """Of all that decides what is seen."""
    arrays = [getattr(truth.track, name) for name in HEAD_ARRAYS]
    content = b"".join(np.round(array.astype(np.float64), 5).tobytes() for array in arrays)
    return hashlib.sha256(content + repr(talker).encode()).hexdigest()[:16]


def _stored(track: LandmarkTrack) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(value) for name, value in vars(track).items() if value is not None}
