"""Videos with known cuts and speakers, made of recordings whose people are seen and heard one by one."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from annotate.audio import read_audio
from reconstruct.video import frames, write_video
from schemas.types import Float32, Span

UInt8 = NDArray[np.uint8]
FPS = 25
STEP_US = 1_000_000 // FPS
RATE = 16_000
STRIP_PX = 6
"""Height of the strip under the picture that carries the number of each frame."""
BITS = 16


@dataclass(frozen=True)
class Recording:
    """One person who speaks, 25 pictures a second."""

    name: str
    pictures: list[UInt8]
    samples: Float32
    """At 16 kHz, from the first picture to the end of the last."""


@dataclass
class Film:
    """A made-up video with its truth."""

    pictures: list[UInt8] = field(default_factory=list)
    pts_us: list[int] = field(default_factory=list)
    samples: list[Float32] = field(default_factory=list)
    hard: list[int] = field(default_factory=list)
    """Frames that begin a shot."""
    soft: list[tuple[int, int]] = field(default_factory=list)
    """First and one past the last frame of each fade or dissolve."""
    speaker: list[tuple[Span, int | None]] = field(default_factory=list)
    """Which panel, from the left, is heard in which span; None for a voice whose owner is not seen."""


def recordings(folder: str) -> list[Recording]:
    """Those of a folder of the evaluation data. Exits where it is missing."""
    root = Path(os.environ.get("TALKSET_EVAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "eval"))
    paths = sorted((root / folder).glob("*.mpg"))
    if not paths:
        raise SystemExit(f"no recordings in {root / folder}; set TALKSET_EVAL_DATA")
    found = []
    for path in paths:
        pictures = [rgb for _, rgb in frames(path)]
        found.append(Recording(path.stem, pictures, read_audio(path, 0, len(pictures) * STEP_US)))
    return found


def joined(people: list[Recording], joins: list[tuple[str, int]], drop: float, rng: np.random.Generator) -> Film:
    """People one after the other; joins are (cut, dissolve, black or white; frames). A part of the frames is dropped.

    Frames that are left keep their times, so the rate is variable and sound stays with the picture.
    """
    pictures = list(people[0].pictures)
    sound = [people[0].samples]
    hard: list[int] = []
    soft: list[tuple[int, int]] = []
    for person, (kind, length) in zip(people[1:], joins, strict=True):
        if kind == "cut":
            hard.append(len(pictures))
            pictures += person.pictures
            sound.append(person.samples)
            continue
        ramp = (np.arange(length) + 1) / (length + 1)
        before, after = pictures[-length:], person.pictures[:length]
        if kind == "dissolve":
            soft.append((len(pictures) - length, len(pictures)))
            pictures[-length:] = [_mixed(a, b, w) for a, b, w in zip(before, after, ramp, strict=True)]
            pictures += person.pictures[length:]
            sound[-1] = sound[-1][: len(sound[-1]) - length * RATE // FPS]
            sound.append(person.samples)
        else:
            colour = np.full_like(before[0], 0 if kind == "black" else 255)
            ramp = (np.arange(length) + 1) / length  # the last frame before and the first one after are one colour
            soft.append((len(pictures) - length, len(pictures) + length))
            pictures[-length:] = [_mixed(a, colour, w) for a, w in zip(before, ramp, strict=True)]
            pictures += [_mixed(colour, b, w) for b, w in zip(after, ramp - ramp[0], strict=True)]
            pictures += person.pictures[length:]
            sound.append(person.samples)
    kept = [0] + [i for i in range(1, len(pictures)) if rng.uniform() >= drop]
    place = {old: new for new, old in enumerate(kept)}

    def moved(frame: int) -> int:
        return next(place[i] for i in range(frame, len(pictures)) if i in place)

    film = Film([pictures[i] for i in kept], [i * STEP_US for i in kept], sound)
    film.hard = [moved(frame) for frame in hard]
    film.soft = [(moved(first), moved(last)) for first, last in soft]
    return film


def numbered(pictures: list[UInt8]) -> list[UInt8]:
    """Pictures with their number as black and white blocks in a strip below."""
    found = []
    for number, picture in enumerate(pictures):
        strip = np.zeros((STRIP_PX, picture.shape[1], 3), np.uint8)
        edges = np.linspace(0, picture.shape[1], BITS + 1).astype(int)
        for bit in range(BITS):
            if number >> bit & 1:
                strip[:, edges[bit] : edges[bit + 1]] = 255
        found.append(np.concatenate([picture, strip]))
    return found


def number_of(picture: UInt8) -> int:
    """The number that `numbered` wrote."""
    strip = picture[-4:-2].mean(axis=(0, 2))
    edges = np.linspace(0, picture.shape[1], BITS + 1)
    middles = ((edges[:-1] + edges[1:]) / 2).astype(int)
    return sum(1 << bit for bit, x in enumerate(middles) if strip[x - 3 : x + 3].mean() > 128)


def side_by_side(people: list[Recording], heard: Recording, still: bool, rng: np.random.Generator) -> Film:
    """Panels of people, one recording long; `still`: who is not heard listens, with the mouth of before the speech.

    The sound is that of `heard`, who may be none of them.
    """
    count = len(heard.pictures)
    panels = []
    for person in people:
        order = list(range(count))
        if still and person is not heard:  # back and forth through the silence at the beginning
            start = int(rng.integers(0, 16))
            order = [abs((start + i) % 16 - 8) for i in range(count)]
        panels.append([person.pictures[min(i, len(person.pictures) - 1)] for i in order])
    height, width = panels[0][0].shape[:2]
    fitted = [[np.asarray(cv2.resize(picture, (width, height)), np.uint8) for picture in each] for each in panels]
    film = Film([np.concatenate(row, axis=1) for row in zip(*fitted, strict=True)], [i * STEP_US for i in range(count)])
    film.samples = [heard.samples]
    panel = next((i for i, person in enumerate(people) if person is heard), None)
    film.speaker = [(Span(0, count * STEP_US), panel)]
    return film


def concatenated(films: list[Film]) -> Film:
    """Films one after the other, with hard cuts."""
    whole = Film()
    for film in films:
        start, first = len(whole.pictures) * STEP_US, len(whole.pictures)
        whole.hard += [first] * bool(first) + [first + frame for frame in film.hard]
        whole.pictures += film.pictures
        whole.pts_us += [start + pts for pts in film.pts_us]
        whole.samples += film.samples
        whole.speaker += [(Span(start + s.start_us, start + s.end_us), who) for s, who in film.speaker]
    return whole


def write_film(path: Path, film: Film, crf: int = 20) -> None:
    """The film as mp4."""
    end_us = film.pts_us[-1] + STEP_US
    sound = np.concatenate(film.samples)[: end_us * RATE // 1_000_000]
    timed = zip(film.pts_us, film.pictures, strict=True)
    write_video(path, timed, Fraction(FPS), (sound, RATE), crf, end_us)


def _mixed(one: UInt8, other: UInt8, weight: float) -> UInt8:
    return np.asarray(np.rint(one * (1 - weight) + other * weight), np.uint8)
