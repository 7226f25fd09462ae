"""Labels of a data set: figures whose value is known, training by speaker, the version with the classifier, reports."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from dataset_builder import random_clip, writer
from typer.testing import CliRunner

from annotate.emotion.trained import load_weights
from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError
from schemas.labels import EMOTIONS
from schemas.records import ClipRecord
from schemas.types import EmotionTrack, Float32, Transcription
from schemas.verify import verify_dataset
from synthetic.affect import Affect
from synthetic.make import perform
from synthetic.talker import random_talker
from talkset.cli import app
from talkset.dataset import open_dataset
from talkset.labels.evaluate import evaluate_labels, write_reports
from talkset.labels.features import Table
from talkset.labels.scores import ccc, confusion, ece, macro_f1, reliability
from talkset.labels.train import FILE, cross_validated, train_emotion

SPEAKERS, FELT = (61, 62, 63), ("neutral", "happiness", "anger", "sadness")


def felt_clip(model: HeadModel, speaker: int, emotion: str, take: int) -> ClipRecord:
    """A talker's true motion as a row of a data set, with an inferred emotion that is right two times of three."""
    number = 100 * speaker + 10 * FELT.index(emotion) + take
    affect = Affect(emotion, 0.0 if emotion == "neutral" else 0.9)
    talker = dataclasses.replace(random_talker(speaker), text="We move a big box.", affect=affect, motion_seed=number)
    truth, _ = perform(talker, model)
    frames = len(truth.pts_us)
    made = random_clip(4 * number, frames)
    assert made.landmarks is not None
    index = {
        **made.index,
        "clip_id": f"clip_{number}",
        "source_id": f"s{number}",
        "source_sha256": f"{number:064x}",
        "speaker": f"p{speaker}",
        "emotion_given": emotion,
        "emotion_given_intensity": affect.intensity,
        "emotion_intensity": 0.5 * affect.intensity + 0.1,
        "model_sha256": model.sha256,
        "has_audio": False,
        "labels": {"emotion": emotion, "valence": str(-0.5 if emotion in ("anger", "sadness") else 0.5)},
        "valence": -0.4 if emotion in ("anger", "sadness") else 0.6,
    }
    guess: Float32 = np.full(9, 0.05, np.float32)
    guess[EMOTIONS.index(emotion if take < 2 else "fear")] = 0.6
    track = EmotionTrack(np.tile(guess, (frames, 1)), np.zeros((frames, 3), np.float32), guess)
    head = dataclasses.replace(truth.track, residual_px=np.zeros(frames, np.float32))
    landmarks = dataclasses.replace(made.landmarks, pts_us=truth.pts_us, valid=np.ones(frames, np.bool_))
    landmarks = dataclasses.replace(landmarks, face_xy=np.nan_to_num(landmarks.face_xy, nan=100.0))
    return ClipRecord(index, head, landmarks, Transcription((), ()), (), emotion=track)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, open_head: HeadModel) -> Path:
    root = tmp_path_factory.mktemp("labels") / "data"
    with writer(root) as target:
        for speaker in SPEAKERS:
            for emotion in FELT:
                for take in range(3):
                    target.add(felt_clip(open_head, speaker, emotion, take))
        target.finish()
    return root


def test_figures_whose_value_is_known() -> None:
    assert confusion([0, 0, 1], [0, 1, 1], 2).tolist() == [[1, 1], [0, 1]]
    assert macro_f1(confusion([0, 0, 1, 1], [0, 0, 1, 1], 3)) == 1.0
    assert macro_f1(np.array([[1, 1], [0, 1]])) == pytest.approx(2 / 3)
    assert ccc([1, 2, 3], [1, 2, 3]) == pytest.approx(1)
    assert ccc([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert ccc([0, 1, 0, 1], [5, 6, 5, 6]) == pytest.approx(2 * 0.25 / (0.25 + 0.25 + 25))
    assert np.isnan(ccc([1], [1]))
    sure = np.array([[0.9, 0.1]] * 10)
    assert ece(sure, np.zeros(10, int)) == pytest.approx(0.1)
    assert ece(sure, np.array([0] * 9 + [1])) == pytest.approx(0.0)
    assert ece(sure, np.ones(10, int)) == pytest.approx(0.9)
    [row] = reliability(sure, np.array([0] * 5 + [1] * 5))
    assert row[:2] == pytest.approx((0.9, 0.5))
    assert row[2] == 10


def made_up(
    people: int, separation: float, seed: int = 0
) -> tuple[Table, np.ndarray[tuple[int], np.dtype[np.int64]], list[str]]:
    rng = np.random.default_rng(seed)
    emotion = rng.integers(0, 3, 40 * people)
    groups = [f"p{i // 40}" for i in range(40 * people)]
    values = rng.normal(size=(len(emotion), 6))
    values[:, 0] += separation * (emotion == 1)
    values[:, 1] += separation * (emotion == 2)
    values[::7, 5] = np.nan
    return Table(tuple("abcdef"), values), emotion, groups


def test_a_classifier_learns_what_there_is_and_is_calibrated() -> None:
    easy = cross_validated(*made_up(6, 3.0))
    assert easy.top1 > 0.85
    assert easy.ece < 0.1
    assert easy.folds == 6
    nothing = cross_validated(*made_up(6, 0.0))
    assert nothing.top1 < 0.5
    assert nothing.probabilities.max(1).mean() < 0.5  # it knows that it does not know


def test_what_only_tells_the_speaker_is_worth_nothing_on_others() -> None:
    """Each speaker has one class: by clips that could be learned, by speakers it cannot."""
    rng = np.random.default_rng(1)
    groups = [f"p{i // 30}" for i in range(180)]
    emotion = np.array([(i // 30) % 2 for i in range(180)])
    identity = rng.normal(size=(6, 20))
    values = identity[[i // 30 for i in range(180)]] + 0.05 * rng.normal(size=(180, 20))
    assert cross_validated(Table(tuple(f"f{i}" for i in range(20)), values), emotion, groups).top1 < 0.8


def test_too_little_to_learn_from_is_refused() -> None:
    table, emotion, groups = made_up(2, 1.0)
    with pytest.raises(UsageError, match="classes"):
        cross_validated(table, np.zeros_like(emotion), groups)
    with pytest.raises(UsageError, match="speakers"):
        cross_validated(table, emotion, ["one"] * len(groups))


def test_training_stores_a_version_with_the_classifier(dataset: Path, tmp_path: Path) -> None:
    found = train_emotion(dataset, tmp_path / "v2")
    assert (found.clips, found.speakers, found.folds) == (36, 3, 3)
    assert found.top1 > 0.8  # true motion, four classes
    assert found.chance == pytest.approx(0.25)
    weights = load_weights(str(tmp_path / "v2" / FILE))
    assert weights.classes == FELT
    assert any(name.startswith("face_AU") for name in weights.features)
    stored = json.loads((tmp_path / "v2" / FILE).read_text())
    assert stored["top1"] == found.top1
    assert stored["trained_on"]["name"] == "made-up"
    facts = open_dataset(tmp_path / "v2").facts
    assert facts["version"] == "1.3.0"
    assert facts["history"][-1]["operation"] == "train-emotion"
    assert FILE in (tmp_path / "v2" / "MANIFEST.sha256").read_text()
    assert not [problem for problem in verify_dataset(tmp_path / "v2") if "model" in str(problem).lower()]
    with pytest.raises(UsageError, match="no column"):
        train_emotion(dataset, tmp_path / "v3", "mood")


def test_a_report_tells_how_right_and_how_sure(dataset: Path, tmp_path: Path) -> None:
    report = evaluate_labels(dataset)
    inferred, trained = report.ways
    assert inferred.top1 == pytest.approx(2 / 3)
    assert inferred.classes == (*FELT, "fear")  # in the order of all classes, with the wrong one
    assert np.diag(inferred.table).tolist() == [6, 6, 6, 6, 0]
    assert trained.top1 > 0.8
    assert report.chance == pytest.approx(0.25)
    assert report.scales["valence"][1] == 36
    assert report.scales["valence"][0] == pytest.approx(ccc([0.5, -0.5], [0.6, -0.4]))
    assert 0 < report.scales["intensity"][0] < 1
    written = write_reports(report, tmp_path / "report")
    assert [path.name for path in written] == ["labels.json", "labels.png"]
    values = json.loads(written[0].read_text())
    assert values["ways"]["inferred"]["top1_by_speaker"] == {f"p{s}": pytest.approx(2 / 3) for s in SPEAKERS}
    assert written[1].read_bytes()[:4] == b"\x89PNG"


def test_the_commands(dataset: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["evaluate", "labels", "--data", str(dataset), "--no-train", "--json"])
    assert result.exit_code == 0, result.output
    line = next(line for line in result.output.splitlines() if line.startswith("{"))
    assert json.loads(line)["ways"]["inferred"]["clips"] == 36
    wrong = runner.invoke(app, ["train", "emotion", "--data", str(dataset), "--out", str(dataset)])
    assert wrong.exit_code != 0
