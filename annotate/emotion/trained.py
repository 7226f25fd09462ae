"""A small classifier that was trained on a data set's own features: multinomial logistic with one temperature.

`talkset train emotion` writes it (talkset.labels.train); here it is read and applied.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from annotate.emotion.base import NUM, EmotionClassifier, Float64, Opinion, Pictures
from annotate.performance import Performance
from schemas.errors import TalksetError
from schemas.files import sha256_file
from schemas.labels import EMOTIONS

FORMAT: Final = 1
NEVER: Final = -12.0
"""Log odds of a class that the training data did not have."""
RELIABILITY: Final = 1.0


@dataclass(frozen=True)
class Weights:
    """A trained classifier; C classes over F features."""

    features: tuple[str, ...]
    classes: tuple[str, ...]
    mean: Float64
    """(F,) what an unknown feature is taken for, too."""
    scale: Float64
    weights: Float64
    """(F, C)"""
    bias: Float64
    temperature: float

    def log_odds(self, table: Mapping[str, Float64], count: int) -> Float64:
        """(count, 9) of features by name, each (count,); those that are missing or NaN tell nothing."""
        columns = [np.asarray(table.get(name, np.full(count, np.nan))) for name in self.features]
        inputs = (np.stack(columns, axis=1) - self.mean) / self.scale
        logits = (np.nan_to_num(inputs) @ self.weights + self.bias) / self.temperature
        found = np.full((count, NUM), NEVER)
        found[:, [EMOTIONS.index(name) for name in self.classes]] = logits - logits.max(1, keepdims=True)
        return found

    def as_json(self) -> dict[str, Any]:
        """What `load_weights` reads."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "scale", "weights", "bias")}
        names = {"features": list(self.features), "classes": list(self.classes)}
        return {"format": FORMAT, **names, **arrays, "temperature": self.temperature}


class TrainedJudge:
    """See `annotate.emotion.base.EmotionClassifier`; the features are those of the judges `inner`."""

    def __init__(self, path: str, inner: Sequence[EmotionClassifier]) -> None:
        self.name = f"trained:{sha256_file(_existing(path))[:12]}"
        self._weights = load_weights(path)
        self._inner = inner

    def judge(self, clip: Performance, windows: Float64, pictures: Pictures | None = None) -> Opinion | None:
        """See the protocol; the intensity is that of the judges inside. None where none of them has anything to say."""
        opinions = [judge.judge(clip, windows, pictures) for judge in self._inner]
        known = [opinion for opinion in opinions if opinion is not None]
        if not known:
            return None
        table = {name: values for opinion in known for name, values in opinion.features.items()}
        intensity = next((opinion.intensity for opinion in known if opinion.intensity is not None), None)
        inside = "+".join(opinion.source for opinion in known)
        return Opinion(
            source=f"{self.name}({inside})",
            log_odds=self._weights.log_odds(table, len(windows)),
            reliability=np.full(len(windows), RELIABILITY),
            intensity=intensity,
            features=table,
        )


def load_weights(path: str) -> Weights:
    """Read a trained classifier. Raises TalksetError missing_model, or corrupt_data for a file that is none."""
    try:
        stored = json.loads(_existing(path).read_text(encoding="utf-8"))
        arrays = {name: np.array(stored[name], dtype=np.float64) for name in ("mean", "scale", "weights", "bias")}
        features, classes = tuple(stored["features"]), tuple(stored["classes"])
        found = Weights(features, classes, temperature=float(stored["temperature"]), **arrays)
        wrong = stored["format"] != FORMAT or not set(classes) <= set(EMOTIONS)
        wrong |= found.weights.shape != (len(features), len(classes)) or found.bias.shape != (len(classes),)
        wrong |= not all(np.isfinite(array).all() for array in arrays.values()) or bool((found.scale <= 0).any())
        if wrong or found.mean.shape != (len(features),) or found.scale.shape != (len(features),):
            raise ValueError("shapes or classes do not belong together")
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} is no emotion classifier ({error})"
        raise TalksetError("corrupt_data", message, "Train it again with `talkset train emotion`") from error
    return found


def _existing(path: str) -> Path:
    file = Path(path)
    if not file.is_file():
        raise TalksetError("missing_model", f"emotion.classifier={path} does not exist", "Check the path")
    return file
