"""How talkers show what they feel: which parts of the face, how strongly, in a person's own way, while it speaks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError
from schemas.labels import EMOTIONS
from synthetic.affect import Affect, enact
from synthetic.events import gaps_m
from synthetic.make import load_truth, perform, save_truth
from synthetic.speech import Voice, synthesize
from synthetic.talker import DEMO_TALKERS, random_talker
from synthetic.visemes import BILABIALS

TALKER = dataclasses.replace(random_talker(3), text="Bob and Pamela put five big maps above the blue box.")
GRID = np.arange(0.0, 4.0, 0.005)


def shown(model: HeadModel, affect: Affect, name: str) -> NDArray[Any]:
    """(T,) of an expression, both sides added where there are two."""
    track = perform(dataclasses.replace(TALKER, affect=affect), model)[0].track
    columns = [i for i, known in enumerate(model.expression_names) if known.startswith(name)]
    return np.asarray(track.expression[:, columns].sum(1))


def test_there_is_a_face_for_every_class() -> None:
    assert {Affect(emotion, 1.0).emotion for emotion in EMOTIONS} == set(EMOTIONS)


@pytest.mark.parametrize(
    ("emotion", "more"),
    [
        ("happiness", "mouthSmile"),
        ("anger", "browDown"),
        ("sadness", "mouthFrown"),
        ("surprise", "browOuterUp"),
        ("fear", "eyeWide"),
    ],
)
def test_an_emotion_shows_in_its_action_and_the_more_the_stronger(
    open_head: HeadModel, emotion: str, more: str
) -> None:
    means = [shown(open_head, Affect(emotion, level), more).mean() for level in (0.0, 1 / 3, 2 / 3, 1.0)]
    assert np.all(np.diff(means) > 0.05)


def test_nothing_felt_changes_nothing(open_head: HeadModel) -> None:
    plain, sound = perform(TALKER, open_head)
    neutral, same = perform(dataclasses.replace(TALKER, affect=Affect("happiness", 0.0)), open_head)
    np.testing.assert_array_equal(plain.track.expression, neutral.track.expression)
    np.testing.assert_array_equal(plain.track.global_pose, neutral.track.global_pose)
    np.testing.assert_array_equal(sound.samples, same.samples)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_lips_still_meet_on_p_b_m(open_head: HeadModel, emotion: str) -> None:
    truth, _ = perform(dataclasses.replace(TALKER, affect=Affect(emotion, 1.0)), open_head)
    lips, _ = gaps_m(open_head, truth.track)
    for phone in truth.speech.phones:
        if phone.label in BILABIALS:
            # one frame at 25 frames per second lies inside every closure
            during = (truth.pts_us >= phone.start_us - 5_000) & (truth.pts_us < phone.start_us + 45_000)
            assert lips[during].min() < 0.0005, phone


def test_an_affect_of_a_part_rises_and_falls(open_head: HeadModel) -> None:
    course = Affect("anger", 0.9, start_s=1.0, end_s=2.0).course(GRID)
    assert course[GRID < 1.0].max() == 0.0
    np.testing.assert_allclose(course[(GRID > 1.4) & (GRID < 2.0)], 0.9)
    assert course[GRID > 2.7].max() == 0.0
    brows = shown(open_head, Affect("anger", 1.0, start_s=1.0), "browDown")
    assert brows[:20].mean() < 0.2 < 0.8 < brows[-10:].mean()


def test_persons_differ_and_each_stays_the_same() -> None:
    rng = np.random.default_rng

    def levels(person: int, seed: int) -> dict[str, float]:
        made = enact(Affect("fear", 1.0), person, GRID, np.zeros(len(GRID)), rng(seed))
        return {name: float(value.mean()) for name, value in made.expression.items()}

    one, again, other = levels(1, 1), levels(1, 2), levels(2, 1)
    assert one.keys() == again.keys()
    assert max(abs(one[name] - again[name]) for name in one) < 0.05
    assert one.keys() != other.keys() or max(abs(one[name] - other[name]) for name in one) > 0.05
    assert one["eyeWideLeft"] != one["eyeWideRight"]
    contempt = enact(Affect("contempt", 1.0), 1, GRID, np.zeros(len(GRID)), rng(0)).expression
    sides = {side: sum(v.mean() for name, v in contempt.items() if name.endswith(side)) for side in ("Left", "Right")}
    assert min(sides.values()) == 0.0 < max(sides.values())


def test_the_voice_feels_too(open_head: HeadModel) -> None:
    calm_voice = Voice(f0_hz=120.0)
    afraid, sad = Affect("fear", 1.0).voiced(calm_voice), Affect("sadness", 1.0).voiced(calm_voice)
    assert afraid.f0_hz > 160 > 120 > sad.f0_hz
    assert sad.melody < calm_voice.melody
    sounds = {
        name: perform(dataclasses.replace(TALKER, affect=Affect(name, 1.0)), open_head)[1]
        for name in ("anger", "sadness")
    }
    levels = {name: float(np.abs(sound.samples).max()) for name, sound in sounds.items()}
    assert levels["anger"] > 3 * levels["sadness"]
    assert len(sounds["sadness"].samples) > 1.2 * len(sounds["anger"].samples)


def test_melody_spreads_the_pitch() -> None:
    flat, lively = (synthesize("We are all away.", Voice(melody=m), seed=1) for m in (0.0, 2.0))
    assert flat.phones == lively.phones
    assert not np.array_equal(flat.samples, lively.samples)
    with pytest.raises(UsageError, match="melody"):
        Voice(melody=3.0)


def test_the_truth_keeps_what_was_felt(open_head: HeadModel, tmp_path: Path) -> None:
    talker = dataclasses.replace(DEMO_TALKERS[0], affect=Affect("disgust", 0.5, start_s=1.0))
    truth, _ = perform(talker, open_head)
    save_truth(truth, open_head, talker, tmp_path / "t.npz", tmp_path / "t.json")
    assert load_truth(tmp_path / "t.npz", tmp_path / "t.json").affect == talker.affect


@pytest.mark.parametrize("wrong", [{"emotion": "hunger"}, {"intensity": 1.5}, {"start_s": 2.0, "end_s": 1.0}])
def test_what_cannot_be_acted_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Affect(**{"emotion": "anger", "intensity": 0.5, **wrong})
