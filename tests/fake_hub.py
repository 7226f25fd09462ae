"""A server of data set repositories with the addresses of the Hugging Face hub, in memory, for tests."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_test"
LFS_SUFFIXES = (".parquet", ".mp4")
Tree = dict[str, bytes]


@dataclass
class Repository:
    """Commits by id, and where the branches are."""

    private: bool
    commits: dict[str, Tree] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, tree: Tree, title: str) -> str:
        """Put a tree on top of a branch."""
        oid = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = tree
        self.titles.append(title)
        self.branches[branch] = oid
        return oid

    def tree(self, branch: str = "main") -> Tree:
        """The files of a branch."""
        return self.commits[self.branches[branch]]


class FakeHub:
    """The server; use it as a context manager."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.faults: list[str] = []
        """Requests ("METHOD path prefix") that are answered once by 503."""
        hub = self

        class Handler(_Handler):
            owner = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    owner: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        return

    def _serve(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        asked = f"{self.command} {path}"
        self.owner.requests.append(asked)
        for fault in self.owner.faults:
            if asked.startswith(fault):
                self.owner.faults.remove(fault)
                return self._answer(503, {"error": "come back later"})
        if not path.startswith("/objects/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._answer(401, {"error": "Invalid username or password."})
        for method, pattern, action in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method:
                return action(self, *(unquote(part or "") for part in match.groups()))
        return self._answer(404, {"error": f"the fake hub does not know {asked}"})

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815

    def _answer(self, status: int, value: Any = None, headers: dict[str, str] | None = None) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _missing(self, code: str) -> None:
        self._answer(404, {"error": code}, {"X-Error-Code": code, "X-Error-Message": code})

    def _commit_of(self, repo_id: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.owner.repositories.get(repo_id)
        if repository is None:
            self._missing("RepoNotFound")
            return None
        oid = repository.branches.get(revision, revision)
        if oid not in repository.commits:
            self._missing("RevisionNotFound")
            return None
        return repository, oid

    def create(self) -> None:
        asked = json.loads(self.body)
        repo_id = f"{asked['organization']}/{asked['name']}"
        if asked["type"] != "dataset":
            return self._answer(400, {"error": "data sets only"})
        known = repo_id in self.owner.repositories
        if not known:
            private = asked.get("visibility") == "private" or asked.get("private") is True
            repository = self.owner.repositories[repo_id] = Repository(private)
            repository.commit("main", {".gitattributes": b"*.parquet filter=lfs\n"}, "initial commit")
        return self._answer(409 if known else 200, {"url": f"{self.owner.endpoint}/datasets/{repo_id}"})

    def branch(self, repo_id: str, name: str) -> None:
        found = self._commit_of(repo_id, "main")
        if found is not None:
            known = name in found[0].branches
            found[0].branches.setdefault(name, found[1])
            self._answer(409 if known else 200, {})

    def info(self, repo_id: str, revision: str) -> None:
        found = self._commit_of(repo_id, revision or "main")
        if found is not None:
            siblings = [{"rfilename": name} for name in found[0].commits[found[1]]]
            facts = {"id": repo_id, "sha": found[1], "private": found[0].private, "siblings": siblings, "tags": []}
            self._answer(200, facts)

    def tree(self, repo_id: str, revision: str, folder: str) -> None:
        found = self._commit_of(repo_id, revision)
        if found is None:
            return None
        prefix = f"{folder}/" if folder else ""
        recursive = "recursive=true" in self.path.lower()
        entries: dict[str, dict[str, Any]] = {}
        for name, data in found[0].commits[found[1]].items():
            if not name.startswith(prefix):
                continue
            parts = name[len(prefix) :].split("/")
            for depth in range(1, len(parts)):
                inner = prefix + "/".join(parts[:depth])
                if recursive or depth == 1:
                    entries[inner] = {"type": "directory", "path": inner, "oid": "0" * 40, "size": 0}
            if recursive or len(parts) == 1:
                entries[name] = _file_entry(name, data)
        if folder and not entries:
            return self._missing("EntryNotFound")
        return self._answer(200, list(entries.values()))

    def paths(self, repo_id: str, revision: str) -> None:
        found = self._commit_of(repo_id, revision)
        if found is not None:
            tree = found[0].commits[found[1]]
            asked = json.loads(self.body)["paths"]
            self._answer(200, [_file_entry(name, tree[name]) for name in asked if name in tree])

    def validate(self) -> None:
        self._answer(200, {"errors": [], "warnings": []})

    def preupload(self, repo_id: str, revision: str) -> None:
        found = self._commit_of(repo_id, revision)
        if found is not None:
            tree = found[0].commits[found[1]]
            files = []
            for file in json.loads(self.body)["files"]:
                mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"
                data = tree.get(file["path"])
                oid = None if data is None else hashlib.sha256(data).hexdigest() if mode == "lfs" else _blob_id(data)
                files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
            self._answer(200, {"files": files})

    def batch(self, repo_id: str) -> None:
        objects = []
        for item in json.loads(self.body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.owner.objects:
                href = f"{self.owner.endpoint}/objects/{item['oid']}?Signature=secret"
                answer["actions"] = {"upload": {"href": href}}
            objects.append(answer)
        self._answer(200, {"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self._answer(400, {"error": "other content"})
        self.owner.objects[oid] = self.body
        return self._answer(200, {})

    def commit(self, repo_id: str, branch: str) -> None:
        found = self._commit_of(repo_id, branch)
        if found is None:
            return None
        repository, parent = found
        lines = [json.loads(line) for line in self.body.splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        if header.get("parentCommit", parent) != parent:
            return self._answer(412, {"error": "the branch has moved"})
        tree = dict(repository.commits[parent])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                tree[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                tree[value["path"]] = self.owner.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del tree[value["path"]]
        oid = repository.commit(branch, tree, header["summary"])
        url = f"{self.owner.endpoint}/datasets/{repo_id}/commit/{oid}"
        return self._answer(200, {"success": True, "commitOid": oid, "commitUrl": url})

    def resolve(self, repo_id: str, revision: str, name: str) -> None:
        found = self._commit_of(repo_id, revision)
        if found is None:
            return None
        data = found[0].commits[found[1]].get(name)
        if data is None:
            return self._missing("EntryNotFound")
        headers = {"ETag": f'"{_blob_id(data)}"', "X-Repo-Commit": found[1], "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if span is None:
            return self._answer(200, data, headers)
        first, last = int(span[1]), min(int(span[2] or len(data) - 1), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self._answer(206, data[first : last + 1], headers)


def _file_entry(name: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _blob_id(data)}
    if name.endswith(LFS_SUFFIXES):
        entry["oid"] = "0" * 40  # that of the pointer file, which nobody asks for here
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


_ID = r"([\w.\-]+/[\w.\-]+)"
ROUTES: list[tuple[tuple[str, ...], str, Callable[..., None]]] = [
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), "/api/validate-yaml", _Handler.validate),
    (("GET",), f"/api/datasets/{_ID}(?:/revision/([^/]+))?", _Handler.info),
    (("POST",), f"/api/datasets/{_ID}/branch/([^/]+)", _Handler.branch),
    (("GET",), f"/api/datasets/{_ID}/tree/([^/]+)(?:/(.*))?", _Handler.tree),
    (("POST",), f"/api/datasets/{_ID}/paths-info/([^/]+)", _Handler.paths),
    (("POST",), f"/api/datasets/{_ID}/preupload/([^/]+)", _Handler.preupload),
    (("POST",), f"/api/datasets/{_ID}/commit/([^/]+)", _Handler.commit),
    (("POST",), rf"/datasets/{_ID}\.git/info/lfs/objects/batch", _Handler.batch),
    (("PUT",), r"/objects/([0-9a-f]{64})", _Handler.put),
    (("GET", "HEAD"), f"/datasets/{_ID}/resolve/([^/]+)/(.+)", _Handler.resolve),
]
