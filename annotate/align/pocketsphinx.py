"""Words and phones with the English acoustic model that pocketsphinx carries, found by a search of our own.

pocketsphinx' own forced alignment works in whole frames of 10 ms and forgets how sure it is of a boundary. Here the
same model is evaluated in numpy: the search knows the phones across word borders and all readings of a number,
boundaries are averaged over where they may lie, and each word is compared with what any phones would have scored.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from annotate.align import search
from annotate.align.acoustic_model import AcousticModel, read_acoustic_model
from annotate.align.base import Alignment
from annotate.align.features import HOP, WINDOW, features
from annotate.align.search import Variants
from annotate.align.windows import WINDOW_S, Placed, Unit, place_in_windows
from annotate.sound import RATE, Sound, as_sound
from annotate.speech_activity import speech_probability, speech_spans
from annotate.text import Token, is_english, pronunciations, tokenize
from annotate.timing import TimedWord, settle
from schemas.errors import TalksetError
from schemas.types import Float32, Interval, UntimedWord

_PAD: Final = 1_600
"""Quiet added on either side: a word that touches the edge of the clip still gets whole windows and a silence."""

_FRAME_S: Final = HOP / RATE
_LATE_S: Final = 0.0035
"""How late boundaries are found in synthetic speech whose boundaries are known (mean of twelve voices)."""

_OFFSET_S: Final = ((WINDOW - HOP) / 2 - _PAD) / RATE - _LATE_S
"""Frame i looks at [10 i, 10 i + 25.6] ms, so it stands for the 10 ms in the middle of that window."""

_STATES: Final = 3
"""Frames that a phone takes at least."""
_MAX_VARIANTS: Final = 12
_CHUNK_S: Final = 15.0
"""Longest sound that is recognised at once."""
_RECOGNISED: Final = "recognized"


@dataclass(frozen=True)
class _Part:
    """What stands for one graph word: a token with all its readings, or one word of a token."""

    token: int
    variants: Variants


class PocketsphinxAligner:
    """Words and phones of an English transcript, or of what is recognised; see `annotate.align.base.Aligner`.

    The score of a word or phone is exp of the mean, over its frames, of the log likelihood of its states minus that of
    the best state of any phone: it ranks words and is not a probability. The median word of clean speech scores about
    0.5, that of a wrong transcript about 0.01.

    Sound of up to 40 s is aligned strictly, word after word. Longer sound is aligned in windows; there words may be
    missing in it, and speech may be missing in the transcript.
    """

    def __init__(self) -> None:
        self._model = english_model()

    @property
    def name(self) -> str:
        """Engine, version and model."""
        return f"pocketsphinx-{version('pocketsphinx')}/en-us"

    def align(self, samples_16k: Float32 | Sound, transcript: str, language: str | None = None) -> Alignment:
        """Time the words and phones of a transcript; see `annotate.align.base.Aligner.align`."""
        _refuse_other_languages(language)
        sound = as_sound(samples_16k)
        tokens = tokenize(transcript, guess=True)
        parts = _parts(tokens)
        words = [part.variants for part in parts]
        if sound.num_samples <= WINDOW_S * RATE:
            placed = self._place(sound.read(0, sound.num_samples), words, open_end=False, lenient=False)
        else:
            placed = place_in_windows(sound, words, functools.partial(self._place, lenient=True))
        if placed is None or not placed.units:
            raise _cannot_place(transcript, sound.num_samples)
        return self._alignment(tokens, parts, placed, sound.num_samples, self.name)

    def recognize(self, samples_16k: Float32 | Sound, language: str | None = None) -> Alignment:
        """Words as the engine hears them, timed as if they had been given; see `annotate.align.base.Aligner.recognize`.

        pocketsphinx' general language model hears about every other word of fluent speech right: the words are good for
        a search, not for training.
        """
        _refuse_other_languages(language)
        sound = as_sound(samples_16k)
        source = f"{self.name}/{_RECOGNISED}"
        words: list[Interval] = []
        phones: list[Interval] = []
        untimed: list[UntimedWord] = []
        misfits: list[tuple[float, int]] = []
        for start, stop in _chunks(sound):
            samples = sound.read(start, stop)
            heard = _recognised(samples)
            if not heard:
                continue
            tokens = tokenize(" ".join(heard), guess=True)
            parts = _parts(tokens)
            placed = self._place(samples, [part.variants for part in parts], open_end=False, lenient=False)
            if placed is None:
                continue
            found = self._alignment(tokens, parts, placed, stop - start, source)
            by_us = start * 1_000_000 // RATE
            untimed += [dataclasses.replace(word, after=word.after + len(words)) for word in found.untimed]
            words += [_moved(word, by_us) for word in found.words]
            phones += [_moved(phone, by_us) for phone in found.phones]
            misfits.append((found.mismatch, len(found.words)))
        total = sum(count for _, count in misfits)
        mismatch = sum(value * count for value, count in misfits) / total if total else math.nan
        return Alignment(tuple(words), tuple(phones), tuple(untimed), mismatch, recognised=True)

    def _place(
        self, samples: Float32, words: Sequence[Variants], open_end: bool, lenient: bool = False
    ) -> Placed | None:
        """Words in one piece of sound; None where they do not fit into it."""
        if len(samples) < 2 * WINDOW or not words:
            return None
        least = _STATES * sum(min(len(phones) for phones in variants) for variants in words)
        if not (open_end or lenient) and least * HOP > len(samples) + 2 * _PAD:
            return None
        graph = search.word_graph(words, lenient, open_end)
        scores = search.Scores(self._model, graph.nodes, features(samples, _PAD))
        path = search.best_path(graph, scores)
        if path is None:
            return None
        times = search.soft_boundaries(path, scores) * _FRAME_S + _OFFSET_S
        units, pauses = [], []
        covered = np.zeros(len(path.fit), np.bool_)
        for index, piece in enumerate(path.pieces):
            start, stop, node = float(times[index]), float(times[index + 1]), piece.node
            if node.spoken:
                fit = float(path.fit[piece.start : piece.stop].mean())
                units.append(Unit(node.phone, node.word, start, stop, fit))
            else:
                pauses.append((start, stop, node.word + 1))
            covered[piece.start : piece.stop] = node.spoken or node.phone == search.GARBAGE
        return Placed(tuple(units), tuple(pauses), path.fit[covered])

    def _alignment(
        self, tokens: Sequence[Token], parts: Sequence[_Part], placed: Placed, samples: int, source: str
    ) -> Alignment:
        duration_us = samples * 1_000_000 // RATE
        by_token: dict[int, list[Unit]] = {}
        for unit in placed.units:
            by_token.setdefault(parts[unit.word].token, []).append(unit)
        words: list[TimedWord] = []
        phones: list[Interval] = []
        for index, token in enumerate(tokens):
            own = by_token.get(index, [])
            found = [_interval(u.phone, u.start_s, u.stop_s, u.fit, duration_us, source) for u in own]
            found = [phone for phone in found if phone.end_us > phone.start_us]
            if not found:
                words.append(TimedWord(token.label, None, None))
                continue
            seconds = sum(unit.stop_s - unit.start_s for unit in own)
            fit = sum(unit.fit * (unit.stop_s - unit.start_s) for unit in own) / max(seconds, 1e-9)
            words.append(TimedWord(token.label, found[0].start_us, found[-1].end_us, _score(fit)))
            phones += found
        timed, untimed = settle(words, source)
        mismatch = float(-placed.fits.mean()) if len(placed.fits) else math.nan
        return Alignment(timed, tuple(phones), untimed, mismatch)


@functools.cache
def english_model() -> AcousticModel:
    """The acoustic model that pocketsphinx carries, read once in a process."""
    import pocketsphinx

    return read_acoustic_model(Path(pocketsphinx.get_model_path("en-us/en-us")))


def _parts(tokens: Sequence[Token]) -> list[_Part]:
    """The words of the graph: a token that can be read in several ways is one, with each reading a pronunciation."""
    parts: list[_Part] = []
    for index, token in enumerate(tokens):
        if not token.others:
            parts += [_Part(index, pronunciations(word)) for word in token.words]
            continue
        spoken: dict[tuple[str, ...], None] = {}
        for words in (token.words, *token.others):
            choices = [pronunciations(word)[: 1 if len(words) > 1 else None] for word in words]
            for choice in itertools.product(*choices):
                spoken[tuple(phone for phones in choice for phone in phones)] = None
        parts.append(_Part(index, tuple(spoken)[:_MAX_VARIANTS]))
    return parts


def _interval(label: str, start_s: float, stop_s: float, fit: float, duration_us: int, source: str) -> Interval:
    start, stop = (min(max(round(second * 1e6), 0), duration_us) for second in (start_s, stop_s))
    return Interval(start, stop, label, _score(fit), False, source)


def _score(fit: float) -> float:
    return min(1.0, math.exp(fit))


def _moved(interval: Interval, by_us: int) -> Interval:
    return Interval(**{**vars(interval), "start_us": interval.start_us + by_us, "end_us": interval.end_us + by_us})


def _chunks(sound: Sound) -> list[tuple[int, int]]:
    """Spans of samples with speech, divided at pauses, none much longer than `_CHUNK_S`."""
    chunks: list[tuple[int, int]] = []
    margin = RATE // 10
    for span in speech_spans(speech_probability(sound), min_pause_ms=250.0):
        start = max(0, span.start_us * RATE // 1_000_000 - margin)
        stop = min(sound.num_samples, span.end_us * RATE // 1_000_000 + margin)
        if chunks and stop - chunks[-1][0] <= _CHUNK_S * RATE:
            chunks[-1] = (chunks[-1][0], stop)
            continue
        start = max(start, chunks[-1][1]) if chunks else start
        count = math.ceil((stop - start) / (2 * _CHUNK_S * RATE))
        edges = np.linspace(start, stop, count + 1).astype(int).tolist()
        chunks += list(itertools.pairwise(edges))
    return chunks


@functools.cache
def _decoder() -> Any:
    """The engine with its own language model, for free recognition."""
    import pocketsphinx

    return pocketsphinx.Decoder(loglevel="FATAL")


def _recognised(samples: Float32) -> list[str]:
    """Words that pocketsphinx hears, without pronunciation numbers and fillers."""
    decoder = _decoder()
    pcm = np.clip(np.rint(samples * 32767.0), -32768, 32767).astype("<i2").tobytes()
    decoder.reinit_feat()  # the front end keeps its noise estimate from one utterance to the next
    decoder.start_utt()
    try:
        decoder.process_raw(pcm, full_utt=True)
    finally:
        decoder.end_utt()
    words = (segment.word.partition("(")[0] for segment in decoder.seg() or ())
    return [word for word in words if word and word[0] not in "<[+"]


def _refuse_other_languages(language: str | None) -> None:
    if not is_english(language):
        message = f"the speech is in {language!r}, the aligner pocketsphinx knows English"
        raise TalksetError("bad_transcript", message, "Choose align.backend=whisperx")


def _cannot_place(transcript: str, samples: int) -> TalksetError:
    shown = transcript if len(transcript) <= 80 else f"{transcript[:77]}..."
    return TalksetError(
        "bad_transcript",
        f"the words {shown!r} cannot be placed in {samples / RATE:.2f} s of sound",
        "Check that the transcript is what is said in the clip",
    )
