"""A small synthetic data set and a generator that learned from it for a few steps, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from generator.api import Speaker, load_speaker
from generator.audio_column import add_features
from generator.config import GeneratorConfig, load_config
from generator.train import train
from synthetic.training_set import Plan, make_training_set
from talkset.dataset import Dataset, open_dataset

SMALL = (
    "model.width=32", "model.layers=1", "model.audio_width=16", "model.style_width=8", "style.width=16",
    "style.steps=6", "style.batch=6", "train.steps=8", "train.batch=6", "train.save_every=4", "train.warmup=2",
    "loss.lip_vertices=8", "diffusion.sample_steps=2",
)  # fmt: skip


@pytest.fixture(scope="session")
def small_config() -> GeneratorConfig:
    return load_config("tiny", SMALL)


@pytest.fixture(scope="session")
def talkers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of two speakers to learn from, four of another to test on."""
    root = tmp_path_factory.mktemp("talkers") / "set"
    return make_training_set(root, Plan(speakers=3, test_speakers=1, clips=2, test_clips=2, sentences=2), workers=1)


@pytest.fixture(scope="session")
def data(talkers: Path) -> Path:
    """The same with features of the sound."""
    return add_features(talkers, talkers.parent / "features")


@pytest.fixture(scope="session")
def training(data: Path, small_config: GeneratorConfig) -> Path:
    """A finished small training."""
    out = data.parent / "training"
    train(data, out, small_config)
    return out


@pytest.fixture(scope="session")
def speaker(training: Path) -> Speaker:
    return load_speaker(training)


@pytest.fixture(scope="session")
def dataset(data: Path) -> Dataset:
    return open_dataset(data)
