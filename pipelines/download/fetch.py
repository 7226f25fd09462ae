"""From a URI to a local file: what is known is not fetched again, what is half there is gone on with."""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pipelines.download.answer import Answer, check_head
from pipelines.download.cache import Cache, Fetched, Partial, Record, check_hash
from pipelines.download.sniff import sniff
from pipelines.download.uris import SCHEMES, is_remote, shown
from schemas.config import DownloadConfig
from schemas.errors import TalksetError
from schemas.files import sha256_file

LOGGER = logging.getLogger(__name__)
PASSING: Final = frozenset({"rate_limited", "unavailable", "too_slow"})
"""Reasons that may go away by themselves."""


def fetch(
    uri: str,
    expected_sha256: str | None = None,
    settings: DownloadConfig | None = None,
    cache: Cache | None = None,
) -> Fetched:
    """The content of an http(s), s3 or gs URI as a local file, held until the result is closed.

    Nothing is asked where the cache has content of the expected hash, or got the URI's content less than
    `recheck_h` hours ago. An interrupted transfer goes on where it broke off, also in another process and run. Where
    the server cannot be asked again, content that it gave before is used, with a warning.

    Raises TalksetError: unsupported_uri, unsafe_address, gone, private, login_wall, geo_blocked, rate_limited,
    unavailable, too_slow, too_large, not_a_video (a web page, a picture, text), sha256_mismatch, disk_full,
    not_writable. rate_limited, unavailable and too_slow may pass by themselves; they were tried `attempts` times.
    """
    settings = settings or DownloadConfig()
    cache = cache or cache_of(settings)
    if not is_remote(uri):
        raise TalksetError("unsupported_uri", f"{shown(uri)} is none of {', '.join(SCHEMES)}", "Give its local path")
    expected = expected_sha256.lower() if expected_sha256 else None
    held = None if expected is None else cache.open(expected, {"final_uri": uri})
    if held is not None:
        return held
    with cache.partial(uri) as partial:
        record = cache.recall(uri)
        held = None if record is None else cache.open(record.sha256, vars(record))
        if record is not None and held is not None and held.bytes != record.bytes:
            held.close()
            cache.path(record.sha256).unlink(missing_ok=True)  # somebody damaged it
            held = None
        if record is not None and held is not None and _is_fresh(record, expected, settings):
            return held
        try:
            answer = _transfer(uri, partial, record if held is not None else None, settings, cache)
            if answer.unchanged and record is not None and held is not None:
                check_hash(shown(uri), expected, record.sha256)
                cache.remember(_checked_now(record))
                return held
            fetched = _settle(uri, partial, answer, expected, cache)
        except TalksetError as error:
            if held is not None and error.reason in PASSING and expected in (None, held.sha256):
                LOGGER.warning("%s; what it gave before is used", error.message)
                return held
            _close(held)
            raise
        except BaseException:
            _close(held)
            raise
        _close(held)
        return fetched


@contextlib.contextmanager
def local_file(uri: str, path: Path, sha256: str, settings: DownloadConfig) -> Iterator[Path]:
    """The file of a source whose content is known: `path` itself, or for a remote one the cache's, held.

    Raises as `fetch` where it has to be fetched again; sha256_mismatch where the URI gives other content by now.
    """
    if not is_remote(uri):
        yield path
        return
    with fetch(uri, sha256, settings) as fetched:
        yield fetched.path


def content_path(sha256: str, settings: DownloadConfig) -> Path:
    """Where the cache of this machine has the content, if it has it."""
    return cache_of(settings).path(sha256)


def known_sha256(uri: str, expected_sha256: str | None, settings: DownloadConfig) -> str | None:
    """Hash of what a URI gives, where that is known without asking: what is stored for it needs no file then.

    The manifest's hash is taken at its word; whoever does need the file gets it through `fetch`, which checks.
    """
    if expected_sha256 is not None:
        return expected_sha256.lower()
    record = cache_of(settings).recall(uri)
    return record.sha256 if record is not None and _is_fresh(record, None, settings) else None


def cache_of(settings: DownloadConfig) -> Cache:
    """The cache that the configuration names."""
    from reconstruct.cache import cache_folder

    folder = Path(settings.cache) if settings.cache else cache_folder() / "downloads"
    return _cache(folder, settings.cache_gb * 1e9)


@functools.lru_cache(maxsize=4)
def _cache(folder: Path, limit_bytes: float) -> Cache:
    return Cache(folder, limit_bytes)


def _close(held: Fetched | None) -> None:
    if held is not None:
        held.close()


def _is_fresh(record: Record, expected: str | None, settings: DownloadConfig) -> bool:
    return record.age_s() < settings.recheck_h * 3600 and expected in (None, record.sha256)


def _checked_now(record: Record) -> Record:
    return Record(**{**vars(record), "checked": time.time()})


def _transfer(uri: str, partial: Partial, known: Record | None, settings: DownloadConfig, cache: Cache) -> Answer:
    scheme = uri.partition("://")[0].lower()
    if scheme in ("s3", "gs"):
        from pipelines.download.objects import fetch_object

        return fetch_object(uri, partial, known, settings)
    from pipelines.download.http import fetch_http

    if settings.sites:
        from pipelines.download.video_sites import fetch_page, is_site

        if is_site(uri):
            return fetch_page(uri, partial, settings, cache)
    try:
        return fetch_http(uri, partial, known, settings, cache)
    except TalksetError as error:
        if settings.sites and error.reason == "not_a_video" and sniff(partial.head()) == "text/html":
            return fetch_page(uri, partial, settings, cache)
        if error.reason in ("not_a_video", "too_large", "gone"):
            partial.discard()
        raise


def _settle(uri: str, partial: Partial, answer: Answer, expected: str | None, cache: Cache) -> Fetched:
    """Check what came and make it content."""
    size = partial.size
    if size == 0:
        raise TalksetError("empty_file", f"{shown(uri)} gives zero bytes", "Check the address in the manifest")
    try:
        mime = check_head(uri, partial.head())
        sha256 = sha256_file(partial.path)
        check_hash(shown(uri), expected, sha256)
    except TalksetError:
        partial.discard()
        raise
    record = Record(uri, answer.final_uri, sha256, size, mime, answer.etag, answer.last_modified, checked=time.time())
    return cache.commit(partial, record)
