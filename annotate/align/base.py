"""What an aligner is: sound and transcript in, timed words and phones out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from annotate.sound import Sound
from schemas.types import Float32, Transcription


@dataclass(frozen=True)
class Alignment(Transcription):
    """Words and phones with what the aligner knows of their truth."""

    mismatch: float = float("nan")
    """How much better other phones fit the sound than those of the transcript, in nats per 10 ms of its words: about 1
    where the transcript is what was said, 4 and more where it is not; NaN where the engine cannot tell.
    `annotate.word_checks` judges it."""
    recognised: bool = False
    """True where the words were heard by the engine, not given."""


class Aligner(Protocol):
    """A forced aligner; one backend per file, chosen by name with `annotate.align.make_aligner`."""

    @property
    def name(self) -> str:
        """Engine and model, the `source` of every interval it returns."""

    def align(self, samples_16k: Float32 | Sound, transcript: str, language: str | None = None) -> Alignment:
        """Time the words of a transcript in (N,) mono samples at 16 kHz, full scale 1.0.

        `language` is a BCP 47 tag or a name, English where it is None. Times are microseconds from the first sample.
        There is one word per whitespace-separated word of the transcript, in its order and spelling, in `words` or,
        where it has no time, in `untimed`; intervals do not overlap and lie inside the sound. Phones are ARPAbet
        without stress, each inside its word; silence is no interval in either list. A word that was not found but has
        room between its neighbours is placed there, marked interpolated, with a score of NaN and no phones.

        Raises TalksetError(bad_transcript) when the transcript is empty, in a language or writing that the engine does
        not know, or cannot be placed in the sound, and UsageError when the samples are not (N,) and finite.
        """
        ...

    def recognize(self, samples_16k: Float32 | Sound, language: str | None = None) -> Alignment:
        """Words and phones as the engine hears them; `recognised` is set. Without speech there is no word.

        Raises TalksetError(bad_transcript) for a language that the engine does not know, and UsageError when the
        samples are not (N,) and finite.
        """
        ...
