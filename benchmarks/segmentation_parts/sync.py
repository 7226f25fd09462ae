"""Known offsets of sound and picture, found by the embedded estimator and by plain correlation with loudness."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from reconstruction_parts.limits import Limits, table

from annotate.sync import Face, SyncEstimate
from annotate.sync.lips import LipSync
from pipelines.segmentation.faces import FaceFinder
from pipelines.stages.sync import needed_confidence
from reconstruct.landmarks import make_detector
from reconstruct.landmarks.lips import lip_shape
from schemas.config import Config, LandmarkConfig, SegmentConfig
from schemas.types import FaceTrack, Float32, LandmarkTrack
from segmentation_parts.material import RATE, STEP_US, Recording, recordings

SHIFTS_MS = tuple(range(-400, 401, 100))
NEAR_MS = 40.0
GROSS_MS = 80.0
LEAST_CLIPS, LEAST_JOINS, LEAST_AUC = 0.85, 0.95, 0.9
JOINS = 30
STRANGERS = 4
SHORT_S = (1.0, 1.5, 2.0)
CUTS = 4
"""Pieces of each length that are cut of every recording."""


@dataclass(frozen=True)
class Seen:
    """Landmarks and sound of a recording."""

    name: str
    lips: Float32
    samples: Float32


def sync(limits: Limits) -> None:
    """Print the figures and note what misses its limit."""
    one_speaker, others = _seen(recordings("grid_s1")), _seen(recordings("grid"))
    clips = [*others, *one_speaker][:: 4 if limits.quick else 1]
    rng = np.random.default_rng(0)
    joins = [_joined([one_speaker[i] for i in rng.permutation(len(one_speaker))[:3]]) for _ in range(JOINS)]
    joins = joins[:: 10 if limits.quick else 1]
    estimator = LipSync()
    started = time.process_time()
    ours = _errors(clips, [SHIFTS_MS] * len(clips), estimator)
    cost = (time.process_time() - started) / (len(clips) * len(SHIFTS_MS))
    long = _errors(joins, [(float(rng.uniform(-400, 400)),) for _ in joins], estimator)
    strangers = np.array([
        _estimate(clip, clips[(i + step) % len(clips)].samples, 0.0, estimator).confidence
        for i, clip in enumerate(clips)
        for step in range(1, min(STRANGERS, len(clips) - 1) + 1)
    ])  # fmt: skip
    plain = np.array([_plain(clip, shift) - shift for clip in clips for shift in SHIFTS_MS])
    error, confidence = np.abs(ours[:, 0]), ours[:, 1]
    # How far sound and picture of a recording are apart as it was published, nobody knows; the shift is what is known.
    # So an estimate is also judged by how it differs from what the others of the same recording agree on.
    own_ms = np.median(ours[:, 0].reshape(len(clips), len(SHIFTS_MS)), axis=1)
    shown = ", ".join(f"{clip.name} {late:+.0f}" for clip, late in zip(clips, own_ms, strict=True))
    print(f"  what the estimates of a recording agree on, ms: {shown}")
    agreed = np.abs(ours[:, 0] - np.repeat(own_ms, len(SHIFTS_MS)))
    short = np.array([
        (estimate.offset_ms - shift - late, estimate.confidence)
        for clip, late in zip(clips, own_ms, strict=True)
        for piece, samples, start_us, shift in _pieces(clip, estimator.margin_ms, rng)
        for estimate in (_estimated(piece, samples, start_us, estimator),)
    ])  # fmt: skip
    rows = [
        ("clips of 3 s, embedded", [*_shares(error), f"{confidence.mean():.2f}"]),
        ("the same, from what they agree on", [*_shares(agreed), f"{confidence.mean():.2f}"]),
        ("pieces of 1 to 2 s, likewise", [*_shares(np.abs(short[:, 0])), f"{short[:, 1].mean():.2f}"]),
        ("clips, plain correlation", [*_shares(np.abs(plain - np.median(plain))), ""]),
        ("joins of 9 s, embedded", [*_shares(np.abs(long[:, 0])), f"{long[:, 1].mean():.2f}"]),
        ("voices of other clips", ["", "", "", f"{strangers.mean():.2f}"]),
    ]
    heads = (f"<= {NEAR_MS:.0f} ms", f"<= {GROSS_MS:.0f} ms", "median ms", "confidence")
    table(f"{len(clips)} clips at {len(SHIFTS_MS)} offsets, {len(joins)} joins of one speaker", heads, rows)
    everything = np.concatenate([confidence, strangers])
    right = np.concatenate([agreed <= NEAR_MS, np.zeros(len(strangers), np.bool_)])
    near = np.abs(short[:, 0]) <= NEAR_MS
    areas = {
        "within 40 ms of the shift, or not": _area(confidence[error <= NEAR_MS], confidence[error > NEAR_MS]),
        "within 80 ms of the shift, or not": _area(confidence[error <= GROSS_MS], confidence[error > GROSS_MS]),
        "within 40 ms of shift and own offset, or not": _area(
            confidence[agreed <= NEAR_MS], confidence[agreed > NEAR_MS]
        ),
        "the same, pieces of 1 to 2 s": _area(short[near, 1], short[~near, 1]),
        "own or another voice": _area(confidence, strangers),
        "right (own voice, within 40 ms of shift and own offset) or wrong": _area(
            everything[right], everything[~right]
        ),
    }
    cells = [(name, ["none wrong" if np.isnan(area) else f"{area:.3f}"]) for name, area in areas.items()]
    table("what the confidence tells", ("AUC",), cells, width=66)
    print(f"  {1000 * cost:.0f} ms of one core for a clip of 3 s")
    _kept(clips, estimator, rng, 4 if limits.quick else 24)
    limits.check("clips within 40 ms", float((error <= NEAR_MS).mean()), LEAST_CLIPS, "", at_least=True)
    limits.check("joins within 40 ms", float((np.abs(long[:, 0]) <= NEAR_MS).mean()), LEAST_JOINS, "", at_least=True)
    limits.check("AUC of the confidence, right or wrong", list(areas.values())[-1], LEAST_AUC, "", at_least=True)


def _kept(clips: Sequence[Seen], estimator: LipSync, rng: np.random.Generator, count: int) -> None:
    """Print how many clips of one face `sync.min_long_confidence` keeps, with its own voice and with another."""
    rows = []
    for length in (1, 2, 3):
        kept = []
        for strange in (False, True):
            passed = 0
            for _ in range(count):
                order = [clips[i] for i in rng.permutation(len(clips))]
                person = _joined(order[:length])
                voice = _joined(order[length : 2 * length] or order[:length]) if strange else person
                found = _estimate(person, voice.samples[: len(person.samples)], 0.0, estimator).confidence
                passed += found >= needed_confidence(Config(), len(person.lips) * STEP_US / 1e6)
            kept.append(f"{passed} of {count}")
        rows.append((f"{length} recordings, {3 * length} s", kept))
    table("one face, kept by the confidence that clips of its length need", ("own voice", "another"), rows)


def _seen(people: Sequence[Recording]) -> list[Seen]:
    found = []
    with FaceFinder(SegmentConfig()) as finder, make_detector(LandmarkConfig(confidence="none")) as detector:
        for person in people:
            face = finder.detect(person.pictures[0])[0]
            box = np.array([[face.x, face.y, face.width, face.height]], np.float32)
            height, width = person.pictures[0].shape[:2]
            frames = ((i * STEP_US, rgb) for i, rgb in enumerate(person.pictures))
            track: LandmarkTrack = detector.detect(frames, FaceTrack(np.zeros(1, np.int64), box), width, height)
            found.append(Seen(person.name, lip_shape(track), person.samples))
    return found


def _joined(parts: Sequence[Seen]) -> Seen:
    lips = np.concatenate([part.lips for part in parts])
    return Seen("+".join(part.name for part in parts), lips, np.concatenate([part.samples for part in parts]))


def _errors(clips: Sequence[Seen], shifts: Sequence[Sequence[float]], estimator: LipSync) -> NDArray[np.float64]:
    """(N, 2) error in ms, confidence."""
    found = [
        (estimate.offset_ms - shift, estimate.confidence)
        for clip, own in zip(clips, shifts, strict=True)
        for shift in own
        for estimate in (_estimate(clip, clip.samples, shift, estimator),)
    ]
    return np.array(found)


def _pieces(clip: Seen, margin_ms: int, rng: np.random.Generator) -> Iterator[tuple[Seen, Float32, int, float]]:
    """Pieces of a recording whose sound is shifted: the piece, its sound with margins, where that starts, the shift."""
    for seconds in SHORT_S:
        for _ in range(CUTS):
            count, shift = round(seconds * 1e6 / STEP_US), float(rng.uniform(-400, 400))
            first = int(rng.integers(0, len(clip.lips) - count + 1))
            margin = RATE * margin_ms // 1000
            whole = np.pad(_late(clip.samples, shift), margin)
            start, stop = (frame * STEP_US * RATE // 1_000_000 for frame in (first, first + count))
            piece = Seen(clip.name, clip.lips[first : first + count], clip.samples)
            yield piece, whole[start : stop + 2 * margin], -1000 * margin_ms, shift


def _estimated(clip: Seen, samples: Float32, start_us: int, estimator: LipSync) -> SyncEstimate:
    pts = np.arange(len(clip.lips), dtype=np.int64) * STEP_US
    return estimator.estimate(Face(pts, clip.lips, np.zeros((len(pts), 4), np.float32), lambda: ()), samples, start_us)


def _estimate(clip: Seen, samples: Float32, late_ms: float, estimator: LipSync) -> SyncEstimate:
    margin = estimator.margin_ms
    return _estimated(clip, np.pad(_late(samples, late_ms), RATE * margin // 1000), -1000 * margin, estimator)


def _late(samples: Float32, by_ms: float) -> Float32:
    """The sound of a file of the same length in which it comes later; what leaves the file is lost."""
    count = round(RATE * by_ms / 1000)
    moved = np.zeros_like(samples)
    if count >= 0:
        moved[count:] = samples[: len(samples) - count]
    else:
        moved[:count] = samples[-count:]
    return moved


def _plain(clip: Seen, late_ms: float) -> float:
    """Offset in ms at which opening and loudness correlate best."""
    sound = _late(clip.samples, late_ms)
    loud = np.sqrt(np.convolve(sound**2, np.ones(640) / 640, "same"))
    times = np.arange(len(clip.lips)) / 25.0
    lags = np.arange(-500, 501, 10)
    scores = []
    for lag in lags:
        heard = np.interp(times + lag / 1000, np.arange(len(loud)) / RATE, loud, 0.0, 0.0)
        scores.append(np.corrcoef(heard, clip.lips[:, 0])[0, 1])
    return float(lags[int(np.argmax(scores))])


def _shares(error: NDArray[np.float64]) -> tuple[str, str, str]:
    near, gross = (f"{100 * float((error <= most).mean()):.1f} %" for most in (NEAR_MS, GROSS_MS))
    return near, gross, f"{np.median(error):.0f}"


def _area(good: NDArray[np.float64], bad: NDArray[np.float64]) -> float:
    """Chance that a good one has more confidence than a bad one; NaN where there is none of either."""
    if not len(good) or not len(bad):
        return float("nan")
    return float(((good[:, None] > bad) + 0.5 * (good[:, None] == bad)).mean())
