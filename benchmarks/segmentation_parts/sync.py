"""Known offsets of sound and picture, found by the embedded estimator and by plain correlation with loudness."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from reconstruction_parts.limits import Limits, table

from annotate.sync import Face, SyncEstimate
from annotate.sync.lips import LipSync
from pipelines.segmentation.faces import FaceFinder
from reconstruct.landmarks import make_detector
from reconstruct.landmarks.lips import lip_shape
from schemas.config import LandmarkConfig, SegmentConfig
from schemas.types import FaceTrack, Float32, LandmarkTrack
from segmentation_parts.material import RATE, STEP_US, Recording, recordings

SHIFTS_MS = tuple(range(-400, 401, 100))
NEAR_MS = 40.0
GROSS_MS = 80.0
LEAST_CLIPS, LEAST_JOINS, LEAST_AUC = 0.85, 0.95, 0.9
JOINS = 30
STRANGERS = 4


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
    rows = [
        ("clips of 3 s, embedded", [*_shares(error), f"{confidence.mean():.2f}"]),
        ("clips, plain correlation", [*_shares(np.abs(plain - np.median(plain))), ""]),
        ("joins of 9 s, embedded", [*_shares(np.abs(long[:, 0])), f"{long[:, 1].mean():.2f}"]),
        ("voices of other clips", ["", "", "", f"{strangers.mean():.2f}"]),
    ]
    heads = (f"<= {NEAR_MS:.0f} ms", f"<= {GROSS_MS:.0f} ms", "median ms", "confidence")
    table(f"{len(clips)} clips at {len(SHIFTS_MS)} offsets, {len(joins)} joins of one speaker", heads, rows)
    own = confidence[error <= NEAR_MS]
    right = np.concatenate([error <= GROSS_MS, np.zeros(len(strangers), np.bool_)])
    areas = {
        f"off by at most {NEAR_MS:.0f} ms or more": _area(own, confidence[error > NEAR_MS]),
        f"off by at most {GROSS_MS:.0f} ms or more": _area(confidence[error <= GROSS_MS], confidence[error > GROSS_MS]),
        "own or another voice": _area(own, strangers),
        "right (own voice, off by at most 80 ms) or wrong": _area(
            np.concatenate([confidence, strangers])[right], np.concatenate([confidence, strangers])[~right]
        ),
    }
    cells = [(name, ["none wrong" if np.isnan(area) else f"{area:.3f}"]) for name, area in areas.items()]
    table("what the confidence tells", ("AUC",), cells, width=52)
    print(f"  {1000 * cost:.0f} ms of one core for a clip of 3 s")
    limits.check("clips within 40 ms", float((error <= NEAR_MS).mean()), LEAST_CLIPS, "", at_least=True)
    limits.check("joins within 40 ms", float((np.abs(long[:, 0]) <= NEAR_MS).mean()), LEAST_JOINS, "", at_least=True)
    limits.check("AUC of the confidence, right or wrong", list(areas.values())[-1], LEAST_AUC, "", at_least=True)


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


def _estimate(clip: Seen, samples: Float32, late_ms: float, estimator: LipSync) -> SyncEstimate:
    pts = np.arange(len(clip.lips), dtype=np.int64) * STEP_US
    face = Face(pts, clip.lips, np.zeros((len(pts), 4), np.float32), lambda: ())
    margin = estimator.margin_ms
    return estimator.estimate(face, np.pad(_late(samples, late_ms), RATE * margin // 1000), -1000 * margin)


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
