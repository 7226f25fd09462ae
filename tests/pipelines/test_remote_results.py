"""Results on an object store: whole or absent, the same from every machine, and faults named."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from s3_server import s3_server
from talking_clips import people, write_clip

from pipelines.remote_results import open_results
from pipelines.results import Result, ResultStore
from pipelines.run import run
from schemas.config import Config, load_config
from schemas.errors import TalksetError, UsageError
from schemas.verify import verify_dataset

KEY = "ab" + 62 * "0"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as (_, url):
        yield url


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, bucket: str, tmp_path: Path) -> str:
    """An empty store."""
    place = tmp_path / "store"
    return place.as_uri() if request.param == "file" else bucket % f"bucket/{tmp_path.name}"


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TALKSET_CACHE", str(tmp_path / "cache"))
    return monkeypatch


def elsewhere(caches: pytest.MonkeyPatch, root: Path, url: str) -> ResultStore:
    """The store as a machine sees it that shares no disk with others."""
    caches.setenv("TALKSET_CACHE", str(root / "cache"))
    return open_results(root / "out", url)


def result(folder: Path) -> Result:
    clip = folder / "scratch.mp4"
    clip.write_bytes(b"film")
    return Result({"a": [1, None]}, {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}, {".mp4": clip})


def test_another_machine_finds_what_one_has_made(url: str, tmp_path: Path, caches: pytest.MonkeyPatch) -> None:
    here = elsewhere(caches, tmp_path / "one", url)
    assert here.value("fit", KEY) is None
    here.save("fit", KEY, "clip", result(tmp_path))
    there = elsewhere(caches, tmp_path / "two", url)
    loaded = there.load("fit", KEY)
    assert loaded.value == {"a": [1, None]}
    np.testing.assert_array_equal(loaded.arrays["x"], [[0, 1, 2], [3, 4, 5]])
    assert there.payload("fit", KEY, ".mp4").read_bytes() == b"film"


def test_a_result_without_its_last_file_is_not_there(tmp_path: Path, caches: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    elsewhere(caches, tmp_path / "one", store.as_uri()).save("fit", KEY, "clip", result(tmp_path))
    (store / "fit" / "ab" / f"{KEY}.json").unlink()
    there = elsewhere(caches, tmp_path / "two", store.as_uri())
    assert there.value("fit", KEY) is None
    with pytest.raises(TalksetError, match="no result"):
        there.load("fit", KEY)


def test_a_lost_payload_is_told_and_made_again(tmp_path: Path, caches: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    elsewhere(caches, tmp_path / "one", store.as_uri()).save("fit", KEY, "clip", result(tmp_path))
    (store / "fit" / "ab" / f"{KEY}.npz").unlink()
    there = elsewhere(caches, tmp_path / "two", store.as_uri())
    with pytest.raises(TalksetError, match="is gone") as caught:
        there.load("fit", KEY)
    assert caught.value.reason == "corrupt_data"
    assert there.value("fit", KEY) is None


def test_damage_in_the_store_is_told_and_made_again(tmp_path: Path, caches: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    elsewhere(caches, tmp_path / "one", store.as_uri()).save("fit", KEY, "clip", result(tmp_path))
    (store / "fit" / "ab" / f"{KEY}.json").write_bytes(b"{half")
    there = elsewhere(caches, tmp_path / "two", store.as_uri())
    assert there.value("fit", KEY) is None
    assert not (store / "fit" / "ab" / f"{KEY}.json").exists()


def test_unknown_and_unreachable_stores_are_named(bucket: str, tmp_path: Path, caches: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is no destination"):
        elsewhere(caches, tmp_path, "nowhere://user:secret@host/x")
    missing = elsewhere(caches, tmp_path, bucket % "no-such-bucket/x")
    with pytest.raises(TalksetError, match=r"run\.results") as caught:
        missing.save("fit", KEY, "clip", result(tmp_path))
    assert caught.value.reason == "not_writable"


def config(url: str) -> Config:
    quick = ["segment.require_speech=false", "overlay.enabled=false", "fit.iterations=3", "run.engine=local"]
    return load_config(None, [*quick, f"run.results={url}"])


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file() and ".talkset" not in path.parts)
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_goes_on_from_the_store_alone(bucket: str, tmp_path: Path) -> None:
    url = bucket % "bucket/run"
    write_clip(tmp_path / "a.mp4", people()[0])
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(json.dumps({"uri": "a.mp4"}) + "\n")
    first = run(manifest, tmp_path / "out", config(url))
    assert first.accepted == 1
    before = digests(tmp_path / "out")
    shutil.rmtree(tmp_path / "out")
    report = run(manifest, tmp_path / "out", config(url))
    assert {name: count.made for name, count in report.stages.items() if count.made} == {}
    assert digests(tmp_path / "out") == before
    assert verify_dataset(tmp_path / "out") == []
