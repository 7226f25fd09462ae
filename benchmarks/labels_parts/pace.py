"""How fast all embedded annotators together are over a clip of a minute: CPU time of one thread, as a worker has it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Final

import numpy as np
from reconstruction_parts.limits import Limits, table

from annotate.emotion import emotion_of
from annotate.emotion.face import FaceJudge
from annotate.emotion.text import TextJudge
from annotate.emotion.voice import OwnVoice, VoiceJudge, features, voice_frames
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

TIMES: Final = 20.0
CORES: Final = 2
"""Of the limit. Workers have one thread each (`pipelines.process`) and share nothing."""
SEED: Final = 301


def pace(limits: Limits, clips: Clips) -> None:
    """Print the times of each annotator, and of all: each listens to the sound by itself, as its stage does."""
    _, _, short = clips.rendered(SEED)
    whole = _minute(short)
    _run(whole)  # first-time costs: networks, lexicons
    found = min((_run(whole) for _ in range(3)), key=lambda each: sum(each.values()))
    together = sum(found.values())
    rows = [(name, [1000 * seconds, whole.seconds / max(seconds, 1e-9)]) for name, seconds in found.items()]
    rows.append(("all in one pass", [1000 * together, whole.seconds / together]))
    table(f"one thread, a clip of {whole.seconds:.0f} s", ["CPU ms", "x real time"], rows)
    total = CORES * whole.seconds / together
    limits.check(f"all embedded annotators on {CORES} cores, times real time", total, TIMES, "x", at_least=True)


def _run(clip: Performance) -> dict[str, float]:
    def style() -> None:
        voice = None if clip.samples is None else listen(clip.samples)
        describe(clip, voice)
        embed(clip, voice)

    steps: dict[str, Callable[[], object]] = {
        "motion events": lambda: motion_events(clip),
        "style": style,
        "semantics": lambda: semantic_events(clip),
        "emotion": lambda: _emotion(clip),
    }
    found = {}
    for name, step in steps.items():
        started = time.process_time()
        step()
        found[name] = time.process_time() - started
    return found


def _emotion(clip: Performance) -> None:
    """What is ordinary for the speaker, and then the clip's emotion by face, voice and text."""
    if clip.surface is None or clip.samples is None:
        raise ValueError("the clip has no face or no sound")
    rest = np.nanmedian(clip.surface, axis=0)
    own = OwnVoice(tuple(features(voice_frames(clip.samples), np.zeros(0), 0.0, clip.seconds).tolist()))
    seen = dataclasses.replace(clip, weights=clip.surface)
    emotion_of(seen, [FaceJudge("speaker", rest), VoiceJudge(own), TextJudge()])


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
