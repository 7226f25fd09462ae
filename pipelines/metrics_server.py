"""A small web server of a run's metrics; it reads what `talkset status` reads and disturbs nothing."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

from pipelines.prometheus import CONTENT_TYPE, exposition
from pipelines.status import StatusReader
from schemas.errors import UsageError

PATH: Final = "/metrics"
PLAIN: Final = "text/plain; charset=utf-8"
SLOWEST_CLIENT_S: Final = 10.0


@contextlib.contextmanager
def metrics_server(reader: StatusReader, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve the metrics of a run's folder while the context lasts; yields the address.

    Port 0 takes a free one. Nothing can be changed through the server, but whoever reaches it learns the names of
    stages, of the host and of the run. Raises UsageError for an address that cannot be used.
    """
    try:
        server = _Server(reader, host, port)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(
            f"cannot serve metrics at {host} port {port} ({reason})", "Give another --metrics-port or --metrics-host"
        ) from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_address[1]}{PATH}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, reader: StatusReader, host: str, port: int) -> None:
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        self._reader = reader
        self._reading = threading.Lock()
        super().__init__((host, port), _Handler)

    def metrics(self) -> str:
        """The text of this moment."""
        with self._reading:  # a reader follows one file: two requests would each see half of it
            return exposition(self._reader.read())


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SLOWEST_CLIENT_S
    server_version = "talkset"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the metrics."""
        if urlsplit(self.path).path != PATH:
            self._answer(HTTPStatus.NOT_FOUND, PLAIN, f"the metrics are at {PATH}\n")
            return
        try:
            text = self.server.metrics()
        except (OSError, sqlite3.Error) as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, PLAIN, f"the run's folder cannot be read ({error})\n")
        else:
            self._answer(HTTPStatus.OK, CONTENT_TYPE, text)

    def do_HEAD(self) -> None:
        """The same without the text."""
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the standard library
        """A scrape every few seconds is no news."""

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)
