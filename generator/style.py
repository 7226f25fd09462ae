"""The style encoder: clips of one speaker and manner come near each other, whatever is said and felt (NT-Xent).

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (2020), on motion as in
DiffPoseTalk (Sun et al. 2024). Positives are other clips of the same style, whole: a manner is a matter of means and
deviations, which short pieces hardly show. Where a batch has no two of a style, two crops of each clip. Beside it an
emotion judge learns from the same features, for the content-emotion exchange loss.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from generator.config import GeneratorConfig
from generator.data import Clips
from schemas.labels import EMOTIONS

LEAST_CROP: Final = 0.6
"""Shortest crop of a clip, as a part of it."""
LEAST_DEVIATION: Final = 0.05
LEAST_SPEED: Final = 0.02
"""Added in quadrature before the logarithm, in normalised units (a frame): what hardly moves does not count."""
LEAST_SPREAD: Final = 0.1
SMALL: Final = 0.05
"""What is alike in all clips to learn from, such as an expression that nobody makes, is neither blown up to unit
variance nor has more weight than what was learned: generated motion has traces of it."""
ROUNDING: Final = 1e-4
"""Of Adam: gradients that are rounding errors move nothing."""


@dataclass(frozen=True)
class Labels:
    """What is known of all selected clips."""

    group: Tensor
    """(N,) number of the clips of one style."""
    emotion: Tensor
    """(N, len(EMOTIONS)), as in generator.data."""
    emotion_known: Tensor
    """(N,) bool"""


class StyleEncoder(nn.Module):
    """Head motion (B, T, D) to a unit vector (B, K) of its style.

    Moments over time, each on the scale of how much it varies among clips, and one linear layer: from a few dozen
    speakers anything deeper learns the clips by heart. More speakers may have convolutions before (`style.layers`).
    """

    def __init__(self, config: GeneratorConfig, motion_width: int) -> None:
        super().__init__()
        width = config.style.width
        self.motion_width = motion_width
        sizes = [2 * motion_width, *[width] * config.style.layers]
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, padding=2) for a, b in itertools.pairwise(sizes))
        pooled = 3 * motion_width + (2 * width if config.style.layers else 0)
        self.norm = nn.BatchNorm1d(pooled, affine=False, eps=LEAST_SPREAD**2)
        self.style = nn.Linear(pooled, config.model.style_width)
        with torch.no_grad():
            self.style.weight.mul_(SMALL)
        self.judge = nn.Sequential(nn.Linear(pooled, width), nn.GELU(), nn.Linear(width, len(EMOTIONS)))

    def pooled(self, motion: Tensor, valid: Tensor) -> Tensor:
        """(B, P) over the valid frames: means, log deviations and log speeds, and moments of the convolutions."""
        motion = motion[..., : self.motion_width]
        seen = valid[..., None].to(motion.dtype)
        both = seen[:, 1:] * seen[:, :-1]
        clean = motion * seen
        speed = (clean[:, 1:] - clean[:, :-1]) * both
        found = [*_moments(clean, seen, LEAST_DEVIATION), _moments(speed, both, LEAST_SPEED)[1]]
        if self.layers:
            hidden = torch.cat([clean, 5 * functional.pad(speed, (0, 0, 1, 0))], dim=-1).transpose(1, 2)
            for layer in self.layers:
                made = functional.gelu(layer(hidden))
                hidden = hidden + made if hidden.shape == made.shape else made
            found += _moments(hidden.transpose(1, 2), seen, LEAST_DEVIATION)
        return torch.cat(found, dim=-1)

    def forward(self, motion: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Unit style (B, K) and emotion logits (B, len(EMOTIONS)) of motion (B, T, D) with valid (B, T) bool."""
        pooled = self.norm(self.pooled(motion, valid))
        return functional.normalize(self.style(pooled), dim=-1), self.judge(pooled)


def _moments(values: Tensor, seen: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """(B, D) means and logarithms of deviations of (B, T, D)."""
    count = seen.sum(1).clamp(min=1)
    mean = (values * seen).sum(1) / count
    variance = (((values - mean[:, None]) * seen) ** 2).sum(1) / count
    return mean, 0.5 * (variance + least**2).log()


def nt_xent(style: Tensor, group: Tensor, clip: Tensor, temperature: float) -> Tensor:
    """Mean over the rows (N, K) of minus the log share of their positives among all others.

    Positives are rows of the same group and another clip; where there are none, rows of the same clip. Rows of the
    same group that are no positives do not count as negatives. Rows without any positive are left out.
    """
    alike = group[:, None] == group[None]
    same = clip[:, None] == clip[None]
    other = ~torch.eye(len(style), dtype=torch.bool, device=style.device)
    across = alike & ~same
    positive = torch.where(across.any(1, keepdim=True), across, same) & other
    usable = positive.any(1)
    if not bool(usable.any()):
        return style.sum() * 0.0
    logits = style @ style.T / temperature
    ignored = (alike & ~positive) | ~other
    total = logits.masked_fill(ignored, float("-inf")).logsumexp(1, keepdim=True)
    share = torch.where(positive, total - logits, torch.zeros_like(logits)).sum(1) / positive.sum(1).clamp(min=1)
    return share[usable].mean()


def crops(valid: Tensor, generator: torch.Generator) -> Tensor:
    """(2B, T) bool: two random crops of every clip of (B, T), false outside of the crop."""
    frames = valid.shape[1]
    least = max(2, round(LEAST_CROP * frames))
    length = torch.randint(least, frames + 1, (2 * len(valid), 1), generator=generator)
    room = (frames - length + 1).float()
    start = (torch.rand(length.shape, generator=generator) * room).long()
    at = torch.arange(frames)[None]
    inside = (at >= start) & (at < start + length)
    return valid.repeat(2, 1) & inside.to(valid.device)


def train_style(
    encoder: StyleEncoder, batches: Iterable[Clips], labels: Labels, config: GeneratorConfig, device: torch.device
) -> list[float]:
    """Train the encoder in place; returns the loss of every step. The same data and seed give the same weights."""
    settings = config.style
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=settings.learning_rate, weight_decay=0.01, eps=ROUNDING)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    losses = []
    encoder.train()
    for step, clips in zip(range(settings.steps), batches, strict=False):
        motion, valid, place = clips.motion, clips.valid, clips.place
        if len(torch.unique(labels.group[place])) == len(place):
            generator = torch.Generator().manual_seed(step_seed(config.seed, step, 0) ^ 0x57)
            motion, valid, place = motion.repeat(2, 1, 1), crops(valid, generator), place.repeat(2)
        style, logits = encoder(motion.to(device), valid.to(device))
        loss = nt_xent(style, labels.group[place].to(device), place.to(device), settings.temperature)
        loss = loss + judge_loss(logits, labels.emotion[place].to(device), labels.emotion_known[place].to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    encoder.eval()
    return losses


def judge_loss(logits: Tensor, emotion: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of the clip's emotion; its intensity is the target's share, the rest is neutral."""
    target = emotion.clone()
    target[:, 0] = 1 - emotion.sum(1)
    each = -(target * logits.log_softmax(-1)).sum(-1) * known
    return each.sum() / known.sum().clamp(min=1)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of everything random in one step: the same after a stop as without it."""
    return (seed * 1_000_003 + step) * 4099 + rank & 0x7FFFFFFFFFFFFFFF
