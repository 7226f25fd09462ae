"""Makes annotate/emotion/face_tables.json: units of faces that feel, on heads that no figure is taken from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from annotate.emotion.action_units import action_units, over_window
from annotate.emotion.base import NUM, softmax, windows_of
from annotate.emotion.face import KINDS, TABLES, rule_matrix, with_sizes
from labels_parts.acted import Acted, acted, talker_of
from reconstruct.models.arkit import ARKIT_NAMES, to_arkit
from reconstruct.models.head_model import HeadModel
from schemas.labels import EMOTIONS
from synthetic.make import perform

Float64 = NDArray[np.float64]

HEADS: Final = dict.fromkeys(range(501, 509), (0.5, 1.0)) | dict.fromkeys(range(509, 517), (0.3, 0.75))
"""Seed of each head -> intensities."""
EXACT_HEADS: Final = tuple(range(601, 616))
INTENSITY_PULLS: Final = (3.0, 10.0, 30.0)
"""Strengths of the ridge of the intensity, chosen likewise."""
PRIORS: Final = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Strengths of the pull to the rules, of which the one that predicts left-out heads best is taken."""


@dataclass(frozen=True)
class Samples:
    """Windows of N with what was felt."""

    units: Float64
    """(N, U)"""
    emotion: NDArray[np.int64]
    intensity: Float64
    head: NDArray[np.int64]
    weight: Float64
    """One a clip, shared by its windows."""


def calibrate(model: HeadModel, cache: Path) -> None:
    """Measure all tables and write the file."""
    clips = [
        acted(model, talker_of(head, emotion, level, 3 * index + place), cache)
        for head, levels in HEADS.items()
        for index, emotion in enumerate(EMOTIONS)
        for place, level in enumerate(levels)
    ]
    found = {kind: _table(_of_fits(clips, kind) if kind != "exact" else _exact(model)) for kind in KINDS}
    about = (
        f"{len(HEADS)} rendered talkers (seeds {min(HEADS)} to {max(HEADS)}), detected and fitted; exact: weights of"
        f" {len(EXACT_HEADS)} others (seeds {EXACT_HEADS[0]} to {EXACT_HEADS[-1]})"
    )
    TABLES.write_text(json.dumps({"measured_on": about, **found}, indent=0) + "\n")


def rest_of(clips: Sequence[Acted]) -> NDArray[np.float32]:
    """(52,) a speaker's face at rest, from all clips alike: nobody says which are neutral."""
    return np.asarray(np.median([np.nanmedian(clip.surface, axis=0) for clip in clips], axis=0), np.float32)


def _of_fits(clips: Sequence[Acted], kind: str) -> Samples:
    rests = {head: rest_of([clip for clip in clips if clip.talker.shape_seed == head]) for head in HEADS}
    rows = []
    for clip in clips:
        rest = rests[clip.talker.shape_seed] if kind == "speaker" else clip.identity
        times = clip.truth.pts_us / 1e6
        rows += _windows(action_units(ARKIT_NAMES, clip.surface, rest), times, clip)
    return _gathered(rows)


def _exact(model: HeadModel) -> Samples:
    rows = []
    for head in EXACT_HEADS:
        for index, emotion in enumerate(EMOTIONS):
            talker = talker_of(head, emotion, 0.3 + 0.7 * ((head * 7 + index * 3) % 10) / 9, index)
            truth, _ = perform(talker, model)
            track = truth.track
            weights = to_arkit(model, track.expression, track.jaw_pose, track.left_eye_pose, track.right_eye_pose)
            rows += _windows(action_units(ARKIT_NAMES, weights), truth.pts_us / 1e6, talker)
    return _gathered(rows)


def _windows(units: Float64, times: Float64, clip: Any) -> list[tuple[Any, ...]]:
    """Units, emotion, intensity, head and weight of the whole clip and of its windows."""
    talker = getattr(clip, "talker", clip)
    length = float(times[-1]) + 0.04
    spans = [(0.0, length), *windows_of(length).tolist()]
    label = EMOTIONS.index(talker.affect.emotion)
    rows = []
    for start, end in spans:
        inside = units[(times >= start) & (times < end)]
        rows.append((over_window(inside), label, talker.affect.intensity, talker.shape_seed, 1 / len(spans)))
    return rows


def _gathered(rows: list[tuple[Any, ...]]) -> Samples:
    units, emotion, intensity, head, weight = (np.array(column) for column in zip(*rows, strict=True))
    kept = np.isfinite(units).all(1)
    return Samples(units[kept], emotion[kept], intensity[kept], head[kept], weight[kept])


def _table(samples: Samples) -> dict[str, Any]:
    scale = samples.units.std(0) + 1e-6
    inputs = samples.units / scale
    heads = np.unique(samples.head)
    folds = [np.isin(samples.head, fold) for fold in np.array_split(heads, min(len(heads), 8))]

    def left_out(prior: float) -> Float64:
        log_odds = np.zeros((len(inputs), NUM))
        for held in folds:
            weights, bias = _fit(inputs[~held], samples.emotion[~held], samples.weight[~held], prior)
            log_odds[held] = inputs[held] @ weights + bias
        return log_odds

    losses = {prior: _loss(left_out(prior), samples) for prior in PRIORS}
    best = min(losses, key=lambda prior: losses[prior])
    log_odds = left_out(best)
    temperatures = np.linspace(0.4, 1.5, 45)
    reliability = float(min(temperatures, key=lambda t: _loss(t * log_odds, samples)))
    hit = (log_odds.argmax(1) == samples.emotion) @ samples.weight / samples.weight.sum()
    print(f"  prior {best:g}, reliability {reliability:.2f}, left-out heads: {100 * hit:.0f} % right", flush=True)
    weights, bias = _fit(inputs, samples.emotion, samples.weight, best)
    strength = _strength(with_sizes(inputs), softmax(reliability * log_odds), samples, folds)
    named = {"scale": scale, "weights": weights, "bias": bias, "strength": strength}
    return {name: np.round(values, 4).tolist() for name, values in named.items()} | {
        "reliability": round(reliability, 3)
    }


def _strength(wide: Float64, chances: Float64, samples: Samples, folds: Sequence[NDArray[np.bool_]]) -> Float64:
    """(2 U + 1, 9): what makes the expectation of the intensity over the classes right, by ridge regression.

    Fitted through the probabilities (N, 9) that heads get when they are left out, since the intensities of the classes
    will be weighed by such: a fear that is taken for surprise teaches both. A face does not show how calm it is: calm
    clips teach nothing, and calm has the intensity of neutral.
    """
    told = samples.emotion != EMOTIONS.index("calm")
    shares = np.concatenate([chances[:, :1] + chances[:, -1:], chances[:, 1:-1]], axis=1)
    design = (shares[:, :, None] * wide[:, None]).reshape(len(wide), -1)

    def fitted(rows: NDArray[np.bool_], pull: float) -> Float64:
        weighed = samples.weight[rows, None] * design[rows]
        system = weighed.T @ design[rows] + pull * np.eye(design.shape[1])
        return np.asarray(np.linalg.solve(system, weighed.T @ samples.intensity[rows]))

    def left_out(pull: float) -> Float64:
        found = np.zeros(len(wide))
        for held in folds:
            found[held] = design[held] @ fitted(told & ~held, pull)
        return np.clip(found, 0, 1)

    def error(pull: float) -> float:
        return float((left_out(pull) - samples.intensity)[told] ** 2 @ samples.weight[told])

    best = min(INTENSITY_PULLS, key=error)
    alike = float(np.corrcoef(left_out(best)[told], samples.intensity[told])[0, 1])
    print(f"  pull {best:g}, left-out heads: correlation of the intensity {alike:.2f}", flush=True)
    by_class = fitted(told, best).reshape(shares.shape[1], -1)
    return np.asarray(np.concatenate([by_class, by_class[:1]]).T)


def _loss(log_odds: Float64, samples: Samples) -> float:
    """Mean negative log likelihood of what was felt."""
    chosen = softmax(log_odds)[np.arange(len(log_odds)), samples.emotion]
    return float(-(np.log(chosen + 1e-12) @ samples.weight) / samples.weight.sum())


def _fit(inputs: Float64, emotion: NDArray[np.int64], weight: Float64, prior: float) -> tuple[Float64, Float64]:
    """Weights (U, 9) and bias (9,): most probable under normal weights about a multiple of the rules.

    The multiple is found too, so the rules say which units count for what, and the data how much they show.
    """
    given, wanted = torch.as_tensor(inputs), torch.as_tensor(emotion)
    share = torch.as_tensor(weight / weight.sum())
    rules = torch.as_tensor(rule_matrix())
    own = torch.zeros(inputs.shape[1], NUM, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(NUM, dtype=torch.float64, requires_grad=True)
    size = torch.full((), 0.5, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([own, bias, size], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimiser.zero_grad()
        logits = given @ (size * rules + own) + bias
        loss = share @ torch.nn.functional.cross_entropy(logits, wanted, reduction="none")
        loss = loss + prior / NUM * (own**2).mean() * own.shape[0] + 1e-3 * (bias**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    weights = (size * rules + own).detach().numpy()
    return np.asarray(weights), np.asarray(bias.detach().numpy())
