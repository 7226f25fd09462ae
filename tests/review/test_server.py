"""The server from outside: what it answers, and everything that it must refuse."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from review_pages import small_dataset

from review.guard import HEADERS, Guard, is_loopback
from review.journal import FOLDER, Journal
from review.server import listen, make_app, page_files
from review.session import ReviewSession, Settings
from schemas.errors import TalksetError, UsageError

CHANGE = {"X-Talkset-Review": "1", "Content-Type": "application/json"}
TOKEN = "correct-horse-battery"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_dataset(tmp_path_factory.mktemp("server") / "data")


@pytest.fixture
def root(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "data"))


@contextlib.contextmanager
def client(
    root: Path, guard: Guard | None = None, address: str = "http://127.0.0.1:8760", **more: Any
) -> Iterator[Any]:
    settings = Settings(root, more.pop("reviewer", "anna"), root.parent / "cache", **more)
    with contextlib.closing(ReviewSession(settings)) as session:
        yield TestClient(make_app(session, guard or Guard("127.0.0.1")), base_url=address, follow_redirects=False)


def judge(page: Any, clip: str, verdict: str, headers: dict[str, str] | None = None, **values: Any) -> Any:
    body = json.dumps({"verdict": verdict, **values})
    return page.post(f"/api/clips/{clip}/decision", content=body, headers=headers or CHANGE)


def test_the_page_and_all_its_files_are_served_with_the_policy(root: Path) -> None:
    with client(root) as page:
        for name in ("/", *(f"/page/{name}" for name in page_files())):
            answer = page.get(name)
            assert answer.status_code == 200, name
            assert all(answer.headers[key] == value for key, value in HEADERS.items())
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
    html = page_files()["index.html"].decode()
    assert "<script>" not in html
    assert "style=" not in html
    assert "://" not in html
    scripts = [text.decode() for name, text in page_files().items() if name.endswith(".js") and "vendor" not in name]
    assert scripts
    assert not any(word in text for text in scripts for word in ("innerHTML", "outerHTML =", "insertAdjacent", "eval("))


@pytest.mark.parametrize(
    "path",
    [
        "/media/..%2f..%2fetc%2fpasswd.mp4",
        "/media/%2e%2e/dataset.json",
        "/media/../dataset.json",
        "/overlay/....//x.mp4",
        "/page/../server.py",
        "/page/%2e%2e/server.py",
        "/page/..%2f..%2freview%2fserver.py",
        "/page//etc/passwd",
        "/api/clips/..%2fx",
        "/api/clips/nobody",
        "/api/clips/nobody/vertices/0",
        "/api/clips/clip_0001/secrets/0",
        "/api/clips/clip_0001/vertices/99",
        "/media/nobody.mp4",
        "/dataset.json",
        "/docs",
        "/openapi.json",
    ],
)
def test_nothing_else_is_served(root: Path, path: str) -> None:
    with client(root) as page:
        answer = page.get(path)
        assert answer.status_code in (404, 409), answer.text
        assert b"schema_version" not in answer.content
        assert b"root:" not in answer.content


def test_a_video_is_served_in_parts(root: Path) -> None:
    whole = (root / "media" / "clip_0001.mp4").read_bytes()
    with client(root) as page:
        assert page.get("/media/clip_0001.mp4").content == whole
        part = page.get("/media/clip_0001.mp4", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole[10:20])
        (root / "media" / "clip_0001.mp4").unlink()
        assert page.get("/media/clip_0001.mp4").json()["remedy"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8760", "127.0.0.1.evil.example", "", "[::2]", "10.0.0.1"]
)
def test_another_name_for_this_machine_is_refused(root: Path, host: str) -> None:
    with client(root) as page:
        assert page.get("/api/session", headers={"Host": host}).status_code == 421
        assert page.get("/api/session", headers={"Host": "localhost:1"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"X-Talkset-Review": "1", "Content-Type": "text/plain"},
        {**CHANGE, "Origin": "http://evil.example"},
        {**CHANGE, "Origin": "null"},
        {**CHANGE, "Origin": "http://127.0.0.1:9999"},
        {**CHANGE, "Sec-Fetch-Site": "cross-site"},
        {**CHANGE, "Sec-Fetch-Site": "same-site"},
        {**CHANGE, "Content-Length": "999999999"},
    ],
)
def test_another_page_cannot_judge(root: Path, headers: dict[str, str]) -> None:
    with client(root) as page:
        assert judge(page, "clip_0001", "accept", headers).status_code in (403, 413, 415)
        assert page.post("/api/undo", content="{}", headers=headers).status_code in (403, 413, 415)
    assert Journal(root).decisions == []


def test_an_address_that_others_reach_needs_the_token(root: Path) -> None:
    with pytest.raises(ValueError, match="needs a token"):
        Guard("0.0.0.0")
    guard = Guard("0.0.0.0", TOKEN)
    with client(root, guard, "http://192.168.1.5:8760") as page:
        assert page.get("/").status_code == 401
        assert page.get("/api/session").status_code == 401
        assert page.get("/media/clip_0001.mp4").status_code == 401
        assert page.get("/?token=wrong-wrong-wrong").status_code == 403
        odd = "talkset_review=größe".encode()
        assert page.get("/api/session", headers={b"Cookie": odd}).status_code == 401
        opened = page.get(f"/?token={TOKEN}")
        assert (opened.status_code, opened.headers["location"]) == (303, "/")
        assert "HttpOnly" in opened.headers["set-cookie"]
        assert "SameSite=strict" in opened.headers["set-cookie"]
        assert page.get("/api/session").status_code == 200
        assert page.get("/api/session", headers={"Host": "evil.example"}).status_code == 421
        assert judge(page, "clip_0001", "accept").status_code == 200


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("a.example", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "body", ["", "[]", "7", '{"verdict": "maybe"}', '{"marks": [{"start_us": 0, "end_us": 99999999}]}', "{"]
)
def test_a_decision_that_is_none_is_refused(root: Path, body: str) -> None:
    with client(root) as page:
        answer = page.post("/api/clips/clip_0001/decision", content=body, headers=CHANGE)
        assert answer.status_code == 400
        assert answer.json()["error"]
    assert Journal(root).decisions == []


def test_nobody_signs_for_another(root: Path) -> None:
    with client(root) as page:
        judge(page, "clip_0001", "accept", reviewer="boss", content_sha256="00", round=2, clip_id="clip_0002")
    (said,) = Journal(root).decisions
    assert (said.reviewer, said.clip_id, said.round, len(said.content_sha256)) == ("anna", "clip_0001", 1, 64)
    assert said.shard == "part-00000.parquet"
    assert said.shard_sha256


def test_a_decision_is_saved_shown_and_taken_back(root: Path) -> None:
    with client(root) as page:
        saved = judge(page, "clip_0002", "reject", reasons=["mouth"], decision_id="d1").json()
        assert saved["saved"]["reasons"] == ["mouth"]
        assert judge(page, "clip_0002", "reject", reasons=["mouth"], decision_id="d1").json()["replaced"] is None
        view = page.get("/api/clips/clip_0002").json()
        assert (view["mine"]["verdict"], view["mine"]["stale"]) == ("reject", False)
        assert page.get("/api/queue?verdict=reject").json()["total"] == 1
        second = judge(page, "clip_0002", "accept", seen="something else").json()
        assert second["replaced"]["verdict"] == "reject"
        undone = page.post("/api/undo", content="{}", headers=CHANGE).json()
        assert undone == {"clip_id": "clip_0002", "verdict": "accept", "now": "reject"}
        page.post("/api/undo", content="{}", headers=CHANGE)
        assert page.post("/api/undo", content="{}", headers=CHANGE).json() == {"clip_id": None}
        assert page.get("/api/clips/clip_0002").json()["mine"] is None
        assert page.get("/api/progress").json()["decided"] == 0
    assert len(Journal(root).decisions) == 4


def test_a_second_look_is_blind(root: Path) -> None:
    with client(root) as page:
        for number, verdict in enumerate(("accept", "reject", "accept", "skip")):
            judge(page, f"clip_000{number}", verdict, comment="first impression")
    with client(root, reviewer="ben", blind=2) as page:
        queue = page.get("/api/queue").json()
        assert queue["total"] == 2
        for row in queue["rows"]:
            assert row["verdict"] is None
            assert row["outcome"] is None
            text = page.get(f"/api/clips/{row['clip_id']}").text
            assert "first impression" not in text
            assert judge(page, row["clip_id"], "accept").status_code == 200
        assert page.get("/api/progress").json()["agreement"]["clips"] == 2
    with client(root) as page:
        others = page.get(f"/api/clips/{row['clip_id']}").json()["others"]
        assert [(other["reviewer"], other["round"]) for other in others] == [("ben", 2)]


def test_a_second_look_at_nothing_is_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="no clip has been judged"), client(root, blind=3):
        pass


def test_a_folder_that_cannot_be_written_answers_clearly(root: Path) -> None:
    (root / "file").write_text("")
    with client(root, journal=root / "file" / "inside") as page:
        answer = judge(page, "clip_0001", "accept")
        assert answer.status_code == 507
        assert "--journal" in answer.json()["remedy"]
        assert "cannot write" in page.get("/api/session").json()["save_problem"]
        assert page.get("/api/queue").status_code == 200


def test_a_damaged_journal_is_told_and_the_rest_counts(root: Path) -> None:
    with client(root) as page:
        judge(page, "clip_0001", "accept")
        judge(page, "clip_0002", "reject")
    (path,) = (root / FOLDER).glob("*.jsonl")
    path.write_text(path.read_text().replace('"reject"', '"accept"'))
    with client(root) as page:
        progress = page.get("/api/progress").json()
        assert progress["decided"] == 1
        assert [item["line"] for item in progress["damage"]] == [2]


def test_a_fit_that_changed_makes_the_decision_old(root: Path) -> None:
    with client(root) as page:
        judge(page, "clip_0001", "accept")
    (path,) = (root / FOLDER).glob("*.jsonl")
    journal = Journal(root)
    said = journal.decisions[0]
    path.unlink()
    Journal(root).append(replace(said, content_sha256="0" * 64))
    with client(root) as page:
        assert page.get("/api/clips/clip_0001").json()["mine"]["stale"] is True


def test_overlays_are_rendered_once_and_kept_outside(root: Path) -> None:
    made: list[str] = []

    def render(clip_id: str, output: Path) -> None:
        made.append(clip_id)
        output.write_bytes(b"video of " + clip_id.encode())

    settings = Settings(root, "anna", root.parent / "cache")
    before = sorted(root.rglob("*"))
    with contextlib.closing(ReviewSession(settings, render)) as session:
        page = TestClient(make_app(session, Guard("127.0.0.1")), base_url="http://127.0.0.1")
        for _ in range(2):
            assert page.get("/overlay/clip_0001.mp4").content == b"video of clip_0001"
    assert made == ["clip_0001"]
    assert [path for path in sorted(root.rglob("*")) if ".talkset" not in path.parts] == before
    with client(root) as plain:
        assert "talkset overlay" in plain.get("/overlay/clip_0002.mp4").json()["remedy"]


def test_what_is_no_data_set_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no data set"), client(tmp_path):
        pass


def test_a_port_that_is_taken_is_said() -> None:
    with contextlib.closing(listen("127.0.0.1", 0)) as first:
        first.listen()
        with pytest.raises(UsageError, match="cannot listen"):
            listen("127.0.0.1", first.getsockname()[1])


def test_damaged_tables_are_an_error_of_the_answer(root: Path) -> None:
    (root / "params" / "part-00000.parquet").write_bytes(b"gone")
    with client(root) as page:
        assert page.get("/api/queue").status_code == 200
        answer = page.get("/api/clips/clip_0001")
        assert answer.status_code == 500
        assert answer.json()["reason"] == "corrupt_data"
    (root / "index.parquet").write_bytes(b"gone")
    with pytest.raises(TalksetError), client(root):
        pass
