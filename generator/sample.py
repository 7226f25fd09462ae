"""From sound to motion: windows one after the other, each begun by the end of the one before, blended at the borders.

The noise of a frame follows from (seed, frame), so it is the same in both windows that a frame is in, and the result
does not depend on how the sound comes in. Memory is that of a window, however long the sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from generator.checkpoint import Generator
from generator.config import DiffusionConfig
from generator.diffusion import few_steps, sample, signal_power
from generator.features import LOGMEL, RATE_HZ, log_mel, make_extractor
from schemas.errors import UsageError

Float32 = NDArray[np.float32]

NOISE_BLOCK: Final = 256
STREAM_HOP: Final = 10
"""New frames of a window when streaming, unless another number is asked for."""
MARGIN_S: Final = 0.1
"""Sound before a window's first frame that its spectra may touch."""


@dataclass(frozen=True)
class Conditions:
    """What B items are to be like."""

    style: Tensor
    """(B, K) unit vectors."""
    emotion: Tensor
    """(B, E) intensity at the emotion's place, all zero for neutral."""
    shape: Tensor
    """(B, S)"""
    seeds: tuple[int, ...]
    """One for each item."""

    def __post_init__(self) -> None:
        """Refuse items without all of it."""
        if not len(self.style) == len(self.emotion) == len(self.shape) == len(self.seeds) > 0:
            raise UsageError("conditions of different numbers of items", "Give one style, emotion, shape and seed each")


class Session:
    """Takes features of the sound in pieces and gives motion (B, n, D), normalised, as it becomes final."""

    def __init__(
        self,
        generator: Generator,
        conditions: Conditions,
        *,
        hop: int | None = None,
        diffusion: DiffusionConfig | None = None,
    ) -> None:
        """`hop` new frames a window (default: all that a window has room for), `diffusion` other steps and guidance.

        Raises UsageError for a hop that leaves the window.
        """
        config = generator.config
        self._generator, self._conditions = generator, conditions
        self._settings = diffusion or config.diffusion
        self._context, self._lookahead = config.context, config.lookahead
        self.hop = config.window - self._lookahead if hop is None else hop
        if not max(1, self._lookahead) <= self.hop <= config.window - self._lookahead:
            most = config.window - self._lookahead
            raise UsageError(f"a hop of {self.hop} frames", f"Choose {max(1, self._lookahead)} to {most}")
        self._device = next(generator.denoiser.parameters()).device
        self._power = signal_power(self._settings.steps).to(self._device)
        self._steps = few_steps(self._power, self._settings.sample_steps)
        self._blocks: dict[int, Tensor] = {}
        self._features: list[Tensor] = []
        self._first = 0  # frame of the first feature that is kept
        self._done = 0  # frames that were given out
        self._recent = torch.zeros(len(conditions.seeds), 0, generator.layout.width)
        self._ahead: Tensor | None = None

    @property
    def latency_s(self) -> float:
        """Seconds of sound after a frame that are needed before it is final, the computing not counted."""
        return (self.hop + self._lookahead) / self._generator.config.fps

    @property
    def needed(self) -> int:
        """Frames of sound from the start on that the next window wants."""
        lead = self._context if self._done == 0 else 0
        return self._done + lead + self.hop + self._lookahead

    def push(self, features: Tensor) -> Iterator[Tensor]:
        """Take features (B, n, F) of the next frames and give what is final."""
        self._features.append(features)
        while self._first + sum(part.shape[1] for part in self._features) >= self.needed:
            yield self._window(self.needed, last=False)

    def finish(self) -> Iterator[Tensor]:
        """Give the rest; the sound has ended."""
        end = self._first + sum(part.shape[1] for part in self._features)
        if end > self._done:
            yield self._window(end, last=True)

    def _window(self, end: int, last: bool) -> Tensor:
        """Make the frames up to `end` and give those of them that are final."""
        known = self._recent.shape[1]
        start = self._done - known
        features = torch.cat(self._features, dim=1)[:, start - self._first : end - self._first]
        made = self._denoised(features, start, known)[:, known:]
        if self._ahead is not None:
            both = min(self._ahead.shape[1], made.shape[1])
            share = (torch.arange(both) + 1.0) / (self._ahead.shape[1] + 1)
            made[:, :both] += (1 - share)[None, :, None] * (self._ahead[:, :both] - made[:, :both])
        count = made.shape[1] - (0 if last else self._lookahead)
        final, self._ahead = made[:, :count], made[:, count:]
        self._done += count
        self._recent = torch.cat([self._recent, final], dim=1)[:, -self._context :]
        kept = torch.cat(self._features, dim=1)
        drop = max(0, self._done - self._context - self._first)
        self._features, self._first = [kept[:, drop:]], self._first + drop
        return final

    @torch.no_grad()
    def _denoised(self, features: Tensor, start: int, known: int) -> Tensor:
        """(B, T, D) of the frames from `start` on, the first `known` of them given."""
        network, conditions, device = self._generator.denoiser, self._conditions, self._device
        items, frames = features.shape[:2]
        noise = torch.stack([self._noise(item, start, frames) for item in range(items)]).to(device)
        given = torch.zeros(items, frames, noise.shape[-1], device=device)
        given[:, :known] = self._recent.to(device)
        is_known = (torch.arange(frames, device=device) < known).expand(items, -1)
        heard = network.listen(features.to(device))
        style, emotion, shape = (t.to(device) for t in (conditions.style, conditions.emotion, conditions.shape))
        mask = torch.ones(items, frames, dtype=torch.bool, device=device)

        def predict(noisy: Tensor, step: Tensor, which: Sequence[bool]) -> Tensor:
            flags = torch.tensor([*which, True], device=device).expand(items, -1)
            noisy = torch.where(is_known[..., None], given, noisy)
            made: Tensor = network(noisy, step, is_known, heard, style, emotion, shape, mask, flags)
            return torch.where(is_known[..., None], given, made)

        settings = self._settings
        scales = (settings.guidance_audio, settings.guidance_style, settings.guidance_emotion)
        return sample(predict, noise, self._power, self._steps, scales).float().cpu()

    def _noise(self, item: int, start: int, frames: int) -> Tensor:
        """(T, D) of frames from `start` on."""
        seed, width = self._conditions.seeds[item], self._generator.layout.width
        first, final = start // NOISE_BLOCK, (start + frames - 1) // NOISE_BLOCK
        parts = []
        for block in range(first, final + 1):
            made = np.random.default_rng([seed, block, 0x5EED]).standard_normal((NOISE_BLOCK, width), np.float32)
            parts.append(torch.as_tensor(made))
        return torch.cat(parts)[start - first * NOISE_BLOCK :][:frames]


def generate(
    generator: Generator,
    features: Tensor,
    conditions: Conditions,
    *,
    hop: int | None = None,
    diffusion: DiffusionConfig | None = None,
) -> Tensor:
    """Motion (B, T, D), normalised, for features (B, T, F) of the whole sound."""
    session = Session(generator, conditions, hop=hop, diffusion=diffusion)
    return torch.cat([*session.push(features), *session.finish()], dim=1)


def stream(
    generator: Generator,
    sound: Iterable[Float32],
    conditions: Conditions,
    *,
    hop: int | None = STREAM_HOP,
    diffusion: DiffusionConfig | None = None,
) -> Iterator[Tensor]:
    """Motion (1, n, D) of mono sound at 16 kHz that comes in pieces of any length; see `Session.latency_s`.

    Only for the built-in features, which need no more sound than the frame they belong to; HuBERT hears whole
    utterances. The first frames need `context` more frames of sound than the others.
    Raises UsageError for other features, pieces that are not mono, or no sound at all.
    """
    config = generator.config
    if config.audio != LOGMEL:
        raise UsageError(f"a generator with {config.audio} cannot stream", "Train one with logmel, or use generate")
    session = Session(generator, conditions, hop=hop, diffusion=diffusion)
    kept, origin, heard, steps = np.zeros(0, np.float32), 0, 0, 0
    margin = int(MARGIN_S * RATE_HZ)
    for piece in sound:
        samples = np.asarray(piece, np.float32)
        if samples.ndim != 1:
            raise UsageError(f"a piece of sound of shape {samples.shape}", "Pass mono samples (N,) at 16 kHz")
        kept, heard = np.concatenate([kept, samples]), heard + len(samples)
        # a frame's spectra end 40 ms after it; what is not heard yet would be taken for silence
        ready = int((heard - margin) * config.rate / RATE_HZ)
        if ready > steps:
            part = log_mel(kept, ready - steps, config.rate, steps, origin)
            steps = ready
            yield from session.push(torch.as_tensor(part)[None])
            drop = max(0, int(steps * RATE_HZ / config.rate) - margin - origin)
            kept, origin = kept[drop:], origin + drop
    whole = max(1, int(heard * config.rate / RATE_HZ))
    if not heard:
        raise UsageError("there is no sound", "Give at least one sample")
    if whole > steps:
        yield from session.push(torch.as_tensor(log_mel(kept, whole - steps, config.rate, steps, origin))[None])
    yield from session.finish()


def features_of(generator: Generator, samples: Float32) -> Tensor:
    """(T, F) features of a whole mono sound at 16 kHz at the generator's frames; at least one frame."""
    extract, _ = make_extractor(generator.config.audio)
    frames = max(1, int(len(samples) * generator.config.rate / RATE_HZ))
    return torch.as_tensor(extract(samples, frames, generator.config.rate))
