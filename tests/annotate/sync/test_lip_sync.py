"""The embedded estimator on spoken sentences whose lips are known."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from annotate.sync import Face, make_estimator
from annotate.sync.lips import LipSync
from annotate.visemes import ARKIT_NAMES, arkit_track, lip_opening
from schemas.config import SyncConfig
from schemas.errors import UsageError
from synthetic.speech import Voice, synthesize

MARGIN_MS = LipSync().margin_ms
TEXTS = (
    "Bob may buy a map and a big blue boat.",
    "We saw two people move my piano up.",
    "Please put five books by the lamp.",
)


@functools.cache
def spoken(number: int) -> tuple[Face, NDArray[np.float32]]:
    """Lips at 25 fps, with noise and a drift, and the voice at 16 kHz."""
    speech = synthesize(TEXTS[number], Voice(), number)
    pts = np.arange(0, len(speech.samples) * 1000 // 16, 40_000, dtype=np.int64)
    track = arkit_track(speech.phones, pts)
    rng = np.random.default_rng(number)
    round_ = track[:, [ARKIT_NAMES.index("mouthPucker"), ARKIT_NAMES.index("mouthFunnel")]].sum(axis=1)
    drift = 0.02 * np.sin(np.arange(len(pts)) / 20)
    lips = np.stack([0.1 + 0.2 * lip_opening(track) + drift, 0.5 - 0.1 * round_], axis=1)
    lips = lips + rng.normal(0, 0.004, lips.shape)
    boxes = np.ones((len(pts), 4), np.float32)
    return Face(pts, lips.astype(np.float32), boxes, lambda: ()), speech.samples


def with_margin(samples: NDArray[np.float32], late_ms: int = 0) -> NDArray[np.float32]:
    return np.roll(np.pad(samples, 16 * MARGIN_MS), 16 * late_ms)


@pytest.mark.parametrize("number", range(len(TEXTS)))
@pytest.mark.parametrize("late_ms", [-370, 0, 210])
def test_a_known_shift_is_found(number: int, late_ms: int) -> None:
    face, samples = spoken(number)
    found = LipSync().estimate(face, with_margin(samples, late_ms), -1000 * MARGIN_MS)
    assert abs(found.offset_ms - late_ms) <= 40
    assert found.confidence > 0.8


def test_confidence_tells_the_own_voice_from_others() -> None:
    own, foreign = [], []
    for number in range(len(TEXTS)):
        face, samples = spoken(number)
        own.append(LipSync().estimate(face, with_margin(samples), -1000 * MARGIN_MS).confidence)
        for other in set(range(len(TEXTS))) - {number}:
            sound = with_margin(spoken(other)[1])
            foreign.append(LipSync().estimate(face, sound, -1000 * MARGIN_MS).confidence)
    assert min(own) > max(foreign)


def test_holes_and_uneven_frames_do_not_matter() -> None:
    face, samples = spoken(0)
    lips = face.lips.copy()
    lips[20:28] = math.nan
    kept = np.sort(np.random.default_rng(0).choice(len(lips), len(lips) * 2 // 3, replace=False))
    uneven = dataclasses.replace(face, pts_us=face.pts_us[kept], lips=lips[kept], box_xywh=face.box_xywh[kept])
    found = LipSync().estimate(uneven, with_margin(samples, 150), -1000 * MARGIN_MS)
    assert abs(found.offset_ms - 150) <= 40


def test_size_and_place_of_the_lips_do_not_matter() -> None:
    face, samples = spoken(1)
    scaled = dataclasses.replace(face, lips=(face.lips * 37 + 5).astype(np.float32))
    one, other = (LipSync().estimate(f, with_margin(samples), -1000 * MARGIN_MS) for f in (face, scaled))
    assert other.offset_ms == pytest.approx(one.offset_ms, abs=0.5)
    assert other.confidence == pytest.approx(one.confidence, abs=0.01)


def test_nothing_is_said_without_lips_or_sound() -> None:
    face, samples = spoken(0)
    sound = with_margin(samples)
    still = dataclasses.replace(face, lips=np.full_like(face.lips, 0.25))
    unseen = dataclasses.replace(face, lips=np.full_like(face.lips, math.nan))
    short = dataclasses.replace(face, pts_us=face.pts_us[:8], lips=face.lips[:8])
    cases = [(still, sound), (unseen, sound), (short, sound), (face, np.zeros_like(sound)), (face, sound[:100])]
    for shown, heard in cases:
        found = LipSync().estimate(shown, heard, -1000 * MARGIN_MS)
        assert math.isnan(found.offset_ms)
        assert found.confidence == 0


def test_the_range_is_that_of_the_configuration() -> None:
    face, samples = spoken(0)
    near = make_estimator(SyncConfig(range_ms=100))
    assert near.margin_ms == 200
    found = near.estimate(face, with_margin(samples, 400), -1000 * MARGIN_MS)
    assert abs(found.offset_ms) <= 110
    with pytest.raises(UsageError, match="Known: lips, syncnet"):
        make_estimator(SyncConfig(backend="lip"))
