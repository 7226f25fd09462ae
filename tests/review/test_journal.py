"""The journal: what was confirmed is there after a crash, and damage costs only what is damaged."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from review.decisions import Decision, Mark
from review.journal import FOLDER, TABLE, Journal, last_words, read_table, to_table
from schemas.errors import TalksetError


def said(clip: str, verdict: str | None, reviewer: str = "anna", number: int = 0, **more: object) -> Decision:
    values = {"decision_id": f"{clip}-{reviewer}-{verdict}-{number}", **more}
    return Decision(clip, "ab" * 32, reviewer, verdict, **values)  # type: ignore[arg-type]


def test_what_was_appended_is_read_by_the_next_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    kept = [journal.append(said(f"c{number}", "accept", comment="größe")) for number in range(5)]
    again = Journal(tmp_path)
    assert again.decisions == kept == journal.decisions
    assert again.damage == []
    assert [item.time for item in kept] == sorted({item.time for item in kept})


def test_the_same_decision_twice_is_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    first = journal.append(said("c", "accept"))
    assert journal.append(said("c", "accept")) == first
    assert len(Journal(tmp_path).decisions) == 1


def test_the_last_word_of_each_reviewer_counts_and_all_are_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number, (reviewer, verdict) in enumerate((("a", "accept"), ("b", "reject"), ("a", "reject"), ("b", None))):
        journal.append(said("c", verdict, reviewer, number))
    assert len(journal.decisions) == 4
    assert {key[1]: item.verdict for key, item in last_words(journal.decisions).items()} == {"a": "reject"}


def test_a_process_killed_while_it_writes_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\nfrom review.decisions import Decision\nfrom review.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for number in range(100000):\n"
        "    journal.append(Decision(f'c{number}', 'ab', 'anna', 'accept', decision_id=f'd{number}'))\n"
        "    print(number, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), *sys.path], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    confirmed = [int(line) for line in itertools.islice(child.stdout, 20)]
    child.kill()
    confirmed += [int(line) for line in child.stdout.read().split()]
    child.wait()
    found = {item.clip_id for item in Journal(tmp_path).decisions}
    assert len(confirmed) >= 20
    assert {f"c{number}" for number in confirmed} <= found


@pytest.mark.parametrize("junk", [b"not json\n", b'{"clip_id": "c1"}\n', b"\xff\xfe\n", b'{"half": \n'])
def test_a_damaged_line_is_reported_and_all_others_count(tmp_path: Path, junk: bytes) -> None:
    journal = Journal(tmp_path)
    for number in range(3):
        journal.append(said(f"c{number}", "accept"))
    (path,) = (tmp_path / FOLDER).glob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + junk + b"".join(lines[2:]))
    again = Journal(tmp_path)
    assert [item.clip_id for item in again.decisions] == ["c0", "c2"]
    assert [(item.file, item.line) for item in again.damage] == [(path.name, 2)]
    again.append(said("c9", "reject"))
    assert path.read_bytes() == lines[0] + junk + b"".join(lines[2:])
    assert [item.clip_id for item in Journal(tmp_path).decisions] == ["c0", "c2", "c9"]


def test_a_line_that_was_cut_off_is_reported_until_it_is_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(said("c0", "accept"))
    journal.append(said("c1", "accept"))
    (path,) = (tmp_path / FOLDER).glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    reader = Journal(tmp_path)
    assert [item.clip_id for item in reader.decisions] == ["c0"]
    assert [item.line for item in reader.damage] == [2]
    path.write_bytes(whole)
    assert [item.clip_id for item in reader.refresh()] == ["c1"]
    assert reader.damage == []


def test_two_servers_see_what_the_other_says(tmp_path: Path) -> None:
    one, two = Journal(tmp_path), Journal(tmp_path)
    one.append(said("c0", "accept", "a"))
    assert [item.clip_id for item in two.refresh()] == ["c0"]
    two.append(said("c0", "reject", "b"))
    assert [item.reviewer for item in one.refresh()] == ["b"]
    assert one.refresh() == []
    assert one.decisions == two.decisions


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path)

    def work(reviewer: int) -> None:
        for number in range(20):
            journal.append(said(f"c{number}", "accept", f"r{reviewer}"))

    threads = [threading.Thread(target=work, args=(reviewer,)) for reviewer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = Journal(tmp_path)
    assert again.damage == []
    assert len(again.decisions) == 80


def test_a_write_that_failed_half_way_spoils_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append(said("c0", "accept"))
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        real(descriptor, data[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(TalksetError, match="no space"):
            journal.append(said("c1", "accept"))
    assert [item.clip_id for item in journal.decisions] == ["c0"]
    journal.append(said("c1", "accept"))
    again = Journal(tmp_path)
    assert [item.clip_id for item in again.decisions] == ["c0", "c1"]
    assert len(again.damage) == 1


def test_a_folder_that_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal(tmp_path, tmp_path / "file" / "inside")
    assert "cannot write" in str(journal.problem())
    with pytest.raises(TalksetError) as caught:
        journal.append(said("c", "accept"))
    assert caught.value.reason == "not_writable"
    assert Journal(tmp_path, tmp_path / "other").problem() is None
    assert list((tmp_path / "other").iterdir()) == []


def test_the_table_gives_back_every_record(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a")
    mark = Mark(0, 40_000, "mouth")
    fixes = {"transcript": "größe", "sync_offset_ms": -12.5}
    journal.append(said("c0", "reject", reasons=("mouth",), marks=(mark,), corrections=fixes, comment="'"))
    journal.append(said("c0", "accept", number=1, seconds=2.5))
    journal.append(said("c1", None, undoes="c1-x"))
    (tmp_path / "b" / "review").mkdir(parents=True)
    table = to_table(journal.decisions)
    pq.write_table(table, tmp_path / "b" / TABLE)
    assert read_table(tmp_path / "b" / TABLE) == journal.decisions
    assert Journal(tmp_path / "b").decisions == journal.decisions
    assert table["counts"].to_pylist() == [False, True, False]


def test_a_damaged_table_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "review").mkdir()
    (tmp_path / TABLE).write_bytes(b"no parquet")
    with pytest.raises(TalksetError, match=r"decisions\.parquet is damaged"):
        Journal(tmp_path)
