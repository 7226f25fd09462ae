"""Denoising diffusion that predicts the clean motion: noise by a cosine schedule, few-step sampling, guidance.

Ho et al., "Denoising Diffusion Probabilistic Models" (2020); the cosine schedule of Nichol & Dhariwal (2021);
DPM-Solver++(2M) of Lu et al. (2022), which is DDIM (Song et al. 2021) with the step before taken into account;
classifier-free guidance of Ho & Salimans (2022), one scale for each condition as in
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

LOG_RATIOS: Final = (-7.0, 6.0)
"""Signal over noise at the first and last step of sampling: between them a Gaussian process is sampled with its own
deviation within 4 %, from single frames to minutes' drift, in eight steps."""

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


def few_steps(power: Tensor, count: int) -> list[int]:
    """Up to `count` step numbers of `signal_power`, falling, evenly spread in the logarithm of signal over noise.

    What moves slowly, as a head does, stands out from the noise long before a single frame does: steps that are even
    in time jump over where it is decided, and it comes out at half of its size. Raises UsageError for more steps than
    there are.
    """
    steps = len(power) - 1
    if not 1 <= count <= steps:
        raise UsageError(f"{count} sampling steps of {steps}", f"Choose 1 to {steps}")
    curve = log_ratio(power[1:].double())
    wanted = torch.linspace(*LOG_RATIOS, count, dtype=torch.float64)
    nearest = (curve[None] - wanted[:, None]).abs().argmin(1) + 1
    return sorted(set(nearest.tolist()), reverse=True)


def log_ratio(power: Tensor) -> Tensor:
    """Logarithm of signal power over noise power."""
    return power.log() - (1 - power).log()


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
    """Clean motion (B, T, D) from noise of the same shape, without fresh noise.

    `power` is `signal_power`, `steps` falling numbers, `scales` the guidance of each condition.
    """
    terms = guided(scales)
    levels = log_ratio(power.double()[list(steps)]).tolist()
    current, before = noise, torch.zeros(0)
    for place, step in enumerate(steps):
        at = torch.full((len(noise),), step, dtype=torch.long, device=noise.device)
        clean = torch.zeros_like(noise)
        for given, weight in terms:
            clean = clean + weight * predict(current, at, given)
        if place + 1 == len(steps):
            break
        ahead = clean
        if place:  # half a step further along the line through this prediction and the one before
            ahead = clean + (levels[place + 1] - levels[place]) / (levels[place] - levels[place - 1]) / 2 * (
                clean - before
            )
        now, then = power[step], power[steps[place + 1]]
        residual = (current - now.sqrt() * ahead) / (1 - now).clamp(min=1e-8).sqrt()
        current, before = then.sqrt() * ahead + (1 - then).sqrt() * residual, clean
    return clean
