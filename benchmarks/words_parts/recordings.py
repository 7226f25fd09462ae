"""The recordings with known words, and how far found words are from them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from annotate.audio import read_audio
from annotate.importers import read_words
from schemas.types import Float32, Interval

REPOSITORY = Path(__file__).resolve().parents[2]
MARY_TEXT = "Mary rolled the barrel"


@dataclass(frozen=True)
class Recording:
    """Sound at 16 kHz with what is said in it."""

    name: str
    samples: Float32
    text: str
    words: tuple[Interval, ...] = ()
    """Where somebody else put the words; empty where nobody did."""
    phones: tuple[Interval, ...] = ()


def evaluation_folder() -> Path:
    root = Path(os.environ.get("TALKSET_EVAL_DATA", REPOSITORY.parent / "shared" / "eval"))
    if not root.is_dir():
        sys.exit(f"no evaluation recordings at {root}; set TALKSET_EVAL_DATA")
    return root


def grid() -> list[Recording]:
    found = []
    for folder in (evaluation_folder() / "grid", evaluation_folder() / "grid_s1"):
        for line in (folder / "transcripts.tsv").read_text(encoding="utf-8").splitlines():
            name, text = line.split("\t")[:2]
            align = folder / f"{name}.align"
            words = read_words(align).words if align.is_file() else ()
            found.append(Recording(name, read_audio(folder / f"{name}.mpg", 0, 3_000_000), text, words))
    return found


def mary() -> Recording:
    folder = evaluation_folder() / "speech"
    truth = read_words(folder / "mary.TextGrid")
    samples = read_audio(folder / "mary.wav", 0, 1_869_687)
    return Recording("mary", samples, MARY_TEXT, truth.words, truth.phones)


def boundary_errors_ms(found: Sequence[Interval], truth: Sequence[Interval]) -> NDArray[np.float64]:
    """(2 n,) distances of starts and ends; infinite where the words are not the same."""
    if [word.label.lower() for word in found] != [word.label.lower() for word in truth]:
        return np.full(2 * len(truth), np.inf)
    rows = [(f.start_us - t.start_us, f.end_us - t.end_us) for f, t in zip(found, truth, strict=True)]
    return np.asarray(np.abs(np.array(rows, np.float64).reshape(-1)) / 1000)


def phone_errors_ms(found: Sequence[Interval], truth: Sequence[Interval]) -> NDArray[np.float64]:
    """Distances of the starts of phones, and of the end of the last, paired in order.

    The hand labels of mary.wav count the last two phones of "barrel" (AH L) as one.
    """
    starts = [phone.start_us for phone in found]
    if len(starts) == len(truth) + 1:
        del starts[-1]
    if len(starts) != len(truth):
        return np.full(len(truth) + 1, np.inf)
    pairs = [*zip(starts, (phone.start_us for phone in truth), strict=True), (found[-1].end_us, truth[-1].end_us)]
    return np.array([abs(one - two) / 1000 for one, two in pairs])
