"""What an aligner is: sound and transcript in, timed words and phones out."""

from __future__ import annotations

from typing import Protocol

from schemas.types import Float32, Transcription


class Aligner(Protocol):
    """A forced aligner; one backend per file, chosen by name with `annotate.align.make_aligner`."""

    @property
    def name(self) -> str:
        """Engine and model, the `source` of every interval it returns."""

    def align(self, samples_16k: Float32, transcript: str) -> Transcription:
        """Time the words of a transcript in (N,) mono samples at 16 kHz, full scale 1.0.

        Times are microseconds from the first sample. There is one word per whitespace-separated word of the transcript,
        in its order and spelling; intervals do not overlap and lie inside the sound. Phones are ARPAbet without stress,
        each inside its word; silence is no interval in either list.

        Raises TalksetError(bad_transcript) when the transcript is empty, not spoken English words, or cannot be placed
        in the sound, and UsageError when the samples are not (N,) and finite.
        """
        ...
