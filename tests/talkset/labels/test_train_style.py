"""`talkset train style` on a data set of talkers whose motion is known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from dataset_builder import random_clip, writer

from annotate.style import make_encoder
from annotate.style.contrastive import EncoderConfig
from reconstruct.models.head_model import HeadModel
from schemas.errors import UsageError
from schemas.records import ClipRecord
from synthetic.make import perform
from synthetic.talker import random_talker
from talkset.cli import main
from talkset.dataset import open_dataset
from talkset.labels.style import performance_of_clip, train_style


def talk(model: HeadModel, number: int) -> ClipRecord:
    """Clip `number` of speaker `number` modulo 3, happy or sad by turns."""
    talker = dataclasses.replace(random_talker(number % 3, 64, 64), motion_seed=number)
    truth, _ = perform(talker, model)
    made = random_clip(0, frames=len(truth.pts_us), speaker=f"speaker{number % 3}")
    assert made.landmarks is not None
    end_us = made.index["start_us"] + len(truth.pts_us) * 40_000
    emotion = ("happiness", "sadness")[number // 3 % 2]
    index = {
        **made.index, "clip_id": f"clip_{number:04d}", "end_us": end_us, "model_sha256": model.sha256,
        "has_audio": False, "emotion_given": emotion,
    }  # fmt: skip
    landmarks = dataclasses.replace(made.landmarks, pts_us=truth.pts_us)
    return ClipRecord(index, truth.track, landmarks, truth.speech)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, open_head: HeadModel) -> Path:
    root = tmp_path_factory.mktemp("talkers") / "data"
    with writer(root) as target:
        for number in range(9):
            target.add(talk(open_head, number))
        target.finish()
    return root


def test_the_command_writes_an_encoder_that_runs_can_use(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "style.safetensors"
    size = ["--steps", "10", "--dimension", "8"]
    assert main(["train", "style", "--data", str(data), "--out", str(out), *size, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["clips"], told["owners"]) == (9, 3)
    assert 0 <= told["top1"] <= 1
    assert 0 < told["chance"] < 0.5
    style = make_encoder(str(out)).embed(performance_of_clip(open_dataset(data)[0]))
    assert style is not None
    assert style.model == told["name"]
    assert style.embedding.shape == (8,)


def test_a_manner_divides_speakers_and_unknown_columns_are_refused(data: Path, tmp_path: Path) -> None:
    config = EncoderConfig(channels=8, layers=1, dimension=4, steps=3)
    made = train_style(data, tmp_path / "a.safetensors", config, manner="emotion_given", judge=False)
    assert made.owners == 6
    assert np.isnan(made.top1)
    with pytest.raises(UsageError, match="mood"):
        train_style(data, tmp_path / "b.safetensors", config, manner="mood", judge=False)
    assert not (tmp_path / "b.safetensors").exists()


def test_a_stored_clip_is_what_a_run_sees(data: Path) -> None:
    clip = performance_of_clip(open_dataset(data)[2])
    assert clip.samples is None
    assert clip.surface is not None
    assert clip.has("mouthSmileLeft")
    assert np.isfinite(clip.weight("jawOpen")).all()
