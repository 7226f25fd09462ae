"""Stages of emotion: one clip alone, what is ordinary for a speaker, and columns and events of both."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from talking_clips import people, write_clip

from annotate.emotion.make import judges_version
from pipelines.build import CLIP_STAGES, LABEL_STAGES, stages_named
from pipelines.ledger import DONE
from pipelines.ordinary import with_ordinary
from pipelines.results import Result
from pipelines.segmentation.choose import choose_clips
from pipelines.segmentation.faces import FaceFinder
from pipelines.segmentation.scan import scan_source
from pipelines.stage import ClipItem, Job, Models, Ordinary, View
from pipelines.stages.emotion import emotion_columns, emotion_track, given_columns
from pipelines.stages.event_rows import events_of
from pipelines.work import Step
from reconstruct.video import Reader, probe
from schemas.config import Config, load_config
from schemas.label_config import EmotionConfig
from schemas.labels import EMOTIONS
from schemas.types import Source

FRAMES = 20
QUICK = ["segment.min_clip_s=0.2", "landmarks.confidence=none", "fit.iterations=4", "fit.key_frames=4"]
ORDINARY, EMOTION = stages_named(["ordinary", "emotion"])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipItem, dict[str, Result]]:
    """A clip with sound, its landmarks and its fit."""
    path = write_clip(tmp_path_factory.mktemp("clip") / "a.mp4", people()[0][:FRAMES])
    settings = load_config(None, QUICK)
    with FaceFinder(settings.segment) as finder:
        scan = scan_source(Reader(path), (None, None), finder, None, settings.segment)
    [found] = choose_clips("ab" * 32, "ab", scan, None, settings.segment, settings.speaker).clips
    item = ClipItem(found, path, "ab" * 32, probe(path), speaker="somebody")
    results: dict[str, Result] = {}
    for stage in stages_named(["landmarks", "fit"]):
        results[stage.name] = stage.run(job(item, settings, results))
    return item, results


def job(item: ClipItem, config: Config, results: dict[str, Result]) -> Job[ClipItem]:
    return Job(item, config, {}, results, Models(config), Path("nowhere"))


def test_a_clip_alone_has_probabilities_columns_and_events(clip: tuple[ClipItem, dict[str, Result]]) -> None:
    item, results = clip
    settings = load_config(None, QUICK)
    result = EMOTION.run(job(item, settings, results))
    track = emotion_track({"emotion": result})
    assert track is not None
    assert track.probabilities.shape == (FRAMES, len(EMOTIONS))
    np.testing.assert_allclose(track.probabilities.sum(1), 1, atol=1e-5)
    columns = emotion_columns({"emotion": result.value})
    assert columns["emotion"] == EMOTIONS[int(track.clip.argmax())]
    assert columns["emotion_confidence"] == pytest.approx(float(track.clip.max()))
    assert columns["emotion_source"].startswith("face:action-units-1-clip")
    events = events_of({"emotion": result})
    assert {event.kind for event in events} == {"emotion"}
    length = item.span[1] - item.span[0]
    assert (events[0].start_us, events[-1].end_us) == (0, length)
    assert emotion_track({}) is None
    assert emotion_columns({}) == {}


def test_what_is_ordinary_for_the_speaker_changes_the_answer_and_the_key(
    clip: tuple[ClipItem, dict[str, Result]],
) -> None:
    item, results = clip
    settings = load_config(None, QUICK)
    told = ORDINARY.run(job(item, settings, results)).value
    assert len(told["face"]) == 52
    known = dataclasses.replace(item, ordinary=Ordinary(tuple(told["face"]), None))
    found = EMOTION.run(job(known, settings, results))
    assert found.value["columns"]["emotion_source"].startswith("face:action-units-1-speaker")
    assert EMOTION.inputs(known) != EMOTION.inputs(item)
    # a face that is compared with itself has hardly an expression
    assert found.value["columns"]["emotion_intensity"] < 0.5


def test_stages_run_only_where_they_are_asked_for(clip: tuple[ClipItem, dict[str, Result]]) -> None:
    item, _ = clip
    on, off, alone = (
        load_config(None, [*QUICK, *more]) for more in ([], ["emotion.enabled=false"], ["emotion.rest_from=clip"])
    )
    assert ORDINARY.wanted(View(item, on, {}))
    assert not ORDINARY.wanted(View(item, alone, {}))
    assert not ORDINARY.wanted(View(dataclasses.replace(item, speaker=None), on, {}))
    assert EMOTION.wanted(View(item, alone, {}))
    assert not EMOTION.wanted(View(item, off, {}))
    assert set(LABEL_STAGES) - set(CLIP_STAGES) == {"emotion"}
    assert judges_version(EmotionConfig()) == judges_version(EmotionConfig())


def test_the_ordinary_is_the_median_of_enough_clips(clip: tuple[ClipItem, dict[str, Result]]) -> None:
    item, _ = clip
    config = EmotionConfig(min_clips=3)

    def clips(count: int, speaker: str | None) -> list[ClipItem]:
        return [
            dataclasses.replace(item, speaker=speaker, clip=dataclasses.replace(item.clip, clip_id=f"{speaker}-{i}"))
            for i in range(count)
        ]

    def steps(items: list[ClipItem]) -> dict[str, list[Step]]:
        def value(place: int) -> dict[str, Any]:
            voice = None if place == 1 else [float(place), None]
            return {"face": [0.1 * place, 0.5], "voice": voice}

        return {each.unit: [Step("ordinary", "k", DONE, value=value(i))] for i, each in enumerate(items)}

    many, few, nameless = clips(5, "many"), clips(2, "few"), clips(4, None)
    found = with_ordinary(many, steps(many), config)
    ordinary = found[0].ordinary
    assert ordinary is not None
    assert ordinary.face == pytest.approx((0.2, 0.5))
    assert ordinary.voice is not None
    assert ordinary.voice[0] == pytest.approx(2.5)
    assert np.isnan(ordinary.voice[1])
    assert all(each.ordinary == ordinary or each.ordinary is not None for each in found)
    assert with_ordinary(few, steps(few), config)[0].ordinary is None
    assert with_ordinary(nameless, steps(nameless), config)[0].ordinary is None
    assert with_ordinary(many[::-1], steps(many), config)[0].ordinary is not None


def test_labels_of_the_source_stand_beside_the_inferred_ones() -> None:
    good = Source("M003/video/front/angry/level_2/001.mp4", 1, labels={"corpus": "mead"})
    assert given_columns(good) == ({"emotion_given": "anger", "emotion_given_intensity": pytest.approx(2 / 3)}, None)
    columns, warning = given_columns(Source("a.mp4", 2, labels={"emotion": "peckish"}))
    assert columns == {"emotion_given": None, "emotion_given_intensity": None}
    assert "peckish" in str(warning)
