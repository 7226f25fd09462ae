"""What a clip feels like: probabilities of nine classes, intensity, valence and arousal, by window, span and clip.

    found = emotion_of(clip, [FaceJudge("clip"), VoiceJudge(), TextJudge()])

Face, voice and text are judged apart and put together by how far each can be trusted; docs/labels.md defines all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from annotate.emotion.base import EmotionClassifier, Float64, Opinion, Pictures, windows_of
from annotate.emotion.fusion import fuse
from annotate.emotion.spans import spans_of
from annotate.performance import Performance
from schemas.labels import EMOTIONS
from schemas.types import EmotionTrack, Event

__all__ = ["Emotion", "emotion_of", "opinions_of"]


@dataclass(frozen=True)
class Emotion:
    """What was found in one clip."""

    track: EmotionTrack
    affect: tuple[float, float, float]
    """Intensity, valence and arousal of the clip as a whole."""
    events: tuple[Event, ...]
    source: str
    """The judges that had something to say, joined by `+`."""

    @property
    def label(self) -> str:
        """The likeliest class of the clip."""
        return EMOTIONS[int(self.track.clip.argmax())]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return float(self.track.clip.max())


def opinions_of(
    clip: Performance, judges: Sequence[EmotionClassifier], pictures: Pictures | None = None
) -> tuple[Float64, list[Opinion]]:
    """Windows (W + 1, 2) of a clip, the last of which is the whole of it, and what the judges say of them."""
    windows = np.concatenate([windows_of(clip.seconds), [[0.0, max(clip.seconds, 1e-3)]]])
    found = [judge.judge(clip, windows, pictures) for judge in judges]
    return windows, [opinion for opinion in found if opinion is not None]


def emotion_of(
    clip: Performance,
    judges: Sequence[EmotionClassifier],
    pictures: Pictures | None = None,
    prior: Mapping[str, float] | None = None,
) -> Emotion | None:
    """Emotion of a clip by all judges; None where none of them has anything to say.

    A judge whose modality is missing is left out, and the probabilities stay nearer to the prior.
    """
    windows, opinions = opinions_of(clip, judges, pictures)
    if not any((opinion.reliability > 0).any() for opinion in opinions):
        return None
    fused = fuse(opinions, len(windows), prior)
    source = "+".join(opinion.source for opinion in opinions)
    middle, frames = windows[:-1].mean(1), clip.pts_us / 1e6

    def at_frames(table: Float64) -> Float64:
        return np.stack([np.interp(frames, middle, column) for column in table[:-1].T], axis=1)

    track = EmotionTrack(
        at_frames(fused.probabilities).astype(np.float32),
        at_frames(fused.affect).astype(np.float32),
        fused.probabilities[-1].astype(np.float32),
    )
    events = spans_of(fused.probabilities[:-1], middle, clip.duration_us, source)
    intensity, valence, arousal = (float(value) for value in fused.affect[-1])
    return Emotion(track, (intensity, valence, arousal), events, source)
