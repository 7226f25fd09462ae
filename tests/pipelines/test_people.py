"""Whole runs whose clips share a person: equal shapes of a speaker, and no more work than a change asks for."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from talking_clips import people, write_clip

from pipelines import people as module
from pipelines import work
from pipelines.debug import find_case, worked
from pipelines.people import person_of
from pipelines.report import RunReport
from pipelines.run import run
from pipelines.stage import ClipItem
from schemas.config import Config, FitConfig, load_config
from schemas.errors import TalksetError, UsageError
from schemas.types import Clip, FaceTrack, Source, Span, VideoInfo
from schemas.verify import verify_dataset

QUICK = (
    *("overlay.enabled=false", "media.enabled=false", "shards.figures=false", "run.engine=local"),
    *("sync.enabled=false", "quality.enabled=false", "duplicates.enabled=false"),
    *("landmarks.confidence=none", "fit.iterations=3", "segment.min_clip_s=0.5", "segment.require_speech=false"),
    *(f"{name}.enabled=false" for name in ("motion_events", "style", "semantics", "emotion")),
)
SHARED = "fit.shape_from=speaker"
FRAMES = 14
SOURCE = ("probe", "segment", "speech", "speakers", "clips")


def config(*overrides: str) -> Config:
    return load_config(None, [*QUICK, *overrides])


def content(root: Path) -> dict[str, bytes]:
    files = sorted(path for path in root.rglob("*") if path.is_file() and ".talkset" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def made(report: RunReport) -> dict[str, int]:
    return {name: count.made for name, count in report.stages.items() if count.made}


@dataclass(frozen=True)
class Talk:
    """Two clips of speaker a, one of b and one without a name."""

    folder: Path

    def sources(self, *names: str) -> list[Source]:
        speakers = {"a1": "a", "a2": "a", "a3": "a", "b1": "b"}
        return [Source(f"{name}.mp4", row, speaker=speakers.get(name)) for row, name in enumerate(names, start=1)]

    def run(self, out: Path, names: Sequence[str], *overrides: str) -> RunReport:
        return run(self.sources(*names), out, config(*overrides), base=self.folder)


NAMES = ("a1", "a2", "b1", "n1")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Talk:
    folder = tmp_path_factory.mktemp("talk")
    one, two = people()
    write_clip(folder / "a1.mp4", one[:FRAMES])
    write_clip(folder / "a2.mp4", one[::-1][:FRAMES])
    write_clip(folder / "a3.mp4", [np.ascontiguousarray(rgb[:, ::-1]) for rgb in one[:FRAMES]])
    write_clip(folder / "b1.mp4", two[:FRAMES])
    write_clip(folder / "n1.mp4", two[::-1][:FRAMES])
    return Talk(folder)


@pytest.fixture(scope="module")
def first(talk: Talk) -> Path:
    out = talk.folder / "first"
    report = talk.run(out, NAMES, SHARED)
    assert made(report) == {**dict.fromkeys(SOURCE, 4), "landmarks": 4, "person": 4, "fit": 4}
    assert report.frames_made == 4 * FRAMES
    assert report.accepted == 4
    return out


@pytest.fixture
def out(first: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(first, tmp_path / "out")
    return tmp_path / "out"


def rows(root: Path) -> dict[str, dict[str, Any]]:
    """Rows of params with those of the index, by the stem of the source's name."""
    index = pd.read_parquet(root / "index.parquet").set_index("clip_id")
    params = pd.read_parquet(root / "params").set_index("clip_id")
    joined = index.drop(columns=["num_frames", "head_model", "held_out_nme", "uncertainty_mm"]).join(params)
    return {str(row["source_uri"]).removesuffix(".mp4"): row for row in joined.to_dict("records")}


def test_one_clip_alone_is_fitted_with_its_person(talk: Talk, first: Path) -> None:
    clip_id = rows(first)["a1"]["source_sha256"][:12]
    case, stored = find_case(first, talk.sources(*NAMES), talk.folder, config(SHARED), "fit", clip_id)
    assert isinstance(case.item, ClipItem)
    assert case.item.person is not None
    assert stored is not None  # under the key that the run gave it, of which the person is a part
    with worked(case) as outcome:
        assert outcome.result is not None
        assert outcome.result.arrays["shape"].tobytes() == rows(first)["a1"]["shape"].tobytes()


def test_clips_of_a_speaker_have_one_shape_to_the_bit(first: Path) -> None:
    found = rows(first)
    shapes = {name: found[name]["shape"].tobytes() for name in NAMES}
    assert shapes["a1"] == shapes["a2"]
    assert len(set(shapes.values())) == 3
    assert len({found[name]["focal_px"] for name in NAMES}) == 4
    assert verify_dataset(first) == []
    stored = yaml.safe_load((first / "config.yaml").read_text())
    assert (stored["fit"]["shape_from"], stored["fit"]["focal_from"]) == ("speaker", "clip")


def test_the_index_has_the_quality_of_every_clip(first: Path) -> None:
    index = pd.read_parquet(first / "index.parquet")
    for row in rows(first).values():
        assert row["detector"].startswith("mediapipe")
        assert 0 < row["jitter_px"] < 3 * row["detector_jitter_px"] < 30
    params = pd.read_parquet(first / "params").set_index("clip_id")
    assert index.psnr_db.isna().all()
    for clip in index.to_dict("records"):
        values = params.loc[clip["clip_id"]]
        for name in ("held_out_nme", "uncertainty_mm"):
            np.testing.assert_allclose(clip[name], values[name][values["valid"]].mean(), rtol=1e-6)
    landmarks = pd.read_parquet(first / "landmarks")
    assert set(landmarks.detector) == set(index.detector)
    assert landmarks.confidence.map(lambda values: set(values.tolist()) == {1.0}).all()  # landmarks.confidence=none


def test_again_nothing_is_done(talk: Talk, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Config) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(work, "loaded_models", refuse)
    before = content(out)
    report = talk.run(out, NAMES, SHARED)
    assert made(report) == {}
    assert not report.written
    assert content(out) == before
    assert {name: count.reused for name, count in report.stages.items()} == dict.fromkeys(report.stages, 4)


def test_a_new_clip_redoes_its_speaker_alone(talk: Talk, out: Path) -> None:
    before = rows(out)
    report = talk.run(out, (*NAMES, "a3"), SHARED)
    assert made(report) == {**dict.fromkeys(SOURCE, 1), "landmarks": 1, "person": 1, "fit": 3}
    after = rows(out)
    assert after["a1"]["shape"].tobytes() == after["a2"]["shape"].tobytes() == after["a3"]["shape"].tobytes()
    assert after["a1"]["shape"].tobytes() != before["a1"]["shape"].tobytes()
    for name in ("b1", "n1"):
        np.testing.assert_array_equal(after[name]["shape"], before[name]["shape"])
        np.testing.assert_array_equal(after[name]["expression"], before[name]["expression"])
    # and when it leaves, what was there is there again
    assert made(talk.run(out, NAMES, SHARED)) == {}
    np.testing.assert_array_equal(rows(out)["a1"]["shape"], before["a1"]["shape"])


def test_the_order_of_the_manifest_does_not_matter(talk: Talk, out: Path, first: Path) -> None:
    assert made(talk.run(out, NAMES[::-1], SHARED)) == {}
    for name, row in rows(first).items():
        assert rows(out)[name]["shape"].tobytes() == row["shape"].tobytes()


def test_clips_of_their_own_cost_no_evidence(talk: Talk, out: Path) -> None:
    shared = content(out)
    report = talk.run(out, NAMES)
    assert made(report) == {"fit": 4}
    assert "person" not in report.stages
    assert len({row["shape"].tobytes() for row in rows(out).values()}) == 4
    assert made(talk.run(out, NAMES, "fit.photometric.size_px=128")) == {}  # pixels are not used
    assert made(talk.run(out, NAMES, SHARED)) == {}
    assert content(out) == shared


def test_overlays_show_the_shared_person(talk: Talk, out: Path) -> None:
    drawn = (SHARED, "overlay.enabled=true", "overlay.height=96")
    assert made(talk.run(out, NAMES, *drawn)) == {"overlay": 4}
    assert len(list((out / "overlays").glob("*.mp4"))) == 4
    assert made(talk.run(out, NAMES, *drawn)) == {}
    report = talk.run(out, (*NAMES, "a3"), *drawn)
    assert made(report) == {**dict.fromkeys(SOURCE, 1), "landmarks": 1, "person": 1, "fit": 3, "overlay": 3}


def test_killed_between_the_phases_and_resumed(
    talk: Talk, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """Not an Exception: nothing may catch it."""

    def die(*_: object) -> None:
        raise KilledError

    out = tmp_path / "out"
    for stage in (*SOURCE, "landmarks"):
        shutil.copytree(first / ".talkset" / "results" / stage, out / ".talkset" / "results" / stage)
    with monkeypatch.context() as patch:
        patch.setattr(module, "known_people", die)
        with pytest.raises(KilledError):
            talk.run(out, NAMES, SHARED)
    assert len(list((out / ".talkset" / "results" / "person").rglob("*.json"))) == 4
    assert not (out / "index.parquet").exists()
    assert made(talk.run(out, NAMES, SHARED)) == {"fit": 4}
    assert content(out) == content(first)


def test_damaged_evidence_is_named_and_made_again(talk: Talk, out: Path) -> None:
    before = content(out)
    arrays = sorted((out / ".talkset" / "results" / "person").rglob("*.npz"))[0]
    arrays.write_bytes(arrays.read_bytes()[:500])
    (out / ".talkset" / "finished.json").unlink()  # as if there were something to do
    with pytest.raises(TalksetError, match="damaged") as caught:
        talk.run(out, NAMES, SHARED)
    assert caught.value.reason == "corrupt_data"
    assert made(talk.run(out, NAMES, SHARED)) == {"person": 1}
    assert content(out) == before


def test_a_clip_that_tells_nothing_has_no_say(talk: Talk, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import reconstruct.person

    real = reconstruct.person.clip_evidence

    def fails(*arguments: Any) -> Any:
        raise TalksetError("fit_failed", "made up")

    before = rows(out)
    monkeypatch.setattr(reconstruct.person, "clip_evidence", fails)
    report = talk.run(out, (*NAMES, "a3"), SHARED)
    assert (report.accepted, report.failed) == (4, 1)
    assert [(problem.stage, problem.reason) for problem in report.problems] == [("person", "fit_failed")]
    index = pd.read_parquet(out / "index.parquet")
    assert list(index.reason[index.source_uri == "a3.mp4"]) == ["fit_failed"]
    monkeypatch.setattr(reconstruct.person, "clip_evidence", real)
    np.testing.assert_array_equal(rows(out)["a1"]["shape"], before["a1"]["shape"])


def test_one_camera_of_a_source(talk: Talk, tmp_path: Path) -> None:
    one, _ = people()
    write_clip(tmp_path / "long.mp4", one[: 2 * FRAMES])
    source = [Source("long.mp4", 1)]
    halves = ["segment.max_clip_s=0.6", "fit.focal_from=source"]
    report = run(source, tmp_path / "out", config(*halves), base=tmp_path)
    assert made(report) == {**dict.fromkeys(SOURCE, 1), "landmarks": 2, "person": 2, "fit": 2}
    params = pd.read_parquet(tmp_path / "out" / "params")
    assert len(params) == 2
    assert len(set(params.focal_px)) == 1
    assert len({shape.tobytes() for shape in params["shape"]}) == 2
    assert made(run(source, tmp_path / "out", config(*halves, SHARED), base=tmp_path)) == {"fit": 2}
    params = pd.read_parquet(tmp_path / "out" / "params")
    assert len(set(params.focal_px)) == len({shape.tobytes() for shape in params["shape"]}) == 1


def test_who_is_one_person() -> None:
    info = VideoInfo(320, 240, Fraction(25), 1_000_000, 0, 0, None, None)
    track = FaceTrack(np.zeros(1, np.int64), np.zeros((1, 4), np.float32))
    item = ClipItem(Clip("c", "s", Span(0, 1), track), Path("x"), "ab", info, "ann")
    nameless = dataclasses.replace(item, speaker=None)
    both = FitConfig(shape_from="speaker")
    assert person_of(item, both) == person_of(dataclasses.replace(item, sha256="cd"), both)
    assert person_of(nameless, both) != person_of(dataclasses.replace(nameless, sha256="cd"), both)
    camera = FitConfig(focal_from="source")
    assert person_of(item, camera) == person_of(nameless, camera)


@pytest.mark.parametrize("override", ["fit.shape_from=person", "fit.focal_from=shot", "fit.hold_out=-1"])
def test_unknown_choices_are_refused(talk: Talk, tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match=override.partition("=")[0]):
        talk.run(tmp_path / "out", NAMES, override)
    assert not (tmp_path / "out").exists()
