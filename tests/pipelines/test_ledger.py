"""The ledger says what became of the work, and can be lost."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from pipelines.ledger import DONE, FAILED, REJECTED, Entry, Ledger
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


def test_keep_adds_what_was_found_and_not_made(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record([Entry("a", "fit", "1", DONE, attempts=3), Entry("b", "fit", "1", FAILED, "internal")])
        ledger.keep({("a", "fit", "1"): DONE, ("c", "fit", "1"): REJECTED, ("d", "fit", ""): FAILED})
        found = [(entry.unit, entry.state, entry.attempts) for entry in ledger.entries()]
    assert found == [("a", DONE, 3), ("c", REJECTED, 0)]


def test_keep_drops_other_work(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        ledger.record([Entry("a", "fit", "1", DONE), Entry("a", "fit", "2", DONE), Entry("b", "fit", "1", DONE)])
        ledger.keep({("a", "fit", "2"): DONE})
        assert [(e.unit, e.key) for e in ledger.entries()] == [("a", "2")]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TalksetError, match="file") as caught:
        Ledger(tmp_path / "file")
    assert caught.value.reason == "not_writable"


def test_attempts_under_other_limits_begin_anew(tmp_path: Path) -> None:
    with Ledger(tmp_path) as ledger:
        for conditions, attempts in (("a", 1), ("a", 2), ("b", 1), ("b", 2)):
            ledger.record([Entry("u", "fit", "k", FAILED, "time_limit", conditions=conditions)])
            entry = ledger.find("u", "fit", "k")
            assert entry is not None
            assert (entry.attempts, entry.conditions) == (attempts, conditions)


def test_only_failures_are_released(tmp_path: Path) -> None:
    failed, done = Entry("a", "fit", "1", FAILED, "internal"), Entry("b", "fit", "2", DONE)
    with Ledger(tmp_path) as ledger:
        ledger.record([failed, done])
        assert list(ledger.entries(FAILED)) == [failed]
        assert ledger.release([failed, done]) == 1
        assert list(ledger.entries()) == [done]
        assert ledger.release([]) == 0


def test_a_ledger_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    path = tmp_path / ".talkset" / "ledger.sqlite"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE TABLE work (unit TEXT NOT NULL, stage TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,"
            " reason TEXT, message TEXT, attempts INTEGER NOT NULL, seconds REAL NOT NULL,"
            " PRIMARY KEY (unit, stage, key)) WITHOUT ROWID"
        )
        database.execute("INSERT INTO work VALUES ('u', 'fit', 'k', 'failed', 'internal', 'why', 1, 2.5)")
        database.commit()
    with Ledger(tmp_path) as ledger:
        assert list(ledger.entries()) == [Entry("u", "fit", "k", FAILED, "internal", "why", 1, 2.5)]
        ledger.record([Entry("u", "fit", "k", DONE, cpu_seconds=3.0, host="h")])
        entry = ledger.find("u", "fit", "k")
    assert entry is not None
    assert (entry.state, entry.attempts, entry.cpu_seconds, entry.host) == (DONE, 2, 3.0, "h")
