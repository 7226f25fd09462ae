"""A saved case runs anywhere, and every way in which a result can change is seen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_debug import SOURCES, clip_of, found, root

from pipelines import replay
from pipelines.debug import Case, Outcome, worked
from pipelines.replay import Difference, Golden, differences, golden_of, load_case, save_case
from pipelines.results import Result
from schemas.config import load_config
from schemas.errors import TalksetError, UsageError

__all__ = ["root"]


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    versions = {"numpy": "1.2.3"}
    monkeypatch.setattr(replay, "library_versions", lambda: dict(versions))
    monkeypatch.setattr(replay, "model_digests", lambda config: {"head_model": "h2"})
    return versions


def saved(root: Path, stage: str, name: str, folder: Path, media: bool = True) -> Case:
    case, _ = found(root, stage, name)
    with worked(case) as outcome:
        save_case(case, outcome, folder, media)
    return case


def replayed(folder: Path) -> list[str]:
    read = load_case(folder)
    with worked(read.case) as outcome:
        return [difference.part for difference in differences(read.golden, outcome, 0.0)]


def test_a_saved_case_needs_nothing_of_the_run(root: Path, tmp_path: Path) -> None:
    case = saved(root, "fit", clip_of(root, "good.mp4", 5000), tmp_path / "case")
    for source in SOURCES:
        (tmp_path / source.uri).unlink()
    (tmp_path / "case").rename(tmp_path / "moved")
    read = load_case(tmp_path / "moved")
    assert read.case.item.path == tmp_path / "moved" / "media" / "source.mp4"
    assert (read.case.stage, read.case.config, read.case.values) == ("fit", case.config, case.values)
    assert read.case.item.unit == case.item.unit
    assert read.notes == ()
    assert replayed(tmp_path / "moved") == []
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == [
        *("case.json", "config.yaml", "golden.json", "golden.mp4", "golden.npz", "inputs", "media"),
    ]


def test_a_change_in_the_golden_result_is_seen(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "case"
    saved(root, "fit", clip_of(root, "good.mp4"), folder)
    golden = json.loads((folder / "golden.json").read_text())
    golden["value"]["nme"] += 1e-6
    golden["files"][".mp4"] = "0" * 64
    (folder / "golden.json").write_text(json.dumps(golden))
    np.savez(folder / "golden.npz", y=np.array([0, 2, 4.5], np.float32))
    assert replayed(folder) == ["value.nme", "arrays.y", "files.mp4"]


def test_a_source_and_a_failure_are_cases_too(root: Path, tmp_path: Path) -> None:
    saved(root, "clips", "good.mp4", tmp_path / "source")
    assert replayed(tmp_path / "source") == []
    name = clip_of(root, "broken.mp4")
    saved(root, "landmarks", name, tmp_path / "failure")
    assert load_case(tmp_path / "failure").golden.reason == "decode_error"
    assert replayed(tmp_path / "failure") == []
    golden = json.loads((tmp_path / "failure" / "golden.json").read_text())
    (tmp_path / "failure" / "golden.json").write_text(json.dumps({**golden, "reason": "crashed"}))
    assert replayed(tmp_path / "failure") == ["reason"]


def test_without_media_the_file_stays_where_it_is(root: Path, tmp_path: Path) -> None:
    saved(root, "landmarks", clip_of(root, "good.mp4"), tmp_path / "case", media=False)
    assert not (tmp_path / "case" / "media").exists()
    assert replayed(tmp_path / "case") == []
    (tmp_path / "good.mp4").write_text("something else")
    with pytest.raises(TalksetError, match="has the sha256") as caught:
        load_case(tmp_path / "case")
    assert caught.value.reason == "sha256_mismatch"
    (tmp_path / "good.mp4").unlink()
    with pytest.raises(TalksetError, match="is not here") as caught:
        load_case(tmp_path / "case")
    assert caught.value.reason == "missing_file"


def test_other_models_and_libraries_are_told(root: Path, tmp_path: Path, libraries: dict[str, str]) -> None:
    case, _ = found(root, "fit", clip_of(root, "good.mp4"))
    with worked(case) as outcome:
        save_case(dataclasses.replace(case, models={"head_model": "h1"}), outcome, tmp_path / "case")
    libraries["numpy"] = "1.3"
    assert load_case(tmp_path / "case").notes == ("head_model is h2, was h1", "numpy is 1.3, was 1.2.3")


def test_a_folder_is_written_whole_or_not_at_all(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = clip_of(root, "good.mp4")
    with monkeypatch.context() as patch:
        patch.setattr(replay, "_write_golden", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            saved(root, "fit", name, tmp_path / "case")
    assert not (tmp_path / "case").exists()
    saved(root, "fit", name, tmp_path / "case")
    with pytest.raises(UsageError, match="exists"):
        saved(root, "fit", name, tmp_path / "case")
    with pytest.raises(UsageError, match="holds no saved case"):
        load_case(tmp_path)


@pytest.mark.parametrize("name", ["case.json", "golden.json", "golden.npz", "inputs/landmarks.npz", "missing"])
def test_damage_is_named(root: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "case"
    saved(root, "fit", clip_of(root, "good.mp4"), folder)
    if name == "missing":
        (folder / "inputs" / "landmarks.json").unlink()
    else:
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(TalksetError, match="cannot be read") as caught:
        load_case(folder)
    assert caught.value.reason == "corrupt_data"


X = np.array([[1.0, np.nan], [3.0, np.inf]], np.float32)
VALUE: dict[str, Any] = {"a": 1, "b": 0.5, "c": {"d": [1.0, "x"]}, "n": None}


@pytest.mark.parametrize(
    ("value", "arrays", "parts"),
    [
        (VALUE, {"x": X}, []),
        ({**VALUE, "b": 0.5 + 1e-7}, {"x": X + np.float32(5e-7)}, []),
        ({**VALUE, "b": 0.6}, {"x": X}, ["value.b"]),
        ({**VALUE, "a": 1.0}, {"x": X}, ["value.a"]),
        ({**VALUE, "a": True}, {"x": X}, ["value.a"]),
        ({**VALUE, "c": {"d": [1.5, "y"]}}, {"x": X}, ["value.c.d[0]", "value.c.d[1]"]),
        ({**VALUE, "c": {"d": [1.0]}, "n": 0}, {"x": X}, ["value.c.d", "value.n"]),
        ({name: VALUE[name] for name in "abc"}, {"x": X}, ["value.n"]),
        ({**VALUE, "new": 1}, {"x": X, "y": X}, ["value.new", "arrays.y"]),
        (VALUE, {}, ["arrays.x"]),
        (VALUE, {"x": X.astype(np.float64)}, ["arrays.x"]),
        (VALUE, {"x": X.T[:, :1]}, ["arrays.x"]),
        (VALUE, {"x": np.nan_to_num(X, nan=0, posinf=np.inf)}, ["arrays.x"]),
        (VALUE, {"x": np.where(np.isinf(X), -X, X)}, ["arrays.x"]),
        (VALUE, {"x": np.where(np.isinf(X), np.float32(1), X)}, ["arrays.x"]),
        (VALUE, {"x": X + np.float32(0.25)}, ["arrays.x"]),
    ],
)
def test_every_kind_of_difference_is_found(value: dict[str, Any], arrays: dict[str, Any], parts: list[str]) -> None:
    golden = golden_of(Result(VALUE, {"x": X}))
    told = differences(golden, Outcome("done", Result(value, arrays)), 1e-6)
    assert [difference.part for difference in told] == parts
    assert all(difference.was != difference.now for difference in told)


def test_differences_say_how_far(tmp_path: Path) -> None:
    now = Outcome("done", Result({}, {"x": X + np.float32(0.25), "i": np.array([1, 2, 4])}))
    golden = golden_of(Result({}, {"x": X, "i": np.array([1, 2, 3])}))
    assert [str(difference) for difference in differences(golden, now, 1e-6)] == [
        "arrays.i: 1 of 3 values differ, was equal",
        "arrays.x: 2 of 4 values differ, by 0.25 at most, was within 1e-06",
    ]
    failed = Golden("failed", "crashed", "signal 11", None)
    assert differences(failed, now) == [Difference("state", "failed", "done"), Difference("reason", "crashed", "None")]


def test_the_configuration_comes_back(root: Path, tmp_path: Path) -> None:
    changed = load_config(None, ["fit.iterations=7", "run.decode.stall_s=3.5", "fit.max_nme=0.75"])
    case, _ = found(root, "fit", clip_of(root, "good.mp4"), changed)
    with worked(case) as outcome:
        save_case(case, outcome, tmp_path / "case")
    assert load_case(tmp_path / "case").case.config == changed
    assert replayed(tmp_path / "case") == []
