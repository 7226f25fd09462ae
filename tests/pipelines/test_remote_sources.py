"""Runs over sources on a web server: fetched once, keyed by content, and asked again only when it is time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from download_server import Page, Server, running
from talking_clips import people, write_clip

from pipelines.report import RunReport
from pipelines.run import run
from schemas.config import Config, load_config
from schemas.verify import verify_dataset

QUICK = [
    *("segment.require_speech=false", "overlay.enabled=false", "fit.iterations=3"),
    *("landmarks.confidence=none", "shards.figures=false"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Path:
    """A folder with the data set of three URLs: a talker, the same talker elsewhere, and nothing."""
    folder = tmp_path_factory.mktemp("remote")
    content = write_clip(folder / "talk.mp4", people()[0]).read_bytes()
    server.put("/talk.mp4", Page(content))
    server.put("/copy.mp4", Page(content, etag='"copy"'))
    manifest(folder, [server.url(path) for path in ("/talk.mp4", "/copy.mp4", "/gone.mp4")])
    report = run(folder / "manifest.jsonl", folder / "out", config(folder))
    assert (report.accepted, report.failed) == (1, 1)
    return folder


def config(folder: Path, *overrides: str) -> Config:
    here = ["run.engine=local", f"run.download.cache={folder / 'cache'}", "run.download.allow_hosts=127.0.0.1"]
    return load_config(None, [*QUICK, *here, "run.download.interval_s=0", *overrides])


def manifest(folder: Path, uris: list[str]) -> None:
    (folder / "manifest.jsonl").write_text("".join(json.dumps({"uri": uri}) + "\n" for uri in uris))


def again(folder: Path, *overrides: str) -> RunReport:
    return run(folder / "manifest.jsonl", folder / "out", config(folder, *overrides))


def test_the_rows_say_where_from_and_what_became_of_it(folder: Path, server: Server) -> None:
    rows = pd.read_parquet(folder / "out" / "index.parquet").set_index("source_uri")
    assert rows.status.to_dict() == {
        server.url("/talk.mp4"): "accepted",
        server.url("/copy.mp4"): "rejected",
        server.url("/gone.mp4"): "failed",
    }
    assert rows.reason[server.url("/copy.mp4")] == "duplicate"
    assert rows.reason[server.url("/gone.mp4")] == "gone"
    assert str(folder) not in "".join(rows.warnings.dropna())
    assert verify_dataset(folder / "out") == []


def test_a_second_run_asks_for_nothing_and_makes_nothing(folder: Path, server: Server) -> None:
    before = len(server.requests)
    report = again(folder)
    assert server.requests[before:] == []  # what is gone is in quarantine
    assert (report.frames_made, report.written) == (0, False)


def test_content_that_did_not_change_makes_nothing_though_the_server_is_asked(folder: Path, server: Server) -> None:
    before = len(server.requests)
    report = again(folder, "run.download.recheck_h=0")
    asked = [(path, headers.get("If-None-Match")) for path, headers in server.requests[before:]]
    # other settings of the download: what failed under the old ones is worth a try
    assert sorted(asked, key=str) == [("/copy.mp4", '"copy"'), ("/gone.mp4", None), ("/talk.mp4", '"one"')]
    assert (report.frames_made, report.written) == (0, False)


NO_SOUND = ("style.enabled=false", "semantics.enabled=false", "emotion.enabled=false")
"""Labels that hear the sound again when the motion beside it has changed."""


def test_what_needs_neither_picture_nor_sound_needs_no_file(folder: Path, server: Server) -> None:
    shutil.rmtree(folder / "cache" / "content")
    (folder / "cache" / "content").mkdir()
    before = len(server.requests)
    report = again(folder, "fit.iterations=2", "media.enabled=false", *NO_SOUND)
    assert [path for path, _ in server.requests[before:] if path != "/gone.mp4"] == []
    assert (report.accepted, report.frames_made, report.written) == (1, 0, True)


def test_a_file_that_the_cache_let_go_is_fetched_again_for_who_needs_it(folder: Path, server: Server) -> None:
    shutil.rmtree(folder / "cache" / "content")
    (folder / "cache" / "content").mkdir()
    before = len(server.requests)
    report = again(folder, "landmarks.crop_scale=2.1")
    assert [path for path, _ in server.requests[before:] if path != "/gone.mp4"] == ["/talk.mp4"]
    assert (report.accepted, report.frames_made) == (1, 30)


def test_new_content_behind_an_address_is_made_anew(folder: Path, server: Server) -> None:
    content = write_clip(folder / "other.mp4", people()[1]).read_bytes()
    server.put("/talk.mp4", Page(content, etag='"new"'))
    report = again(folder, "run.download.recheck_h=0")
    rows = pd.read_parquet(folder / "out" / "index.parquet").set_index("source_uri")
    assert rows.status[server.url("/talk.mp4")] == rows.status[server.url("/copy.mp4")] == "accepted"
    assert rows.source_sha256.nunique() == 2
    assert report.accepted == 2
