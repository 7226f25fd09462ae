"""The command: exit statuses, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import yaml
from talking_clips import people, write_clip

from reconstruct.video import frames
from schemas.config import Config
from schemas.settings import to_dict
from schemas.verify import verify_dataset
from talkset import cli

QUICK = ["--engine", "local", "--set", "fit.iterations=3", "--set", "segment.require_speech=false"]


@dataclass(frozen=True)
class Finished:
    """A data set that `talkset fit` made."""

    video: Path
    out: Path
    clip_id: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("command")
    video = write_clip(folder / "someone speaks.mp4", people()[0])
    out = folder / "out"
    assert cli.main(["fit", str(video), "--out", str(out), *QUICK[2:]]) == 0
    return Finished(video, out, pd.read_parquet(out / "index.parquet").clip_id[0])


def _json(capfd: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capfd.readouterr().out)


def test_fit_makes_a_data_set_with_its_overlay(finished: Finished) -> None:
    assert verify_dataset(finished.out) == []
    with av.open(str(finished.out / "overlays" / f"{finished.clip_id}.mp4")) as overlay:
        assert overlay.streams.video[0].frames == len(people()[0])
        assert len(overlay.streams.audio) == 1


def test_json_alone_is_on_stdout(finished: Finished, capfd: pytest.CaptureFixture[str]) -> None:
    command = ["run", str(finished.video), "--out", str(finished.out), *QUICK, "--json"]
    assert cli.main(command) == 0
    report = _json(capfd)
    assert (report["accepted"], report["written"], report["problems"]) == (1, False, [])


def test_a_failed_source_is_status_1_unless_the_budget_allows_it(
    finished: Finished, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"uri\n{finished.video}\nmissing [1].mp4\n")
    command = ["run", str(manifest), "--out", str(tmp_path / "out"), "--no-overlays", *QUICK]
    assert cli.main(command) == 1
    told = capfd.readouterr()
    assert told.out == ""
    assert "missing_file" in told.err
    assert "missing [1].mp4" in told.err
    assert cli.main([*command, "--set", "run.error_budget=0.5"]) == 0
    assert not (tmp_path / "out" / "overlays").exists()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["run", "--set", "fit.sahpe_weight=1", "--show-config"], "Did you mean fit.shape_weight"),
        (["run", "--set", "fit.iterations=many", "--show-config"], "fit.iterations"),
        (["run", "nowhere.csv", "--out", "x"], "nowhere.csv"),
        (["run", "--engine", "rai", "video.mp4", "--out", "x"], "Did you mean 'ray'"),
        (["run"], "talkset run MANIFEST"),
        (["run", "--workers", "0"], "--workers"),
        (["verify", "nowhere"], "nowhere"),
        (["fly"], "fly"),
    ],
)
def test_a_wrong_call_is_status_2(
    command: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(command) == 2
    told = capfd.readouterr()
    assert said in told.err
    assert "Traceback" not in told.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_status_1(
    finished: Finished, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["run", str(finished.video), "--out", str(tmp_path / "file" / "out"), *QUICK]) == 1
    assert "not_writable" in capfd.readouterr().err


def test_an_interrupt_says_how_to_go_on(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import pipelines.run

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipelines.run, "run", interrupted)
    command = ["run", str(finished.video), "--out", str(finished.out), *QUICK]
    monkeypatch.setattr("sys.argv", ["talkset", *command])
    assert cli.main(command) == 130
    assert f"talkset run '{finished.video}' --out {finished.out}" in capfd.readouterr().err


def test_show_config_can_be_read_back(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--show-config", "--set", "fit.shape_weight=0.25"]) == 0
    shown = capfd.readouterr().out
    assert yaml.safe_load(shown) == {**to_dict(Config()), "fit": {**to_dict(Config().fit), "shape_weight": 0.25}}
    (tmp_path / "c.yaml").write_text(shown)
    assert cli.main(["run", "--show-config", "--config", str(tmp_path / "c.yaml")]) == 0
    assert capfd.readouterr().out == shown


def test_verify_names_the_damaged_file(finished: Finished, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.out, copy)
    assert cli.main(["verify", str(copy), "--json"]) == 0
    assert _json(capfd) == []
    shard = copy / "params" / "part-00000.parquet"
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    assert cli.main(["verify", str(copy), "--json"]) == 1
    assert [problem["file"] for problem in _json(capfd)] == ["params/part-00000.parquet"]


def test_overlays_are_rendered_again_from_the_data_set(
    finished: Finished, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(finished.out, copy)
    name = f"overlays/{finished.clip_id}.mp4"
    (copy / name).unlink()
    assert cli.main(["overlay", str(copy), finished.clip_id, "--json"]) == 0
    assert _json(capfd) == [str(copy / name)]
    # the tables hold the focal length as float32, the run had it as float64
    again, first = ([rgb.astype(float) for _, rgb in frames(root / name)] for root in (copy, finished.out))
    assert len(again) == len(first)
    assert max(np.abs(a - b).mean() for a, b in zip(again, first, strict=True)) < 0.5
    assert verify_dataset(copy) == []
    assert cli.main(["run", str(finished.video), "--out", str(copy), *QUICK, "--json"]) == 0
    assert _json(capfd)["written"] is False
    assert cli.main(["overlay", str(copy), "nobody"]) == 2


def test_status_counts_the_stages(finished: Finished, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", str(finished.out), "--json"]) == 0
    told = _json(capfd)
    assert list(told["stages"]) == [
        *("probe", "segment", "speech", "speakers", "clips"),
        *("landmarks", "fit", "sync", "quality", "motion_events", "style", "emotion"),
        *("fingerprint", "media", "overlay"),
    ]
    assert {(stage["done"], stage["quarantined"]) for stage in told["stages"].values()} == {(1, 0)}
    assert told["state"] == "finished"


def test_models_and_doctor(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "list", "--json"]) == 0
    assert [entry["name"] for entry in _json(capfd)] == ["open-head", "open-body"]
    assert cli.main(["doctor", "--json"]) == 0
    found = {finding["name"]: finding for finding in _json(capfd)}
    assert all(finding["good"] for finding in found.values())
    assert {"ffmpeg", "ray", "torch", "model open-head", "cores"} <= set(found)
