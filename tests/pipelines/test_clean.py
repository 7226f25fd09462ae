"""Cleaning removes what nothing rests on, and only that, however it ends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scripted_stages import attempts, config, content, install, write_sources

from pipelines.clean import clean
from pipelines.events import EventLog
from pipelines.ledger import Ledger
from pipelines.output import locked_output
from pipelines.plan import _keep_results
from pipelines.results import Result, ResultStore
from pipelines.run import run
from schemas.errors import TalksetError, UsageError
from talkset import cli


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three good sources."""
    install(monkeypatch)
    return write_sources(tmp_path, {"a.mp4": "ok", "b.mp4": "ok", "c.mp4": "ok"})


@pytest.fixture
def changed(manifest: Path) -> Path:
    """The folder of a finished run, after one source got another content: two results are stale."""
    out = manifest.parent / "out"
    run(manifest, out, config())
    (manifest.parent / "a.mp4").write_text("ok\nanother")
    run(manifest, out, config())
    return out


def stored(root: Path) -> set[str]:
    folder = ResultStore(root).folder
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_a_run_does_not_use_is_removed(manifest: Path, changed: Path) -> None:
    before, data = stored(changed), content(changed)
    assert len(before) == 8  # two stages of three sources, and of the old content
    told = clean(changed, dry_run=True)
    assert (told.results, told.files, told.kept) == (2, 2, 6)
    assert stored(changed) == before
    done = clean(changed)
    assert done == told
    assert done.bytes > 0
    after = stored(changed)
    assert after < before
    assert len(after) == 6
    assert content(changed) == data
    tries = attempts(manifest.parent, "a.mp4")
    report = run(manifest, changed, config())
    assert not report.written
    assert {name: stage.made for name, stage in report.stages.items()} == {"probe": 0, "clips": 0}
    assert attempts(manifest.parent, "a.mp4") == tries
    assert clean(changed).files == 0


def test_every_payload_of_a_stale_result_goes(changed: Path) -> None:
    store = ResultStore(changed)
    with store.scratch() as scratch:
        (scratch / "m.mp4").write_bytes(bytes(10_000))
        store.save("media", "ab" * 32, "u", Result({}, files={".mp4": scratch / "m.mp4"}))
        media = store.path("media", "ab" * 32, ".mp4")
        os.link(media, changed / "linked.mp4")
    half = store.path("media", "cd" * 32, ".mp4")
    half.parent.mkdir(parents=True)
    half.write_bytes(bytes(50_000))  # of a run that was killed before it wrote the JSON file
    half.with_name(f".{'cd' * 32}.json.x1y2").write_bytes(b"{")
    store.scratch_folder.mkdir(exist_ok=True)
    (store.scratch_folder / "left").write_bytes(bytes(20_000))
    done = clean(changed)
    assert (done.results, done.files) == (3, 7)
    assert 70_000 <= done.bytes < 120_000  # what the data set links to frees nothing
    assert (changed / "linked.mp4").stat().st_nlink == 1
    assert not (store.folder / "media").exists()
    assert not store.scratch_folder.exists()


def test_cut_short_it_leaves_whole_results(changed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResultStore(changed)
    for number in range(3):
        store.save("landmarks", f"{number:064d}", "u", Result({"n": number}, {"x": np.full(100, number)}))
    with Ledger(changed) as ledger:
        used = {(entry.stage, entry.key) for entry in ledger.entries()}
    unlink, removed = Path.unlink, 0
    for stop_at in range(4):

        def dying(path: Path, missing_ok: bool = False, stop_at: int = stop_at) -> None:
            nonlocal removed
            if ".talkset/results" in path.as_posix():
                if removed == stop_at:
                    raise KeyboardInterrupt
                removed += 1
            unlink(path, missing_ok)

        removed = 0
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", dying)
            with pytest.raises(KeyboardInterrupt):
                clean(changed)
        for row in store.scan():
            store.load(row.stage, row.key)  # each that is there has its payloads
        assert used <= {(row.stage, row.key) for row in store.scan()}
    assert clean(changed).files > 0
    assert {(row.stage, row.key) for row in store.scan()} == used
    assert len(stored(changed)) == len(used)


def test_results_that_were_found_are_used_too(manifest: Path) -> None:
    out, pilot = manifest.parent / "out", manifest.parent / "pilot"
    run(manifest, pilot, config())
    out.mkdir()
    (out / ".talkset").mkdir()
    _keep_results(pilot, out)  # what `plan --out` does; the ledger of the later run has not made them
    report = run(manifest, out, config())
    assert report.stages["probe"].reused == 3
    assert clean(out).results == 0
    assert len(stored(out)) == 6


def test_only_after_a_finished_run(manifest: Path, changed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = stored(changed)
    with EventLog(changed) as log:
        log.write("run_start", host="h", pid=1)
    with pytest.raises(UsageError, match="ended as killed"):
        clean(changed)
    with EventLog(changed) as log:
        log.write("run_end", outcome="stopped")
    assert cli.main(["clean", str(changed)]) == 2
    assert "ended as stopped" in capfd.readouterr().err
    (changed / ".talkset" / "events.jsonl").unlink()
    with pytest.raises(UsageError, match="not on record"):
        clean(changed)
    assert stored(changed) == before
    run(manifest, changed, config())
    assert cli.main(["clean", str(changed), "--dry-run", "--json"]) == 0
    captured = capfd.readouterr()
    assert json.loads(captured.out)["results"] == 2
    assert "would remove 2 results (2 files)" in captured.err
    assert cli.main(["clean", str(changed)]) == 0
    assert "removed 2 results" in capfd.readouterr().err


def test_not_while_a_run_is_at_work(changed: Path, tmp_path: Path) -> None:
    before = stored(changed)
    with locked_output(changed), pytest.raises(TalksetError, match="another run") as caught:
        clean(changed)
    assert caught.value.reason == "not_writable"
    assert stored(changed) == before
    with pytest.raises(UsageError, match="no run state"):
        clean(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()
