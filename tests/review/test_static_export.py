"""The exported folder: everything that the page asks for is in it, and modules come in their order."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from review_pages import small_dataset

from review.catalogue import Query
from review.server import page_files
from review.session import ReviewSession, Settings
from review.static_export import export_page, modules
from schemas.errors import UsageError


def test_modules_come_after_what_they_import() -> None:
    found = modules(page_files())
    order = [item["name"] for item in found]
    assert order[-1] == "app.js"
    for place, item in enumerate(found):
        for written, wanted in item["imports"].items():
            assert wanted in order[:place]
            assert f'"{written}"' in item["text"] or f"'{written}'" in item["text"]
    scripts = {name for name in page_files() if name.endswith(".js")}
    assert scripts - set(order) == {"start.js"}


def test_an_export_holds_what_its_clips_need(tmp_path: Path) -> None:
    root = small_dataset(tmp_path / "data")
    (root / "media" / "clip_0005.mp4").unlink()
    with contextlib.closing(ReviewSession(Settings(root, "anna", tmp_path / "cache"))) as session:
        shown = export_page(session, tmp_path / "out", 4)
        with pytest.raises(UsageError, match="exists already"):
            export_page(session, tmp_path / "out", 4)
        expected = [row["clip_id"] for row in session.queue(Query(limit=4, facets={"status": "accepted"}))["rows"]]
    assert shown == expected
    out = tmp_path / "out"
    text = (out / "data" / "session.js").read_text()
    data = json.loads(text.partition(" = ")[2].rstrip(";\n"))
    assert [row["clip_id"] for row in data["rows"]] == shown
    for clip in shown:
        kept = json.loads((out / "data" / f"{clip}.js").read_text().partition(" = ")[2].rstrip(";\n"))
        assert kept["view"]["clip_id"] == clip
        assert (out / "media" / f"{clip}.mp4").is_file() is (clip != "clip_0005")
        assert "landmarks/0" in kept["arrays"]
    html = (out / "index.html").read_text()
    for name in ("data/session.js", "page/modules.js", "page/start.js", "page/style.css", "page/icon.svg"):
        assert f'"{name}"' in html
        assert (out / name).is_file()
    assert 'type="module"' not in html
