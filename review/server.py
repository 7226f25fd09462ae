"""The review server: the page and its data over HTTP, guarded; of the disk nothing but what a clip's id leads to."""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from review.catalogue import FACETS, OVERALL, Query
from review.guard import MAX_BODY, Guard, GuardMiddleware
from review.session import ReviewSession, UnknownClipError
from schemas.errors import TalksetError, UsageError

TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
ARRAYS: Final = ("landmarks", "faces", "vertices")
STATUS_OF: Final = {
    "missing_file": 404,
    "missing_model": 409,
    "bad_value": 400,
    "disk_full": 507,
    "not_writable": 507,
}
"""HTTP status of a reason class; others are 500."""


@functools.cache
def page_files() -> dict[str, bytes]:
    """Name -> content of every file of the page; only these are served."""
    found: dict[str, bytes] = {}

    def collect(folder: Any, prefix: str) -> None:
        for item in folder.iterdir():
            if item.is_dir():
                collect(item, f"{prefix}{item.name}/")
            elif Path(item.name).suffix in TYPES:
                found[prefix + item.name] = item.read_bytes()

    collect(resources.files("review") / "web", "")
    return found


def make_app(session: ReviewSession, guard: Guard) -> FastAPI:
    """The application: page, queue, clips, media, decisions. See docs/review.md for the addresses."""
    app = FastAPI(title="talkset review", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(GuardMiddleware, guard=guard)
    _add_errors(app)
    _add_page(app)
    _add_reading(app, session)
    _add_judging(app, session)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(UnknownClipError)
    async def unknown(_: Request, error: UnknownClipError) -> Response:
        return JSONResponse({"error": f"the data set has no clip {error.args[0][:200]!r}"}, 404)

    @app.exception_handler(TalksetError)
    async def named(_: Request, error: TalksetError) -> Response:
        status = 400 if isinstance(error, UsageError) else STATUS_OF.get(error.reason, 500)
        return JSONResponse({"error": error.message, "remedy": error.remedy, "reason": error.reason}, status)


def _add_page(app: FastAPI) -> None:
    @app.get("/")
    async def index() -> Response:
        return _page_file("index.html")

    @app.get("/page/{name:path}")
    async def page(name: str) -> Response:
        return _page_file(name)

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return _page_file("icon.svg")


def _page_file(name: str) -> Response:
    data = page_files().get(name)
    if data is None:
        return JSONResponse({"error": "no such page"}, 404)
    headers = {"Cache-Control": "no-cache" if "vendor/" not in name else "public, max-age=86400"}
    return Response(data, media_type=TYPES[Path(name).suffix], headers=headers)


def _add_reading(app: FastAPI, session: ReviewSession) -> None:
    @app.get("/api/session")
    def facts() -> Any:
        return session.facts()

    @app.get("/api/progress")
    def progress() -> Any:
        return session.progress()

    @app.get("/api/queue")
    def queue(
        request: Request,
        sort: str = OVERALL,
        best_first: bool = False,
        verdict: str = "any",
        search: str = "",
        offset: int = 0,
        limit: int = 50,
    ) -> Any:
        facets = {name: request.query_params[name] for name in FACETS if request.query_params.get(name)}
        return session.queue(Query(sort, best_first, verdict, search[:200], facets, offset, limit))

    @app.get("/api/clips/{clip_id}")
    def clip(clip_id: str) -> Any:
        return session.clip(clip_id)

    @app.get("/api/clips/{clip_id}/curves")
    def curves(clip_id: str) -> Any:
        return session.slow_curves(clip_id)

    @app.get("/api/clips/{clip_id}/{kind}/{block}")
    def array(clip_id: str, kind: str, block: int) -> Response:
        if kind not in ARRAYS:
            return JSONResponse({"error": f"no such data: {kind[:50]!r}"}, 404)
        try:
            data = session.array(clip_id, kind, block)
        except IndexError as error:
            return JSONResponse({"error": str(error)}, 404)
        return Response(data, media_type="application/octet-stream")

    @app.get("/media/{clip_id}.mp4")
    def media(clip_id: str) -> Response:
        return FileResponse(session.media(clip_id), media_type="video/mp4")

    @app.get("/overlay/{clip_id}.mp4")
    def overlay(clip_id: str) -> Response:
        return FileResponse(session.overlay(clip_id), media_type="video/mp4")


def _add_judging(app: FastAPI, session: ReviewSession) -> None:
    async def body(request: Request) -> dict[str, Any]:
        data = await request.body()
        if len(data) > MAX_BODY:
            raise UsageError(f"a decision of {len(data)} bytes", f"Send at most {MAX_BODY}")
        try:
            values = await request.json()
        except ValueError as error:
            raise UsageError(f"the body is no JSON ({error})", "Send a JSON object") from error
        if not isinstance(values, dict):
            raise UsageError("the body is no JSON object", "Send a JSON object")
        return values

    async def saving(call: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if session.save_problem is not None:
            message = f"decisions cannot be saved: {session.save_problem}"
            raise TalksetError("not_writable", message, "Start `talkset review` with --journal FOLDER")
        return await anyio.to_thread.run_sync(call)

    @app.post("/api/clips/{clip_id}/decision")
    async def judge(clip_id: str, request: Request) -> Any:
        values = await body(request)
        seen = values.pop("seen", None)
        return await saving(lambda: session.judge(clip_id, values, seen if isinstance(seen, str) else None))

    @app.post("/api/undo")
    async def undo(request: Request) -> Any:
        await body(request)
        return await saving(session.undo)


def listen(host: str, port: int) -> socket.socket:
    """A socket on that address. Raises UsageError where the port is taken or the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
        bound.listen(128)  # from here on a browser waits instead of being refused
    except OSError as error:
        bound.close()
        message = f"cannot listen on {host} port {port} ({error.strerror or error})"
        raise UsageError(message, "Choose another --port, or 0 for any free one") from error
    return bound


def serve(app: FastAPI, bound: socket.socket) -> None:
    """Answer until Ctrl-C."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[bound])
