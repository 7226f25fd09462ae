"""Whole runs: every kind of bad source beside good ones, resuming, and what is made again when something changes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from talking_clips import people, write_clip

from pipelines import work
from pipelines.build import LABEL_STAGES
from pipelines.child import close_children
from pipelines.ledger import Ledger
from pipelines.quarantine import failures as failures_of
from pipelines.quarantine import release
from pipelines.report import RunReport
from pipelines.run import read_sources, run
from schemas.config import Config, load_config
from schemas.errors import REASONS, TalksetError, UsageError
from schemas.verify import verify_dataset

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = ["overlay.enabled=false", "fit.iterations=3", "segment.require_speech=false"]
ASKED_FOR = ("body_landmarks", "body_fit", "semantics", "language_model", "ordinary")
"""Stages that need something else: a body, words, a language model, or a speaker who is named."""
CLIP = tuple(name for name in LABEL_STAGES if name not in ASKED_FOR)
FROM_FIT = ("fit", "motion_events", "style", "emotion")
SOURCE = dict.fromkeys(("probe", "segment", "speech", "speakers", "clips"), 2)
STILL = np.full((288, 360, 3), 90, np.uint8)


def config(*overrides: str, engine: str = "local") -> Config:
    return load_config(None, [*QUICK, f"run.engine={engine}", "run.workers=2", *overrides])


def content(root: Path) -> dict[str, bytes]:
    """Every file of a data set but the run state."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and ".talkset" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def index(root: Path) -> pd.DataFrame:
    table: pd.DataFrame = pd.read_parquet(root / "index.parquet").set_index("clip_id")
    return table


def write_manifest(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


# One run over everything that can be wrong with a source.


@dataclass(frozen=True)
class Poison:
    manifest: Path
    out: Path
    report: RunReport
    rows: pd.DataFrame


def _damaged_videos(folder: Path) -> None:
    one, two = people()
    write_clip(folder / "good.mp4", one)
    shutil.copy(folder / "good.mp4", folder / "good again.mp4")
    write_clip(folder / "silent.mp4", two, sound=False)
    write_clip(folder / "Ünïcödé mit leer 顔.mp4", two)
    (folder / "empty.mp4").touch()
    (folder / "folder.mp4").mkdir()
    (folder / "text.mp4").write_text("This is no video.\n" * 100)
    whole = write_clip(folder / "whole.mp4", [*one, *one[::-1]]).read_bytes()
    (folder / "whole.mp4").unlink()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "headless.mp4").write_bytes(whole[len(whole) // 2 :])
    write_clip(folder / "still.mp4", [STILL] * 30)
    write_clip(folder / "one frame.mp4", one[:1])
    write_clip(folder / "three frames.mp4", one[:3])
    height = min(one[0].shape[0], two[0].shape[0])
    write_clip(folder / "two faces.mp4", [np.hstack([a[:height], b[:height]]) for a, b in zip(one, two, strict=True)])
    wall = np.full_like(one[0], 90)
    gone = [np.hstack([wall[:, : 16 * i], rgb])[:, : rgb.shape[1]] for i, rgb in enumerate(one)]
    write_clip(folder / "leaving.mp4", [*one, *gone, *[wall] * 30])


@pytest.fixture(scope="module")
def poison(tmp_path_factory: pytest.TempPathFactory) -> Poison:
    folder = tmp_path_factory.mktemp("poison ü")
    _damaged_videos(folder)
    uris = [
        *("good.mp4", "missing.mp4", "empty.mp4", "folder.mp4", "text.mp4", "truncated.mp4", "headless.mp4"),
        *("still.mp4", "one frame.mp4", "three frames.mp4", "two faces.mp4", "leaving.mp4", "silent.mp4"),
        *("Ünïcödé mit leer 顔.mp4", "good.mp4", "good again.mp4", "ftp://host/a.mp4", "half\ud800.mp4"),
    ]
    rows: list[dict[str, Any]] = [{"uri": uri} for uri in uris]
    rows[0] |= {"transcript": "xyzzy plugh", "speaker": "a", "labels": {"take": "1"}, "licence": "CC0-1.0"}
    rows.append({"uri": "silent.mp4", "sha256": "0" * 64})
    rows.append({"uri": "silent.mp4", "start": 90})
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run(path, folder / "out", config())
    return Poison(path, folder / "out", report, index(folder / "out").reset_index())


EXPECTED = {
    "missing.mp4": ("failed", "missing_file"),
    "empty.mp4": ("failed", "empty_file"),
    "folder.mp4": ("failed", "unreadable_file"),
    "text.mp4": ("failed", "not_a_video"),
    "truncated.mp4": ("failed", "truncated"),
    "headless.mp4": ("failed", "not_a_video"),
    "ftp://host/a.mp4": ("failed", "unsupported_uri"),
    "half\\ud800.mp4": ("failed", "missing_file"),
    "still.mp4": ("rejected", "no_face"),
    "one frame.mp4": ("rejected", "too_short"),
    "three frames.mp4": ("rejected", "too_short"),
    "two faces.mp4": ("rejected", "ambiguous_faces"),
}


@pytest.mark.parametrize("uri", EXPECTED)
def test_a_bad_source_is_one_row_with_its_reason(poison: Poison, uri: str) -> None:
    rows = poison.rows[poison.rows.source_uri == uri]
    assert [(row.status, row.reason) for row in rows.itertuples()] == [EXPECTED[uri]]
    told = [problem for problem in poison.report.problems if problem.uri == uri]
    assert [problem.reason for problem in told] == [EXPECTED[uri][1]]
    assert told[0].message
    assert str(poison.manifest.parent) not in rows.warnings.iloc[0]


def test_neighbours_of_bad_sources_are_whole(poison: Poison) -> None:
    accepted = poison.rows[poison.rows.status == "accepted"].set_index("source_uri")
    assert set(accepted.index) == {"good.mp4", "silent.mp4", "Ünïcödé mit leer 顔.mp4", "leaving.mp4"}
    assert (accepted.num_frames[["good.mp4", "silent.mp4", "Ünïcödé mit leer 顔.mp4"]] == 30).all()
    assert (accepted.nme_mean < 0.05).all()
    assert poison.report.accepted == 4
    assert verify_dataset(poison.out) == []


def test_speech_that_is_missing_costs_no_clip(poison: Poison) -> None:
    accepted = poison.rows[poison.rows.status == "accepted"].set_index("source_uri")
    assert accepted.warnings["good.mp4"].startswith("wrong_transcript: ")
    assert accepted.transcript["good.mp4"] == "xyzzy plugh"
    assert accepted.warnings["silent.mp4"] == f"no_audio: {REASONS['no_audio']}"
    assert list(accepted.has_audio[["good.mp4", "silent.mp4"]]) == [True, False]


def test_media_are_those_of_the_accepted_clips(poison: Poison) -> None:
    accepted = poison.rows[poison.rows.status == "accepted"]
    names = {f"{row.clip_id}.mp4" for row in accepted.itertuples()}
    names |= {f"{row.clip_id}.wav" for row in accepted.itertuples() if row.has_audio}
    assert {path.name for path in (poison.out / "media").iterdir()} == names


def test_a_leaving_face_ends_its_clip(poison: Poison) -> None:
    rows = poison.rows[poison.rows.source_uri == "leaving.mp4"].sort_values("start_us")
    assert rows.status.iloc[0] == "accepted"
    assert rows.status.iloc[-1] == "rejected"
    assert rows.reason.iloc[-1] == "no_face"
    assert list(rows.start_us[1:]) == list(rows.end_us[:-1])
    assert rows.end_us.iloc[0] < 2_400_000 < rows.end_us.iloc[-1]


def test_repeated_content_is_a_duplicate(poison: Poison) -> None:
    rows = poison.rows[poison.rows.reason == "duplicate"]
    assert sorted(rows.source_uri) == ["good again.mp4", "good.mp4"]
    assert (rows.status == "rejected").all()
    told = [problem for problem in poison.report.problems if problem.reason == "duplicate"]
    assert sorted(problem.row for problem in told) == [15, 16]
    assert all("row 1" in problem.message for problem in told)


def test_a_row_that_describes_another_file_or_span(poison: Poison) -> None:
    rows = poison.rows[(poison.rows.source_uri == "silent.mp4") & (poison.rows.status == "failed")]
    assert sorted(rows.reason) == ["bad_value", "sha256_mismatch"]


def test_failures_are_counted_by_source(poison: Poison) -> None:
    # the two duplicates repeat a good source
    assert poison.report.sources == 20
    assert poison.report.sources_failed == len(EXPECTED) + 2
    assert poison.report.within(14 / 20)
    assert not poison.report.within(13 / 20)


def test_nothing_changed_nothing_done(poison: Poison, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Config) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(work, "loaded_models", refuse)
    before = {p: p.stat().st_mtime_ns for p in poison.out.rglob("*") if p.is_file() and ".talkset" not in p.parts}
    started = time.perf_counter()
    report = run(poison.manifest, poison.out, config())
    assert time.perf_counter() - started < 2
    assert not report.written
    assert sum(stage.made for stage in report.stages.values()) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert (report.accepted, report.sources_failed) == (poison.report.accepted, poison.report.sources_failed)
    reasons = sorted(problem.reason for problem in poison.report.problems)
    assert sorted(problem.reason for problem in report.problems) == reasons


# Two good sources, and what changes.


@dataclass(frozen=True)
class Pair:
    folder: Path
    manifest: Path
    out: Path
    files: dict[str, bytes]

    def again(self, *overrides: str, engine: str = "local") -> RunReport:
        return run(self.manifest, self.out, config(*overrides, engine=engine))


@pytest.fixture(scope="module")
def first_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    for name, pictures in zip(("a", "b"), people(), strict=True):
        write_clip(folder / f"{name}.mp4", pictures)
    manifest = write_manifest(folder / "pair.jsonl", [{"uri": "a.mp4", "speaker": "a"}, {"uri": "b.mp4"}])
    run(manifest, folder / "out", config())
    return Pair(folder, manifest, folder / "out", content(folder / "out"))


@pytest.fixture
def pair(first_pair: Pair, tmp_path: Path) -> Pair:
    """A copy that a test may change; its data set is finished."""
    folder = tmp_path / "pair"
    shutil.copytree(first_pair.folder, folder)
    return Pair(folder, folder / first_pair.manifest.name, folder / "out", first_pair.files)


def made(report: RunReport) -> dict[str, int]:
    return {name: count.made for name, count in report.stages.items() if count.made}


def test_the_same_input_gives_the_same_bytes(pair: Pair) -> None:
    shutil.rmtree(pair.out)
    assert made(pair.again()) == {**SOURCE, **dict.fromkeys(CLIP, 2), "ordinary": 1}
    assert content(pair.out) == pair.files


def test_ray_gives_the_same_bytes(pair: Pair) -> None:
    shutil.rmtree(pair.out)
    report = pair.again(engine="ray")
    assert made(report)["fit"] == 2
    assert content(pair.out) == pair.files


def test_a_relative_folder_means_the_same_to_workers_that_are_elsewhere(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.rmtree(pair.out)
    monkeypatch.chdir(tmp_path)
    close_children()  # the next one starts here, and stays here
    pair.again("media.enabled=false")
    monkeypatch.chdir(pair.folder)
    report = run(Path(pair.manifest.name), Path("out"), config())
    assert report.output == Path("out")
    assert made(report)["media"] == 2
    assert content(pair.out) == pair.files


def test_a_changed_source_is_all_that_is_made_again(pair: Pair) -> None:
    write_clip(pair.folder / "b.mp4", people()[1][:28])
    assert made(pair.again()) == {**dict.fromkeys(SOURCE, 1), **dict.fromkeys(CLIP, 1)}
    rows = index(pair.out)
    assert sorted(rows.num_frames) == [28, 30]
    assert len(list((pair.out / "media").iterdir())) == 4
    assert verify_dataset(pair.out) == []


def test_a_fit_option_redoes_what_stands_on_the_fit_and_back_costs_nothing(pair: Pair) -> None:
    assert made(pair.again("fit.shape_weight=0.5")) == {**dict.fromkeys(FROM_FIT, 2), "ordinary": 1}
    assert content(pair.out) != pair.files
    report = pair.again()
    assert made(report) == {}
    assert report.written
    assert content(pair.out) == pair.files


def test_a_limit_judges_what_is_there(pair: Pair) -> None:
    report = pair.again("fit.max_nme=0.000001")
    assert made(report) == {}
    assert (report.accepted, report.rejected, report.sources_failed) == (0, 2, 2)
    assert set(index(pair.out).reason) == {"poor_fit"}
    assert not (pair.out / "media").exists()
    assert verify_dataset(pair.out) == []


def test_labels_are_not_worth_a_fit(pair: Pair) -> None:
    write_manifest(pair.manifest, [{"uri": "a.mp4", "speaker": "a", "labels": {"mood": "calm"}}, {"uri": "b.mp4"}])
    report = pair.again()
    assert made(report) == {}
    assert report.written
    assert json.loads(index(pair.out).labels.dropna().iloc[0]) == {"mood": "calm"}


def test_a_source_that_leaves_the_manifest_leaves_the_data_set(pair: Pair) -> None:
    write_manifest(pair.manifest, [{"uri": "b.mp4"}])
    assert made(pair.again()) == {}
    assert len(index(pair.out)) == 1
    assert len(list((pair.out / "media").iterdir())) == 2
    assert verify_dataset(pair.out) == []
    with Ledger(pair.out) as ledger:
        assert {entry.stage: entry.state for entry in ledger.entries()}["fit"] == "done"
        assert len(list(ledger.entries())) == len(SOURCE) + len(CLIP)


def test_overlapping_rows_share_no_clip(pair: Pair) -> None:
    write_manifest(pair.manifest, [{"uri": "a.mp4"}, {"uri": "a.mp4", "end": 9}, {"uri": "b.mp4"}])
    pair.again()
    rows = index(pair.out)
    assert sorted(rows.status) == ["accepted", "accepted", "rejected"]
    assert list(rows.reason.dropna()) == ["duplicate"]


def test_a_lost_ledger_loses_no_work(pair: Pair) -> None:
    for path in (pair.out / ".talkset").glob("ledger*"):
        path.unlink()
    report = pair.again()
    assert made(report) == {}
    assert content(pair.out) == pair.files


def test_damage_is_mended_by_the_next_runs(pair: Pair) -> None:
    (pair.out / "index.parquet").write_bytes(b"gone")
    next((pair.out / "media").glob("*.mp4")).unlink()
    assert made(pair.again()) == {}
    assert content(pair.out) == pair.files
    arrays = next((pair.out / ".talkset" / "results" / "fit").rglob("*.npz"))
    arrays.write_bytes(arrays.read_bytes()[:1000])
    with pytest.raises(TalksetError, match="damaged") as caught:
        pair.again("version=2.0.0")
    assert caught.value.reason == "corrupt_data"
    assert made(pair.again()) == {"fit": 1}
    assert content(pair.out) == pair.files


@pytest.mark.parametrize("failures", [1, 2])
def test_an_unexpected_error_is_recorded_and_tried_once_more(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    import reconstruct.fit

    real = reconstruct.fit.fit_clip
    broken: dict[bytes, int] = {}

    def fails_at_first(model: Any, embedding: Any, landmarks: Any, *rest: Any) -> Any:
        clip = landmarks.face_xy.tobytes()
        broken.setdefault(clip, 0 if broken else failures)  # the first clip
        broken[clip] -= 1
        if broken[clip] >= 0:
            raise ZeroDivisionError("made up")
        return real(model, embedding, landmarks, *rest)

    shutil.rmtree(pair.out)
    monkeypatch.setattr(reconstruct.fit, "fit_clip", fails_at_first)
    report = pair.again("run.retry.wait_s=0.01")
    assert (report.accepted, report.failed) == (3 - failures, failures - 1)
    if failures == 2:
        assert [problem.reason for problem in report.problems] == ["internal"]
        trace = next((pair.out / ".talkset" / "errors").iterdir()).read_text()
        assert "fails_at_first" in trace
        assert made(pair.again()) == {}  # in quarantine
        release(pair.out, failures_of(pair.out))
        again = made(pair.again())
        again.pop("ordinary", None)  # of the clip whose speaker is named
        assert again == dict.fromkeys(CLIP[1:], 1)
    assert content(pair.out) == pair.files


def test_a_killed_run_goes_on_where_it_was(pair: Pair) -> None:
    shutil.rmtree(pair.out)
    overrides = [option for value in QUICK for option in ("--set", value)]
    command = [sys.executable, "-m", "talkset.cli", "run", str(pair.manifest), "--out", str(pair.out)]
    process = subprocess.Popen(
        [*command, "--engine", "local", *overrides],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list((pair.out / ".talkset" / "results" / "landmarks").glob("*/*.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (pair.out / "index.parquet").exists()
    report = pair.again()
    assert made(report)["landmarks"] < 2
    assert report.stages["segment"].reused == 2
    assert content(pair.out) == pair.files


def test_words_of_a_source_go_to_its_clips(eval_data: Path, tmp_path: Path) -> None:
    said = "bin blue at f two now"
    manifest = write_manifest(tmp_path / "m.jsonl", [{"uri": str(eval_data / "grid/bbaf2n.mpg"), "transcript": said}])
    run(manifest, tmp_path / "out", config())
    assert list(pd.read_parquet(tmp_path / "out/words.parquet").label) == said.split()
    assert list(index(tmp_path / "out").transcript) == [said]
    report = run(manifest, tmp_path / "out", config("segment.max_clip_s=1.6"))
    assert "words" not in made(report)
    rows = index(tmp_path / "out").sort_values("start_us")
    words = pd.read_parquet(tmp_path / "out/words.parquet")
    cut = str(rows.warnings.iloc[0]).removeprefix("words cut by the border of the clip: ")
    left, right = (list(words.label[words.clip_id == clip_id]) for clip_id in rows.index)
    assert [*left, cut, *right] == said.split()
    assert list(rows.transcript) == [" ".join(left), " ".join(right)]
    assert (words.end_us <= 1_600_000).all()


# The output folder.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700k", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk: mount said {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_ends_the_run_and_room_lets_it_go_on(first_pair: Pair, small_disk: Path) -> None:
    out = small_disk / "out"
    with pytest.raises(TalksetError, match="no space is left") as caught:
        run(first_pair.manifest, out, config())
    assert caught.value.reason == "disk_full"
    assert not (out / "dataset.json").exists()
    assert not list(out.rglob("*.partial"))
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    run(first_pair.manifest, out, config())
    assert content(out) == first_pair.files


def test_a_folder_that_cannot_be_written_ends_the_run(first_pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TalksetError) as caught:
        run(first_pair.manifest, tmp_path / "file" / "out", config())
    assert caught.value.reason == "not_writable"


@pytest.mark.parametrize(
    "override",
    ["segment.min_clip_s=40", "media.crf=99", "fit.head_model=flame", "align.backend=x", "landmarks.backend=x"],
)
def test_impossible_settings_are_refused_before_anything_is_done(pair: Pair, override: str) -> None:
    with pytest.raises(UsageError, match=override.partition(".")[2].partition("=")[0]):
        pair.again(override)
    assert content(pair.out) == pair.files


def test_a_folder_of_videos_is_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.MP4", "deep/ä a.mkv", "notes.txt"):
        (tmp_path / name).touch()
    sources, base = read_sources(tmp_path)
    assert [source.uri for source in sources] == ["b.MP4", "deep/ä a.mkv"]
    assert base == tmp_path
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="no video"):
        read_sources(tmp_path / "none")
