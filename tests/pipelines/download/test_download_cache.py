"""The folder of fetched files: what it keeps, what it lets go, and that several processes can share it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from download_server import Page, content_of, running

from pipelines.download import Cache, fetch
from pipelines.download.cache import OLD_PART_S, Fetched, Record
from schemas.config import DownloadConfig

REPOSITORY = Path(__file__).resolve().parents[3]
SIZE = 10_000


def put(cache: Cache, number: int, used_s_ago: float = 0.0) -> Fetched:
    """A file of 10 kB from a URI of its own."""
    content = content_of(SIZE, number)
    with cache.partial(f"u{number}") as partial:
        partial.write(content)
        sha256 = hashlib.sha256(content).hexdigest()
        record = Record(f"u{number}", f"u{number}", sha256, SIZE, "video/mp4", None, None, time.time())
        found = cache.commit(partial, record)
    moment = time.time() - used_s_ago
    os.utime(found.path, (moment, moment))
    return found


def there(cache: Cache) -> set[str]:
    return {path.name for path in cache.folder.glob("content/??/*")}


def test_the_least_recently_used_file_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 3.5 * SIZE)
    files = [put(cache, number, used_s_ago=100 - number) for number in range(3)]
    for file in files:
        file.close()
    used = cache.open(files[0].sha256)  # now the last used
    assert used is not None
    used.close()
    last = put(cache, 3)
    assert there(cache) == {files[0].sha256, files[2].sha256, last.sha256}
    assert cache.open(files[1].sha256) is None
    assert cache.recall("u1") is not None  # what the URI gave is known without its content


def test_a_file_in_use_stays_whatever_the_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path, SIZE / 2)
    first = put(cache, 0, used_s_ago=100)
    second = put(Cache(tmp_path, SIZE / 2), 1)
    assert there(cache) == {first.sha256, second.sha256}
    second.close()
    third = put(cache, 2)
    assert there(cache) == {first.sha256, third.sha256}
    assert first.path.read_bytes() == content_of(SIZE, 0)
    first.close()
    put(cache, 3).close()
    assert first.sha256 not in there(cache)


def test_half_fetched_files_go_when_nobody_goes_on_with_them(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1e9)
    with cache.partial("a") as partial:
        partial.restart("tag")
        partial.write(b"x" * 100)
        put(cache, 0).close()
        assert partial.path.is_file()
    with cache.partial("a") as again:
        assert (again.size, again.validator) == (100, "tag")
    os.utime(again.path, (0, time.time() - OLD_PART_S - 10))
    put(cache, 1).close()
    assert not again.path.exists()


def test_bytes_of_unknown_origin_are_not_gone_on_with(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1e9)
    with cache.partial("a") as partial:
        partial.write(b"x" * 100)
    with cache.partial("a") as again:
        assert again.size == 0


def test_the_same_content_from_two_places_is_kept_once(tmp_path: Path) -> None:
    cache, content = Cache(tmp_path / "cache", 1e9), content_of(SIZE)
    allowed = DownloadConfig(allow_hosts="127.0.0.1", interval_s=0)
    with running() as server:
        found = [fetch(server.put(name, Page(content)), None, allowed, cache) for name in ("/a", "/b")]
    assert found[0].path == found[1].path
    assert there(cache) == {found[0].sha256}
    assert list((tmp_path / "cache" / "partial").iterdir()) == []


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    cache, content = Cache(tmp_path / "cache", 1e9), content_of(SIZE)
    allowed = DownloadConfig(allow_hosts="127.0.0.1", interval_s=0)
    with running() as server:
        uri = server.put("/a", Page(content))
        first = fetch(uri, None, allowed, cache)
        first.path.write_bytes(content[:-1])
        first.close()
        assert fetch(uri, None, allowed, cache).path.read_bytes() == content


WORKER = """
import sys
from pathlib import Path
from pipelines.download import Cache, fetch
from schemas.config import DownloadConfig

cache = Cache(Path(sys.argv[1]), float(sys.argv[2]))
settings = DownloadConfig(allow_hosts="127.0.0.1", interval_s=0, per_host=2)
for uri in sys.argv[3:]:
    with fetch(uri, None, settings, cache) as found:
        assert found.path.stat().st_size == found.bytes
        print(found.sha256, flush=True)
"""


def test_processes_share_a_folder_that_is_too_small_for_all(tmp_path: Path) -> None:
    contents = [content_of(SIZE, number) for number in range(6)]
    with running() as server:
        uris = [server.put(f"/{number}", Page(content)) for number, content in enumerate(contents)]
        command = [sys.executable, "-c", WORKER, str(tmp_path / "cache"), str(2.5 * SIZE)]
        workers = [
            subprocess.Popen([*command, *(uris if number % 2 else uris[::-1])], cwd=REPOSITORY, stdout=subprocess.PIPE)
            for number in range(3)
        ]
        told = [worker.communicate(timeout=60)[0].decode().split() for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0, 0]
        assert server.most_parallel <= 2
    truth = [hashlib.sha256(content).hexdigest() for content in contents]
    assert told == [truth[::-1], truth, truth[::-1]]
    assert len(there(Cache(tmp_path / "cache", 1e9))) <= 3


def test_a_killed_transfer_leaves_nothing_locked_and_is_gone_on_with(tmp_path: Path) -> None:
    content = content_of(500_000)
    with running() as server:
        page = Page(content, stall_after=200_000, stalls=1)
        uri = server.put("/a", page)
        command = [sys.executable, "-c", WORKER, str(tmp_path / "cache"), "1e9", uri]
        worker = subprocess.Popen(command, cwd=REPOSITORY)
        parts = tmp_path / "cache" / "partial"
        deadline = time.monotonic() + 30
        while not any(path.stat().st_size == 200_000 for path in parts.glob("*.part")) and time.monotonic() < deadline:
            time.sleep(0.01)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        allowed = DownloadConfig(allow_hosts="127.0.0.1", interval_s=0, per_host=1)
        found = fetch(uri, None, allowed, Cache(tmp_path / "cache", 1e9))
        assert found.path.read_bytes() == content
        assert server.requests[-1][1]["Range"] == "bytes=200000-"


@pytest.mark.parametrize("record", ["", "{}", '{"uri": 1}', "\x00"])
def test_a_damaged_record_is_no_record(tmp_path: Path, record: str) -> None:
    cache = Cache(tmp_path, 1e9)
    put(cache, 0).close()
    assert cache.recall("u0") is not None
    [path] = (tmp_path / "uris").glob("*/*.json")
    path.write_text(record)
    assert cache.recall("u0") is None
