"""Denoising diffusion that predicts the clean motion: noise by a cosine schedule, few-step sampling, guidance.

Ho et al., "Denoising Diffusion Probabilistic Models" (2020); the cosine schedule of Nichol & Dhariwal (2021); DDIM of
Song et al. (2021) with eta 0; classifier-free guidance of Ho & Salimans (2022), one scale for each condition as in
DiffPoseTalk (Sun et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from schemas.errors import UsageError

OFFSET: Final = 0.008
LEAST: Final = 1e-5
"""Signal power at the last step: none to speak of."""

Predict = Callable[[Tensor, Tensor, Sequence[bool]], Tensor]
"""(noisy (B, T, D), step (B,), which conditions are given) -> clean (B, T, D)."""


def signal_power(steps: int) -> Tensor:
    """(steps + 1,) alpha-bar: how much of the variance is signal after n steps; 1 at n = 0, falling."""
    at = (torch.arange(steps + 1, dtype=torch.float64) / steps + OFFSET) / (1 + OFFSET)
    curve = torch.cos(at * math.pi / 2) ** 2
    return (curve / curve[0]).clamp(min=LEAST).float()


def noised(clean: Tensor, noise: Tensor, power: Tensor) -> Tensor:
    """sqrt(a) clean + sqrt(1 - a) noise for (B,) alpha-bar a."""
    a = power.reshape(-1, *[1] * (clean.dim() - 1))
    return a.sqrt() * clean + (1 - a).sqrt() * noise


def few_steps(steps: int, count: int) -> list[int]:
    """`count` step numbers from the last to 1, evenly spread. Raises UsageError for more than there are."""
    if not 1 <= count <= steps:
        raise UsageError(f"{count} sampling steps of {steps}", f"Choose 1 to {steps}")
    return [round(steps - k * (steps - 1) / max(count - 1, 1)) for k in range(count)]


def guided(scales: Sequence[float]) -> list[tuple[tuple[bool, ...], float]]:
    """Which conditions to give, and how much each prediction counts.

    Conditions come in the order of `scales`; the prediction is f(none) + s1 (f(1) - f(none)) + s2 (f(1, 2) - f(1)) and
    so on, so predictions whose weights cancel, as at a scale of 1, are not made.
    """
    count = len(scales)
    ends = [1.0, *scales, 0.0]
    weights = [ends[k] - ends[k + 1] for k in range(count + 1)]
    terms = [(tuple(place < k for place in range(count)), weights[k]) for k in range(count + 1)]
    return [(given, weight) for given, weight in terms if abs(weight) > 1e-9]


@torch.no_grad()
def sample(
    predict: Predict,
    noise: Tensor,
    power: Tensor,
    steps: Sequence[int],
    scales: Sequence[float],
) -> Tensor:
    """Clean motion (B, T, D) from noise of the same shape, by DDIM without fresh noise.

    `power` is `signal_power`, `steps` falling numbers, `scales` the guidance of each condition.
    """
    terms = guided(scales)
    current = noise
    for place, step in enumerate(steps):
        at = torch.full((len(noise),), step, dtype=torch.long, device=noise.device)
        clean = torch.zeros_like(noise)
        for given, weight in terms:
            clean = clean + weight * predict(current, at, given)
        if place + 1 == len(steps):
            return clean
        now, then = power[step], power[steps[place + 1]]
        residual = (current - now.sqrt() * clean) / (1 - now).clamp(min=1e-8).sqrt()
        current = then.sqrt() * clean + (1 - then).sqrt() * residual
    return current
