"""How many times real time the annotators take of one core, over a clip of a minute."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from reconstruction_parts.limits import Limits, table

from annotate.motion_events import motion_events
from annotate.performance import Performance
from annotate.semantics.events import semantic_events
from annotate.style.descriptors import describe
from annotate.style.statistical import embed
from annotate.style.voice import listen
from labels_parts.clips import Clips
from schemas.types import Float32
from synthetic.speech import Voice, synthesize
from synthetic.talker import SENTENCES

TIMES = 20.0
SEED = 301


def pace(limits: Limits, clips: Clips) -> None:
    """Print the times of each annotator alone: each listens to the sound by itself, as its stage does."""
    _, _, short = clips.rendered(SEED)
    whole = _minute(short)
    _run(whole)  # first-time costs: networks, lexicons
    found = min((_run(whole) for _ in range(3)), key=lambda each: sum(each.values()))
    rows = [(name, [1000 * seconds, whole.seconds / max(seconds, 1e-9)]) for name, seconds in found.items()]
    table(f"one core, a clip of {whole.seconds:.0f} s", ["CPU ms", "x real time"], rows)
    total = whole.seconds / sum(found.values())
    limits.check("motion events, style and semantics on one core, times real time", total, TIMES, "x", at_least=True)


def _run(clip: Performance) -> dict[str, float]:
    def style() -> None:
        voice = None if clip.samples is None else listen(clip.samples)
        describe(clip, voice)
        embed(clip, voice)

    steps: dict[str, Callable[[], object]] = {
        "motion events": lambda: motion_events(clip),
        "style": style,
        "semantics": lambda: semantic_events(clip),
    }
    found = {}
    for name, step in steps.items():
        started = time.process_time()
        step()
        found[name] = time.process_time() - started
    return found


def _minute(clip: Performance) -> Performance:
    """The clip's motion again and again for a minute, with speech of that length."""
    count = round(60 * len(clip.pts_us) / clip.seconds)
    rows = np.arange(count) % len(clip.pts_us)
    text = " ".join(SENTENCES[number % len(SENTENCES)] for number in range(24))
    speech = synthesize(text, Voice(), 1)
    end_us = count * 40_000

    def looped(values: Float32 | None) -> Float32 | None:
        return None if values is None else values[rows]

    samples = np.resize(speech.samples, end_us * 16 // 1000).astype(np.float32)
    return Performance(
        np.arange(count, dtype=np.int64) * 40_000,
        end_us,
        clip.valid[rows],
        clip.names,
        looped(clip.weights),
        looped(clip.surface),
        looped(clip.head),
        looped(clip.gaze),
        looped(clip.lip_opening),
        looped(clip.lid_opening),
        samples,
        tuple(word for word in speech.words if word.end_us <= end_us),
        tuple(phone for phone in speech.phones if phone.end_us <= end_us),
    )
