"""The ledger says what became of the work, and can be lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipelines.ledger import DONE, FAILED, Entry, Ledger
from pipelines.results import Result, ResultStore
from schemas.errors import TalksetError


def test_attempts_add_up_and_the_rest_is_replaced(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record([Entry("u", "fit", "k", FAILED, "internal", "first", 2, 1.0)])
        ledger.record([Entry("u", "fit", "k", FAILED, "internal", "second", 1, 2.0)])
    with Ledger(tmp_path) as ledger:
        assert ledger.find("u", "fit", "k") == Entry("u", "fit", "k", FAILED, "internal", "second", 3, 2.0)
        assert ledger.find("u", "fit", "other") is None
        assert ledger.summary() == [("fit", FAILED, "internal", 1, 2.0)]


@pytest.mark.parametrize("loss", ["removed", "overwritten"])
def test_a_lost_ledger_is_rebuilt_from_the_results(tmp_path: Path, loss: str) -> None:
    store = ResultStore(tmp_path)
    for number in range(3):
        store.save("fit", f"{number:064d}", f"clip{number}", Result({"n": number}))
    with Ledger(tmp_path) as ledger:
        path = ledger.path
    for name in path.parent.glob("ledger*"):
        name.unlink()
    if loss == "overwritten":
        path.write_bytes(b"not a database" * 100)
    with Ledger(tmp_path) as ledger:
        found = list(ledger.entries())
    assert [(e.unit, e.stage, e.key, e.state) for e in found] == [
        (f"clip{n}", "fit", f"{n:064d}", DONE) for n in range(3)
    ]


def test_a_hash_is_known_only_for_the_same_file_state(tmp_path: Path) -> None:
    video = tmp_path / "größe 1.mp4"
    video.write_bytes(b"abc")
    stat = video.stat()
    with Ledger(tmp_path) as ledger:
        ledger.remember_sha256(video, stat.st_size, stat.st_mtime_ns, "f" * 64)
        assert ledger.known_sha256(video, stat) == "f" * 64
        assert ledger.paths_of("f" * 64) == [video]
        os.utime(video, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        assert ledger.known_sha256(video, video.stat()) is None


def test_keep_drops_other_work(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record([Entry("a", "fit", "1", DONE), Entry("a", "fit", "2", DONE), Entry("b", "fit", "1", DONE)])
        ledger.keep({("a", "fit", "2")})
        assert [(e.unit, e.key) for e in ledger.entries()] == [("a", "2")]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TalksetError, match="file") as caught:
        Ledger(tmp_path / "file")
    assert caught.value.reason == "not_writable"
