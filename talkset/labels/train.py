"""`talkset train emotion`: a small calibrated classifier on a data set's own features, cross-validated by speaker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from annotate.emotion.base import softmax
from annotate.emotion.trained import Weights
from schemas.errors import UsageError
from schemas.files import named_errors, write_atomic
from schemas.labels import EMOTIONS
from talkset.dataset import Clip, open_dataset
from talkset.labels.features import Table, feature_table
from talkset.labels.scores import ece
from talkset.versions.copy import copy_version
from talkset.versions.version import Version, next_version

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

FILE: Final = "models/emotion-classifier.json"
"""In the version that it is stored with."""
MOST_FOLDS: Final = 10
PULLS: Final = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Strengths of the pull of all weights to zero, of which the one that predicts left-out speakers best is taken."""
TEMPERATURES: Final = tuple(np.geomspace(0.3, 4.0, 40))


@dataclass(frozen=True)
class Trained:
    """A classifier and what it is worth on speakers that it was not trained on."""

    weights: Weights
    clips: int
    speakers: int
    folds: int
    top1: float
    chance: float
    """Share of the most frequent class."""
    ece: float
    probabilities: Float64
    """(N, C) of each clip by the classifier of its fold, calibrated."""
    truth: Int64
    """(N,) column of the classes."""

    def report(self) -> dict[str, Any]:
        """JSON values."""
        names = ("clips", "speakers", "folds", "top1", "chance", "ece")
        return {"classes": list(self.weights.classes), **{name: getattr(self, name) for name in names}}


def train_emotion(data: Path, out: Path, label: str = "emotion_given", version: str | None = None) -> Trained:
    """Train on the clips that have a label, and write a version with the classifier, `models/emotion-classifier.json`.

    Args: label: column of the index with one of our classes. Raises UsageError for a column that is not there, fewer
    than two classes or two speakers; DatasetError and TalksetError for damage.
    """
    dataset = open_dataset(data, where="status == 'accepted'")
    clips = [clip for clip in dataset if _label(clip, label) is not None]
    classes = [EMOTIONS.index(str(_label(clip, label))) for clip in clips]
    groups = [str(clip.index["speaker"] or clip.index["source_id"]) for clip in clips]
    trained = cross_validated(feature_table(clips), np.array(classes), groups) if clips else _refuse(label, 0, 0)
    source = Version.read(data)
    stored = {**trained.weights.as_json(), "trained_on": {**source.reference, "label": label}, **trained.report()}
    new = version or next_version(str(source.facts["version"]), "MINOR")
    text = (json.dumps(stored, indent=1) + "\n").encode()
    copy_version(source, out, "train-emotion", {"label": label, **trained.report()}, new, beside={FILE: text})
    return trained


def cross_validated(table: Table, emotion: Int64, groups: Sequence[str]) -> Trained:
    """A classifier of all clips, judged by ones that leave out speakers.

    Args: emotion (N,) places in EMOTIONS; groups: who speaks in each clip, never in training and test at once. Pull and
    temperature are chosen on the left-out log odds, so the figures are a little optimistic in these two numbers.
    """
    present = np.unique(emotion)
    people = sorted(set(groups))
    if len(present) < 2 or len(people) < 2:
        _refuse("the label", len(present), len(people))
    truth = np.searchsorted(present, emotion)
    mean = np.nan_to_num(_nanmean(table.values))
    centred = np.nan_to_num(table.values - mean)
    scale = np.where(centred.std(0) > 1e-9, centred.std(0), 1.0)
    inputs = centred / scale
    owner = np.array([people.index(group) for group in groups])
    folds = [np.isin(owner, part) for part in np.array_split(np.arange(len(people)), min(MOST_FOLDS, len(people)))]

    def left_out(pull: float) -> Float64:
        log_odds = np.zeros((len(inputs), len(present)))
        for held in folds:
            weights, bias = fit_logistic(inputs[~held], truth[~held], len(present), pull)
            log_odds[held] = inputs[held] @ weights + bias
        return log_odds

    found = {pull: left_out(pull) for pull in PULLS}
    pull, temperature = min(
        ((pull, t) for pull in PULLS for t in TEMPERATURES), key=lambda pair: _loss(found[pair[0]] / pair[1], truth)
    )
    probabilities = softmax(found[pull] / temperature)
    weights, bias = fit_logistic(inputs, truth, len(present), pull)
    names = tuple(EMOTIONS[index] for index in present)
    return Trained(
        weights=Weights(table.names, names, mean, scale, weights, bias, float(temperature)),
        clips=len(truth),
        speakers=len(people),
        folds=len(folds),
        top1=float((probabilities.argmax(1) == truth).mean()),
        chance=float(np.bincount(truth).max() / len(truth)),
        ece=ece(probabilities, truth),
        probabilities=probabilities,
        truth=truth,
    )


def fit_logistic(inputs: Float64, truth: Int64, classes: int, pull: float) -> tuple[Float64, Float64]:
    """Weights (F, C) and bias (C,) of a multinomial logistic regression with a quadratic pull to zero; all classes
    count alike, however frequent.
    """
    given, wanted = torch.as_tensor(inputs), torch.as_tensor(truth)
    counts = np.bincount(truth, minlength=classes)
    share = torch.as_tensor(1 / np.maximum(counts, 1))[wanted]
    weights = torch.zeros(inputs.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(given @ weights + bias, wanted, reduction="none") @ share / share.sum()
        loss = loss + pull / classes * (weights**2).sum() + 1e-4 * (bias**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return np.asarray(weights.detach().numpy()), np.asarray(bias.detach().numpy())


def write_report(trained: Trained, out: Path) -> Path:
    """The figures of the cross-validation as JSON; raises TalksetError disk_full or not_writable."""
    path = out / "emotion-training.json"
    with named_errors(path):
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(path, (json.dumps(trained.report(), indent=1) + "\n").encode())
    return path


def _label(clip: Clip, label: str) -> Any:
    if label not in clip.index:
        raise UsageError(f"the index has no column {label!r}", "Choose a column with --label, such as emotion_given")
    value = clip.index[label]
    return value if value in EMOTIONS else None


def _refuse(label: str, classes: int, speakers: int) -> Trained:
    message = f"{label} names {classes} classes of {speakers} speakers; at least two of each are needed"
    raise UsageError(message, f"Label clips with {', '.join(EMOTIONS)} and name their speakers in the manifest")


def _nanmean(values: Float64) -> Float64:
    known = np.isfinite(values)
    return np.asarray(np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1))


def _loss(log_odds: Float64, truth: Int64) -> float:
    return float(-np.log(softmax(log_odds)[np.arange(len(truth)), truth] + 1e-12).mean())
