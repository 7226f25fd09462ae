"""What a file is by its first bytes: servers and names are often wrong about it."""

from __future__ import annotations

import re
from typing import Final

SNIFF_BYTES: Final = 4096
UNKNOWN: Final = "application/octet-stream"
_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof", b"styp", b"uuid"})
_VIDEO: Final = (
    (b"\x1a\x45\xdf\xa3", "video/x-matroska"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x00\x00\x01\xba", "video/mpeg"),
    (b"\x00\x00\x01\xb3", "video/mpeg"),
    (b"OggS", "video/ogg"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video/x-ms-asf"),
    (b"\x06\x0e\x2b\x34", "application/mxf"),
    (b".RMF", "application/vnd.rn-realmedia"),
    (b"YUV4MPEG2", "video/x-yuv4mpeg"),
    (b"DKIF", "video/x-ivf"),
)
_OTHER: Final = (
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!", "application/vnd.rar"),
    (b"\x7fELF", "application/x-executable"),
    (b"#EXTM3U", "application/vnd.apple.mpegurl"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
)
_NO_VIDEO: Final = frozenset(mime for _, mime in _OTHER)
_PAGE: Final = re.compile(rb"<\s*(!doctype\s+html|html|head|body|script|title|meta)\b", re.IGNORECASE)
_TITLE: Final = re.compile(rb"<\s*title[^>]*>([^<]{1,200})", re.IGNORECASE)


def sniff(head: bytes) -> str:
    """Media type of a file that starts with `head` (4 KB are enough); application/octet-stream where it is not known.

    Source: the signatures of each format's specification, as in RFC 9559 (Matroska) and ISO/IEC 14496-12 (MP4).
    """
    if head[4:8] in _BOXES:
        return "video/quicktime" if head[8:12] == b"qt  " else "video/mp4"
    if head[:4] == b"RIFF":
        return {b"AVI ": "video/x-msvideo", b"WAVE": "audio/x-wav"}.get(head[8:12], UNKNOWN)
    for start, mime in (*_VIDEO, *_OTHER):
        if head.startswith(start):
            return mime
    for first, step in ((0, 188), (4, 192)):  # bare and Blu-ray transport streams repeat their sync byte
        if len(head) > first + 2 * step and all(head[first + i * step] == 0x47 for i in range(3)):
            return "video/mp2t"
    return _text(head)


def is_no_video(mime: str) -> bool:
    """Whether a type is certainly none that frames come from; what is not known may be one."""
    return mime.startswith(("text/", "audio/")) or mime in _NO_VIDEO


def page_title(head: bytes) -> str:
    """Title of a web page; empty without one."""
    found = _TITLE.search(head)
    return " ".join(found[1].decode("utf-8", "replace").split()) if found else ""


def _text(head: bytes) -> str:
    if _PAGE.search(head[:1024]) and b"\0" not in head:
        return "text/html"
    plain = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if plain[:5] == b"<?xml":
        return "text/xml"
    if not plain or any(byte < 9 or 13 < byte < 27 for byte in plain) or not _is_utf8(plain):
        return UNKNOWN
    return "text/json" if plain[:1] in (b"{", b"[") else "text/plain"


def _is_utf8(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"  # the head may end within a character
    return True
