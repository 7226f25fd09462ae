"""The clip stages that measure: sync, quality, fingerprint, and what their limits reject."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from annotate.audio import read_audio
from annotate.sync import Face, SyncEstimate
from annotate.visemes import ARKIT_NAMES, arkit_track, lip_opening
from pipelines.build import stages_named
from pipelines.results import Result, pack
from pipelines.stage import ClipItem, Job, Models, View
from pipelines.stages.fingerprint import fingerprint_of
from pipelines.stages.quality import worst_of
from pipelines.stages.sync import sound_shift_us
from reconstruct.embedding import Embedding
from reconstruct.landmark_points import landmark_points
from reconstruct.landmarks.topology import LIPS_OUTER
from reconstruct.models.head_model import HeadModel
from reconstruct.video import probe, write_video
from schemas.config import Config, load_config
from schemas.errors import TalksetError
from schemas.quality import MEASURES
from schemas.tables import INDEX
from schemas.types import Clip, FaceTrack, LandmarkTrack, Span
from synthetic.speech import Voice, synthesize

SYNC, QUALITY, FINGERPRINT, MEDIA = stages_named(("sync", "quality", "fingerprint", "media"))
LATE_MS = 160
SIZE = 240
Talk = tuple[ClipItem, Result]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory, open_head: HeadModel, embedding: Embedding) -> Talk:
    """A clip of one second's margin inside a longer source, whose sound is late, and its landmarks."""
    speech = synthesize("Bob may buy a map and a big blue boat.", Voice(), 3)
    pts = np.arange(0, 1000 * len(speech.samples) // 16, 40_000, dtype=np.int64)
    track = arkit_track(speech.phones, pts)
    points = landmark_points(open_head, embedding).template.numpy().astype(np.float64)
    seen = np.repeat((points[:, :2] * [900, -900] + SIZE / 2)[np.newaxis], len(pts), axis=0)
    seen[:, LIPS_OUTER[1:10], 1] += 30 * lip_opening(track)[:, np.newaxis]
    narrow = 8 * track[:, ARKIT_NAMES.index("mouthPucker")]
    seen[:, LIPS_OUTER[0], 0] += narrow
    seen[:, LIPS_OUTER[10], 0] -= narrow
    start = 1_000_000
    path = tmp_path_factory.mktemp("talk") / "late.mp4"
    rng = np.random.default_rng(0)
    pictures = [rng.integers(90, 160, (SIZE, SIZE, 3), np.uint8) for _ in range(4)]
    count = len(pts) + 50
    sound = np.pad(speech.samples, (16_000 + 16 * LATE_MS, 16_000))
    write_video(path, ((i * 40_000, pictures[i % 4]) for i in range(count)), Fraction(25), (sound, 16_000))
    ones = np.ones(seen.shape[:2], np.float32)
    valid = np.ones(len(pts), np.bool_)
    found = LandmarkTrack(pts, seen.astype(np.float32), ones, valid, SIZE, SIZE, "mediapipe 0.10.21")
    span = Span(start, start + len(pts) * 40_000)
    box = FaceTrack(np.zeros(1, np.int64), np.zeros((1, 4), np.float32))
    item = ClipItem(Clip("c", "s", span, box), path, "ab" * 32, probe(path))
    packed = pack(found)
    return item, Result({"record": dict(packed.value)}, packed.arrays)


def job(talk: Talk, config: Config, scratch: Path = Path("nowhere"), **results: Result) -> Job[ClipItem]:
    return Job(talk[0], config, {}, {"landmarks": talk[1], **results}, Models(config), scratch)


def judged(stage: Any, value: Mapping[str, Any], *overrides: str, seconds: float = 3.0) -> str | None:
    box = FaceTrack(np.zeros(1, np.int64), np.zeros((1, 4), np.float32))
    clip = Clip("c", "s", Span(0, round(1e6 * seconds)), box)
    view = View(ClipItem(clip, Path("x"), "", None), load_config(None, list(overrides)), {stage.name: value})  # type: ignore[arg-type]
    try:
        stage.judge(view)
    except TalksetError as error:
        return f"{error.reason}: {error}"
    return None


def test_the_offset_is_found_corrected_and_measured_again(talk: Talk) -> None:
    plain = SYNC.run(job(talk, Config())).value
    assert plain["offset_ms"] == pytest.approx(LATE_MS, abs=40)
    assert plain["confidence"] > 0.8
    assert plain["applied_ms"] == 0
    assert plain["offset_after_ms"] == plain["offset_ms"]
    corrected = SYNC.run(job(talk, load_config(None, ["sync.correct=true"]))).value
    assert corrected["offset_ms"] == plain["offset_ms"]
    assert corrected["applied_ms"] == pytest.approx(plain["offset_ms"], abs=0.001)
    assert abs(corrected["offset_after_ms"]) < 15
    for override in ("sync.trust=1.1", "sync.correct_above_ms=300"):
        kept = SYNC.run(job(talk, load_config(None, ["sync.correct=true", override]))).value
        assert kept["applied_ms"] == 0


def test_media_carry_the_shifted_sound(talk: Talk, tmp_path: Path) -> None:
    config = load_config(None, ["sync.correct=true"])
    assert MEDIA.needed(Config()) == ()
    assert MEDIA.needed(config) == ("sync",)
    shift = Result({"applied_ms": 160.0})
    assert sound_shift_us({"sync": shift.value}) == 160_000
    MEDIA.run(job(talk, config, tmp_path, sync=shift))
    item = talk[0]
    truth = read_audio(item.path, item.span[0] + 160_000, item.span[1] + 160_000)
    for name in ("clip.wav", "clip.mp4"):
        own = read_audio(tmp_path / name, 0, item.span[1] - item.span[0])
        assert float(np.corrcoef(own[1600:-1600], truth[1600:-1600])[0, 1]) > 0.98
    assert probe(tmp_path / "clip.mp4").duration_us == item.span[1] - item.span[0]


def test_without_sound_nothing_is_measured_of_it(talk: Talk) -> None:
    silent = (dataclasses.replace(talk[0], info=dataclasses.replace(talk[0].info, audio_rate=None)), talk[1])
    assert set(SYNC.run(job(silent, Config())).value.values()) == {None}
    value = QUALITY.run(job(silent, Config())).value
    assert value["snr_db"] is None
    assert value["clipped_worst"] is None
    assert value["face_px"] is not None
    assert judged(SYNC, dict.fromkeys(SYNC.outputs), "sync.min_confidence=0.9", "sync.max_offset_ms=1") is None
    assert FINGERPRINT.run(job(silent, Config())).value["codes"] == 0


def test_limits_on_the_offset() -> None:
    value = {
        "offset_ms": 160.0,
        "confidence": 0.7,
        "applied_ms": 0.0,
        "offset_after_ms": 160.0,
        "confidence_after": 0.7,
    }
    assert judged(SYNC, value) is None
    far = judged(SYNC, value, "sync.max_offset_ms=125")
    assert far is not None
    assert far.startswith("out_of_sync: the sound is +160 ms after the lips, sync.max_offset_ms is 125")
    assert judged(SYNC, value, "sync.max_offset_ms=125", "sync.trust=0.8") is None
    unsure = judged(SYNC, value, "sync.min_confidence=0.75")
    assert unsure is not None
    assert "0.70" in unsure
    assert "sync.min_confidence" in unsure


@pytest.mark.parametrize(
    ("seconds", "confidence", "kept"),
    [
        (1.0, 0.05, True),
        (2.0, 0.15, True),
        (3.0, 0.15, False),
        (3.0, 0.25, True),
        (8.0, 0.45, False),
        (8.0, 0.55, True),
    ],
)
def test_a_longer_clip_must_fit_its_voice_better(seconds: float, confidence: float, kept: bool) -> None:
    value = {"confidence_after": confidence, "offset_after_ms": 20.0}
    found = judged(SYNC, value, seconds=seconds)
    assert (found is None) == kept
    if found is not None:
        assert "sync.min_long_confidence" in found
    for override in ("sync.min_long_confidence=null", "sync.backend=syncnet", "segment.require_speech=false"):
        assert judged(SYNC, value, override, seconds=seconds) is None
    assert judged(SYNC, {**value, "offset_after_ms": None}, seconds=seconds) is None


def test_every_measure_of_a_clip_with_sound_is_there(talk: Talk) -> None:
    value = QUALITY.run(job(talk, Config())).value
    assert all(number is not None and math.isfinite(number) for number in value.values())
    for measure in MEASURES:
        mean, worst = value[measure.name], value[measure.worst]
        assert worst <= mean * 1.05 + 3 if measure.more_is_better else worst >= mean * 0.95
    columns = {column.name: column for column in INDEX.columns}
    for name, number in value.items():
        low, high = columns[name].low, columns[name].high
        assert low is None or number >= low
        assert high is None or number <= high


def test_a_rejection_names_measure_value_and_limit(talk: Talk) -> None:
    value = dict.fromkeys(QUALITY.outputs)
    assert judged(QUALITY, {**value, "face_px": 300.0}) is None
    small = judged(QUALITY, {**value, "face_px": 31.5})
    assert small == "low_quality: face_px is 31.5 px, quality.min_face_px is 40 px"
    turned = judged(QUALITY, {**value, "yaw_deg": 10.0, "yaw_deg_worst": 50.0}, "quality.max_yaw_deg_worst=45")
    assert turned == "low_quality: yaw_deg_worst is 50 deg, quality.max_yaw_deg_worst is 45 deg"
    assert QUALITY.settings(Config()) == QUALITY.settings(load_config(None, ["quality.min_face_px=99"]))


def test_the_worst_value_must_last() -> None:
    pts = np.arange(50, dtype=np.int64) * 40_000
    values: NDArray[np.float64] = np.full(50, 10.0)
    values[20] = 1.0
    values[30:36] = [5, 4, 5, 4, 5, 5]
    assert worst_of(values, pts, more_is_better=True) == 5
    assert worst_of(-values, pts, more_is_better=False) == -5
    assert worst_of(values, pts * 5, more_is_better=True) == 1
    values[:] = np.nan
    assert worst_of(values, pts, more_is_better=True) is None


def test_a_fingerprint_is_of_the_clip(talk: Talk) -> None:
    result = FINGERPRINT.run(job(talk, Config()))
    found = fingerprint_of({"fingerprint": result})
    assert len(found.motion) == len(talk[1].arrays["pts_us"])
    assert (found.sound != 0).sum() > 50
    assert fingerprint_of({"fingerprint": FINGERPRINT.run(job(talk, Config()))}).text() == found.text()


class Fixed:
    """An estimator that says what the rest of its configuration makes of it."""

    name, margin_ms = "fixed", 100

    def __init__(self) -> None:
        self.heard: list[int] = []

    def estimate(self, face: Face, samples_16k: NDArray[np.float32], start_us: int) -> SyncEstimate:
        assert start_us == -100_000
        assert np.isfinite(face.box_xywh).all()
        assert sum(1 for _ in face.frames()) == len(face.pts_us)
        self.heard.append(len(samples_16k))
        return SyncEstimate(float("nan"), 0.0)


def test_another_estimator_gets_pictures_and_sound(talk: Talk) -> None:
    asked = job(talk, Config())
    estimator = Fixed()
    asked.models.__dict__["sync"] = estimator
    assert SYNC.run(asked).value["offset_ms"] is None
    start, end = talk[0].span
    assert estimator.heard == [16 * (end - start + 200_000) // 1000]
