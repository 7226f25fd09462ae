"""The descriptors of `schemas.labels.DESCRIPTORS`: numbers of a manner that can be read and compared.

Each is None where the clip lacks what it is measured on: the sound, the face, words, or the hands.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch

from annotate.motion_events.blinks import can_see_blinks, find_blinks
from annotate.motion_events.gaze import AWAY_DEG, gaze_offsets
from annotate.performance import Performance
from annotate.phones import VOWELS
from annotate.signals import HZ, even, runs, smooth
from annotate.style.hands import gesture_space_m, strokes
from annotate.style.voice import Voice, listen
from schemas.labels import DESCRIPTORS
from schemas.types import Event

Float64 = NDArray[np.float64]

LEAST_SPEECH_S: Final = 0.5
"""Less speech than this tells nothing of a rate."""
LEAST_FACE_S: Final = 0.5
HEAD_NOISE_S: Final = 0.06
"""Standard deviation of the smoothing of head angles: what a fit shakes by is no speed."""
FACE_NOISE_S: Final = 0.04
RHYTHM_HZ: Final = (0.5, 6.0)
BLINK_MARGIN_S: Final = 0.08
"""About a blink the lids are not those of the expression."""
LEAST_OPENING: Final = 0.05
"""Of an eye over its width; eyes that are hardly open divide by no less."""

MOUTH: Final = (
    *("jawOpen", "mouthClose", "mouthFunnel", "mouthPucker", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft"),
    *("mouthFrownRight", "mouthStretchLeft", "mouthStretchRight", "mouthLowerDownLeft", "mouthLowerDownRight"),
    *("mouthUpperUpLeft", "mouthUpperUpRight", "mouthPressLeft", "mouthPressRight", "mouthRollLower"),
    *("mouthShrugUpper", "cheekSquintLeft", "cheekSquintRight"),
)
BROWS: Final = ("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight")
PAIRED: Final = (
    *("mouthSmile", "mouthFrown", "mouthStretch", "mouthLowerDown", "mouthUpperUp", "mouthPress", "browDown"),
    *("browOuterUp", "cheekSquint", "eyeSquint"),
)


def describe(clip: Performance, voice: Voice | None = None) -> dict[str, float | None]:
    """Value of every descriptor by its name; `voice` is what `listen` says of the clip's sound, where it is known."""
    if voice is None and clip.samples is not None:
        voice = listen(clip.samples)
    values: dict[str, float | None] = dict.fromkeys(each.name for each in DESCRIPTORS)
    if voice is not None:
        values |= _of_voice(clip, voice)
    values |= _of_head(clip)
    values |= _of_face(clip)
    if clip.hands is not None:
        seconds = float(clip.hands.seen.any(1).mean()) * clip.seconds
        if seconds >= LEAST_FACE_S:
            values["gestures_per_min"] = 60 * len(strokes(clip.pts_us, clip.hands)) / seconds
            values["gesture_space_m"] = gesture_space_m(clip.hands)
    return {name: None if value is None or not np.isfinite(value) else float(value) for name, value in values.items()}


def _of_voice(clip: Performance, voice: Voice) -> dict[str, float | None]:
    spoken_s = sum(span.end_us - span.start_us for span in voice.spans) / 1e6
    found: dict[str, float | None] = {}
    if spoken_s < LEAST_SPEECH_S:
        return found
    vowels = [phone for phone in clip.phones if phone.label.rstrip("012").upper() in VOWELS]
    if vowels:
        found["syllables_per_s"] = len(vowels) / spoken_s
    pauses = [(after.start_us - before.end_us) / 1e6 for before, after in itertools.pairwise(voice.spans)]
    whole_s = (voice.spans[-1].end_us - voice.spans[0].start_us) / 1e6
    found["pause_ratio"] = sum(pauses) / whole_s
    found["pause_s"] = float(np.mean(pauses)) if pauses else None
    pitch = voice.pitch_hz[np.isfinite(voice.pitch_hz)]
    if len(pitch) * 0.01 >= 0.3:
        low, middle, high = np.percentile(pitch, [5, 50, 95])
        found["pitch_hz"], found["pitch_range_st"] = float(middle), float(12 * np.log2(high / low))
    level = voice.level_db[voice.speaking]
    low, high = np.percentile(level, [10, 95])
    found["loudness_range_db"] = float(high - low)
    return found


def _of_head(clip: Performance) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    if clip.head is None:
        return found
    grid, angles = even(clip.pts_us, np.degrees(clip.head.astype(np.float64)))
    known = np.isfinite(angles).all(1) if len(grid) else np.zeros(0, np.bool_)
    if known.sum() / HZ < LEAST_FACE_S:
        return found
    speeds, powers, pieces = [], [], []
    for start, stop in runs(known):
        steady = smooth(angles[start:stop], HEAD_NOISE_S)
        if stop - start > 2:
            speeds.append(np.linalg.norm(np.gradient(steady, 1 / HZ, axis=0), axis=1))
        if (stop - start) / HZ >= 2:
            pieces.append(steady)
    if speeds:
        found["head_speed_deg_s"] = float(np.sqrt(np.mean(np.concatenate(speeds) ** 2)))
    for piece in pieces:
        hz, power = welch(piece, HZ, nperseg=min(len(piece), round(4 * HZ)), detrend="linear", axis=0)
        powers.append(len(piece) * power.sum(1))
        inside = (hz >= RHYTHM_HZ[0]) & (hz <= RHYTHM_HZ[1])
        centre = float((hz * powers[-1])[inside].sum() / max(powers[-1][inside].sum(), 1e-12))
        found["head_rhythm_hz"] = found.get("head_rhythm_hz") or centre
    return found


def _of_face(clip: Performance) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    seconds = float(clip.valid.mean()) * clip.seconds if len(clip.valid) else 0.0
    if seconds < LEAST_FACE_S:
        return found
    if clip.gaze is not None:
        _, offset = gaze_offsets(clip.pts_us, clip.gaze)
        known = offset[np.isfinite(offset)]
        found["gaze_away_ratio"] = float((known > AWAY_DEG).mean()) if len(known) else None
    blinks = find_blinks(clip)
    if can_see_blinks(clip):
        found["blinks_per_min"] = 60 * len(blinks) / seconds
    found["eye_range"] = _lid_range(clip, blinks)
    if not clip.has(*MOUTH, *BROWS):
        return found
    found["mouth_range"] = _range(clip, MOUTH)
    found["brow_range"] = _range(clip, BROWS)
    found["smile"] = float(np.nanmean(clip.weight("mouthSmileLeft", "mouthSmileRight")))
    # a fit takes what is of one side now for the face at rest, now for an expression: only both together are measured
    left, right = (np.stack([clip.look(f"{name}{side}") for name in PAIRED], axis=1) for side in ("Left", "Right"))
    apart, mean = np.nanmean((left - right) ** 2), np.nanmean(((left + right) / 2) ** 2)
    found["asymmetry"] = float(np.sqrt(apart / max(float(mean), 1e-6)))
    return found


def _range(clip: Performance, names: tuple[str, ...]) -> float | None:
    """RMS deviation of the weights from their means."""
    known = _steady(clip, np.stack([clip.weight(name) for name in names], axis=1))
    return float(np.sqrt(known.var(axis=0).mean())) if len(known) else None


def _lid_range(clip: Performance, blinks: Sequence[Event]) -> float | None:
    """RMS deviation of the opening of each eye from its mean, over its median, without blinks.

    Measured on the landmarks of each frame, as blinks are: a fit shares a lid's place among three weights, and how it
    shares it changes with a codec.
    """
    if clip.lid_opening is None:
        return None
    opening = clip.lid_opening.astype(np.float64)
    for blink in blinks:
        margin = BLINK_MARGIN_S * 1e6
        opening[(clip.pts_us >= blink.start_us - margin) & (clip.pts_us <= blink.end_us + margin)] = np.nan
    known = _steady(clip, opening)
    if not len(known):
        return None
    usual = np.maximum(np.median(known, axis=0), LEAST_OPENING)
    return float(np.sqrt((known / usual).var(axis=0).mean()))


def _steady(clip: Performance, values: Float64) -> Float64:
    """(N, K) of values (T, K) on the even grid, smoothed, where all are known."""
    _, curves = even(clip.pts_us, values)
    steady = smooth(curves, FACE_NOISE_S)
    return np.asarray(steady[np.isfinite(steady).all(1)])
