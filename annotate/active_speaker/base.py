"""What every judge of who speaks is given, and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from annotate.sound import Sound
from schemas.types import Float32, Int64, Span


@dataclass(frozen=True)
class Face:
    """One face followed through one shot."""

    pts_us: Int64
    """(M,) times of the readings, from the first sample of the sound."""
    mouth: Float32
    """(M, 5): gap of the inner lips, width of the mouth, gap of the outer lips, all over the next; distance of the
    outer eye corners, pixels; belief in the face, 0..1. NaN where its landmarks were lost."""
    crops: NDArray[np.uint8] | None = None
    """(M, P, P) grey pictures of the face at those times, for a judge with `crop_px`; a mapped file."""


@dataclass(frozen=True)
class Heard:
    """The sound of a source."""

    sound: Sound
    """At 16 kHz."""
    speech: tuple[Span, ...]
    """Where somebody speaks, from the first sample."""
    lips: Float32
    """(N, 3) what lips should show, at 100 Hz, as `annotate.expected_lips` has it."""


class ActiveSpeaker(Protocol):
    """Tells for each face whether the voice that is heard is its own."""

    @property
    def name(self) -> str:
        """Name and version; content hash of the weights where there are some."""

    @property
    def crop_px(self) -> int | None:
        """Side of the pictures that it wants of each face; None where the mouths are enough."""

    def log_odds(self, faces: Sequence[Face], heard: Heard) -> list[Float32]:
        """For each face (M,) the natural log odds, at its times, that the voice is this face's against that it is not.

        A value stands for a neighbourhood of about a second; where nobody speaks, or the face was lost, it means
        nothing. Deterministic given its input.
        """
