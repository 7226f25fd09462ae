"""Objects of a local S3 server."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs
import pytest
from download_server import content_of
from s3_server import s3_server

from pipelines.download import Cache, fetch, objects
from schemas.config import DownloadConfig
from schemas.errors import TalksetError

CONTENT = content_of(300_000)
SETTINGS = DownloadConfig(allow_hosts="127.0.0.1", attempts=2)


@pytest.fixture(scope="module")
def store() -> Iterator[tuple[pafs.S3FileSystem, str]]:
    """A file system on a local S3 server, and the URL of an object in it, with %s for bucket and key."""
    with s3_server() as found:
        yield found


def put(filesystem: Any, path: str, content: bytes) -> None:
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(objects, "FIRST_WAIT_S", 0.001)


def test_an_object_comes_whole(store: tuple[Any, str], tmp_path: Path) -> None:
    filesystem, url = store
    put(filesystem, "bucket/a/ü 1.mp4", CONTENT)
    found = fetch(url % "bucket/a/%C3%BC%201.mp4", None, SETTINGS, Cache(tmp_path, 1e9))
    assert found.path.read_bytes() == CONTENT
    assert (found.sha256, found.mime) == (hashlib.sha256(CONTENT).hexdigest(), "video/mp4")


def test_an_unchanged_object_is_not_read_again(
    store: tuple[Any, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filesystem, url = store
    put(filesystem, "bucket/b.mp4", CONTENT)
    cache, always = Cache(tmp_path, 1e9), DownloadConfig(allow_hosts="127.0.0.1", recheck_h=0.0)
    fetch(url % "bucket/b.mp4", None, always, cache).close()
    monkeypatch.setattr(objects, "check_head", lambda *_: pytest.fail("it was read again"))
    assert fetch(url % "bucket/b.mp4", None, always, cache).path.read_bytes() == CONTENT
    monkeypatch.undo()
    put(filesystem, "bucket/b.mp4", content_of(300_000, seed=1))
    assert fetch(url % "bucket/b.mp4", None, always, cache).path.read_bytes() == content_of(300_000, seed=1)


@pytest.mark.parametrize("changed", [False, True])
def test_an_interrupted_read_goes_on_only_with_the_same_object(
    store: tuple[Any, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    filesystem, url = store
    put(filesystem, "bucket/c.mp4", CONTENT)
    opened, starts = objects._opened, []

    class Breaking:
        """An object that breaks off after its second block, once."""

        def __init__(self, stream: Any) -> None:
            self.stream, self.reads = stream, 0

        def __enter__(self) -> Breaking:
            return self

        def __exit__(self, *_: object) -> None:
            self.stream.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self.stream, name)

        def seek(self, place: int) -> None:
            starts.append(place)
            self.stream.seek(place)

        def read(self, size: int) -> Any:
            self.reads += 1
            if len(starts) == 1 and self.reads == 3:
                if changed:
                    put(filesystem, "bucket/c.mp4", content_of(200_000, seed=2))
                raise OSError("the connection was reset")
            return self.stream.read(size)

    class Wrapped:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        def open_input_file(self, path: str) -> Breaking:
            return Breaking(self.inner.open_input_file(path))

    def wrapped(uri: str) -> tuple[Any, str]:
        inner, path = opened(uri)
        return Wrapped(inner), path

    monkeypatch.setattr(objects, "_opened", wrapped)
    found = fetch(url % "bucket/c.mp4", None, SETTINGS, Cache(tmp_path, 1e9))
    assert found.path.read_bytes() == (content_of(200_000, seed=2) if changed else CONTENT)
    assert starts == ([0, 0] if changed else [0, 200_000])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("bucket/nothing.mp4", "gone"),
        ("no-such-bucket/a.mp4", "gone"),
        ("bucket", "unsupported_uri"),
        ("bucket/page.mp4", "not_a_video"),
        ("bucket/empty.mp4", "empty_file"),
        ("bucket/large.mp4", "too_large"),
    ],
)
def test_what_cannot_be_had_has_its_reason(store: tuple[Any, str], tmp_path: Path, path: str, expected: str) -> None:
    filesystem, url = store
    put(filesystem, "bucket/page.mp4", b"<!doctype html>" + b" " * 9)
    put(filesystem, "bucket/empty.mp4", b"")
    put(filesystem, "bucket/large.mp4", CONTENT)
    limited = DownloadConfig(allow_hosts="127.0.0.1", attempts=2, max_gb=2e-4)
    with pytest.raises(TalksetError) as caught:
        fetch(url % path, None, limited, Cache(tmp_path, 1e9))
    assert caught.value.reason == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("AWS Error ACCESS_DENIED during HeadObject operation", "private"),
        ("AWS Error SLOW_DOWN during GetObject", "rate_limited"),
        ("google::cloud::Status(PERMISSION_DENIED): status 403", "private"),
        ("AWS Error NETWORK_CONNECTION", "unavailable"),
    ],
)
def test_what_stores_say(text: str, expected: str) -> None:
    assert objects._reason(OSError(text)) == expected


def test_a_private_store_is_asked_only_where_it_is_allowed(store: tuple[Any, str], tmp_path: Path) -> None:
    with pytest.raises(TalksetError) as caught:
        fetch(store[1] % "bucket/a.mp4", None, DownloadConfig(), Cache(tmp_path, 1e9))
    assert caught.value.reason == "unsafe_address"
