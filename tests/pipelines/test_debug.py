"""One stage on one item, from what a run stored, without touching it."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines import build, debug, session
from pipelines.debug import Case, find_case, worked
from pipelines.ledger import Ledger
from pipelines.results import Result, ResultStore
from pipelines.segmentation.clip_json import clip_from_json, clip_to_json
from pipelines.stage import ClipItem, Job, Models, SourceItem, Stage, View
from pipelines.work import advance
from schemas.config import Config, load_config
from schemas.errors import TalksetError, UsageError
from schemas.files import sha256_file
from schemas.types import Clip, FaceTrack, Source, Span, VideoInfo

INFO = VideoInfo(64, 48, Fraction(25), 1_000_000, 0, 0, None, None)


class Probe(Stage[SourceItem]):
    name = "probe"

    def run(self, job: Job[SourceItem]) -> Result:
        return Result({**vars(INFO), "fps": [25, 1]})


class Clips(Stage[SourceItem]):
    name = "clips"
    section = "segment"
    needs = ("probe",)

    def run(self, job: Job[SourceItem]) -> Result:
        track = FaceTrack(np.array([0], np.int64), np.ones((1, 4), np.float32))
        clips = [
            Clip(f"{job.item.sha256[:12]}-{start}", job.item.source_id, Span(start, start + 1000), track)
            for start in (0, 5000)
        ]
        return Result({"clips": [clip_to_json(clip) for clip in clips], "rejections": []})


class Landmarks(Stage[ClipItem]):
    name = "landmarks"
    section = "landmarks"

    def run(self, job: Job[ClipItem]) -> Result:
        if b"broken" in job.item.path.read_bytes():
            raise TalksetError("decode_error", "the file is broken")
        return Result({"n": 3}, {"x": np.arange(3, dtype=np.float32) + job.item.span[0]})


class Fit(Stage[ClipItem]):
    name = "fit"
    section = "fit"
    needs = ("landmarks",)

    def run(self, job: Job[ClipItem]) -> Result:
        (job.scratch / "a.mp4").write_bytes(b"media")
        x = job.results["landmarks"].arrays["x"]
        files = {".mp4": job.scratch / "a.mp4"}
        return Result({"nme": 0.01, "steps": job.config.fit.iterations}, {"y": x * 2}, files)

    def judge(self, view: View[ClipItem]) -> None:
        if view.config.fit.max_nme < 0.01:
            raise TalksetError("poor_fit", "too far away")


SOURCES = [Source("good.mp4", 1), Source("broken.mp4", 2), Source("new.mp4", 3)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run's folder: all stages of one source, none of the clips of another, nothing of a third."""
    stages = {stage.name: stage for stage in (Probe(), Clips(), Landmarks(), Fit())}
    monkeypatch.setattr(build, "_STAGES", stages)
    monkeypatch.setattr(build, "SOURCE_STAGES", ("probe", "clips"))
    monkeypatch.setattr(session, "SOURCE_STAGES", ("probe", "clips"))
    monkeypatch.setattr(build, "LABEL_STAGES", ("landmarks", "fit"))
    monkeypatch.setattr(debug, "model_digests", lambda config: {})
    out = tmp_path / "out"
    store = ResultStore(out)
    with Ledger(out) as ledger:
        for source in SOURCES:
            path = tmp_path / source.uri
            path.write_text(source.uri)
            if source.uri == "new.mp4":
                continue
            sha256, stat = sha256_file(path), path.stat()
            ledger.remember_sha256(path, stat.st_size, stat.st_mtime_ns, sha256)
            item = SourceItem(source.uri, source, path, sha256)
            [_, chosen] = made(item, ("probe", "clips"), store)
            for clip in chosen.value["clips"]:
                made(ClipItem(clip_from_json(clip), path, sha256, INFO), ("landmarks", "fit"), store)
    return out


def made(item: Any, names: tuple[str, ...], store: ResultStore) -> Any:
    config = load_config()
    stages: Any = [build._STAGES[name] for name in names]
    return advance(stages, item, config, {}, store, Models(config))


def found(root: Path, stage: str, name: str, changed: Config | None = None) -> tuple[Case, Result | None]:
    return find_case(root, SOURCES, root.parent, load_config(), stage, name, changed)


def clip_of(root: Path, source: str, start: int = 0) -> str:
    return f"{sha256_file(root.parent / source)[:12]}-{start}"


def snapshot(root: Path) -> Mapping[str, bytes]:
    files = {path.as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with Ledger(root) as ledger:
        return {**files, "entries": repr(list(ledger.entries())).encode()}


def test_a_stage_gets_what_the_run_gave_it(root: Path) -> None:
    before = snapshot(root)
    for start in (0, 5000):
        case, stored = found(root, "fit", clip_of(root, "good.mp4", start))
        assert case.item.span == (start, start + 1000)
        assert stored is not None
        with worked(case) as outcome:
            assert outcome.state == "done"
            assert outcome.result is not None
            assert outcome.result.files[".mp4"].read_bytes() == b"media"
            np.testing.assert_array_equal(outcome.result.arrays["y"], stored.arrays["y"])
            np.testing.assert_array_equal(outcome.result.arrays["y"], 2.0 * (np.arange(3) + start))
            scratch = outcome.result.files[".mp4"].parent
            told = outcome.summary()
        assert not scratch.exists()
        assert told["arrays"] == {"y": ["float32", [3]]}
        assert (told["value"]["nme"], told["files"], told["reason"]) == (0.01, {".mp4": 5}, None)
    after = snapshot(root)
    assert {name: data for name, data in after.items() if "ledger.sqlite-" not in name} == {
        name: data for name, data in before.items() if "ledger.sqlite-" not in name
    }


def test_a_source_stage_takes_sources_and_the_source_of_a_clip(root: Path) -> None:
    by_uri, stored = found(root, "clips", "good.mp4")
    assert stored is not None
    unit = by_uri.item.unit
    assert found(root, "clips", unit[:8])[0].item == by_uri.item
    assert found(root, "clips", clip_of(root, "good.mp4", 5000))[0].item == by_uri.item
    assert by_uri.values["probe"]["width"] == 64
    fresh, stored = found(root, "probe", "new.mp4")
    assert stored is None
    assert fresh.item.sha256 == sha256_file(root.parent / "new.mp4")


def test_a_changed_setting_is_for_the_stage_alone(root: Path) -> None:
    changed = load_config(None, ["fit.iterations=7", "fit.max_nme=0.001", "landmarks.crop_scale=9"])
    case, stored = found(root, "fit", clip_of(root, "good.mp4"), changed)
    assert stored is None
    assert set(case.results) == {"landmarks"}  # those of the run
    with worked(case) as outcome:
        assert (outcome.state, outcome.reason) == ("rejected", "poor_fit")
        assert outcome.result is not None
        assert outcome.result.value["steps"] == 7


def test_a_failure_is_an_outcome(root: Path) -> None:
    case, stored = found(root, "landmarks", clip_of(root, "broken.mp4"))
    assert stored is None
    with worked(case) as outcome:
        assert (outcome.state, outcome.reason, outcome.result) == ("failed", "decode_error", None)
        assert "the file is broken" in outcome.traceback
        assert outcome.summary()["message"] == "the file is broken"


@pytest.mark.parametrize(
    ("stage", "name", "message", "remedy"),
    [
        ("landmark", "good.mp4", "unknown stage 'landmark'", "Did you mean 'landmarks'"),
        ("fit", "god.mp4", "is no clip and no source", "Did you mean 'good.mp4'"),
        ("fit", "", "is the beginning of", "Known"),
        ("fit", "good.mp4", "the stage works on clips", "Its clips"),
        ("fit", "new.mp4", "the stage works on clips", "no clip so far"),
        ("clips", "new.mp4", "reads the result of probe", "Run the data set first"),
    ],
)
def test_what_is_not_there_is_told(root: Path, stage: str, name: str, message: str, remedy: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        found(root, stage, name)
    assert remedy in caught.value.remedy


def test_inputs_that_are_not_stored_are_told(root: Path) -> None:
    with pytest.raises(UsageError, match=r"fit of .* reads the result of landmarks, which is not stored"):
        found(root, "fit", clip_of(root, "broken.mp4"))
    with pytest.raises(UsageError, match="no run state"):
        found(root.parent / "elsewhere", "fit", "c")
