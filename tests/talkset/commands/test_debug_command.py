"""The debug verbs on a real clip, as a user calls them after a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from talking_clips import people, write_clip

from pipelines.results import ResultStore
from talkset import cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run over one clip, started with relative paths."""
    folder = tmp_path_factory.mktemp("debug")
    write_clip(folder / "talk.mp4", people()[0])
    (folder / "manifest.jsonl").write_text('{"uri": "talk.mp4"}\n')
    quick = {
        "fit": {"iterations": 3},
        "segment": {"require_speech": False},
        "overlay": {"enabled": False},
        "shards": {"figures": False},
        "run": {"engine": "local"},
    }
    (folder / "quick.yaml").write_text(json.dumps(quick))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert (
            cli.main(["run", "manifest.jsonl", "--out", "out", "-c", "quick.yaml", "-s", "shards.figures=false"]) == 0
        )
    return folder


def stored(folder: Path) -> dict[str, bytes]:
    results = ResultStore(folder / "out").folder
    return {path.as_posix(): path.read_bytes() for path in results.rglob("*") if path.is_file()}


def called(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    capfd.readouterr()
    status = cli.main(list(arguments))
    captured = capfd.readouterr()
    return status, json.loads(captured.out) if captured.out else None, captured.err


def test_a_stage_of_a_clip_alone_is_what_the_run_made(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, out = stored(folder), str(folder / "out")
    status, told, shown = called(capfd, "debug", out, "--only", "clips", "--clip", "talk.mp4")
    assert (status, told["state"], told["stored"]) == (0, "done", "equal")
    assert "done" in shown
    clip = told["value"]["clips"][0]["clip_id"]
    assert len(json.dumps(told)) < 3000  # long lists are cut
    for stage in ("landmarks", "fit", "media"):
        status, told, _ = called(capfd, "debug", out, "--only", stage, "--clip", clip)
        assert (status, told["stored"], told["unit"]) == (0, "equal", clip)
    status, told, _ = called(capfd, "debug", out, "--only", "fit", "--clip", clip[:8], "--set", "fit.max_nme=0.0001")
    assert (status, told["state"], told["reason"]) == (0, "rejected", "poor_fit")
    status, told, shown = called(capfd, "debug", out, "--only", "fits", "--clip", clip)
    assert (status, told) == (2, None)
    assert "Did you mean 'fit'?" in shown
    assert stored(folder) == before


def test_a_saved_case_is_replayed_and_compared(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    case, out = folder / "case", str(folder / "out")
    clip = next(iter((folder / "out" / "media").glob("*.mp4"))).stem
    status, told, shown = called(capfd, "debug", out, "--only", "fit", "--clip", clip, "--save", str(case))
    assert (status, told["state"]) == (0, "done")
    assert f"talkset replay {case} --golden" in shown
    status, told, shown = called(capfd, "replay", str(case), "--golden", "--tolerance", "0")
    assert (status, told["differences"], told["notes"]) == (0, [], [])
    assert "equal within 0" in shown
    with np.load(case / "golden.npz") as golden:
        arrays = dict(golden)
    arrays["jaw_pose"] = arrays["jaw_pose"] + np.float32(0.01)
    np.savez(case / "golden.npz", **arrays)
    status, told, shown = called(capfd, "replay", str(case), "--golden")
    assert status == 1
    assert "differs arrays.jaw_pose" in shown
    assert "by 0.01 at most" in shown
    assert len(told["differences"]) == 1
    assert called(capfd, "replay", str(case))[0] == 0
    assert called(capfd, "replay", str(case), "--golden", "--tolerance", "0.02")[0] == 0
    shutil.rmtree(case)


def test_a_run_that_was_no_command_needs_the_manifest(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    events = folder / "out" / ".talkset" / "events.jsonl"
    kept = events.read_bytes()
    events.unlink()
    try:
        status, _, shown = called(capfd, "debug", str(folder / "out"), "--only", "probe", "--clip", "talk.mp4")
        assert status == 2
        assert "--manifest" in shown
        more = ["--manifest", str(folder / "manifest.jsonl"), "--config", str(folder / "quick.yaml")]
        status, told, _ = called(capfd, "debug", str(folder / "out"), "--only", "probe", "--clip", "talk.mp4", *more)
        assert (status, told["stored"]) == (0, "equal")
    finally:
        events.write_bytes(kept)
