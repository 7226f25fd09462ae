"""Transfers from object stores (s3, gs) through pyarrow's file systems, with their own credentials and retries."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from pipelines.download.addresses import allowed_hosts, checked_addresses
from pipelines.download.answer import Answer, check_head
from pipelines.download.cache import Partial, Record
from pipelines.download.sniff import SNIFF_BYTES
from pipelines.download.uris import shown
from schemas.config import DownloadConfig
from schemas.errors import TalksetError

BLOCK_BYTES: Final = 4 << 20
FIRST_WAIT_S: Final = 0.5
LAST_WAIT_S: Final = 30.0
_REASONS: Final = (
    (re.compile(r"ACCESS_DENIED|AccessDenied|Forbidden|status 403|INVALID_ACCESS_KEY|SIGNATURE_DOES_NOT"), "private"),
    (re.compile(r"NO_SUCH_(BUCKET|KEY)|RESOURCE_NOT_FOUND|NotFound|status 404"), "gone"),
    (re.compile(r"SLOW_DOWN|THROTTLING|TOO_MANY_REQUESTS|status (429|503)"), "rate_limited"),
)
_REMEDY: Final[Mapping[str, str]] = {
    "gone": "Check bucket and key in the manifest",
    "private": "Give this process credentials that may read it",
}


def fetch_object(uri: str, partial: Partial, known: Record | None, settings: DownloadConfig) -> Answer:
    """Bring an object into `partial`, going on where an earlier attempt broke off while the object is the same.

    Raises TalksetError: unsupported_uri, unsafe_address, gone, private, rate_limited, unavailable, too_slow,
    too_large, not_a_video.
    """
    _check_endpoint(uri, settings)
    deadline = time.monotonic() + settings.total_s
    failures = 0
    while True:
        before = partial.size
        try:
            return _attempt(uri, partial, known, settings, deadline)
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
                reason = "unavailable"
            else:
                reason = _reason(error)
            failures = 1 if partial.size > before else failures + 1
            lasting = reason in ("gone", "private")
            if lasting or failures >= settings.attempts or time.monotonic() > deadline:
                text = str(error).partition("\n")[0]
                raise TalksetError(reason, f"{shown(uri)}: {text}", _REMEDY.get(reason, "Run again later")) from error
            time.sleep(min(FIRST_WAIT_S * 2.0**failures, LAST_WAIT_S) * random.uniform(0.5, 1.0))


def _attempt(uri: str, partial: Partial, known: Record | None, settings: DownloadConfig, deadline: float) -> Answer:
    filesystem, path = _opened(uri)
    with filesystem.open_input_file(path) as stream:
        size, facts = stream.size(), _facts(stream)
        info = filesystem.get_file_info(path)
        changed = None if info.mtime_ns is None else str(info.mtime_ns)
        answer = Answer(uri, facts.get("ETag"), changed)
        if known is not None and (answer.etag, changed, size) == (known.etag, known.last_modified, known.bytes):
            return Answer(uri, answer.etag, changed, unchanged=True)
        most = settings.max_gb * 1e9
        if size > most:
            message = f"{shown(uri)} has {size / 1e9:.3g} GB, run.download.max_gb is {settings.max_gb:g}"
            raise TalksetError("too_large", message, "Raise the limit, or remove it from the manifest")
        validator = f"{answer.etag} {changed} {size}"
        if partial.validator != validator or partial.size > size:
            partial.restart(validator)
        stream.seek(partial.size)
        while partial.size < size:
            if time.monotonic() > deadline:
                message = f"{shown(uri)} was not fetched after {settings.total_s:g} s"
                raise TalksetError("too_slow", message, "Run again to go on, or raise run.download.total_s")
            first = partial.size < SNIFF_BYTES
            block = stream.read(min(BLOCK_BYTES, size - partial.size))
            if not block:
                raise OSError(f"the object ended after {partial.size} of {size} bytes")
            partial.write(block)
            if first:
                check_head(uri, partial.head())
    return answer


def _opened(uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowException, ValueError) as error:
        told = str(error).replace(uri, shown(uri))  # the first error may show a password
        remedy = "Mend it in the manifest"
        raise TalksetError("unsupported_uri", f"{shown(uri)} names no object ({told})", remedy) from None
    if "/" not in path.strip("/"):
        raise TalksetError("unsupported_uri", f"{shown(uri)} names a bucket, not an object", "Give bucket and key")
    return filesystem, path


def _check_endpoint(uri: str, settings: DownloadConfig) -> None:
    """A store of one's own is asked only where it is public or allowed: a manifest may come from anybody."""
    for endpoint in parse_qs(urlsplit(uri).query).get("endpoint_override", []):
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        checked_addresses(parts.hostname or "", parts.port or 443, allowed_hosts(settings.allow_hosts))


def _facts(stream: Any) -> dict[str, str]:
    """What the store says of the object."""
    found = stream.metadata() or {}
    return {_text(name): _text(value) for name, value in found.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "gone"
    text = str(error)
    return next((reason for pattern, reason in _REASONS if pattern.search(text)), "unavailable")
