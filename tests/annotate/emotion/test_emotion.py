"""Judges of emotion: faces, voices and texts whose emotion is known, what they do without a modality, and spans."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from annotate.emotion import emotion_of, opinions_of
from annotate.emotion.action_units import UNITS, action_units, over_window
from annotate.emotion.base import EmotionClassifier, softmax, windows_of
from annotate.emotion.face import KINDS, FaceJudge, tables
from annotate.emotion.fusion import PRIOR, fuse
from annotate.emotion.spans import spans_of
from annotate.emotion.text import TextJudge, word_evidence
from annotate.emotion.voice import VoiceJudge, features, own_voice, voice_frames
from annotate.performance import Performance
from reconstruct.models.arkit import ARKIT_NAMES, to_arkit
from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError
from schemas.labels import EMOTIONS
from schemas.types import Interval
from synthetic.affect import Affect
from synthetic.make import perform
from synthetic.talker import random_talker

PEOPLE = (41, 42, 43, 44)
"""Unlike those of the calibration (501 to 508, 601 to 615)."""
FACES = tuple(name for name in EMOTIONS if name != "calm")


def performed(model: HeadModel, person: int, affect: Affect, sound: bool = False) -> Performance:
    """A talker as the truth has it."""
    talker = dataclasses.replace(random_talker(person), text="We have a map of the big town.", affect=affect)
    truth, utterance = perform(talker, model)
    track = truth.track
    weights = to_arkit(model, track.expression, track.jaw_pose, track.left_eye_pose, track.right_eye_pose)
    length = int(truth.pts_us[-1]) + 40_000
    samples = utterance.samples if sound else None
    words = truth.speech.words if sound else ()
    return Performance(truth.pts_us, length, track.valid, ARKIT_NAMES, weights, samples=samples, words=words)


def said(text: str) -> tuple[Interval, ...]:
    return tuple(
        Interval(300_000 * i, 300_000 * (i + 1), word, 1.0, False, "truth") for i, word in enumerate(text.split())
    )


def silent(words: tuple[Interval, ...] = (), seconds: float = 3.0) -> Performance:
    pts = np.arange(0, round(seconds * 1e6), 40_000)
    return Performance(pts, round(seconds * 1e6), np.zeros(len(pts), np.bool_), words=words)


@pytest.fixture(scope="module")
def faces(open_head: HeadModel) -> dict[tuple[int, str], Performance]:
    return {(who, name): performed(open_head, who, Affect(name, 1.0)) for who in PEOPLE for name in FACES}


def test_units_are_read_by_name_and_speech_hardly_moves_them() -> None:
    weights = np.zeros((50, 52), np.float32)
    weights[:, ARKIT_NAMES.index("mouthSmileLeft")] = 0.6
    weights[::4, ARKIT_NAMES.index("jawOpen")] = 0.9  # a vowel now and then
    units = dict(zip([u.name for u in UNITS], over_window(action_units(ARKIT_NAMES, weights)), strict=True))
    assert units["AU12"] == pytest.approx(0.3)
    assert units["AU12 of one side"] == pytest.approx(0.6)
    assert units["AU26"] == 0.0
    rest = weights[1]
    assert np.abs(over_window(action_units(ARKIT_NAMES, weights, rest))).max() < 1e-6
    shuffled = np.random.default_rng(0).permutation(52)
    names = [ARKIT_NAMES[i] for i in shuffled]
    np.testing.assert_allclose(action_units(names, weights[:, shuffled]), action_units(ARKIT_NAMES, weights))
    with pytest.raises(UsageError, match="browInnerUp"):
        action_units(["jawOpen"], np.zeros((3, 1)))


def test_faces_as_animated_are_recognised_and_their_intensity_grows(
    open_head: HeadModel, faces: dict[tuple[int, str], Performance]
) -> None:
    judge = FaceJudge("exact")
    right = []
    for (_, name), clip in faces.items():
        found = emotion_of(clip, [judge], prior=dict.fromkeys(EMOTIONS, 1 / 9))
        assert found is not None
        right.append(found.label == name)
    assert np.mean(right) >= 0.9
    levels = []
    for level in (0.3, 0.65, 1.0):
        found = emotion_of(performed(open_head, 45, Affect("happiness", level)), [judge])
        assert found is not None
        levels.append(found.affect[0])
    assert levels[0] < levels[1] < levels[2]


def test_a_face_at_rest_shows_little_and_a_weak_one_less_than_a_strong_one(
    open_head: HeadModel, faces: dict[tuple[int, str], Performance]
) -> None:
    even = dict.fromkeys(EMOTIONS, 1 / 9)
    for kind in ("speaker", "exact"):
        rest = FaceJudge(kind).opinion(np.zeros((1, len(UNITS))), np.ones(1))
        assert fuse([rest], 1, even).affect[0, 0] < 0.2
        assert rest.intensity is not None
        assert rest.intensity[0, EMOTIONS.index("calm")] == rest.intensity[0, 0]
    for name in ("anger", "surprise"):
        weak = performed(open_head, PEOPLE[0], Affect(name, 0.4))
        found = [emotion_of(clip, [FaceJudge("exact")], prior=even) for clip in (weak, faces[PEOPLE[0], name])]
        less, more = (each.affect[0] for each in found if each is not None)
        assert less + 0.2 < more


def test_vectors_are_probabilities_in_every_frame_window_and_clip(faces: dict[tuple[int, str], Performance]) -> None:
    clip = faces[PEOPLE[0], "anger"]
    found = emotion_of(clip, [FaceJudge("exact")])
    assert found is not None
    assert found.track.probabilities.shape == (len(clip.pts_us), 9)
    np.testing.assert_allclose(found.track.probabilities.sum(1), 1, atol=1e-5)
    assert found.track.clip.sum() == pytest.approx(1, abs=1e-5)
    assert np.abs(found.track.affect).max() <= 1
    assert found.affect[1] < 0 < found.affect[2]  # anger is unpleasant and excited
    assert found.source == "face:action-units-1-exact"


def test_a_feeling_that_begins_is_found_when_it_begins(open_head: HeadModel) -> None:
    talker = dataclasses.replace(
        random_talker(46),
        text="We have a map of the big town, and they will show you the way to the river in the morning.",
        affect=Affect("happiness", 1.0, start_s=2.5),
    )
    truth, _ = perform(talker, open_head)
    track = truth.track
    weights = to_arkit(open_head, track.expression, track.jaw_pose, track.left_eye_pose, track.right_eye_pose)
    length = int(truth.pts_us[-1]) + 40_000
    found = emotion_of(Performance(truth.pts_us, length, track.valid, ARKIT_NAMES, weights), [FaceJudge("exact")])
    assert found is not None
    assert found.events[0].start_us == 0
    assert found.events[-1].end_us == length
    begins = [event.start_us / 1e6 for event in found.events if event.label == "happiness"]
    assert begins
    assert begins[0] == pytest.approx(2.7, abs=0.5)


def test_without_a_face_or_sound_or_words_nothing_is_said() -> None:
    judges: list[EmotionClassifier] = [FaceJudge("clip"), VoiceJudge(), TextJudge()]
    assert emotion_of(silent(), judges) is None
    deaf = dataclasses.replace(silent(), samples=np.zeros(48_000, np.float32))
    assert emotion_of(deaf, judges) is None
    unseen = dataclasses.replace(silent(), names=ARKIT_NAMES, weights=np.full((75, 52), np.nan, np.float32))
    assert emotion_of(unseen, judges) is None


def test_a_missing_modality_lowers_the_confidence(open_head: HeadModel) -> None:
    clip = performed(open_head, 47, Affect("anger", 0.3), sound=True)
    clip = dataclasses.replace(clip, words=said("I am so angry and furious with you"))
    judges: list[EmotionClassifier] = [FaceJudge("exact"), VoiceJudge(), TextJudge()]
    whole = emotion_of(clip, judges)
    assert whole is not None
    assert whole.label == "anger"
    place = EMOTIONS.index("anger")
    for without in ({"weights": None, "names": ()}, {"words": ()}):
        partial = emotion_of(dataclasses.replace(clip, **without), judges)
        assert partial is not None
        assert partial.track.clip[place] < whole.track.clip[place]
    mute = emotion_of(dataclasses.replace(clip, samples=None), judges)
    assert mute is not None
    assert "voice" not in mute.source


def test_half_a_face_track_is_no_crash_and_less_sure(faces: dict[tuple[int, str], Performance]) -> None:
    clip = faces[PEOPLE[1], "surprise"]
    assert clip.weights is not None
    weights = clip.weights.copy()
    weights[::2] = np.nan
    holes = emotion_of(dataclasses.replace(clip, weights=weights), [FaceJudge("exact")])
    whole = emotion_of(clip, [FaceJudge("exact")])
    assert holes is not None
    assert whole is not None
    assert holes.confidence < whole.confidence


def test_excited_voices_are_told_from_sad_ones(open_head: HeadModel) -> None:
    def heard(name: str, level: float = 1.0) -> Performance:
        return dataclasses.replace(performed(open_head, 48, Affect(name, level), sound=True), weights=None, names=())

    clips = {name: heard(name) for name in ("anger", "sadness", "fear", "calm")}
    plain = heard("neutral", 0.0)
    rows = []
    for clip in (plain, plain, *clips.values()):
        assert clip.samples is not None
        rows.append(features(voice_frames(clip.samples), np.zeros(0), 0.0, clip.seconds))
    own = own_voice(rows)
    arousal = {}
    for name, clip in clips.items():
        _, [opinion] = opinions_of(clip, [VoiceJudge(own)])
        assert opinion.arousal is not None
        arousal[name] = float(opinion.arousal[-1])
    assert min(arousal["anger"], arousal["fear"]) > max(arousal["sadness"], arousal["calm"]) + 0.3


@pytest.mark.parametrize(
    ("text", "emotion"),
    [
        ("what a wonderful happy day", "happiness"),
        ("he was furious about it", "anger"),
        ("she cried at the funeral", "sadness"),
        ("I was terrified of the dark", "fear"),
        ("that smells disgusting", "disgust"),
    ],
)
def test_words_of_a_feeling(text: str, emotion: str) -> None:
    _, [opinion] = opinions_of(silent(said(text)), [TextJudge()])
    assert EMOTIONS[int(opinion.log_odds[-1].argmax())] == emotion


def test_negations_and_degrees() -> None:
    def of(text: str) -> tuple[str, float, int]:
        return next(iter(word_evidence(text.split()).values()))

    assert of("I am happy")[2] == 1
    assert of("I am not happy")[2] == -1
    assert of("I don't feel happy")[2] == -1
    assert of("it is extremely scary")[1] > of("it is scary")[1] > of("it is slightly scary")[1]
    assert word_evidence(["the", "map", "of", "the", "town"]) == {}


def test_windows_are_a_second_long_five_times_a_second() -> None:
    windows = windows_of(3.0)
    assert len(windows) == 11
    np.testing.assert_allclose(np.diff(windows[:, 0]), 0.2)
    np.testing.assert_allclose(windows[:, 1] - windows[:, 0], 1.0)
    np.testing.assert_allclose(windows_of(0.4), [[0.0, 0.4]])


def test_fusion_is_a_product_that_trusts_the_reliable_one() -> None:
    _, [sure] = opinions_of(silent(said("so terrified and scared")), [TextJudge()])
    nothing = dataclasses.replace(sure, reliability=np.zeros_like(sure.reliability))
    count = len(sure.log_odds)
    prior = np.array([PRIOR[name] for name in EMOTIONS])
    np.testing.assert_allclose(fuse([nothing], count).probabilities, np.tile(prior, (count, 1)), atol=1e-6)
    by_hand = prior * softmax(sure.log_odds[-1]) ** sure.reliability[-1]
    np.testing.assert_allclose(fuse([sure], count).probabilities[-1], by_hand / by_hand.sum(), atol=1e-4)


def test_spans_tile_the_clip_and_flickers_are_no_spans() -> None:
    table = np.full((20, 9), 0.01)
    table[:10, 1], table[10:, 3] = 0.9, 0.8
    table[4] = np.roll(table[4], 3)  # one window of something else
    events = spans_of(table, 0.5 + 0.2 * np.arange(20), 5_000_000, "test")
    assert [event.label for event in events] == ["happiness", "sadness"]
    assert (events[0].start_us, events[-1].end_us) == (0, 5_000_000)
    assert events[0].end_us == events[1].start_us == 2_400_000
    assert events[1].score == pytest.approx(0.8)


def test_tables_are_whole() -> None:
    for kind in KINDS:
        table = tables()[kind]
        arrays: list[NDArray[Any]] = [table.scale, table.weights, table.bias, table.strength]
        assert [array.shape for array in arrays] == [(23,), (23, 9), (9,), (47, 9)]
        assert all(np.isfinite(array).all() for array in arrays)
        assert table.reliability > 0
    with pytest.raises(UsageError, match="kind"):
        FaceJudge("guess")


def test_fifty_times_faster_than_real_time(open_head: HeadModel) -> None:
    clip = performed(open_head, 49, Affect("fear", 0.7), sound=True)
    judges: list[EmotionClassifier] = [FaceJudge("clip"), VoiceJudge(), TextJudge()]
    emotion_of(clip, judges)
    started = time.process_time()
    for _ in range(3):
        emotion_of(clip, judges)
    assert 3 * clip.seconds / (time.process_time() - started) > 50
