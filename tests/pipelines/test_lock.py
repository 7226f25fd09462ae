"""Two runs never share a folder, and a dead run locks nobody out."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.lock import OWNER_NAME, Owner, read_owner, run_lock
from pipelines.process import process_start
from schemas.errors import TalksetError

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from pipelines.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of `tmp_path`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def here(pid: int, started: str | None = None) -> Owner:
    return Owner(socket.gethostname(), pid, started or process_start(pid) or "", time.time())


def leave_note(folder: Path, owner: Owner) -> None:
    (folder / OWNER_NAME).write_text(json.dumps(dataclasses.asdict(owner)))


def test_a_second_run_is_told_who_holds_the_folder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(TalksetError) as caught, run_lock(tmp_path):
        pass
    assert caught.value.reason == "not_writable"
    for part in (f"process {holder.pid},", f"host {socket.gethostname()},", "since 20"):
        assert part in caught.value.message
    owner = read_owner(tmp_path)
    assert owner is not None
    assert owner.is_alive


def test_a_killed_owner_is_followed_with_a_message(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert read_owner(tmp_path) is not None
    with run_lock(tmp_path):
        owner = read_owner(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()
    assert f"process {holder.pid}" in caplog.text
    assert read_owner(tmp_path) is None


def test_a_process_number_that_is_used_again_is_not_the_owner(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    leave_note(tmp_path, here(os.getpid(), started="boot 1"))
    with run_lock(tmp_path):
        pass
    assert "taking over" in caplog.text


def test_a_living_owner_holds_the_folder_where_the_lock_does_not_reach(tmp_path: Path) -> None:
    leave_note(tmp_path, here(os.getppid()))
    with pytest.raises(TalksetError, match=f"process {os.getppid()}"), run_lock(tmp_path):
        pass


def test_an_owner_on_another_host_is_released_by_hand(tmp_path: Path) -> None:
    leave_note(tmp_path, dataclasses.replace(here(1), host="node-7"))
    with pytest.raises(TalksetError, match="host node-7, process 1, since") as caught, run_lock(tmp_path):
        pass
    subprocess.run(caught.value.remedy.rpartition("release the folder: ")[2], shell=True, check=True)
    with run_lock(tmp_path):
        pass


@pytest.mark.parametrize("note", ["", '{"host": "a", "pi', "[]", '{"host": "a"}'])
def test_a_torn_note_is_nobodys(tmp_path: Path, note: str) -> None:
    (tmp_path / OWNER_NAME).write_text(note)
    with run_lock(tmp_path):
        assert read_owner(tmp_path) is not None


def test_the_start_of_a_process_tells_it_from_others() -> None:
    assert process_start(os.getpid()) == process_start(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ended:
        assert process_start(ended.pid) not in (None, process_start(os.getpid()))
        ended.communicate(b"\n")
    assert process_start(ended.pid) is None
