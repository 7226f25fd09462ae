"""The style encoder: clips of one speaker and manner come near each other, whatever is said and felt (NT-Xent).

Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations" (2020), on motion as in
DiffPoseTalk (Sun et al. 2024). Positives are windows of other clips of the same style; where a batch has none, two
crops of a window. Beside it an emotion judge learns from the same features, for the content-emotion exchange loss.
"""

from __future__ import annotations

import itertools
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from generator.config import GeneratorConfig
from generator.data import Batch, TrainingData
from schemas.labels import EMOTIONS

LEAST_CROP: Final = 0.6
"""Shortest crop of a window, as a part of it."""


class StyleEncoder(nn.Module):
    """Head motion (B, T, D) to a unit vector (B, K) of its style."""

    def __init__(self, config: GeneratorConfig, motion_width: int) -> None:
        super().__init__()
        width = config.style.width
        self.motion_width = motion_width
        sizes = [2 * motion_width, *[width] * config.style.layers]
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, padding=2) for a, b in itertools.pairwise(sizes))
        pooled = 2 * width + 2 * motion_width
        self.style = nn.Sequential(
            nn.LayerNorm(pooled), nn.Linear(pooled, width), nn.GELU(), nn.Linear(width, config.model.style_width)
        )
        self.judge = nn.Sequential(
            nn.LayerNorm(pooled), nn.Linear(pooled, width), nn.GELU(), nn.Linear(width, len(EMOTIONS))
        )

    def pooled(self, motion: Tensor, valid: Tensor) -> Tensor:
        """(B, P) means and deviations over the valid frames, of the motion and of what convolutions make of it."""
        motion = motion[..., : self.motion_width]
        seen = valid[..., None].to(motion.dtype)
        clean = motion * seen
        speed = functional.pad((clean[:, 1:] - clean[:, :-1]) * seen[:, 1:] * seen[:, :-1], (0, 0, 1, 0))
        hidden = torch.cat([clean, 5 * speed], dim=-1).transpose(1, 2)
        for layer in self.layers:
            made = functional.gelu(layer(hidden))
            hidden = hidden + made if hidden.shape == made.shape else made
        return torch.cat([*_moments(clean, seen), *_moments(hidden.transpose(1, 2), seen)], dim=-1)

    def forward(self, motion: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Unit style (B, K) and emotion logits (B, len(EMOTIONS)) of motion (B, T, D) with valid (B, T) bool."""
        pooled = self.pooled(motion, valid)
        return functional.normalize(self.style(pooled), dim=-1), self.judge(pooled)


def _moments(values: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    count = seen.sum(1).clamp(min=1)
    mean = (values * seen).sum(1) / count
    variance = (((values - mean[:, None]) * seen) ** 2).sum(1) / count
    return mean, (variance + 1e-4).sqrt()


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


def crops(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two random crops of every window: motion (2B, T, D) and validity (2B, T), false outside of the crop."""
    frames = batch.motion.shape[1]
    least = max(2, round(LEAST_CROP * frames))
    length = torch.randint(least, frames + 1, (2 * len(batch.motion), 1), generator=generator)
    room = (frames - length + 1).float()
    start = (torch.rand(length.shape, generator=generator) * room).long()
    at = torch.arange(frames)[None]
    inside = (at >= start) & (at < start + length)
    return batch.motion.repeat(2, 1, 1), batch.valid.repeat(2, 1) & inside.to(batch.valid.device)


def train_style(
    encoder: StyleEncoder, data: TrainingData, config: GeneratorConfig, device: torch.device
) -> list[float]:
    """Train the encoder in place; returns the loss of every step. The same data and seed give the same weights."""
    settings = config.style
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    losses = []
    encoder.train()
    for step, raw in zip(range(settings.steps), data, strict=False):
        generator = torch.Generator().manual_seed(step_seed(config.seed, step, 0) ^ 0x57)
        batch = raw.to(device)
        motion, valid = crops(batch, generator)
        style, logits = encoder(motion, valid)
        loss = nt_xent(style, batch.group.repeat(2), batch.clip.repeat(2), settings.temperature)
        loss = loss + judge_loss(logits, batch.emotion.repeat(2, 1), batch.emotion_known.repeat(2))
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
