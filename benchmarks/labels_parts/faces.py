"""Emotion of rendered faces that speak: ten heads, eight classes, three intensities, through detector and fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from annotate.emotion import emotion_of
from annotate.emotion.action_units import UNITS, action_units, over_window
from annotate.emotion.base import NUM, EmotionClassifier
from annotate.emotion.face import RULES, FaceJudge
from annotate.emotion.voice import OwnVoice, VoiceJudge, features, own_voice, voice_frames
from annotate.performance import Performance
from annotate.sound import RATE
from labels_parts.acted import LEVELS, Acted, acted, talker_of
from labels_parts.calibrate import rest_of
from labels_parts.setting import Setting
from reconstruct.models.arkit import ARKIT_NAMES
from schemas.labels import EMOTIONS
from talkset.labels.scores import confusion, ece

Float64 = NDArray[np.float64]

HEADS: Final = tuple(range(101, 111))
CLASSES: Final = EMOTIONS[:8]
"""Without calm, which a face does not tell from neutral."""
EVEN: Final = dict.fromkeys(EMOTIONS, 1 / NUM)
TOP1, CORRELATION, CALIBRATION = 0.85, 0.8, 0.1


def faces(setting: Setting) -> None:
    """Top-1, intensity and calibration against the speaker's own rest, of clips alone, and of a naive rule."""
    heads = HEADS[:2] if setting.limits.quick else HEADS
    clips = [
        acted(setting.model, talker_of(head, emotion, level, 3 * index + place), setting.cache)
        for head in heads
        for index, emotion in enumerate(CLASSES)
        for place, level in enumerate(LEVELS)
    ]
    truth = np.array([EMOTIONS.index(clip.talker.affect.emotion) for clip in clips])
    strength = np.array([clip.talker.affect.intensity for clip in clips])
    rests = {head: rest_of([clip for clip in clips if clip.talker.shape_seed == head]) for head in heads}
    voices = {head: voice_of([clip for clip in clips if clip.talker.shape_seed == head]) for head in heads}
    ways = {
        "speaker's clips known": [
            _judged(c.performance, FaceJudge("speaker", rests[c.talker.shape_seed])) for c in clips
        ],
        "clip alone": [_judged(c.performance, FaceJudge("clip", c.identity)) for c in clips],
        "face and voice, speaker known": [
            _judged(
                dataclasses.replace(c.performance, samples=c.sound),
                FaceJudge("speaker", rests[c.talker.shape_seed]),
                VoiceJudge(voices[c.talker.shape_seed]),
            )
            for c in clips
        ],
        "naive: most prototype units": [_naive(c, rests[c.talker.shape_seed]) for c in clips],
        "peer: majority class": [(np.eye(NUM)[0], 0.0)] * len(clips),
    }
    take = np.array([clip.talker.motion_seed % 1000 for clip in clips])
    full = (strength == 1.0) | ((truth == 0) & (take == len(LEVELS) - 1))
    print(f"\n  {len(clips)} clips of {len(heads)} heads that no calibration saw; top-1 over {len(CLASSES)} classes")
    print(f"  {'':30}" + "".join(f"{head:>12}" for head in ("at 1", "at 0.67", "at 0.33", "intensity r", "ECE")))
    found: dict[str, tuple[Float64, Float64]] = {}
    for name, judged in ways.items():
        chosen = np.array([each[0] for each in judged])[:, : len(CLASSES)]
        chosen /= chosen.sum(1, keepdims=True)
        level = np.array([each[1] for each in judged])
        right = chosen.argmax(1) == truth
        parts = [full, *(_near(take, place, truth, strength) for place in (1, 0))]
        cells = [float(right[part].mean()) for part in parts]
        cells += [_correlation(level, strength), ece(chosen, truth)]
        print(f"  {name:30}" + "".join(f"{cell:12.2f}" for cell in cells), flush=True)
        found[name] = chosen, level
    together = found["face and voice, speaker known"]
    probabilities, level = found["speaker's clips known"]
    _print_confusion(truth[full], probabilities[full].argmax(1))
    check = setting.limits.check
    check("face: top-1 at intensity 1", float((probabilities.argmax(1) == truth)[full].mean()), TOP1, "", at_least=True)
    check("face: correlation of the intensity", _correlation(level, strength), CORRELATION, "", at_least=True)
    claim = "face and voice: correlation of the intensity"
    check(claim, _correlation(together[1], strength), CORRELATION, "", at_least=True)
    check("face and voice: expected calibration error", ece(together[0], truth), CALIBRATION, "")
    check("face: expected calibration error, all intensities", ece(probabilities, truth), CALIBRATION, "")
    check("face: expected calibration error, intensity 1", ece(probabilities[full], truth[full]), CALIBRATION, "")


def voice_of(clips: Sequence[Acted]) -> OwnVoice:
    """A speaker's own voice, from all clips alike."""
    rows = [features(voice_frames(c.sound), np.zeros(0), 0.0, len(c.sound) / RATE) for c in clips]
    return own_voice(rows)


def _near(take: NDArray[np.int64], place: int, truth: NDArray[np.int64], strength: Float64) -> NDArray[np.bool_]:
    """The clips of one level, and a third of the neutral ones."""
    return np.asarray((np.isclose(strength, LEVELS[place]) & (truth > 0)) | ((truth == 0) & (take == place)))


def _judged(clip: Performance, *judges: EmotionClassifier) -> tuple[Float64, float]:
    """Probabilities (9,) and intensity of a whole clip under an even prior."""
    found = emotion_of(clip, judges, prior=EVEN)
    if found is None:
        return np.full(NUM, 1 / NUM), 0.0
    return found.track.clip.astype(np.float64), found.affect[0]


def _naive(clip: Acted, rest: NDArray[np.float32]) -> tuple[Float64, float]:
    """Sums of the units that each prototype names, as fractions; what a first attempt would do."""
    units = over_window(action_units(ARKIT_NAMES, clip.surface, rest))
    names = [unit.name for unit in UNITS]
    sums = np.array([_mean([units[names.index(n)] for n, w in rules.items() if w > 0]) for rules in RULES.values()])
    sums[0] = 0.03
    chances = np.maximum(sums, 1e-6)
    return chances / chances.sum(), float(np.clip(sums.max(), 0, 1))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _correlation(one: Float64, other: Float64) -> float:
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0


def _print_confusion(truth: NDArray[np.int64], found: NDArray[np.int64]) -> None:
    table = confusion(truth, found, len(CLASSES))
    print("\n  confusion at intensity 1 (rows: felt)")
    print(" " * 14 + "".join(f"{name[:8]:>10}" for name in CLASSES))
    for name, row in zip(CLASSES, table, strict=True):
        print(f"  {name:12}" + "".join(f"{count:10d}" for count in row))
    print()
