"""What the aligner is compared with: words of equal length, and pocketsphinx as it comes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pocketsphinx

from annotate.speech_activity import speech_probability, speech_spans
from schemas.types import Float32, Interval

Intervals = tuple[Interval, ...]


def _interval(start_us: float, end_us: float, label: str) -> Interval:
    return Interval(round(start_us), round(end_us), label, 1.0, False, "peer")


class UniformSplit:
    """The speech, from its first to its last sound, divided among the words by their letters."""

    name = "uniform split"

    def align(self, samples: Float32, text: str) -> tuple[Intervals, Intervals]:
        """Words without phones."""
        spans = speech_spans(speech_probability(samples))
        start, end = (spans[0].start_us, spans[-1].end_us) if spans else (0, len(samples) * 1_000_000 // 16_000)
        labels = text.split()
        edges = np.cumsum([0, *(len(label) for label in labels)]) / sum(len(label) for label in labels)
        times = itertools.pairwise((start + edges * (end - start)).tolist())
        return tuple(_interval(a, b, label) for label, (a, b) in zip(labels, times, strict=True)), ()


class PlainPocketsphinx:
    """pocketsphinx' own forced alignment: words, then phones, in frames of 10 ms as it gives them."""

    name = "plain pocketsphinx"

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(lm=None, bestpath=False, loglevel="FATAL")

    def align(self, samples: Float32, text: str) -> tuple[Intervals, Intervals]:
        """No words where it finds none."""
        decoder = self._decoder
        pcm = np.clip(np.rint(samples * 32767.0), -32768, 32767).astype("<i2").tobytes()
        try:
            decoder.set_align_text(text.lower())
            self._run(pcm)
            if decoder.hyp() is None:  # set_alignment would crash
                return (), ()
            decoder.set_alignment()
            self._run(pcm)
            words, phones = [], []
            labels = iter(text.split())
            for word in decoder.get_alignment():  # its entries live as long as it is iterated
                if word.name[0] not in "<[+":
                    words.append(self._placed(word, next(labels)))
                    phones += [self._placed(phone, phone.name) for phone in word]
        except RuntimeError:
            return (), ()
        return tuple(words), tuple(phones)

    def _run(self, pcm: bytes) -> None:
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()

    def _placed(self, entry: Any, label: str) -> Interval:
        return _interval(10_000 * entry.start, 10_000 * (entry.start + entry.duration), label)
