"""What judges of emotion are given and what they answer, whatever they are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from annotate.performance import Performance
from schemas.labels import EMOTIONS
from schemas.types import Float32

Float64 = NDArray[np.float64]
UInt8 = NDArray[np.uint8]

NUM: Final = len(EMOTIONS)
WINDOW_S: Final = 1.0
HOP_S: Final = 0.2
"""Windows of a second, five times a second."""


@dataclass(frozen=True)
class Pictures:
    """The pixels of a clip, for judges that look at them."""

    decode: Callable[[], Iterable[tuple[int, UInt8]]]
    """Gives (pts_us, (H, W, 3) sRGB) from the start of the clip, anew each time."""
    boxes_xywh: Float32
    """(T, 4) left, top, width, height of the face; NaN where there is none."""


@dataclass(frozen=True)
class Opinion:
    """What one judge says of a clip in W windows."""

    source: str
    """`modality:model`, for `emotion_source`."""
    log_odds: Float64
    """(W, 9) log probabilities up to a constant."""
    reliability: Float64
    """(W,) 0 (knows nothing here) to 1 (as sure as it says)."""
    intensity: Float64 | None = None
    """(W, 9) 0..1: how strong the feeling is, where it is taken for each class; NaN where unknown. None for a judge
    that does not tell."""
    valence: Float64 | None = None
    """(W,) -1..1 likewise."""
    arousal: Float64 | None = None
    features: dict[str, Float64] = field(default_factory=dict)
    """(W, F) by name: what it was judged by, for classifiers that are trained on a data set."""


class EmotionClassifier(Protocol):
    """One judge of one modality."""

    @property
    def name(self) -> str:
        """`modality:model` with what decides on its answers, such as a hash of weights."""

    def judge(self, clip: Performance, windows: Float64, pictures: Pictures | None = None) -> Opinion | None:
        """What is said of windows (W, 2) of start and end in seconds; None where the clip lacks the modality."""


def windows_of(duration_s: float) -> Float64:
    """(W, 2) start and end in seconds of the windows of a clip; one of the whole clip where that is shorter."""
    count = 1 + max(0, int(np.floor((duration_s - WINDOW_S) / HOP_S + 1e-6)))
    starts = HOP_S * np.arange(count)
    return np.stack([starts, np.minimum(starts + WINDOW_S, max(duration_s, 1e-3))], axis=1)


def softmax(values: NDArray[Any]) -> Float64:
    """Along the last axis."""
    shifted = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))
