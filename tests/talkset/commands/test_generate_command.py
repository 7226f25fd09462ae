"""`talkset train generator`, `generate` and `evaluate generator` from end to end on a small set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from annotate.audio import write_wav
from reconstruct.video import frames, read_audio
from schemas.verify import verify_dataset
from synthetic.training_set import Plan, make_training_set
from talkset.cli import main
from talkset.dataset import open_dataset

SMALL = (
    "model.width=32", "model.layers=1", "model.audio_width=16", "model.style_width=8", "style.width=16",
    "style.steps=4", "style.batch=4", "train.steps=4", "train.batch=4", "train.save_every=2", "loss.lip_vertices=6",
    "diffusion.sample_steps=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set and a training, by the command."""
    root = tmp_path_factory.mktemp("command")
    data = make_training_set(
        root / "data", Plan(speakers=2, test_speakers=1, clips=2, test_clips=2, sentences=2), workers=1
    )
    settings = [part for value in SMALL for part in ("--set", value)]
    assert main(["train", "generator", "--data", str(data), "--out", str(root / "out"), *settings]) == 0
    return data, root / "out"


def test_training_refuses_a_folder_in_use_and_resumes(
    made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = made
    settings = [part for value in SMALL for part in ("--set", value)]
    call = ["train", "generator", "--data", str(data), "--out", str(out), *settings]
    assert main(call) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*call, "--resume"]) == 0
    assert main(["train", "generator", "--data", str(data), "--out", str(out), "--config", "huge"]) == 2


def test_generate_writes_a_row_a_video_with_sound_and_gltf(made: tuple[Path, Path], tmp_path: Path) -> None:
    data, training = made
    sound = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    write_wav(tmp_path / "a.wav", sound, 16_000)
    clip = open_dataset(data, split="test")[0].clip_id
    call = [
        "generate",
        "--audio",
        str(tmp_path / "a.wav"),
        "--style",
        clip,
        "--emotion",
        "happiness:0.8",
        "--seed",
        "1",
    ]
    call += ["--data", str(data), "--checkpoint", str(training), "--out", str(tmp_path / "out")]
    assert main(call) == 0
    assert not verify_dataset(tmp_path / "out/dataset")
    made_set = open_dataset(tmp_path / "out/dataset")
    assert len(made_set) == 1
    row = made_set[0]
    assert row["expression"].shape == (37, 52)
    assert row.index["emotion_given"] == "happiness"
    assert row.index["emotion_given_intensity"] == pytest.approx(0.8)
    assert json.loads(row.index["labels"])["style_clip"] == clip
    heard, _ = row.audio(16_000, mono=True)
    assert np.abs(heard[:20_000, 0] - sound[:20_000]).max() < 1e-3
    (video,) = (tmp_path / "out").glob("*.mp4")
    pictures = [rgb for _, rgb in frames(video)]
    assert len(pictures) == 37
    assert pictures[0].std() > 20  # a head on a plain ground
    assert read_audio(video, 0, 1_000_000) is not None
    assert len(list((tmp_path / "out").glob("*.glb"))) == 1
    first = row["expression"]
    assert main([*call[:-1], str(tmp_path / "again"), "--no-video", "--no-gltf"]) == 0
    assert np.array_equal(open_dataset(tmp_path / "again/dataset")[0]["expression"], first)


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"--style": "nobody"}, 2, "no accepted clip 'nobody'"),
        ({"--emotion": "joy"}, 2, "unknown emotion 'joy'"),
        ({"--audio": "missing.wav"}, 1, "missing.wav"),
        ({"--audio": "torn.wav"}, 1, "torn.wav"),
    ],
)
def test_what_cannot_be_generated_is_said(
    made: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    status: int,
    said: str,
) -> None:
    data, training = made
    (tmp_path / "torn.wav").write_bytes(b"RIFF\x10\x00\x00\x00WAVEfmt ")
    write_wav(tmp_path / "good.wav", np.zeros(8000, np.float32), 16_000)
    if "--audio" in change:
        change = {"--audio": str(tmp_path / change["--audio"])}
    style = open_dataset(data)[0].clip_id
    options = {"--audio": str(tmp_path / "good.wav"), "--style": style, "--data": str(data)}
    options |= {"--checkpoint": str(training), "--out": str(tmp_path / "out")} | change
    assert main(["generate", *(part for pair in options.items() for part in pair)]) == status
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True
