"""Mono sound of any length that is read in pieces, so that an hour takes no more memory than a minute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from schemas.errors import UsageError
from schemas.types import Float32

RATE = 16_000
BLOCK_S = 300
"""Seconds decoded at once."""


class Sound(Protocol):
    """Samples at 16 kHz, full scale 1.0."""

    @property
    def num_samples(self) -> int:
        """How many there are."""

    def read(self, start: int, stop: int) -> Float32:
        """(stop - start,) samples; the span lies inside the sound."""


@dataclass(frozen=True)
class HeldSound:
    """Sound in memory."""

    samples: Float32

    @property
    def num_samples(self) -> int:
        """How many there are."""
        return len(self.samples)

    def read(self, start: int, stop: int) -> Float32:
        """A view of the samples."""
        return self.samples[start:stop]


@dataclass(frozen=True)
class FileSound:
    """16-bit little-endian samples in a file without header."""

    path: Path

    @property
    def num_samples(self) -> int:
        """How many there are."""
        return self.path.stat().st_size // 2

    def read(self, start: int, stop: int) -> Float32:
        """Samples from the file."""
        values = np.fromfile(self.path, "<i2", stop - start, offset=2 * start)
        return values.astype(np.float32) / np.float32(32768.0)


def as_sound(samples: Float32 | Sound) -> Sound:
    """Samples (N,), or sound as it is. Raises UsageError when samples are not (N,) and finite."""
    if not isinstance(samples, np.ndarray):
        return samples
    if samples.ndim != 1 or not np.isfinite(samples).all():
        raise UsageError(f"samples must be (N,) and finite, got shape {samples.shape}", "Pass mono sound")
    return HeldSound(samples)


def envelope_db(sound: Sound, hop: int = RATE // 100) -> Float32:
    """(ceil(N / hop),) RMS level of each `hop` samples, by default 10 ms, in dB of full scale; silence has -100."""
    found = []
    block = hop * 100 * BLOCK_S
    for start in range(0, sound.num_samples, block):
        read = sound.read(start, min(start + block, sound.num_samples)).astype(np.float64)
        rows = np.pad(read, (0, -len(read) % hop)).reshape(-1, hop)
        found.append(10.0 * np.log10(np.maximum((rows**2).mean(axis=1), 1e-10)))
    return np.asarray(np.concatenate(found or [np.zeros(0)]), np.float32)


def spooled(read: Callable[[int, int], Float32], start_us: int, end_us: int, scratch: Path) -> FileSound:
    """Put the span [start_us, end_us) of a sound into the file `scratch`, five minutes at a time, as 16-bit samples.

    `read` gives the samples at 16 kHz of a span of the source clock, as `annotate.audio.read_audio` does for a file.
    Raises what it raises.
    """
    with scratch.open("wb") as stream:
        for begin in range(start_us, end_us, BLOCK_S * 1_000_000):
            block = read(begin, min(begin + BLOCK_S * 1_000_000, end_us))
            stream.write(np.clip(np.rint(block * 32768.0), -32768, 32767).astype("<i2").tobytes())
    return FileSound(scratch)
