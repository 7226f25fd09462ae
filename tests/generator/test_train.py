"""Training: the same seed gives the same, a stop leaves no trace, parts and ranks give the whole, errors help."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from generator.audio_column import add_features
from generator.checkpoint import CHECKPOINT, STATE, Sizes, load_checkpoint, make_networks
from generator.config import GeneratorConfig, from_json, load_config, to_json
from generator.data import TrainingData, clip_emotions, selected, style_groups
from generator.model import parameter_count
from generator.motion import make_layout
from generator.train import Place, Trainer, read_losses, train
from reconstruct.models.head_model import HeadModel
from schemas.errors import TalksetError, UsageError
from schemas.labels import EMOTIONS
from talkset.dataset import Dataset, open_dataset

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Place(0, 1, torch.device("cpu"))


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in read_losses(out)]


def test_two_trainings_with_one_seed_are_identical(
    training: Path, data: Path, tmp_path: Path, small_config: GeneratorConfig
) -> None:
    train(data, tmp_path / "again", small_config)
    assert losses(tmp_path / "again") == losses(training)
    one, other = (load_checkpoint(folder) for folder in (training, tmp_path / "again"))
    for name, value in one.denoiser.state_dict().items():
        assert torch.equal(value, other.denoiser.state_dict()[name]), name
    other_seed = dataclasses.replace(small_config, seed=1, train=dataclasses.replace(small_config.train, steps=2))
    train(data, tmp_path / "other", other_seed)
    assert losses(tmp_path / "other") != losses(training)[:2]


def test_a_killed_training_goes_on_as_if_nothing_had_been(
    training: Path, data: Path, tmp_path: Path, small_config: GeneratorConfig
) -> None:
    out = tmp_path / "killed"
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from generator import train as module\n"
        "from generator.config import from_json\n"
        "class Bar:\n"
        "    count = 0\n"
        "    def begin(self, phase, total): self.phase = phase\n"
        "    def step(self):\n"
        "        if self.phase == 'generator':\n"
        "            self.count += 1\n"
        "            if self.count == 6: os.kill(os.getpid(), 9)\n"
        "module.train(Path(sys.argv[1]), Path(sys.argv[2]), from_json(sys.argv[3]), progress=Bar())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    arguments = [sys.executable, "-c", script, str(data), str(out), to_json(small_config)]
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == -9, ended.stderr
    assert load_checkpoint(out).step == 4  # saved at 4, killed after 6
    train(data, out, small_config, resume=True)
    assert losses(out) == losses(training)
    whole, resumed = (load_checkpoint(folder).denoiser.state_dict() for folder in (training, out))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_a_batch_in_parts_gives_the_step_of_the_whole(
    data: Path, tmp_path: Path, small_config: GeneratorConfig
) -> None:
    def stepped(accumulate: int) -> Trainer:
        config = dataclasses.replace(small_config, train=dataclasses.replace(small_config.train, accumulate=accumulate))
        made = Trainer(selected(open_dataset(data)), tmp_path / str(accumulate), config, HERE)
        made.codes = torch.zeros(len(made.dataset), config.model.style_width)
        made.advance(next(iter(made.data)))
        made.data.close()
        return made

    whole, parts = stepped(1), stepped(3)
    for one, other in zip(whole.denoiser.parameters(), parts.denoiser.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad, rtol=2e-3, atol=1e-5)


def test_two_processes_under_torchruns_environment_train_one_generator(
    data: Path, tmp_path: Path, small_config: GeneratorConfig
) -> None:
    config = dataclasses.replace(small_config, train=dataclasses.replace(small_config.train, steps=2, save_every=2))
    script = (
        "import sys; from pathlib import Path\n"
        "from generator.config import from_json; from generator.train import train, place_from_environment\n"
        "train(Path(sys.argv[1]), Path(sys.argv[2]), from_json(sys.argv[3]), place=place_from_environment('cpu'))\n"
    )
    shared = {**os.environ, "PYTHONPATH": str(REPOSITORY), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(20_000 + os.getpid() % 20_000), "OMP_NUM_THREADS": "1"}  # fmt: skip
    arguments = [sys.executable, "-c", script, str(data), str(tmp_path / "two"), to_json(config)]
    started = [
        subprocess.Popen(
            arguments, env={**shared, "RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE, text=True
        )
        for r in range(2)
    ]
    told = [process.communicate(timeout=200)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert len(losses(tmp_path / "two")) == 2
    assert load_checkpoint(tmp_path / "two").step == 2


def test_batches_hold_what_the_data_set_holds(
    dataset: Dataset, small_config: GeneratorConfig, open_head: HeadModel
) -> None:
    chosen = selected(dataset)
    layout = make_layout(open_head, dataset.stats)
    data = TrainingData(chosen, small_config, layout, batch=4, seed=0)
    batch = next(iter(data))
    data.close()
    clip = chosen[int(batch.clip[0])]
    assert batch.motion.shape == (4, small_config.window + small_config.context, layout.width)
    truth = layout.vector({name: np.asarray(clip[name]) for name in layout.signals})
    distance = [np.abs(truth[k : k + 70] - batch.motion[0].numpy()).max() for k in range(len(truth) - 69)]
    assert min(distance) < 1e-5
    place = int(np.argmin(distance))
    features = np.asarray(clip.read("audio_logmel"))
    assert np.allclose(features[place : place + 70], batch.audio[0].numpy(), atol=1e-5)
    emotions, known = clip_emotions(chosen)
    assert known.all()
    given = clip.index["emotion_given"]
    assert emotions[int(batch.clip[0])].sum() == pytest.approx(clip.index["emotion_given_intensity"])
    assert given == "neutral" or emotions[int(batch.clip[0])][EMOTIONS.index(given)] > 0
    groups = style_groups(chosen)
    assert len(set(groups.tolist())) == 4  # two speakers with two manners


def test_windows_of_another_frame_rate_are_read_at_the_generators(
    dataset: Dataset, small_config: GeneratorConfig, open_head: HeadModel
) -> None:
    chosen = selected(dataset)
    layout = make_layout(open_head, dataset.stats)
    slow = dataclasses.replace(small_config, fps=20)  # the data have 25
    data = TrainingData(chosen, slow, layout, batch=4, seed=0)
    batch = next(iter(data))
    data.close()
    assert batch.motion.shape[1] == 70
    assert bool(batch.valid.all())
    clip = chosen[int(batch.clip[0])]
    truth = layout.vector({name: np.asarray(clip[name]) for name in layout.signals})
    best = []
    for start in range(len(truth) - 88):
        at = start + np.arange(70) * 25 / 20
        low = at.astype(int)
        made = truth[low] + (at - low)[:, None] * (truth[low + 1] - truth[low])
        best.append(np.abs(made - batch.motion[0].numpy()).max())
    assert min(best) < 1e-3


def test_bad_calls_say_what_to_do(
    training: Path, talkers: Path, data: Path, tmp_path: Path, small_config: GeneratorConfig
) -> None:
    with pytest.raises(UsageError, match="--resume"):
        train(data, training, small_config)
    changed = dataclasses.replace(small_config, train=dataclasses.replace(small_config.train, batch=5))
    with pytest.raises(UsageError, match=r"other settings: train\.batch=6"):
        train(data, training, changed, resume=True)
    with pytest.raises(UsageError, match="talkset train features"):
        train(talkers, tmp_path / "none", small_config)
    assert add_features(data, tmp_path / "unused") == data
    torn = tmp_path / "torn" / CHECKPOINT
    torn.parent.mkdir()
    torn.write_bytes((training / CHECKPOINT).read_bytes()[:1000])
    with pytest.raises(TalksetError, match="no readable safetensors"):
        load_checkpoint(torn)
    with pytest.raises(UsageError, match="no generator that this talkset reads"):
        load_checkpoint(training / STATE)
    with pytest.raises(TalksetError, match="no checkpoint"):
        load_checkpoint(tmp_path / "nowhere")


def test_configurations_are_checked_and_travel_as_text() -> None:
    config = load_config("tiny", ["train.steps=7", "loss.exchange=0.5", "body=false"])
    assert (config.train.steps, config.loss.exchange) == (7, 0.5)
    assert from_json(to_json(config)) == config
    with pytest.raises(UsageError, match=r"train\.steps"):
        load_config("tiny", ["train.step=7"])
    with pytest.raises(UsageError, match="unknown configuration"):
        load_config("huge")
    with pytest.raises(UsageError, match="makes no generator"):
        load_config("tiny", ["context=90"])


def test_base_has_about_35_million_parameters(open_head: HeadModel, dataset: Dataset) -> None:
    layout = make_layout(open_head, dataset.stats)
    base, _ = make_networks(load_config("base"), layout, Sizes(160, open_head.num_shape))
    assert 33e6 < parameter_count(base) < 37e6
