"""What files are by their first bytes: written by ffmpeg, and by hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest

from pipelines.download.sniff import SNIFF_BYTES, is_no_video, page_title, sniff

FORMATS = {
    "mp4": ("mpeg4", "video/mp4"),
    "mov": ("mpeg4", "video/quicktime"),
    "3gp": ("mpeg4", "video/mp4"),
    "mkv": ("mpeg4", "video/x-matroska"),
    "webm": ("libvpx", "video/x-matroska"),
    "avi": ("mpeg4", "video/x-msvideo"),
    "flv": ("flv1", "video/x-flv"),
    "mpg": ("mpeg1video", "video/mpeg"),
    "m1v": ("mpeg1video", "video/mpeg"),
    "ts": ("mpeg2video", "video/mp2t"),
    "m2ts": ("mpeg2video", "video/mp2t"),
    "wmv": ("wmv2", "video/x-ms-asf"),
    "ogv": ("libtheora", "video/ogg"),
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_ffmpeg_writes_is_known(tmp_path: Path, suffix: str) -> None:
    codec, mime = FORMATS[suffix]
    path = tmp_path / f"a.{suffix}"
    picture = ["-f", "lavfi", "-i", "color=s=64x48:d=0.5:r=25", "-c:v", codec]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *picture, str(path)]
    subprocess.run(command, check=True)
    assert sniff(path.read_bytes()[:SNIFF_BYTES]) == mime
    assert not is_no_video(mime)


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        (b"<!DOCTYPE html><html>", "text/html"),
        (b"\xef\xbb\xbf  \n<HTML lang=en>", "text/html"),
        (b"<script>location='x'</script>", "text/html"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "text/xml"),
        (b'{"error": "no"}', "text/json"),
        (b"Not found\n", "text/plain"),
        ("nicht gefunden: ü".encode(), "text/plain"),
        (b"#EXTM3U\n#EXT-X-VERSION:3", "application/vnd.apple.mpegurl"),
        (b"PK\x03\x04rest", "application/zip"),
        (b"%PDF-1.4", "application/pdf"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio/x-wav"),
    ],
)
def test_what_is_no_video(head: bytes, mime: str) -> None:
    assert sniff(head) == mime
    assert is_no_video(mime)


@pytest.mark.parametrize("head", [b"", b"\x00\x01\x02\x03", b"\xff\xd8\xff\xe0JFIF", b"\x89PNG\r\n\x1a\n"])
def test_what_is_not_known_is_left_to_the_decoder(head: bytes) -> None:
    assert not is_no_video(sniff(head))


def test_a_page_has_a_title() -> None:
    assert page_title(b"<html><title >Log\n  in \xc3\xbc</title>") == "Log in ü"
    assert page_title(b"<html>") == ""
