"""A local web server that behaves as badly as it is told, for the tests of downloading."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HEAD = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41"
"""The first bytes of an mp4 file."""


def content_of(size: int, seed: int = 0) -> bytes:
    """Bytes that start like an mp4 file and repeat nowhere."""
    body = b"".join((i * 2_654_435_761 + seed).to_bytes(8, "little") for i in range(size // 8 + 1))
    return (HEAD + body)[:size]


@dataclass
class Page:
    """What the server does at one path."""

    content: bytes = b""
    statuses: list[int] = field(default_factory=list)
    """Answered first, one a request; after them 200 or 206."""
    headers: dict[str, str] = field(default_factory=dict)
    location: str | None = None
    cut_after: int | None = None
    """Bytes of a body after which the connection is closed without a word, in the first `cuts` requests."""
    cuts: int = 10**9
    stall_after: int | None = None
    """Bytes of a body after which nothing comes any more, in the first `stalls` requests."""
    stalls: int = 10**9
    byte_every_s: float | None = None
    """A byte at a time."""
    announced: int | None = None
    """Content-Length, whatever is sent."""
    no_length: bool = False
    ranges: bool = True
    etag: str | None = '"one"'
    modified: float | None = None
    then: Callable[[Page], None] | None = None
    """Called after each request: changes what comes next."""
    header_every_s: float | None = None
    """Headers without end, one at a time."""


class Server:
    """Pages by path; `requests` are (path, headers) as they came, `at` their times."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.at: list[float] = []
        self.parallel = self.most_parallel = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with server._lock:
                    server.requests.append((self.path, dict(self.headers)))
                    server.at.append(time.monotonic())
                    server.parallel += 1
                    server.most_parallel = max(server.most_parallel, server.parallel)
                try:
                    server._answer(self)
                finally:
                    with server._lock:
                        server.parallel -= 1

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *args: Any) -> None:
                del args

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def put(self, path: str, page: Page) -> str:
        self.pages[path] = page
        return self.url(path)

    def asked(self, path: str) -> list[dict[str, str]]:
        """Headers of the requests to a path."""
        return [headers for name, headers in self.requests if name == path]

    def _answer(self, handler: Any) -> None:
        page = self.pages.get(handler.path)
        if page is None:
            handler.send_error(404)
            return
        with contextlib.suppress(ConnectionError, socket.timeout):
            self._send(handler, page)
        if page.then is not None:
            page.then(page)

    def _send(self, handler: Any, page: Page) -> None:
        handler.close_connection = True
        if page.header_every_s is not None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not self.closing.wait(page.header_every_s):
                handler.wfile.write(b"X-More: 1\r\n")
            return
        if page.statuses or page.location is not None:
            handler.send_response(page.statuses.pop(0) if page.statuses else 302)
            for name, value in page.headers.items():
                handler.send_header(name, value)
            if page.location is not None:
                handler.send_header("Location", page.location)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        modified = None if page.modified is None else email.utils.formatdate(page.modified, usegmt=True)
        asked = handler.headers
        if page.etag is not None and asked.get("If-None-Match") == page.etag:
            handler.send_response(304)
            handler.send_header("ETag", page.etag)
            handler.end_headers()
            return
        begin, total = 0, len(page.content)
        range_, condition = asked.get("Range"), asked.get("If-Range")
        if page.ranges and range_ and (condition is None or condition in (page.etag, modified)):
            begin = int(range_.removeprefix("bytes=").rstrip("-"))
            if begin >= total:
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{total}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {begin}-{total - 1}/{total}")
        else:
            handler.send_response(200)
        for name, value in page.headers.items():
            handler.send_header(name, value)
        if page.etag is not None:
            handler.send_header("ETag", page.etag)
        if modified is not None:
            handler.send_header("Last-Modified", modified)
        if not page.no_length:
            length = page.announced if page.announced is not None else total - begin
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if handler.command != "HEAD":
            self._send_body(handler, page, page.content[begin:])

    def _send_body(self, handler: Any, page: Page, body: bytes) -> None:
        if page.byte_every_s is not None:
            for byte in body:
                handler.wfile.write(bytes([byte]))
                if self.closing.wait(page.byte_every_s):
                    return
        elif page.cut_after is not None and page.cuts > 0:
            page.cuts -= 1
            handler.wfile.write(body[: page.cut_after])
        elif page.stall_after is not None and page.stalls > 0:
            page.stalls -= 1
            handler.wfile.write(body[: page.stall_after])
            handler.wfile.flush()
            self.closing.wait(60)
        else:
            handler.wfile.write(body)


@contextlib.contextmanager
def running(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A server for the time of a test, over TLS where a context is given."""
    server = Server(tls)
    server._thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server._http.shutdown()
        server._http.server_close()
