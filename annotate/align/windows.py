"""Aligns sound of any length through windows that overlap, in bounded memory and without losing or doubling a word."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from annotate.align.search import Variants
from annotate.sound import RATE, Sound
from annotate.speech_activity import speech_probability, speech_spans
from schemas.types import Float32

WINDOW_S: Final = 40.0
"""Longest sound that is aligned at once."""
_LEAST_S: Final = 16.0
"""A window is left at a pause between this time and `_MOST_S`; what follows was only looked at."""
_MOST_S: Final = 34.0
_LEAD_S: Final = 0.3
"""Quiet kept before speech when a stretch without speech is passed over."""
_PHONES_PER_S: Final = 22.0
"""Nobody speaks faster: bounds the words that a window may hold."""
_LEAST_PAUSE_S: Final = 0.05


@dataclass(frozen=True)
class Unit:
    """A phone of a word on the clock of the whole sound."""

    phone: str
    word: int
    start_s: float
    stop_s: float
    fit: float
    """Mean log likelihood over the best state of any phone, nats per frame."""


@dataclass(frozen=True)
class Placed:
    """What the search found in a piece of sound."""

    units: tuple[Unit, ...]
    pauses: tuple[tuple[float, float, int], ...]
    """Start and end of each silence (or speech that is in no transcript), and the number of words before it."""
    fits: Float32
    """(frames,) of the frames that words or unknown speech cover."""


Search = Callable[[Float32, Sequence[Variants], bool], Placed | None]
"""Samples, words, and whether a path may end after any of them."""


def place_in_windows(sound: Sound, words: Sequence[Variants], search: Search) -> Placed:
    """Words placed in sound that is longer than a window.

    Each window begins where the last was left, at a pause between two words; its words up to the next such pause are
    kept. Every word is therefore in exactly one window, or in none where it was not found. Stretches without speech are
    passed over.
    """
    spans = speech_spans(speech_probability(sound))
    starts = [max(0, span.start_us * RATE // 1_000_000 - round(_LEAD_S * RATE)) for span in spans]
    ends = [span.end_us * RATE // 1_000_000 + round(_LEAD_S * RATE) for span in spans]
    units: list[Unit] = []
    pauses: list[tuple[float, float, int]] = []
    fits: list[Float32] = []
    done, at = 0, 0
    end = min(sound.num_samples, ends[-1]) if ends else 0
    while done < len(words) and at < end:
        # no speech here: go on where it begins
        ahead = next((i for i, stop in enumerate(ends) if stop > at), len(ends))
        if ahead == len(ends):
            break
        at = max(at, starts[ahead])
        stop = min(at + round(WINDOW_S * RATE), sound.num_samples)
        final = stop >= end
        chosen = _upto(words, done, (stop - at) / RATE)
        placed = search(sound.read(at, stop), words[done:chosen], not final or chosen < len(words))
        if placed is None:  # too many words for what is left: as many as fit
            placed = search(sound.read(at, stop), words[done:chosen], True)
        if placed is None:
            break
        leave_s, count = ((stop - at) / RATE, len(words)) if final else _pause(placed)
        offset = at / RATE
        kept = [unit for unit in placed.units if unit.word < count]
        units += [Unit(u.phone, u.word + done, u.start_s + offset, u.stop_s + offset, u.fit) for u in kept]
        pauses += [(a + offset, b + offset, n + done) for a, b, n in placed.pauses if b <= leave_s or final]
        fits.append(placed.fits[: round(len(placed.fits) * min(1.0, leave_s * RATE / (stop - at)))])
        if final:
            break
        done, at = done + count, at + max(round(leave_s * RATE), RATE)
    return Placed(tuple(units), tuple(pauses), np.concatenate(fits) if fits else np.zeros(0, np.float32))


def _upto(words: Sequence[Variants], begin: int, seconds: float) -> int:
    """End of the words that can be said in that time."""
    room, index = seconds * _PHONES_PER_S, begin
    while index < len(words) and room > 0:
        room -= min(len(phones) for phones in words[index])
        index += 1
    return index


def _pause(placed: Placed) -> tuple[float, int]:
    """Where to leave a window: the middle of its longest pause in the allowed time, else between two words there."""
    inside = [p for p in placed.pauses if p[1] > _LEAST_S and p[0] < _MOST_S and p[1] - p[0] >= _LEAST_PAUSE_S]
    if inside:
        start, end, count = max(inside, key=lambda p: min(p[1], _MOST_S) - max(p[0], _LEAST_S))
        return min(max((start + end) / 2, min(_LEAST_S, end)), max(_MOST_S, start)), count
    seams = [
        (two.start_s, two.word)
        for one, two in itertools.pairwise(placed.units)
        if one.word != two.word and two.start_s > _LEAST_S
    ]
    before = [unit.word for unit in placed.units if unit.start_s < _MOST_S]
    return seams[0] if seams else (_MOST_S, max(before, default=-1) + 1)
