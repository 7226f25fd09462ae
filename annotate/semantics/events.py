"""Events of meaning: what each word carries, the gestures that go with it, the images it evokes, what a sentence does.

With hands in view a gesture is a stroke that happens: a word without one near has none, and a stroke without such a
word is a beat. Without hands the words say what a gesture would be, with less confidence, and the head's movement
whether something was stressed. The last part of a gesture's label is BEAT's quality, how well it is seen: high (a
stroke of the hands), middle (the head moves with it), low (by the words alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.motion_events.made import made, within
from annotate.performance import Performance
from annotate.semantics.gesture_types import gesture_types
from annotate.semantics.lexicon import image_schemas
from annotate.semantics.prosody import emphasis
from annotate.semantics.relevance import relevance
from annotate.semantics.sentences import dialogue_act, final_rise_st, split
from annotate.signals import HZ, even, smooth
from annotate.style.hands import strokes
from annotate.style.voice import Voice, listen
from annotate.text.marks import end_marks
from annotate.text.parts_of_speech import tag
from annotate.text.sentiment import sentiment
from schemas.types import Event

Float64 = NDArray[np.float64]

SOURCE: Final = "semantics@1"
REACH_S: Final = 0.5
"""A stroke belongs to a word that begins within so long of it: gestures come before or with it (McNeill 1992)."""
WORDS_ONLY: Final = 0.6
WITH_HEAD: Final = 0.75
NO_VOICE: Final = 0.85
"""Factors on the confidence of a gesture without hands, with the head only, and without sound."""
STILL: Final = 1.0
"""The head moves with a word where its speed is so many deviations above the clip's mean."""
MAIN_SCHEMA: Final = 0.7
OTHER_SCHEMA: Final = 0.4
LEAST_SENTIMENT: Final = 0.1


def semantic_events(clip: Performance, voice: Voice | None = None, transcript: str | None = None) -> list[Event]:
    """All events of meaning in order of time; none without words, but beats where hands move.

    Args: voice: what `annotate.style.voice.listen` says of the clip's sound, where it is known already; transcript:
    what is said in the clip, or more, as it was written down: its punctuation tells the sentences.
    """
    if voice is None and clip.samples is not None:
        voice = listen(clip.samples)
    words = clip.words
    stressed = emphasis(words, voice) if voice is not None and words else None
    found: list[Event] = []
    kinds: list[tuple[str, float]] = []
    marks = None if transcript is None else end_marks(transcript, [word.label for word in words])
    for start, stop in split(words, marks):
        sentence = words[start:stop]
        labels = [word.label.lower() for word in sentence]
        tags = tag([word.label for word in sentence])
        heard = None if stressed is None else stressed[start:stop].tolist()
        types = gesture_types(labels, tags, heard)
        kinds += types
        scores = relevance(labels, tags, [kind for kind, _ in types], heard)
        for word, label, score in zip(sentence, labels, scores, strict=True):
            found.append(_spoken("semantic", word.label, word.start_us, word.end_us, float(score)))
            for rank, schema in enumerate(image_schemas(label)):
                sure = MAIN_SCHEMA if not rank else OTHER_SCHEMA
                found.append(_spoken("image_schema", schema, word.start_us, word.end_us, sure))
        rise = None if voice is None else final_rise_st(sentence[-1], voice)
        act, sure = dialogue_act(labels, tags, rise, "" if marks is None else marks[stop - 1])
        span = sentence[0].start_us, sentence[-1].end_us
        found.append(_spoken("sentence", act, *span, sure if voice is not None else sure * NO_VOICE))
        tone = sentiment(labels)
        sign = "neutral" if abs(tone) < LEAST_SENTIMENT else "positive" if tone > 0 else "negative"
        found.append(_spoken("sentence", sign, *span, abs(tone) if sign != "neutral" else 1 - abs(tone)))
    found += _gestures(clip, kinds, heard=voice is not None)
    return within(found, clip.duration_us)


def _spoken(kind: str, label: str, start_us: int, end_us: int, score: float) -> Event:
    return made(kind, label, start_us / 1e6, end_us / 1e6, score, SOURCE)


def _gestures(clip: Performance, kinds: Sequence[tuple[str, float]], heard: bool) -> list[Event]:
    found: list[Event] = []
    factor = 1.0 if heard else NO_VOICE
    made_strokes = strokes(clip.pts_us, clip.hands) if clip.hands is not None else []
    used = set()
    head = _head_speed(clip)
    for word, (kind, sure) in zip(clip.words, kinds, strict=True):
        start, end = word.start_us / 1e6, word.end_us / 1e6
        if kind == "none":
            continue
        if clip.hands is not None and _hands_seen(clip, start, end):
            near = [at for at, (a, b, _) in enumerate(made_strokes) if a - REACH_S <= start and b + REACH_S >= start]
            if near:
                at = min(near, key=lambda index: abs(made_strokes[index][0] - start))
                if at not in used:
                    used.add(at)
                    a, b, _ = made_strokes[at]
                    score = min(1.0, sure + 0.15) * factor
                    found.append(made("gesture", f"{kind}:high", min(a, start), max(b, end), score, SOURCE))
            continue
        moves = head is not None and _moves(head, start, end)
        quality, part = ("middle", WITH_HEAD) if moves else ("low", WORDS_ONLY)
        found.append(made("gesture", f"{kind}:{quality}", start, end, sure * part * factor, SOURCE))
    for at, (a, b, way) in enumerate(made_strokes):
        if at not in used:
            found.append(made("gesture", "beat:high", a, b, min(0.8, 0.4 + way) * factor, SOURCE))
    return found


def _hands_seen(clip: Performance, start_s: float, end_s: float) -> bool:
    if clip.hands is None:
        return False
    frames = (clip.pts_us >= (start_s - REACH_S) * 1e6) & (clip.pts_us <= (end_s + REACH_S) * 1e6)
    seen = clip.hands.seen.any(1)[frames]
    return bool(len(seen)) and float(seen.mean()) > 0.5


def _head_speed(clip: Performance) -> tuple[Float64, Float64] | None:
    """Times (N,) in seconds and the head's speed in deviations from the clip's mean."""
    if clip.head is None:
        return None
    grid, angles = even(clip.pts_us, np.degrees(clip.head.astype(np.float64)))
    if len(grid) < 3 or not np.isfinite(angles).any():
        return None
    speed = np.linalg.norm(np.gradient(smooth(angles, 0.06), 1 / HZ, axis=0), axis=1)
    known = speed[np.isfinite(speed)]
    if not len(known):
        return None
    return grid, (speed - known.mean()) / max(float(known.std()), 1e-6)


def _moves(head: tuple[Float64, Float64], start_s: float, end_s: float) -> bool:
    grid, speed = head
    near = speed[(grid >= start_s - 0.1) & (grid <= end_s + 0.1)]
    near = near[np.isfinite(near)]
    return bool(len(near)) and float(near.max()) > STILL
