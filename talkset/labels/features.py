"""What the built-in judges of emotion see in the clips of a data set: features by name, one row a clip."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from annotate.emotion import opinions_of
from annotate.emotion.face import FaceJudge
from annotate.emotion.text import TextJudge
from annotate.emotion.voice import OwnVoice, VoiceJudge, features, own_voice, voice_frames
from annotate.performance import Performance
from pipelines.surface import surface_weights
from reconstruct.models.arkit import ARKIT_NAMES
from schemas.errors import UsageError
from schemas.label_config import EmotionConfig
from schemas.types import Float32, Interval
from talkset.dataset import Clip
from talkset.demo import head_track
from talkset.geometry import head_and_embedding_of
from talkset.store import DatasetError

Float64 = NDArray[np.float64]
RATE: Final = 16_000


@dataclass(frozen=True)
class Table:
    """Features of N clips."""

    names: tuple[str, ...]
    values: Float64
    """(N, F), NaN where a clip lacks the modality."""


@dataclass(frozen=True)
class _Told:
    """What one clip tells."""

    clip: Performance
    identity: Float32 | None
    face: Float64 | None
    """(52,) medians."""
    voice: Float64 | None
    """(7,)"""


def feature_table(clips: Sequence[Clip]) -> Table:
    """Features of accepted clips, face and voice against what is ordinary for the speaker, as in a run.

    Sound is read from the data set's media; a clip without media has none. Raises DatasetError for damage.
    """
    told = [_tell(clip) for clip in clips]
    speakers: dict[str, list[int]] = {}
    for position, clip in enumerate(clips):
        if clip.index["speaker"]:
            speakers.setdefault(str(clip.index["speaker"]), []).append(position)
    known = {name: members for name, members in speakers.items() if len(members) >= EmotionConfig().min_clips}
    rest = {name: _median([told[i].face for i in members]) for name, members in known.items()}
    voices = {name: [v for i in members if (v := told[i].voice) is not None] for name, members in known.items()}
    rows = []
    for clip, each in zip(clips, told, strict=True):
        speaker = str(clip.index["speaker"])
        face, heard = rest.get(speaker), voices.get(speaker)
        own: OwnVoice | None = own_voice(heard) if heard else None
        judge = FaceJudge("clip", each.identity) if face is None else FaceJudge("speaker", face)
        _, opinions = opinions_of(each.clip, [judge, VoiceJudge(own), TextJudge()])
        rows.append({name: float(values[-1]) for o in opinions for name, values in o.features.items()})
    names = tuple(sorted({name for row in rows for name in row}))
    return Table(names, np.array([[row.get(name, np.nan) for name in names] for row in rows]).reshape(len(rows), -1))


def _tell(clip: Clip) -> _Told:
    pts_us, valid = np.asarray(clip.read("pts_us")), np.asarray(clip.read("valid"), dtype=np.bool_)
    weights, identity = _weights(clip)
    try:
        samples = clip.audio(RATE, mono=True)[0].reshape(-1) if clip.index["has_audio"] else None
    except DatasetError:  # without media
        samples = None
    spoken = ([row for row in rows if row["start_us"] is not None] for rows in (clip.words(), clip.phones()))
    words, phones = (tuple(_interval(row) for row in rows) for rows in spoken)
    names = () if weights is None else ARKIT_NAMES
    found = Performance(pts_us, clip.duration_us, valid, names, weights, samples=samples, words=words, phones=phones)
    face = voice = None
    if weights is not None and np.isfinite(weights).any():
        face = np.nanmedian(weights, axis=0)
    if samples is not None and len(samples):
        voice = features(voice_frames(samples), np.zeros(0), 0.0, clip.duration_us / 1e6)
    return _Told(found, identity, face, voice)


def _weights(clip: Clip) -> tuple[Float32 | None, Float32 | None]:
    """Surface weights (T, 52) and the identity's (52,); None for a head model without ARKit's actions."""
    model, embedding = head_and_embedding_of(clip)
    try:
        return surface_weights(model, embedding, head_track(clip))
    except UsageError:
        return None, None


def _median(rows: Sequence[Float64 | None]) -> Float32 | None:
    known = [row for row in rows if row is not None]
    if not known:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(known, axis=0), np.float32)


def _interval(row: dict[str, Any]) -> Interval:
    score = np.nan if row["score"] is None else float(row["score"])
    return Interval(row["start_us"], row["end_us"], row["label"], score, bool(row["interpolated"]), row["source"])
