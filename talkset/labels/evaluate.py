"""`talkset evaluate labels`: inferred emotions against the sources' labels, on speakers nothing was trained on."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.errors import UsageError
from schemas.files import named_errors, write_atomic
from schemas.labels import EMOTIONS
from talkset.dataset import Clip, open_dataset
from talkset.labels.scores import ccc, confusion, ece, macro_f1, reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]

REPORT: Final = "labels.json"
FIGURE: Final = "labels.png"
SCALES: Final = ("valence", "arousal", "intensity")
LEAST_TRAINED: Final = 2
"""Speakers from which on a classifier is cross-validated beside the inferred labels."""


@dataclass(frozen=True)
class Judged:
    """One way to label, against the truth."""

    name: str
    classes: tuple[str, ...]
    probabilities: Float64
    """(N, C)"""
    truth: Int64
    """(N,)"""
    groups: tuple[str, ...]
    """Who speaks in each clip."""

    @property
    def top1(self) -> float:
        """Share of right ones."""
        return float((self.probabilities.argmax(1) == self.truth).mean())

    @property
    def table(self) -> Int64:
        """(C, C) confusion."""
        return confusion(self.truth, self.probabilities.argmax(1), len(self.classes))

    def as_json(self) -> dict[str, Any]:
        """Figures, with those of each speaker: a mean over clips hides whom it fails."""
        right = self.probabilities.argmax(1) == self.truth
        owner = np.array(self.groups)
        by_speaker = {name: float(right[owner == name].mean()) for name in sorted(set(self.groups))}
        return {
            "clips": len(self.truth),
            "speakers": len(by_speaker),
            "top1": self.top1,
            "macro_f1": macro_f1(self.table),
            "ece": ece(self.probabilities, self.truth),
            "classes": list(self.classes),
            "confusion": self.table.tolist(),
            "reliability": [list(row) for row in reliability(self.probabilities, self.truth)],
            "top1_by_speaker": by_speaker,
            "top1_worst_speaker": min(by_speaker.values()),
        }


@dataclass(frozen=True)
class LabelReport:
    """All ways to label, and the scales."""

    label: str
    unlabelled: int
    """Clips without the label."""
    ways: tuple[Judged, ...]
    chance: float
    """Share of the most frequent class."""
    scales: dict[str, tuple[float, int]]
    """Scale -> concordance and number of clips, where the labels tell it."""

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "label": self.label,
            "unlabelled_clips": self.unlabelled,
            "chance_top1": self.chance,
            "ways": {way.name: way.as_json() for way in self.ways},
            "ccc": {name: {"ccc": value, "clips": count} for name, (value, count) in self.scales.items()},
        }


def evaluate_labels(data: Path, label: str = "emotion_given", train: bool = True) -> LabelReport:
    """Figures of the emotions of a data set.

    Args: label: column of the index with the truth (one of our classes). train: whether a classifier of the data set's
    own features is cross-validated by speaker beside the inferred labels, which were trained on no speaker of it.
    Valence, arousal and intensity are compared where the labels of the sources (`valence`, `arousal`, or
    `emotion_given_intensity`) are numbers. Raises UsageError without such a column or a labelled clip.
    """
    dataset = open_dataset(data, where="status == 'accepted'")
    everybody = list(dataset)
    if everybody and label not in everybody[0].index:
        raise UsageError(f"the index has no column {label!r}", "Choose a column with --label, such as emotion_given")
    clips = [clip for clip in everybody if clip.index[label] in EMOTIONS]
    if not clips:
        message = f"no accepted clip of {data} has one of our classes in {label}"
        raise UsageError(message, f"Label the sources in the manifest, emotion: {', '.join(EMOTIONS)}")
    truth = np.array([EMOTIONS.index(str(clip.index[label])) for clip in clips])
    groups = tuple(str(clip.index["speaker"] or clip.index["source_id"]) for clip in clips)
    ways = [*_inferred(clips, truth, groups)]
    if train and len(set(groups)) >= LEAST_TRAINED and len(set(truth.tolist())) > 1:
        ways.append(_trained(clips, truth, groups))
    if not ways:
        message = f"{data} has no inferred emotions, and too few speakers or classes to train on"
        raise UsageError(message, "Run it again with emotion.enabled=true")
    chance = float(np.bincount(truth).max() / len(truth))
    return LabelReport(label, len(everybody) - len(clips), tuple(ways), chance, _scales(clips))


def write_reports(report: LabelReport, out: Path) -> list[Path]:
    """Write the figures as JSON and the picture. Raises TalksetError disk_full or not_writable."""
    with named_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / REPORT, (json.dumps(report.as_json(), indent=1) + "\n").encode())
    write_atomic(out / FIGURE, _picture(report))
    return [out / REPORT, out / FIGURE]


def _inferred(clips: Sequence[Clip], truth: Int64, groups: Sequence[str]) -> list[Judged]:
    """The labels of the data set over the classes that the truth has; calm counts as neutral where nobody names it."""
    found = [clip.read("clip_emotion") for clip in clips]
    known = [index for index, vector in enumerate(found) if vector is not None]
    if not known:
        return []
    present = np.unique(truth[known])
    table = np.array([found[index] for index in known], dtype=np.float64)
    calm, neutral = EMOTIONS.index("calm"), EMOTIONS.index("neutral")
    if neutral in present and calm not in present:
        table[:, neutral] += table[:, calm]
    table = table[:, present] + 1e-9
    table /= table.sum(1, keepdims=True)
    names = tuple(EMOTIONS[index] for index in present)
    chosen = tuple(groups[index] for index in known)
    return [Judged("inferred", names, table, np.searchsorted(present, truth[known]), chosen)]


def _trained(clips: Sequence[Clip], truth: Int64, groups: Sequence[str]) -> Judged:
    from talkset.labels.features import feature_table
    from talkset.labels.train import cross_validated

    found = cross_validated(feature_table(clips), truth, groups)
    return Judged("trained, left-out speakers", found.weights.classes, found.probabilities, found.truth, tuple(groups))


def _scales(clips: Sequence[Clip]) -> dict[str, tuple[float, int]]:
    given = {
        "valence": [_number(_labels(clip).get("valence")) for clip in clips],
        "arousal": [_number(_labels(clip).get("arousal")) for clip in clips],
        "intensity": [_number(clip.index["emotion_given_intensity"]) for clip in clips],
    }
    columns = {"valence": "valence", "arousal": "arousal", "intensity": "emotion_intensity"}
    found = {}
    for name, wanted in given.items():
        inferred = [_number(clip.index[columns[name]]) for clip in clips]
        known = int((np.isfinite(wanted) & np.isfinite(inferred)).sum())
        if known:
            found[name] = ccc(wanted, inferred), known
    return found


def _labels(clip: Clip) -> dict[str, Any]:
    """What the manifest said of the source."""
    return dict(clip.index["labels"] or {})


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _picture(report: LabelReport) -> bytes:
    """Confusion and calibration of every way, side by side, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6 * len(report.ways)), layout="constrained")
    axes = figure.subplots(len(report.ways), 2, squeeze=False)
    for row, way in zip(axes, report.ways, strict=True):
        _draw_confusion(row[0], way)
        _draw_reliability(row[1], way)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
    return stream.getvalue()


def _draw_confusion(axes: Axes, way: Judged) -> None:
    table = way.table
    share = table / np.maximum(table.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(table):
        if count:
            colour = "white" if share[row, column] > 0.55 else "#30343b"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=9)
    ticks = range(len(way.classes))
    axes.set_xticks(ticks, way.classes, rotation=40, ha="right")
    axes.set_yticks(ticks, way.classes)
    axes.set(
        xlabel="found", ylabel="given", title=f"{way.name}: {100 * way.top1:.0f} % right of {len(way.truth)} clips"
    )


def _draw_reliability(axes: Axes, way: Judged) -> None:
    found = reliability(way.probabilities, way.truth)
    axes.plot([0, 1], [0, 1], color="#9aa1ab", linewidth=1)
    axes.plot([c for c, _, _ in found], [r for _, r, _ in found], color="#2f6f9f", marker="o")
    for confidence, right, count in found:
        axes.annotate(str(count), (confidence, right), textcoords="offset points", xytext=(6, -10), fontsize=8)
    error = ece(way.probabilities, way.truth)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="share of right ones")
    axes.set_title(f"expected calibration error {error:.3f}")
