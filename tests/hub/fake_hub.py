"""A stand-in for the hub's HTTP interface: as much of it as ``huggingface_hub`` calls to push, pull and propose."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKENS = {"hf_writes": "write", "hf_reads": "read"}
LFS = (".safetensors",)


@dataclass
class Repository:
    """A repository: its commits, each a whole tree, and its pull requests."""

    kind: str
    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def commit(self, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files.items()))).encode()).hexdigest()
        self.commits.append((oid, files))
        return oid

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((found for found in self.commits if found[0] == revision), None)


class FakeHub(ThreadingHTTPServer):
    """The server; ``repositories`` by ``datasets/user/name``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.before_commit: Any = None
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def make(self, name: str, files: dict[str, bytes] | None = None, private: bool = False) -> Repository:
        kind = name.split("/")[0]
        made = self.repositories[name] = Repository(kind, private)
        made.commit({".gitattributes": b"*.safetensors filter=lfs\n", **(files or {})})
        return made


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub does."""

    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        self.answer("GET")

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_POST(self) -> None:
        self.answer("POST")

    def do_PUT(self) -> None:
        self.answer("PUT")

    def answer(self, method: str) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        path, self.query = unquote(url.path), parse_qs(url.query)
        self.server.asked.append(f"{method} {path}")
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if self.token and self.token not in TOKENS:
            return self.send(401, {"error": "Invalid credentials in Authorization header"})
        for pattern, handle in ROUTES:
            if found := re.fullmatch(pattern, path):
                return handle(self, *found.groups())
        return self.send(404, {"error": f"the stand-in knows no {method} {path}"})

    def send(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def found(self, kind: str, name: str, write: bool = False) -> Repository | None:
        """A repository that the token may see; else says so."""
        repository = self.server.repositories.get(f"{kind}/{name}")
        if repository is None or (repository.private and not self.token):
            self.send(404 if self.token else 401, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        if write and TOKENS.get(self.token) != "write":
            self.send(403 if self.token else 401, {"error": "Forbidden"})
            return None
        return repository

    def tree_at(self, repository: Repository, revision: str) -> tuple[str, dict[str, bytes]] | None:
        found = repository.at(revision)
        if found is None:
            self.send(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        return found

    def create(self) -> None:
        asked = json.loads(self.body)
        if TOKENS.get(self.token) != "write":
            return self.send(403 if self.token else 401, {"error": "Forbidden"})
        name = f"{asked['type']}s/{asked['organization']}/{asked['name']}"
        if name in self.server.repositories:
            return self.send(409, {"error": "You already created this repo", "url": f"{self.server.url}/{name}"})
        self.server.make(name, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        return self.send(200, {"url": f"{self.server.url}/{name}"})

    def validate(self) -> None:
        self.send(200, {"errors": [], "warnings": []})

    def info(self, kind: str, name: str, revision: str | None = None) -> None:
        if (repository := self.found(kind, name)) is None:
            return
        if (found := self.tree_at(repository, revision or "main")) is None:
            return
        siblings = [{"rfilename": path} for path in found[1]]
        self.send(200, {"id": name, "sha": found[0], "private": repository.private, "siblings": siblings, "tags": []})

    def tree(self, kind: str, name: str, revision: str) -> None:
        if (repository := self.found(kind, name)) and (found := self.tree_at(repository, revision)):
            entries: list[dict[str, Any]] = []
            folders = {path.rpartition("/")[0] for path in found[1]} - {""}
            entries += [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
            for path, content in found[1].items():
                entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob(content)}
                if path.endswith(LFS):
                    entry["lfs"] = {
                        "oid": hashlib.sha256(content).hexdigest(),
                        "size": len(content),
                        "pointerSize": 130,
                    }
                entries.append(entry)
            self.send(200, entries)

    def preupload(self, kind: str, name: str, revision: str) -> None:
        proposes = "create_pr" in self.query
        if (repository := self.found(kind, name, write=not proposes)) is None:
            return
        files = []
        for asked in json.loads(self.body)["files"]:
            there = repository.files.get(asked["path"])
            mode = "lfs" if asked["path"].endswith(LFS) else "regular"
            oid = None if there is None else hashlib.sha256(there).hexdigest() if mode == "lfs" else blob(there)
            files.append({"path": asked["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.send(200, {"files": files})

    def batch(self, kind: str, name: str) -> None:
        objects = json.loads(self.body)["objects"]
        for each in objects:
            each["actions"] = {"upload": {"href": f"{self.server.url}/upload/{each['oid']}"}}
        self.send(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.uploads[oid] = self.body
        self.send(200, {})

    def commit(self, kind: str, name: str, revision: str) -> None:
        proposes = "create_pr" in self.query
        if (repository := self.found(kind, name, write=not proposes)) is None:
            return None
        if self.server.before_commit:
            self.server.before_commit(repository)
        lines = {"file": [], "lfsFile": [], "header": []}
        for line in self.body.decode().splitlines():
            parsed = json.loads(line)
            lines[parsed["key"]].append(parsed["value"])
        header = lines["header"][0]
        if header.get("parentCommit") not in (None, repository.commits[-1][0]):
            return self.send(412, {"error": "A commit has happened since. Please refresh and try again."})
        new = {each["path"]: base64.b64decode(each["content"]) for each in lines["file"]}
        new |= {each["path"]: self.server.uploads[each["oid"]] for each in lines["lfsFile"]}
        page = f"{self.server.url}/{kind}/{name}"
        if proposes:
            repository.requests.append({"title": header["summary"], "text": header["description"], "files": new})
            request = f"{page}/discussions/{len(repository.requests)}"
            return self.send(200, {"commitOid": "9" * 40, "commitUrl": f"{page}/commit/x", "pullRequestUrl": request})
        oid = repository.commit({**repository.files, **new})
        return self.send(200, {"commitOid": oid, "commitUrl": f"{page}/commit/{oid}"})

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        if (repository := self.found(kind, name)) and (found := self.tree_at(repository, revision)):
            content = found[1].get(path)
            if content is None:
                return self.send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            etag = hashlib.sha256(content).hexdigest() if path.endswith(LFS) else blob(content)
            return self.send(200, content, {"X-Repo-Commit": found[0], "ETag": f'"{etag}"'})
        return None


_KIND, _REPO, _REV = "(datasets|spaces|models)", "([^/]+/[^/]+?)", "([^/]+)"
ROUTES = [
    ("/api/repos/create", Handler.create),
    ("/api/validate-yaml", Handler.validate),
    (f"/api/{_KIND}/{_REPO}/preupload/{_REV}", Handler.preupload),
    (f"/api/{_KIND}/{_REPO}/commit/{_REV}", Handler.commit),
    (f"/api/{_KIND}/{_REPO}/tree/{_REV}", Handler.tree),
    (f"/api/{_KIND}/{_REPO}/revision/{_REV}", Handler.info),
    (f"/api/{_KIND}/{_REPO}", Handler.info),
    (f"/{_KIND}/{_REPO}.git/info/lfs/objects/batch", Handler.batch),
    ("/upload/(.+)", Handler.upload),
    (f"/{_KIND}/{_REPO}/resolve/{_REV}/(.+)", Handler.resolve),
]
