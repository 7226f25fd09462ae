"""Who may talk to the review server: this machine's own browser, or who holds the token; and nobody's other page.

A page of another site can send requests to 127.0.0.1 from the reviewer's browser. So the Host header must be ours
(DNS rebinding), a change must carry a header that only our own page can set and must not come from another origin
(cross-site requests), and every answer forbids scripts, frames and connections that are not ours.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE: Final = "talkset_review"
HEADER: Final = "x-talkset-review"
"""A header that a form or an image of another page cannot send."""
SAFE_METHODS: Final = ("GET", "HEAD")
MAX_BODY: Final = 256 << 10
POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to that host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Guard:
    """The rules of one server. `token` None: whoever reaches it may use it, so it must be bound to loopback."""

    host: str
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    """Further host names that a browser may call it by."""
    _names: frozenset[str] = field(init=False, default=frozenset())

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ValueError(f"a server on {self.host} needs a token")
        names = {"localhost", "127.0.0.1", "::1", self.host.strip("[]").lower(), *map(str.lower, self.allowed_hosts)}
        if not is_loopback(self.host):
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
        object.__setattr__(self, "_names", frozenset(names))

    def refusal(self, request: Request) -> Response | None:
        """The answer to a request that is not allowed; None for one that is."""
        host = request.headers.get("host", "")
        if not self._own_host(host):
            return _refuse(421, f"this server is not {host!r}; open it by the address that `talkset review` printed")
        if self.token is not None:
            given = request.query_params.get("token")
            if given is not None and request.method == "GET" and request.url.path == "/":
                if not self._is_token(given):
                    return _refuse(403, "the token in the address is wrong; copy it from `talkset review`")
                answer = RedirectResponse("/", status_code=303)
                answer.set_cookie(COOKIE, self.token, httponly=True, samesite="strict", path="/")
                return answer
            if not self._is_token(request.cookies.get(COOKIE, "")):
                return _refuse(401, "open the address with the token that `talkset review` printed")
        if request.headers.get("sec-fetch-site", "none") == "cross-site" and request.url.path != "/":
            return _refuse(403, "another page may not use this server")
        if request.method not in SAFE_METHODS:
            return self._refused_change(request, host)
        return None

    def _refused_change(self, request: Request, host: str) -> Response | None:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return _refuse(403, f"a page of {origin!r} may not change decisions")
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _refuse(403, "another page may not change decisions")
        if request.headers.get(HEADER) != "1":
            return _refuse(403, f"a change needs the header {HEADER}: 1")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refuse(415, "send application/json")
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            return _refuse(413, f"send at most {MAX_BODY} bytes, with their length")
        return None

    def _own_host(self, value: str) -> bool:
        try:
            name = (urlsplit(f"//{value}").hostname or "").lower()
        except ValueError:
            return False
        if name in self._names:
            return True
        if self.token is None:
            return False
        try:
            ipaddress.ip_address(name)  # bound to all addresses: a rebinding page always has a name
        except ValueError:
            return False
        return True

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())


class GuardMiddleware:
    """Refuses what the guard does not allow, and adds the headers to every answer.

    Plain ASGI: Starlette's BaseHTTPMiddleware cuts files short where a browser breaks one request for the next.
    """

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (*HEADERS.items(), ("Cache-Control", "no-store")):
                    headers.setdefault(name, value)
            await send(message)

        await (self._guard.refusal(Request(scope)) or self._app)(scope, receive, send_guarded)


def _refuse(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)
