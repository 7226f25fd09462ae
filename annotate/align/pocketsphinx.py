"""Forced alignment with pocketsphinx 5 and the English model that its wheel carries."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import numpy as np
import pocketsphinx

from annotate.text import Token, tokenize
from schemas.errors import TalksetError, UsageError
from schemas.types import Float32, Interval, Transcription

RATE: Final = 16_000
_FRAME_US: Final = 10_000
_WINDOW_US: Final = 25_625
"""Analysis window of the acoustic model (`wlen`)."""

_BOUNDARY_US: Final = (_WINDOW_US - _FRAME_US) // 2
"""Frame i looks at [10 i, 10 i + 25.6] ms, so it stands for the 10 ms in the middle of that window."""

_PAD_US: Final = 100_000
"""Quiet added on either side: a word that touches the edge of the clip still gets whole windows and a silence."""

_SCORE_UNIT: Final = 1024 * math.log(1.0001)
"""Nats per unit of an acoustic score: the engine's log base 1.0001, shifted by 10 bits."""


@dataclass(frozen=True)
class _Segment:
    """One aligned unit: dictionary word with its phones, or a phone."""

    name: str
    start: int
    frames: int
    score: int
    children: tuple[_Segment, ...] = ()


class PocketsphinxAligner:
    """Words and phones by two Viterbi passes: words with optional silences and pronunciation variants, then phones.

    The score of a word or phone is exp of the mean, over its frames, of the log likelihood of the aligned state minus
    that of the best state of the words that may be spoken at that time: 1 where the sound fits its own place in the
    transcript best, near 0 where it fits another. It ranks clips and words and is not a probability: the median word of
    clean speech scores about 0.25, that of a wrong transcript about 0.01.

    Not thread-safe: one aligner holds one decoder. No state passes from one call to the next.
    """

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(
            lm=None,
            # the lattice search may shorten a silence to one frame, which the phone pass then cannot place
            bestpath=False,
            # a known transcript is a small search: beams wide enough that hard sound is not lost to pruning
            beam=1e-100,
            pbeam=1e-100,
            wbeam=1e-100,
            loglevel="FATAL",
        )

    @property
    def name(self) -> str:
        """Engine, version and model."""
        return f"pocketsphinx-{version('pocketsphinx')}/en-us"

    def align(self, samples_16k: Float32, transcript: str) -> Transcription:
        """Time the words and phones of a transcript; see `annotate.align.base.Aligner.align`."""
        if samples_16k.ndim != 1 or not np.isfinite(samples_16k).all():
            raise UsageError(f"samples must be (N,) and finite, got shape {samples_16k.shape}", "Pass mono sound")
        tokens = tokenize(transcript)
        entries = [word for token in tokens for word in token.words]
        try:
            spoken = self._decode(_pcm(samples_16k), entries)
        except RuntimeError as error:
            raise _cannot_place(transcript, len(samples_16k)) from error
        duration_us = len(samples_16k) * 1_000_000 // RATE
        words: list[Interval] = []
        phones: list[Interval] = []
        parts = iter(spoken)
        for token in tokens:
            segments = [next(parts) for _ in token.words]
            words.append(self._interval(_join(token, segments), duration_us))
            phones += [self._interval(phone, duration_us) for segment in segments for phone in segment.children]
        if min(interval.end_us - interval.start_us for interval in (*words, *phones)) <= 0:
            raise _cannot_place(transcript, len(samples_16k))
        return Transcription(tuple(words), tuple(phones))

    def _decode(self, pcm: bytes, entries: list[str]) -> list[_Segment]:
        """Aligned dictionary words, fillers left out; RuntimeError, as the engine raises it, where that fails."""
        decoder = self._decoder
        decoder.set_align_text(" ".join(entries))
        _run(decoder, pcm)
        if decoder.hyp() is None:
            raise RuntimeError("no path through the sound ends at the last word")
        decoder.set_alignment()
        _run(decoder, pcm)
        spoken = [_segment(word) for word in decoder.get_alignment() if word.name[0] not in "<[+"]
        if (found := [segment.name.partition("(")[0] for segment in spoken]) != entries:
            raise RuntimeError(f"the engine aligned {found}")
        return spoken

    def _interval(self, segment: _Segment, duration_us: int) -> Interval:
        offset = _BOUNDARY_US - _PAD_US
        start = segment.start * _FRAME_US + offset
        end = start + segment.frames * _FRAME_US
        return Interval(
            start_us=min(max(start, 0), duration_us),
            end_us=min(max(end, 0), duration_us),
            label=segment.name,
            score=min(1.0, math.exp(segment.score * _SCORE_UNIT / segment.frames)),
            interpolated=False,
            source=self.name,
        )


def _run(decoder: Any, pcm: bytes) -> None:
    # the front end keeps its noise estimate from one utterance to the next
    decoder.reinit_feat()
    decoder.start_utt()
    try:
        decoder.process_raw(pcm, full_utt=True)
    finally:
        decoder.end_utt()


def _pcm(samples: Float32) -> bytes:
    """16-bit sound with quiet edges; one bit of noise keeps digital silence from being an infinite log energy."""
    pad = np.zeros(_PAD_US * RATE // 1_000_000, dtype=np.float32)
    scaled = np.rint(np.concatenate([pad, samples, pad]) * 32767.0)
    # drawn anew for each call, so that the result depends on nothing but the sound
    noise = np.random.default_rng(0).integers(-1, 2, len(scaled))
    return bytes(np.clip(scaled + noise, -32768, 32767).astype("<i2").data)


def _segment(entry: Any) -> _Segment:
    children = tuple(_Segment(p.name, p.start, p.duration, p.score) for p in entry)
    return _Segment(entry.name, entry.start, entry.duration, entry.score, children)


def _join(token: Token, segments: list[_Segment]) -> _Segment:
    """One segment for a token that is spoken as several dictionary words, under the user's spelling."""
    first, last = segments[0], segments[-1]
    frames = last.start + last.frames - first.start
    spoken = sum(segment.frames for segment in segments)
    # a silence inside the token has no score of its own; the mean stays that of the spoken frames
    score = round(sum(segment.score for segment in segments) * frames / spoken)
    return _Segment(token.label, first.start, frames, score)


def _cannot_place(transcript: str, samples: int) -> TalksetError:
    return TalksetError(
        "bad_transcript",
        f"the words {transcript!r} cannot be placed in {samples / RATE:.2f} s of sound",
        "Check that the transcript is what is said in the clip",
    )
