"""The stages of motion events, style, semantics and the language model on a clip whose motion and words are known."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from language_model_server import GOOD, Script, serving

from pipelines.build import CLIP_STAGES, stages_named
from pipelines.results import Result, pack
from pipelines.stage import ClipItem, Job, Models, View, key_of
from pipelines.stages.event_rows import events_of
from pipelines.stages.style import style_columns, style_of
from pipelines.words import spoken_near, to_json
from reconstruct.models.head_model import HeadModel
from reconstruct.video import probe, write_video
from schemas.config import Config, load_config
from schemas.labels import DESCRIPTORS, EVENT_KINDS
from schemas.records import ClipRecord, clip_rows
from schemas.tables import INDEX
from schemas.types import Clip, Event, FaceTrack, HeadTrack, LandmarkTrack, Span, Transcription
from synthetic.head_gestures import HeadGesture
from synthetic.make import perform
from synthetic.talker import random_talker

MOTION, STYLE, SEMANTICS, LANGUAGE = stages_named(("motion_events", "style", "semantics", "language_model"))
START_US = 1_000_000


@dataclasses.dataclass(frozen=True)
class Known:
    """A clip in the middle of a source, with the results of the stages before."""

    item: ClipItem
    results: Mapping[str, Result]
    head: HeadTrack
    landmarks: LandmarkTrack
    spoken: Transcription


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, open_head: HeadModel) -> Known:
    talker = random_talker(3)
    nod = HeadGesture("nod", 1.0, 2.0, 3.0, math.radians(6.0))
    talker = dataclasses.replace(talker, manner=dataclasses.replace(talker.manner, head=0.3, gestures=(nod,)))
    truth, speech = perform(talker, open_head)
    count = len(truth.pts_us)
    path = tmp_path_factory.mktemp("label") / "talk.mp4"
    blank = np.full((64, 64, 3), 90, np.uint8)
    sound = np.pad(speech.samples, (16_000, 16_000))
    write_video(path, ((i * 40_000, blank) for i in range(count + 50)), talker.fps, (sound, 16_000))
    span = Span(START_US, START_US + count * 40_000)
    unseen = np.full((count, 478, 2), np.nan, np.float32)
    landmarks = LandmarkTrack(
        truth.pts_us, unseen, unseen[..., 0], np.zeros(count, np.bool_), 64, 64, "mediapipe 0.10.21"
    )
    words = {**to_json(truth.speech, START_US), "reason": None}
    box = FaceTrack(np.zeros(1, np.int64), np.zeros((1, 4), np.float32))
    item = ClipItem(Clip("c", "s", span, box), path, "ab" * 32, probe(path), spoken=spoken_near(words, span))
    results = {}
    for name, record in (("landmarks", landmarks), ("fit", truth.track)):
        packed = pack(record)
        results[name] = Result({"record": dict(packed.value)}, packed.arrays)
    return Known(item, results, truth.track, landmarks, truth.speech)


def job(known: Known, config: Config, item: ClipItem | None = None, **results: Result) -> Job[ClipItem]:
    return Job(item or known.item, config, {}, {**known.results, **results}, Models(config), Path("nowhere"))


def events(result: Result) -> list[dict[str, Any]]:
    return list(result.value["events"])


def test_the_chain_has_the_label_stages_after_the_fit() -> None:
    order = [CLIP_STAGES.index(name) for name in ("fit", "motion_events", "style", "semantics", "language_model")]
    assert order == sorted(order)


def test_motion_events_are_on_the_clip_clock(known: Known) -> None:
    found = events(MOTION.run(job(known, Config())))
    (nod,) = [event for event in found if event["kind"] == "head_gesture"]
    assert nod["label"] == "nod"
    assert nod["start_us"] == pytest.approx(1_000_000, abs=300_000)
    borders = [event["start_us"] for event in found if event["label"].startswith("phone:")]
    assert len(borders) == len(known.spoken.phones)
    assert borders[0] == pytest.approx(known.spoken.phones[0].start_us, abs=20_000)


def test_semantics_tell_of_every_word_and_style_has_all_columns(known: Known) -> None:
    semantics = SEMANTICS.run(job(known, Config()))
    said = [event["label"] for event in events(semantics) if event["kind"] == "semantic"]
    assert said == [word.label for word in known.spoken.words]
    style = STYLE.run(job(known, Config()))
    columns = style_columns({"style": style.value})
    assert set(columns) == {each.column for each in DESCRIPTORS} <= {column.name for column in INDEX.columns}
    assert columns["style_pitch_hz"] is not None
    assert columns["style_syllables_per_s"] is not None
    assert columns["style_gestures_per_min"] is None
    found = style_of({"style": style})
    assert found is not None
    assert found.model == "statistical-2/face+head+voice"


def test_events_and_style_become_rows(known: Known) -> None:
    results = {stage.name: stage.run(job(known, Config())) for stage in (MOTION, STYLE, SEMANTICS)}
    found = events_of(results)
    assert {event.kind for event in found} <= set(EVENT_KINDS)
    assert [event.start_us for event in found] == sorted(event.start_us for event in found)
    seen = dataclasses.replace(
        known.landmarks,
        face_xy=np.nan_to_num(known.landmarks.face_xy),
        confidence=np.nan_to_num(known.landmarks.confidence),
        valid=known.head.valid,
    )
    index = {
        "clip_id": "c", "source_id": "s", "source_uri": "x.mp4", "start_us": 0, "status": "accepted",
        "end_us": known.item.span[1] - known.item.span[0], "num_frames": len(known.head.valid),
        **style_columns({"style": results["style"].value}),
    }  # fmt: skip
    rows = clip_rows(ClipRecord(index, known.head, seen, known.spoken, found, style=style_of(results)))
    assert len(rows.events) == len(found)
    assert rows.params is not None
    assert rows.params["style_model"] == "statistical-2/face+head+voice"


def test_words_decide_the_keys_and_their_absence_crashes_nothing(known: Known) -> None:
    digests = dict.fromkeys(("head_model", "detector", "embedding", "speech", "style_encoder"), "x")
    mute = dataclasses.replace(known.item, spoken=None)
    keys = {"landmarks": "1", "fit": "2"}
    for stage in (MOTION, STYLE, SEMANTICS):
        assert key_of(stage, known.item, Config(), digests, keys) != key_of(stage, mute, Config(), digests, keys)
    assert not SEMANTICS.wanted(View(mute, Config(), {}))
    assert SEMANTICS.wanted(View(known.item, Config(), {}))
    silent = dataclasses.replace(mute, info=dataclasses.replace(mute.info, audio_rate=None))
    assert STYLE.run(job(known, Config(), silent)).value["descriptors"]["pitch_hz"] is None
    assert events(SEMANTICS.run(job(known, Config(), silent))) == []
    assert events(MOTION.run(job(known, Config(), silent)))


def test_each_is_switched_off_alone() -> None:
    for stage in (MOTION, STYLE, SEMANTICS):
        config = load_config(None, [f"{stage.name}.enabled=false"])
        assert not stage.wanted(View(ClipItem(None, Path("x"), "", None), config, {}))  # type: ignore[arg-type]
    assert not LANGUAGE.wanted(View(ClipItem(None, Path("x"), "", None), Config(), {}))  # type: ignore[arg-type]


def test_sound_that_is_shifted_takes_its_words_with_it(known: Known) -> None:
    config = load_config(None, ["sync.correct=true"])
    assert "sync" in SEMANTICS.needed(config)
    shifted = job(known, config, sync=Result({"applied_ms": 80.0}))
    plain = [event["start_us"] for event in events(SEMANTICS.run(job(known, config))) if event["kind"] == "semantic"]
    moved = [event["start_us"] for event in events(SEMANTICS.run(shifted)) if event["kind"] == "semantic"]
    assert [a - b for a, b in zip(plain, moved, strict=True)] == [80_000] * len(plain)


def test_the_language_model_is_asked_once_and_its_silence_costs_no_clip(known: Known, tmp_path: Path) -> None:
    results = {"style": STYLE.run(job(known, Config()))}
    script = Script([json.dumps(GOOD)])
    with serving(script) as url:
        config = load_config(
            None,
            [
                "language_model.enabled=true", f"language_model.url={url}", "language_model.model=tiny",
                f"language_model.cache={tmp_path}", "language_model.requests_per_min=0",
                "language_model.attempts=1", "language_model.timeout_s=2",
            ],
        )  # fmt: skip
        made = LANGUAGE.run(job(known, config, None, **results))
        again = LANGUAGE.run(job(known, config, None, **results))
    assert made.value == again.value
    assert len(script.asked) == 1
    assert made.value["reason"] is None
    captions = [event for event in events(made) if event["kind"] == "caption"]
    assert captions[0]["label"] == GOOD["caption"]
    assert captions[0]["score"] is None
    assert captions[0]["source"] == "llm:tiny-1@manner-1"
    assert all(isinstance(event, Event) for event in events_of({"language_model": made}))
    gone = dataclasses.replace(known.item, spoken=dataclasses.replace(known.spoken, words=known.spoken.words[:2]))
    lost = LANGUAGE.run(job(known, config, gone, **results))
    assert (lost.value["events"], lost.value["reason"]) == ([], "unavailable")
    nothing = dataclasses.replace(known.item, spoken=None)
    assert LANGUAGE.run(job(known, config, nothing)).value["reason"] == "nothing_to_ask"
