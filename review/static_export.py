"""The review page as a folder that opens without a server: the worst clips with all that is drawn, to hand off."""

from __future__ import annotations

import base64
import json
import posixpath
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from review.catalogue import MAX_PAGE, OVERALL, Query
from review.server import page_files
from review.session import ReviewSession
from schemas.errors import TalksetError, UsageError
from schemas.files import named_errors, write_atomic
from schemas.sink import link_or_copy

ENTRY: Final = "app.js"
_IMPORT: Final = re.compile(r"""\b(?:from\s*|import\()["'](\./[^"']+)["']""")
_MODULE_TAG: Final = '<script type="module" src="page/app.js"></script>'
_SCRIPTS: Final = "".join(
    f'<script defer src="{name}"></script>\n' for name in ("data/session.js", "page/modules.js", "page/start.js")
)


def export_page(
    session: ReviewSession, output: Path, clips: int, progress: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Write the page with the worst clips of a data set into a new folder; returns their ids, the worst first.

    Videos are linked where the file system can. What a clip lacks (video, head model) is said on its page, as the
    server's page does. Raises UsageError for a folder that is not empty, TalksetError for damage or a full disk.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"{output} exists already", "Give a new folder")
    if clips > MAX_PAGE:
        raise UsageError(f"an export of {clips} clips is too large for one page", f"Ask for at most {MAX_PAGE}")
    page = session.queue(Query(limit=clips, facets={"status": "accepted"}))
    with named_errors(output):
        for folder in ("page", "data", "media", "overlays"):
            (output / folder).mkdir(parents=True, exist_ok=True)
    faces: dict[str, str] = {}
    rows = []
    for row in page["rows"]:
        progress(row["clip_id"])
        view = _write_clip(session, output, row["clip_id"], faces)
        scores = {item["name"]: item["value"] for item in view["scores"]}
        rows.append({**row, "emotion": view["index"].get("emotion"), "scores": {**scores, OVERALL: row["score"]}})
    data = {
        "session": {**session.facts(), "clips": len(rows), "save_problem": None},
        "progress": session.progress(),
        "rows": rows,
        "counts": page["counts"],
        "clips": {},
        "arrays": faces,
    }
    write_atomic(output / "data" / "session.js", _script("window.TALKSET_EXPORT", data))
    _write_page(output)
    return [row["clip_id"] for row in rows]


def _write_clip(session: ReviewSession, output: Path, clip_id: str, faces: dict[str, str]) -> dict[str, Any]:
    """Write everything of one clip; returns its overview."""
    view = session.clip(clip_id)
    arrays = {}
    if view["fitted"]:
        arrays["landmarks/0"] = _encoded(session.array(clip_id, "landmarks"))
        try:
            faces_of_clip = _encoded(session.array(clip_id, "faces"))
            if faces.setdefault("faces/0", faces_of_clip) != faces_of_clip:
                arrays["faces/0"] = faces_of_clip  # of another head model than that of the first clip
            for block in range(-(-len(view["pts_us"]) // session.facts()["block"])):
                arrays[f"vertices/{block}"] = _encoded(session.array(clip_id, "vertices", block))
        except TalksetError as error:
            if error.reason != "missing_model":
                raise
    for folder, wanted in (("media", not view["media"].get("problem")), ("overlays", view["overlay"])):
        try:
            stored = session.media(clip_id) if folder == "media" else session.overlay(clip_id)
        except TalksetError:
            wanted = False
        if wanted:
            with named_errors(output / folder):
                link_or_copy(stored.resolve(), output / folder / f"{clip_id}.mp4")
    kept = {"view": view, "curves": session.slow_curves(clip_id), "arrays": arrays}
    name = f"window.TALKSET_EXPORT.clips[{json.dumps(clip_id)}]"
    write_atomic(output / "data" / f"{clip_id}.js", _script(name, kept))
    return view


def _write_page(output: Path) -> None:
    files = page_files()
    html = files["index.html"].decode()
    if _MODULE_TAG not in html:
        raise TalksetError("internal", "index.html has not the script that an export replaces")
    html = re.sub(r'<link rel="modulepreload"[^>]*>\n', "", html)
    write_atomic(output / "index.html", html.replace(_MODULE_TAG, _SCRIPTS).encode())
    for name in ("style.css", "icon.svg", "start.js"):
        write_atomic(output / "page" / name, files[name])
    write_atomic(output / "page" / "modules.js", _script("window.TALKSET_MODULES", modules(files)))
    write_atomic(output / "page" / "three.LICENSE.txt", files["vendor/three/LICENSE.txt"])


def modules(files: Mapping[str, bytes], entry: str = ENTRY) -> list[dict[str, Any]]:
    """The modules that the entry needs, each after those it imports: name, text, and what its imports mean."""
    found: dict[str, dict[str, Any]] = {}

    def visit(name: str) -> None:
        if name in found:
            return
        text = files[name].decode()
        written = sorted(set(_IMPORT.findall(text)))
        imports = {path: posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) for path in written}
        for wanted in imports.values():
            visit(wanted)
        found[name] = {"name": name, "text": text, "imports": imports}

    visit(entry)
    return list(found.values())


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _script(name: str, value: Any) -> bytes:
    return f"{name} = {json.dumps(value, ensure_ascii=False, allow_nan=False)};\n".encode()
