"""The generator's loss: small pure terms over motion vectors and lip vertices, each a sum and a count.

Sums and counts are kept apart so that a batch in parts, or over several machines, has the gradient of the whole.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from generator.config import LossConfig
from generator.motion import MotionLayout
from reconstruct.models.head_model import HeadModel
from reconstruct.models.skinning import SkinningModel, prepare, skin
from schemas.errors import UsageError

TERMS: Final = ("params", "velocity", "smoothness", "lips", "lip_velocity")
ORDER: Final = {"params": 0, "velocity": 1, "smoothness": 2, "lips": 0, "lip_velocity": 1, "style": 0}
"""Which difference over time a term is of."""


def spread_out(points: NDArray[np.floating[Any]], count: int) -> NDArray[np.int64]:
    """Up to `count` of (N, 3) points, each the farthest from those before it; the first is the leftmost."""
    chosen = [int(points[:, 0].argmax())]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(points)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(sorted(chosen), np.int64)


class Lips(nn.Module):
    """Some lip vertices of a head model as a differentiable function of motion vectors."""

    def __init__(self, model: HeadModel, layout: MotionLayout, count: int) -> None:
        super().__init__()
        if "lips" not in model.regions:
            raise UsageError(f"head model {model.name!r} has no region 'lips'", "Add it with its masks")
        ids = model.regions["lips"].astype(np.int64)
        self.ids = ids[spread_out(model.v_template[ids], count)]
        self.layout = layout
        self._skinning = prepare(model, self.ids)

    def forward(self, motion: Tensor, shape: Tensor) -> Tensor:
        """Canonical (no rotation of head or neck) vertices (B, T, n, 3) in millimetres of (B, T, D) and (B, S)."""
        return 1e3 * canonical(self._on(motion.device), self.layout, motion.float(), shape)

    def _on(self, device: torch.device) -> SkinningModel:
        if self._skinning.template.device != device:
            tensors: dict[str, Any] = {
                name: v.to(device) for name, v in vars(self._skinning).items() if isinstance(v, Tensor)
            }
            self._skinning = dataclasses.replace(self._skinning, **tensors)
        return self._skinning


def canonical(skinning: SkinningModel, layout: MotionLayout, motion: Tensor, shape: Tensor) -> Tensor:
    """Vertices (B, T, n, 3) in metres in the canonical pose: expression, jaw and eyes, no rotation of head or neck."""
    items, frames = motion.shape[:2]
    signals = {name: values.reshape(items * frames, -1) for name, values in layout.signals_of(motion).items()}
    zero = torch.zeros_like(signals["jaw_pose"])
    person = shape[:, None].expand(-1, frames, -1).reshape(items * frames, -1)
    eyes = signals["left_eye_pose"], signals["right_eye_pose"]
    made = skin(skinning, person, signals["expression"], zero, zero, signals["jaw_pose"], *eyes, zero)
    return made.reshape(items, frames, -1, 3)


@dataclass(frozen=True)
class Counts:
    """How many numbers each order of difference is the mean of: values of frames, pairs and triples."""

    frames: tuple[float, float, float]

    def __add__(self, other: Counts) -> Counts:
        """Counts of two parts of a batch together."""
        first, second, third = (a + b for a, b in zip(self.frames, other.frames, strict=True))
        return Counts((first, second, third))


def masks(valid: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Frames, pairs and triples of (B, T) that count: all valid, and not all given."""
    found = []
    for order in range(3):
        span = valid.shape[1] - order
        all_valid, all_known = valid[:, :span], known[:, :span]
        for shift in range(1, order + 1):
            all_valid = all_valid & valid[:, shift : shift + span]
            all_known = all_known & known[:, shift : shift + span]
        found.append(all_valid & ~all_known)
    return found[0], found[1], found[2]


def counts(valid: Tensor, known: Tensor) -> Counts:
    """The counts of a part of a batch."""
    first, second, third = (float(mask.sum()) for mask in masks(valid, known))
    return Counts((first, second, third))


def squared(truth: Tensor, prediction: Tensor, mask: Tensor, order: int) -> Tensor:
    """Sum over the frames of the mask of the mean squared difference, of the order's finite difference over time."""
    error = (prediction - truth).flatten(2)
    for _ in range(order):
        error = error[:, 1:] - error[:, :-1]
    return ((error**2).mean(-1) * mask).sum()


def emphasis(model: HeadModel, layout: MotionLayout, lids: float) -> Tensor:
    """(D,) square roots of the weights of the vector's values: `lids` for those that shut the eyes, else 1.

    A blink is two of some sixty values for a fifth of a second: without this a small generator leaves it out.
    """
    weights = torch.ones(layout.width)
    group = next(group for group in layout.groups if group.signal == "expression")
    for place, column in enumerate(group.columns):
        if model.expression_names[column].startswith("eyeBlink"):
            weights[layout.places("expression").start + place] = lids**0.5
    return weights


def loss_terms(
    clean: Tensor,
    prediction: Tensor,
    valid: Tensor,
    known: Tensor,
    shape: Tensor,
    lips: Lips,
    config: LossConfig,
    weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Each term's sum; `counts` has what to divide by, `total` puts them together.

    Args: clean, prediction (B, T, D) normalised; valid, known (B, T) bool; shape (B, S); weights (D,) of `emphasis`.
    Known frames of the prediction are replaced by the truth, so that speed across the border counts.
    """
    by_order = masks(valid, known)
    prediction = torch.where(known[..., None], clean, prediction.float())
    there, here = (values if weights is None else values * weights for values in (clean, prediction))
    terms = {name: squared(there, here, by_order[ORDER[name]], ORDER[name]) for name in TERMS[:3]}
    if config.lips or config.lip_velocity:
        with torch.no_grad():
            there = lips(clean, shape)
        here = lips(prediction, shape)
        for name in TERMS[3:]:
            terms[name] = 3 * squared(there, here, by_order[ORDER[name]], ORDER[name]) / config.lip_scale_mm**2
    return terms


def style_term(shown: Tensor, asked: Tensor, weight: Tensor, valid: Tensor, known: Tensor) -> Tensor:
    """Sum over the frames that count of one less the cosine of the styles (B, K) shown and asked for, by weight (B,).

    The weight is the signal's power: of a window of noise only the mean of what could be is asked, not a manner.
    """
    frames = masks(valid, known)[0].sum(1)
    return ((1 - (shown * asked).sum(-1)) * weight * frames).sum()


def total(terms: dict[str, Tensor], count: Counts, config: LossConfig) -> Tensor:
    """The weighted sum of the means."""
    parts = [getattr(config, name) * value / max(count.frames[ORDER[name]], 1.0) for name, value in terms.items()]
    return torch.stack(parts).sum()


def exchange(
    prediction: Tensor, swapped: Tensor, emotion: Tensor, judged: Tensor, valid: Tensor, shape: Tensor, lips: Lips,
    config: LossConfig,
) -> Tensor:  # fmt: skip
    """Content-emotion exchange after EMOTE (Danecek et al. 2023): what is said stays, what is felt changes.

    Args: prediction and swapped (B, T, D): the same sound with its own and with another clip's emotion (B, E); judged
    (B, E) logits of the emotion judge for `swapped`. EMOTE compares lip reading of rendered video; here the speed of
    the lips stands for the content.
    """
    with torch.no_grad():
        own = lips(prediction, shape)
    said = squared(own, lips(swapped, shape), masks(valid, torch.zeros_like(valid))[1], 1)
    said = 3 * said / config.lip_scale_mm**2 / valid[:, 1:].sum().clamp(min=1)
    target = emotion.clone()
    target[:, 0] = 1 - emotion.sum(1)
    felt = -(target * judged.log_softmax(-1)).sum(-1).mean()
    return said + felt
