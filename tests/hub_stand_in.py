"""A stand-in of the Hugging Face hub: the routes that an upload and a download use, in memory, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

OWNER, READER = "token-that-writes", "token-that-reads"
"""Tokens that the stand-in knows."""


@dataclass
class Repository:
    """Files of each commit, the commit of each branch, and who may read."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        merged = self.commits.get(self.refs.get(branch, ""), {}) | files
        name = hashlib.sha1(json.dumps([len(self.commits), sorted(merged)]).encode()).hexdigest()
        self.commits[name], self.refs[branch] = merged, name
        self.messages.append(message)
        return name


@dataclass
class Hub:
    """The state of the stand-in, and what it was asked."""

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 0
    """Where set, every answer has this status."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self._begin()
        if self.hub.status:
            return self._refuse(self.hub.status)
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self._token() != OWNER:
            return self._refuse(401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        _, _, _, owner, name, verb, branch = path.split("/", 6)
        repository = self.hub.repositories.get(f"{owner}/{name}")
        if repository is None:
            return self._refuse(404, "RepoNotFound")
        if branch not in repository.refs:
            return self._refuse(404, "RevisionNotFound")
        if verb == "preupload":
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(body)["files"]
            ]
            return self._json({"files": files})
        lines = [json.loads(line) for line in body.splitlines()]
        files = {
            one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in lines if one["key"] == "file"
        }
        made = repository.commit(branch, files, lines[0]["value"]["summary"])
        return self._json({"commitUrl": f"{self.hub.address}/{owner}/{name}/commit/{made}", "commitOid": made})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self._json({"url": f"{self.hub.address}/{name}"}, 409)
        repository = self.hub.repositories[name] = Repository(
            private=asked.get("private") or asked.get("visibility") == "private"
        )
        repository.commit("main", {".gitattributes": b""}, "initial commit")
        return self._json({"url": f"{self.hub.address}/{name}"})

    def do_GET(self) -> None:
        path = self._begin()
        if self.hub.status:
            return self._refuse(self.hub.status)
        parts = path.removeprefix("/api/models").strip("/").split("/")
        repository = self.hub.repositories.get("/".join(parts[:2]))
        if repository is None or (repository.private and self._token() not in (OWNER, READER)):
            return self._refuse(401 if self._token() is None else 404, "RepoNotFound")
        if repository.gated and self._token() != OWNER:
            return self._refuse(403, "GatedRepo")
        revision = unquote(parts[3]) if len(parts) > 3 else "main"
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            return self._refuse(404, "RevisionNotFound")
        return self._read(path, parts, commit, repository.commits[commit])

    do_HEAD = do_GET  # noqa: N815

    def _read(self, path: str, parts: list[str], commit: str, files: dict[str, bytes]) -> None:
        listed = [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in files.items()
        ]
        if not path.startswith("/api/"):
            data = files["/".join(parts[4:])]
            etag = hashlib.sha1(data).hexdigest()
            return self._send(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": commit})
        if len(parts) > 2 and parts[2] == "tree":
            return self._json(listed)
        siblings = [{"rfilename": one["path"]} for one in listed]
        return self._json({"id": "/".join(parts[:2]), "sha": commit, "siblings": siblings, "tags": []})

    def _begin(self) -> str:
        path = self.path.partition("?")[0]
        self.hub.asked.append(f"{self.command} {path}")
        return path

    def _token(self) -> str | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        return token if scheme == "Bearer" and token else None

    def _json(self, value: Any, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str = "") -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "Content-Type": "application/json"} if code else {})

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def hub_stand_in() -> Iterator[Hub]:
    """Serve the stand-in while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
