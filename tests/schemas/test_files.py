"""Atomic writing and the list of hashes."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from schemas.errors import TalksetError
from schemas.files import (
    MANIFEST_NAME,
    is_safe_path,
    list_files,
    read_checksums,
    refresh_manifest,
    sha256_file,
    write_atomic,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a b.txt", "media/ü.mp4", ".talkset/ledger.db", "overlays/x.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_manifest_covers_everything_but_run_state(folder: Path) -> None:
    refresh_manifest(folder)
    hashes = read_checksums(folder)
    assert list(hashes) == ["a b.txt", "media/ü.mp4", "overlays/x.mp4"]
    assert hashes["media/ü.mp4"] == hashlib.sha256("media/ü.mp4".encode()).hexdigest()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_sha256sum_accepts_it_and_sees_damage(folder: Path) -> None:
    refresh_manifest(folder)
    command = ["sha256sum", "--strict", "-c", MANIFEST_NAME]
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0
    (folder / "a b.txt").write_text("else")
    assert subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode != 0


def test_partial_refresh_keeps_damage_visible(folder: Path) -> None:
    refresh_manifest(folder)
    before = read_checksums(folder)
    (folder / "a b.txt").write_text("damaged")
    (folder / "overlays" / "x.mp4").write_text("rendered again")
    (folder / "overlays" / "y.mp4").write_text("new")
    (folder / "media" / "ü.mp4").unlink()
    refresh_manifest(folder, changed=["overlays"])
    after = read_checksums(folder)
    assert after["a b.txt"] == before["a b.txt"] != sha256_file(folder / "a b.txt")
    assert after["overlays/x.mp4"] == sha256_file(folder / "overlays" / "x.mp4")
    assert "overlays/y.mp4" in after
    assert "media/ü.mp4" not in after


def test_every_altered_byte_of_the_list_is_seen(folder: Path) -> None:
    path = refresh_manifest(folder)
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(TalksetError):
            read_checksums(folder)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(TalksetError):
            read_checksums(folder)


def test_list_refuses_paths_outside(folder: Path) -> None:
    body = f"{'0' * 64}  ../secret\n"
    seal = hashlib.sha256(body.encode()).hexdigest()
    (folder / MANIFEST_NAME).write_text(f"{body}# sha256 of the lines above: {seal}\n")
    with pytest.raises(TalksetError, match="leaves the data set"):
        read_checksums(folder)
    assert not any(is_safe_path(name) for name in ("", "/a", "../a", "a/../../b", "a\\b", "a\0"))
    assert is_safe_path("media/..a.mp4")


def test_linked_folder_is_refused(folder: Path) -> None:
    (folder / "linked").symlink_to(folder / "media", target_is_directory=True)
    with pytest.raises(TalksetError, match="linked"):
        list_files(folder)


def test_write_atomic_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_atomic(path, b"old")
    (tmp_path / ".a.json.partial").mkdir()  # the temporary name cannot be opened, even by root
    with pytest.raises(TalksetError) as caught:
        write_atomic(path, b"new")
    assert caught.value.reason == "not_writable"
    assert str(path) in caught.value.message
    assert path.read_bytes() == b"old"
