"""The commands: one chain as a user would type it, exit statuses, and what they print."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dataset_builder import build, random_clip, writer

from schemas.config import ShardConfig
from schemas.verify import verify_dataset
from talkset.cli import main
from talkset.dataset import open_dataset

REPOSITORY = Path(__file__).resolve().parents[3]
OLD = Path(__file__).resolve().parents[2] / "data" / "schema-1.0.0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("commands") / "ds"
    build(root)
    return root


def _printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_chain_of_versions(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, parts, more, charm = (str(tmp_path / name) for name in ("good", "parts", "more", "charm"))
    assert main(["filter", str(made), "--out", good, "--where", "nme_mean < 0.035", "--json"]) == 0
    kept = _printed(capsys)["counts"]["accepted"]
    assert 0 < kept < 10
    assert main(["split", good, "-o", parts, "--train", "0.5", "--val", "0", "--test", "0.5", "--by", "source"]) == 0
    with writer(tmp_path / "other") as target:
        target.add(random_clip(40))
        target.finish()
    assert main(["merge", parts, str(tmp_path / "other"), "-o", more, "--name", "all", "--version", "7.0.0"]) == 0
    (tmp_path / "charm.csv").write_text("clip_id,charm\nclip_0040,0.5\n")
    command = ["add-column", more, "charm", "--from", str(tmp_path / "charm.csv"), "-o", charm, "--low", "0"]
    assert main([*command, "--json"]) == 0
    capsys.readouterr()
    dataset = open_dataset(charm, where="charm > 0.1")
    assert [clip.clip_id for clip in dataset] == ["clip_0040"]
    assert (dataset.facts["name"], dataset.facts["version"]) == ("all", "7.1.0")
    assert [step["operation"] for step in dataset.facts["history"]] == ["filter", "split", "merge", "add-column"]
    assert main(["push", charm, f"file://{tmp_path}/published"]) == 0
    assert verify_dataset(tmp_path / "published") == []
    assert len(open_dataset(f"file://{tmp_path}/published")) == kept + 1
    assert main(["verify", charm]) == 0


def test_upgrade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upgrade", str(OLD), "--out", str(tmp_path / "new")]) == 0
    assert "3 clips" in capsys.readouterr().err
    assert main(["upgrade", str(tmp_path / "new"), "--out", str(tmp_path / "again")]) == 2
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["filter", "{ds}", "--out", "{new}"], "needs a condition"),
        (["filter", "{ds}", "--out", "{new}", "--where", "nme_men < 1"], "did you mean 'nme_mean'"),
        (["filter", "{ds}", "--out", "{new}", "--where", "nme_mean <"], "cannot be read"),
        (["filter", "{ds}", "--out", "{ds}", "--where", "nme_mean < 1"], "exists already"),
        (["split", "{ds}", "--out", "{new}", "--train", "0.9"], "not shares"),
        (["split", "{ds}", "--out", "{new}", "--by", "moon"], "cannot split by 'moon'"),
        (["add-column", "{ds}", "x", "--from", "{ds}/index.parquet", "--out", "{new}"], "cannot be used"),
        (["add-column", "{ds}", "x", "--from", "{ds}/index.parquet", "--out", "{new}", "--shape", "T,a"], "axis 'a'"),
        (["push", "{ds}", "nowhere://x"], "nowhere://x"),
    ],
)
def test_wrong_calls(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    filled = [argument.format(ds=made, new=tmp_path / "new") for argument in arguments]
    assert main(filled) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_a_killed_filter_leaves_nothing_and_the_next_cleans_up(tmp_path: Path) -> None:
    source = tmp_path / "ds"
    with writer(source, ShardConfig(clips_per_row_group=2, figures=False)) as target:
        for number in range(120):
            target.add(random_clip(number, frames=60))
        target.finish()
    command = [sys.executable, "-m", "talkset.cli", "filter", str(source), "--out", str(tmp_path / "new")]
    command += ["--where", "nme_mean < 1"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".new.partial-*/params/.part-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "new").exists()
    assert len(list(tmp_path.glob(".new.partial-*"))) == 1
    assert verify_dataset(source) == []
    assert subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ds", "new"]
    assert verify_dataset(tmp_path / "new") == []
