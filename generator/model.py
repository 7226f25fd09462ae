"""The denoising transformer: noisy motion and everything it is conditioned on in, clean motion out."""

from __future__ import annotations

import itertools
import math
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from generator.config import ModelConfig
from generator.features import LOGMEL, MELS, PARTS, WIDTH
from schemas.labels import EMOTIONS

REACH: Final = 32
"""Frames beyond which attention no longer tells distances apart."""
LOGMEL_SHIFT: Final = -1.5
LOGMEL_SCALE: Final = 5.0
"""Fixed scaling of log-mel energies to about unit variance."""
BAND_SIGMAS: Final = (1.5, 4.0, 12.0)
"""Frames: standard deviations of the smoothing between the bands of speed."""
BANDS: Final = len(BAND_SIGMAS) + 1
SHAPE_CODE: Final = 16
"""Numbers to which the identity is reduced: a few speakers must not be recognised by their heads."""


class AudioEncoder(nn.Module):
    """(B, T, F) features to (B, T, A): log-mel spectra through convolutions in time, others through a projection."""

    def __init__(self, config: ModelConfig, width: int, audio: str) -> None:
        super().__init__()
        self.logmel = audio == LOGMEL and width == WIDTH
        size, kernel = config.audio_width, config.audio_kernel
        if self.logmel:
            self.start = nn.Sequential(
                nn.Conv1d(MELS, size, 5, padding=2),
                nn.GELU(),
                nn.Conv1d(size, size, 4, stride=2, padding=1),
                nn.GELU(),
                nn.Conv1d(size, size, 4, stride=PARTS // 2, padding=1),
            )
        else:
            self.norm = nn.LayerNorm(width)
            self.start = nn.Sequential(nn.Conv1d(width, size, 1))
        self.later = nn.ModuleList(nn.Conv1d(size, size, kernel, padding=kernel // 2) for _ in range(2))
        self.out = nn.LayerNorm(size)

    def forward(self, features: Tensor) -> Tensor:
        """Encode features at the steps of motion."""
        if self.logmel:
            spectra = features.reshape(features.shape[0], -1, MELS)
            hidden = self.start(((spectra - LOGMEL_SHIFT) / LOGMEL_SCALE).transpose(1, 2))
        else:
            hidden = self.start(self.norm(features).transpose(1, 2))
        for layer in self.later:
            hidden = hidden + layer(functional.gelu(hidden))
        encoded: Tensor = self.out(hidden.transpose(1, 2))
        return encoded


class Block(nn.Module):
    """Attention with distances, a depthwise convolution and a feed-forward part, each scaled by the conditions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.condition = nn.Linear(width, 4 * width)
        nn.init.zeros_(self.condition.weight)
        nn.init.zeros_(self.condition.bias)
        self.inwards, self.outwards = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.distance = nn.Parameter(torch.zeros(config.heads, 2 * REACH + 1))
        slopes = torch.tensor([2.0 ** (-1.0 - k) for k in range(config.heads)])
        with torch.no_grad():
            self.distance.copy_(-slopes[:, None] * (torch.arange(2 * REACH + 1) - REACH).abs())
        self.local = nn.Conv1d(width, width, config.kernel, padding=config.kernel // 2, groups=width)
        inner = config.feed_forward * width
        self.feed = nn.Sequential(
            nn.Linear(width, inner), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(inner, width)
        )

    def forward(self, hidden: Tensor, condition: Tensor, mask: Tensor) -> Tensor:
        """Hidden (B, T, W), condition (B, W), mask (B, T) bool: frames that exist."""
        shift_a, scale_a, shift_f, scale_f = self.condition(condition)[:, None].chunk(4, dim=-1)
        hidden = hidden + self._attend(self.norms[0](hidden) * (1 + scale_a) + shift_a, mask)
        calm = self.norms[1](hidden) * (1 + scale_f) + shift_f
        near = self.local((calm * mask[..., None]).transpose(1, 2)).transpose(1, 2)
        fed: Tensor = self.feed(calm + near)
        return hidden + fed

    def _attend(self, hidden: Tensor, mask: Tensor) -> Tensor:
        items, frames, width = hidden.shape
        parts = self.inwards(hidden).reshape(items, frames, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        steps = torch.arange(frames, device=hidden.device)
        apart = (steps[None] - steps[:, None]).clamp(-REACH, REACH) + REACH
        bias = self.distance[:, apart][None].masked_fill(~mask[:, None, None], -1e4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))
        found: Tensor = self.outwards(mixed.transpose(1, 2).reshape(items, frames, width))
        return found


def bands_of(noisy: Tensor, mask: Tensor) -> Tensor:
    """(B, K, T, D) bands of speed, from fast to slow, that add up to noisy (B, T, D).

    Mask (B, T) bool: frames that exist. Each band is the difference of two Gaussian means over time, of `BAND_SIGMAS`.
    In the slow ones the noise is averaged away, which a transformer learns to do slowly.
    """
    at = torch.arange(noisy.shape[1], device=noisy.device)
    sigmas = torch.tensor(BAND_SIGMAS, device=noisy.device)
    apart = (at[:, None] - at[None]) / sigmas[:, None, None]
    weights = torch.exp(-0.5 * apart**2)[None] * mask[:, None, None]
    weights = (weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)).to(noisy.dtype)
    smooth = [noisy, *torch.einsum("bktu,bud->kbtd", weights, noisy)]
    return torch.stack([one - other for one, other in itertools.pairwise(smooth)] + smooth[-1:], dim=1)


class Filter(nn.Module):
    """A Wiener filter: how much of each band of each value is signal, as a linear function of the conditions.

    That depends on the step and on the manner: of a lively head more than of a calm one. Without it a small generator
    moves all alike, and too little.
    """

    def __init__(self, width: int, motion_width: int) -> None:
        super().__init__()
        self.gains = nn.Linear(width, BANDS * motion_width)
        nn.init.zeros_(self.gains.weight)
        nn.init.zeros_(self.gains.bias)

    def forward(self, bands: Tensor, condition: Tensor) -> Tensor:
        """(B, T, D) from bands (B, K, T, D) and condition (B, W)."""
        gains = self.gains(condition).reshape(len(bands), BANDS, 1, -1)
        made: Tensor = (gains * bands).sum(1)
        return made


class Denoiser(nn.Module):
    """Predicts clean motion (B, T, D) of which the first `head_width` values are the head's, the others the body's."""

    def __init__(
        self,
        config: ModelConfig,
        motion_width: int,
        head_width: int,
        features: int,
        shape_width: int,
        audio: str = LOGMEL,
    ) -> None:
        super().__init__()
        width = config.width
        self.config, self.head_width = config, head_width
        self.audio = AudioEncoder(config, features, audio)
        self.motion = nn.Linear(BANDS * motion_width + 1, width)
        self.heard = nn.Linear(config.audio_width, width)
        self.no_audio = nn.Parameter(torch.zeros(config.audio_width))
        self.style, self.no_style = nn.Linear(config.style_width, width), nn.Parameter(torch.zeros(width))
        self.emotion, self.no_emotion = nn.Linear(len(EMOTIONS), width), nn.Parameter(torch.zeros(width))
        self.shape = nn.Sequential(nn.Linear(shape_width, SHAPE_CODE), nn.Linear(SHAPE_CODE, width))
        self.step = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width + config.audio_width, head_width)
        self.filter = Filter(width, motion_width)
        self.body = nn.ModuleList(Block(config) for _ in range(config.body_layers))
        if config.body_layers:
            self.body_norm, self.body_out = nn.LayerNorm(width), nn.Linear(width, motion_width - head_width)

    def listen(self, features: Tensor) -> Tensor:
        """(B, T, A) encoded sound: once for all steps of sampling."""
        heard: Tensor = self.audio(features)
        return heard

    def forward(
        self,
        noisy: Tensor,
        step: Tensor,
        known: Tensor,
        heard: Tensor,
        style: Tensor,
        emotion: Tensor,
        shape: Tensor,
        mask: Tensor,
        given: Tensor,
    ) -> Tensor:
        """Clean motion.

        Args: noisy (B, T, D), with clean frames where known (B, T) bool; step (B,) of the diffusion; heard (B, T, A)
        from `listen`; style (B, K); emotion (B, E); shape (B, S); mask (B, T) bool, frames that exist; given (B, 4)
        bool: whether audio, style, emotion and shape are given.
        """
        heard = torch.where(given[:, 0, None, None], heard, self.no_audio.to(heard.dtype))
        bands = bands_of(noisy, mask)
        hidden = self.motion(torch.cat([*bands.unbind(1), known[..., None].to(noisy.dtype)], dim=-1)) + self.heard(
            heard
        )
        total = self.step(waves(step, self.config.width).to(noisy.dtype))
        style = style * self.config.style_width**0.5  # unit vectors: numbers of unit variance are learned sooner
        total = total + torch.where(given[:, 1, None], self.style(style), self.no_style)
        total = total + torch.where(given[:, 2, None], self.emotion(emotion), self.no_emotion)
        total = total + self.shape(shape) * given[:, 3, None]
        condition = self.condition(total)
        hidden = hidden + total[:, None]
        for block in self.blocks:
            hidden = block(hidden, condition, mask)
        head: Tensor = self.out(torch.cat([self.norm(hidden), heard.to(hidden.dtype)], dim=-1))
        filtered: Tensor = self.filter(bands, condition)
        if not self.config.body_layers:
            return filtered + head
        for block in self.body:
            hidden = block(hidden, condition, mask)
        return filtered + torch.cat([head, self.body_out(self.body_norm(hidden))], dim=-1)


def waves(numbers: Tensor, width: int) -> Tensor:
    """(B, width) sines and cosines of (B,) numbers at wavelengths up to 10,000."""
    half = width // 2
    rates = torch.exp(-math.log(10_000.0) * torch.arange(half, device=numbers.device) / half)
    angles = numbers.float()[:, None] * rates
    return functional.pad(torch.cat([angles.sin(), angles.cos()], dim=-1), (0, width - 2 * half))


def parameter_count(module: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in module.parameters())
