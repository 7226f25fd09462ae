"""Transfers over http and https: resumed where they broke off, limited in time, size and where they may go.

urllib3 does the protocol: it is the one of the usual libraries whose public interface connects to a given address while
it checks the certificate of the name (`server_hostname`, `assert_hostname`), and it hands over bytes as they arrive, so
that a slow sender is noticed. (requests hides both; httpx needs a transport of one's own.)
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import random
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Final
from urllib.parse import unquote, urljoin

import urllib3
import urllib3.exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Url, parse_url

from pipelines.download.addresses import allowed_hosts, checked_addresses
from pipelines.download.answer import Answer, check_head
from pipelines.download.cache import Cache, Partial, Record
from pipelines.download.politeness import Hosts
from pipelines.download.sniff import SNIFF_BYTES
from pipelines.download.uris import shown
from schemas.config import DownloadConfig
from schemas.errors import TalksetError

BLOCK_BYTES: Final = 1 << 18
PROGRESS_BYTES: Final = 1 << 20
"""An attempt that brought so much is not counted: the way is bad, but it leads on."""
FIRST_WAIT_S: Final = 0.5
LAST_WAIT_S: Final = 30.0
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
REASON_OF: Final[Mapping[int, str]] = {
    401: "login_wall",
    402: "login_wall",
    403: "private",
    404: "gone",
    407: "login_wall",
    410: "gone",
    429: "rate_limited",
    451: "geo_blocked",
}
"""Status to reason; all others are unavailable. Source: RFC 9110, 6585, 7725."""
PASSING: Final = frozenset({408, 425, 429})
"""Statuses below 500 that may pass by themselves."""
REMEDY: Final[Mapping[str, str]] = {
    "gone": "Remove it from the manifest",
    "private": "Ask the owner for access",
    "login_wall": "Put a name and password or a signed address into the URI",
    "geo_blocked": "Fetch it from another place and give the local path",
    "rate_limited": "Run again later, or lower run.download.per_host",
    "unavailable": "Run again later",
}
_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_AGENT: Final = "talkset (fetches videos of a manifest)"


class _BrokenError(Exception):
    """A failure that may pass: its reason, what happened, and how long the server asked to wait."""

    def __init__(self, reason: str, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.reason, self.message, self.wait_s = reason, message, wait_s


def fetch_http(uri: str, partial: Partial, known: Record | None, settings: DownloadConfig, cache: Cache) -> Answer:
    """Bring the content of a URI into `partial`; with `known` the server is asked only whether it changed.

    Raises TalksetError, see `pipelines.download.fetch.fetch`.
    """
    transfer = _Transfer(uri, partial, known, settings, cache)
    failures = 0
    while True:
        before = partial.size
        try:
            return transfer.attempt()
        except _BrokenError as error:
            grown = partial.size - before
            failures = 0 if grown >= PROGRESS_BYTES else failures + 1
            wait_s = max(error.wait_s, min(FIRST_WAIT_S * 2.0**failures, LAST_WAIT_S) * random.uniform(0.5, 1.0))
            late = transfer.spent_s >= settings.total_s
            if failures >= settings.attempts or error.wait_s > settings.max_wait_s or late:
                asked = f"; it asks to wait {error.wait_s:.0f} s" if error.wait_s else ""
                message = f"{shown(uri)}: {error.message}{asked} (attempt {failures} of {settings.attempts})"
                raise TalksetError(error.reason, message, REMEDY.get(error.reason, "Run again later")) from error
            time.sleep(wait_s)


class _Transfer:
    """The attempts at one file."""

    def __init__(
        self, uri: str, partial: Partial, known: Record | None, settings: DownloadConfig, cache: Cache
    ) -> None:
        self._uri, self._partial, self._known, self._settings = uri, partial, known, settings
        self._hosts = Hosts(cache.folder / "hosts", settings.per_host, settings.interval_s)
        self._allowed = allowed_hosts(settings.allow_hosts)
        self.spent_s = 0.0
        """Time of all attempts, without waits."""

    def attempt(self) -> Answer:
        """Ask once, following redirects."""
        uri, credentials, seen = self._uri, True, {self._uri}
        for _ in range(self._settings.max_redirects + 1):
            url = _parsed(uri)
            host = (url.host or "").strip("[]")
            with self._hosts.turn(host):
                started = time.monotonic()
                try:
                    found = self._ask(uri, url, host, credentials)
                finally:
                    self.spent_s += time.monotonic() - started
            if isinstance(found, Answer):
                return found
            uri = urljoin(uri, found)
            if uri in seen:
                raise TalksetError("unavailable", f"{shown(self._uri)} redirects in circles", REMEDY["gone"])
            seen.add(uri)
            credentials = credentials and _parsed(uri).host == url.host
        message = f"{shown(self._uri)} redirects more than {self._settings.max_redirects} times"
        raise TalksetError("unavailable", message, "Give the address where it ends")

    def _ask(self, uri: str, url: Url, host: str, credentials: bool) -> Answer | str:
        """The answer, or the address to ask instead."""
        left_s = self._settings.total_s - self.spent_s
        if left_s <= 0:
            raise _BrokenError("too_slow", f"not fetched after {self._settings.total_s:g} s")
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = checked_addresses(host, port, self._allowed)
        except TalksetError as error:
            if error.reason == "unavailable":
                raise _BrokenError("unavailable", error.message) from error
            raise
        with _Watch(left_s) as watch:
            try:
                with self._open(url, host, port, addresses, credentials, watch) as response:
                    found = self._take(uri, host, response)
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
                    raise  # of the disk; named where it was met
                if watch.fired:
                    raise _BrokenError("too_slow", f"not fetched after {self._settings.total_s:g} s") from error
                refused = isinstance(error, urllib3.exceptions.NewConnectionError)  # of which there is a timeout kind
                if isinstance(error, urllib3.exceptions.TimeoutError) and not refused:
                    raise _BrokenError("too_slow", f"nothing came for {self._settings.stall_s:g} s") from error
                raise _BrokenError("unavailable", f"{host} failed ({_told(error)})") from error
            if watch.fired:  # what looked like an end was made by the watch
                raise _BrokenError("too_slow", f"not fetched after {self._settings.total_s:g} s")
            return found

    @contextlib.contextmanager
    def _open(
        self, url: Url, host: str, port: int, addresses: list[str], credentials: bool, watch: _Watch
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """The response of the first address that takes a connection."""
        stall_s = self._settings.stall_s
        timeout = urllib3.Timeout(connect=stall_s, read=stall_s)
        for number, address in enumerate(addresses, start=1):
            pool = _pool(url.scheme or "", host, address, port, watch, timeout)
            try:
                headers = self._headers(url, host, credentials)
                target = url.request_uri
                response = pool.urlopen(
                    "GET", target, headers=headers, redirect=False, retries=False, preload_content=False
                )
            except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
                pool.close()
                if number == len(addresses) or watch.fired:
                    raise
                continue
            except BaseException:
                pool.close()
                raise
            try:
                yield response
            finally:
                response.close()
                pool.close()
            return

    def _headers(self, url: Url, host: str, credentials: bool) -> dict[str, str]:
        name = f"[{host}]" if ":" in host else host
        headers = {"Host": name if url.port is None else f"{name}:{url.port}", "User-Agent": _AGENT}
        headers["Accept-Encoding"] = "identity"
        if credentials and url.auth:
            headers |= urllib3.make_headers(basic_auth=unquote(url.auth))
        if self._partial.size and self._partial.validator:
            headers |= {"Range": f"bytes={self._partial.size}-", "If-Range": self._partial.validator}
        elif self._known is not None:
            if self._known.etag:
                headers["If-None-Match"] = self._known.etag
            if self._known.last_modified:
                headers["If-Modified-Since"] = self._known.last_modified
        return headers

    def _take(self, uri: str, host: str, response: urllib3.BaseHTTPResponse) -> Answer | str:
        status, headers = response.status, response.headers
        answer = Answer(uri, headers.get("ETag"), headers.get("Last-Modified"), unchanged=status == 304)
        if status in REDIRECTS and "Location" in headers:
            return str(headers["Location"])
        if status == 304 and self._known is not None:
            return answer
        if status == 416 and self._partial.size:
            return self._end_of_range(answer, headers)
        if status not in (200, 206):
            raise self._refused(host, status, headers)
        total = self._begin(answer, status, headers)
        most = self._settings.max_gb * 1e9
        if total is not None and total > most:
            raise self._too_large(total)
        checked = self._partial.size >= SNIFF_BYTES
        for block in self._blocks(response):
            self._partial.write(block)
            if not checked and self._partial.size >= SNIFF_BYTES:
                check_head(self._uri, self._partial.head())
                checked = True
            if self._partial.size > most:
                raise self._too_large(self._partial.size)
        size = self._partial.size
        if not checked and size:
            check_head(self._uri, self._partial.head())
        missing = total is not None and size < total
        if missing or response.length_remaining not in (0, None):
            raise _BrokenError("unavailable", f"the connection ended after {size} of {total} bytes")
        if total is not None and size > total:
            self._partial.restart(None)
            raise _BrokenError("unavailable", f"{size} bytes came, {total} were announced")
        return answer

    def _begin(self, answer: Answer, status: int, headers: Mapping[str, str]) -> int | None:
        """Make the partial file ready for the bytes that come; returns how long it will be in all, if known."""
        validator = _validator(answer)
        if status == 206:
            found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
            right = found is not None and found[1] is not None and int(found[1]) == self._partial.size
            if found is None or not right or validator not in (None, self._partial.validator):
                self._partial.restart(None)
                raise _BrokenError("unavailable", f"another range came ({headers.get('Content-Range')})")
            return None if found[3] == "*" else int(found[3])
        encoded = headers.get("Content-Encoding", "identity").lower() != "identity"
        self._partial.restart(None if encoded else validator)
        length = headers.get("Content-Length", "")
        return int(length) if length.isdigit() and not encoded else None

    def _end_of_range(self, answer: Answer, headers: Mapping[str, str]) -> Answer:
        """The answer where the server has nothing beyond what is there; else begin again."""
        found = _RANGE.fullmatch(headers.get("Content-Range", "").strip())
        if (
            found is not None
            and found[3] == str(self._partial.size)
            and _validator(answer)
            in (
                None,
                self._partial.validator,
            )
        ):
            return answer
        self._partial.restart(None)
        raise _BrokenError("unavailable", "the file became shorter during the transfer")

    def _blocks(self, response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
        """Bytes as they come, decoded; raises where too few come."""
        stall_s, least = self._settings.stall_s, self._settings.min_kb_s * 1e3
        begun, came = time.monotonic(), 0
        while block := response.read1(BLOCK_BYTES, decode_content=True):
            yield block
            came += len(block)
            passed = time.monotonic() - begun
            if passed > stall_s:
                if came < least * passed:
                    raise _BrokenError("too_slow", f"{came / 1e3 / passed:.1f} kB/s came over {passed:.0f} s")
                begun, came = time.monotonic(), 0

    def _refused(self, host: str, status: int, headers: Mapping[str, str]) -> Exception:
        reason = REASON_OF.get(status, "unavailable")
        said = f"the server answered {status}"
        if status not in PASSING and status < 500:
            return TalksetError(reason, f"{shown(self._uri)}: {said}", REMEDY[reason])
        wait_s = _retry_after(headers.get("Retry-After"))
        if 0 < wait_s <= self._settings.max_wait_s:
            self._hosts.hold_off(host, wait_s)
        return _BrokenError(reason, said, wait_s)

    def _too_large(self, size: int) -> TalksetError:
        message = (
            f"{shown(self._uri)} has {size / 1e9:.3g} GB or more, run.download.max_gb is {self._settings.max_gb:g}"
        )
        return TalksetError("too_large", message, "Raise the limit, or remove it from the manifest")


class _Watch:
    """Ends the connections of a request at a moment, whatever they are doing."""

    def __init__(self, seconds: float) -> None:
        self.fired = False
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True

    def __enter__(self) -> _Watch:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            for copy in self._sockets:
                copy.close()

    def add(self, connection: socket.socket) -> None:
        """Watch a connection; a copy of its descriptor outlives the wrapping for TLS."""
        with self._lock:
            self._sockets.append(connection.dup())

    def _fire(self) -> None:
        self.fired = True
        with self._lock:
            for copy in self._sockets:
                with contextlib.suppress(OSError):
                    copy.shutdown(socket.SHUT_RDWR)


def _pool(
    scheme: str, host: str, address: str, port: int, watch: _Watch, timeout: urllib3.Timeout
) -> urllib3.HTTPConnectionPool:
    """Connections to an address that was checked; over TLS the certificate must be that of the name."""

    class Plain(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            watch.add(connection)
            return connection

    class Secure(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            connection = super()._new_conn()
            watch.add(connection)
            return connection

    if scheme == "https":
        names: dict[str, Any] = {"server_hostname": host, "assert_hostname": host}
        secure = urllib3.HTTPSConnectionPool(address, port, timeout=timeout, maxsize=1, **names)
        secure.ConnectionCls = Secure
        return secure
    plain = urllib3.HTTPConnectionPool(address, port, timeout=timeout, maxsize=1)
    plain.ConnectionCls = Plain
    return plain


def _parsed(uri: str) -> Url:
    try:
        url = parse_url(uri)
    except urllib3.exceptions.LocationParseError as error:
        raise TalksetError("unsupported_uri", f"{shown(uri)} is no address", "Mend it in the manifest") from error
    if url.scheme not in ("http", "https"):
        message = f"a redirect leads to {shown(uri)}, which is neither http nor https"
        raise TalksetError("unsafe_address", message, REMEDY["gone"])
    if not url.host:
        raise TalksetError("unsupported_uri", f"{shown(uri)} names no host", "Mend it in the manifest")
    return url


def _validator(answer: Answer) -> str | None:
    """What If-Range takes: a strong ETag, else the time of the last change. Source: RFC 9110, 13.1.5."""
    if answer.etag is not None:
        return None if answer.etag.startswith("W/") else answer.etag
    return answer.last_modified


def _retry_after(text: str | None) -> float:
    """Seconds that a Retry-After header asks for; 0 without one."""
    if not text:
        return 0.0
    if text.strip().isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    return max(0.0, (moment - datetime.datetime.now(datetime.timezone.utc)).total_seconds())


def _told(error: Exception) -> str:
    """What went wrong, without the library's own words around it."""
    inner = error.args[-1] if error.args else error
    return f"{type(error).__name__}: {inner}"
