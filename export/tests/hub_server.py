"""A hub on this machine: the few routes that huggingface_hub needs to fetch a model, and their failures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """Repositories by name, and what was asked.

    repositories  name -> commit -> file name -> content
    branches      (name, branch or tag) -> commit
    gated         names whose terms were not accepted
    breaks        file name -> bytes after which its first connection is cut
    ignores_range a server that always answers with the whole file
    asked         (method, path, Range header), in order
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    branches: dict[tuple[str, str], str] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    breaks: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    endpoint: str = ""

    def add(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        """A commit of these files, which the branch then names."""
        content = json.dumps({n: hashlib.sha1(c).hexdigest() for n, c in files.items()}, sort_keys=True)
        commit = hashlib.sha1(content.encode()).hexdigest()
        self.repositories.setdefault(name, {})[commit] = files
        self.branches[name, branch] = commit
        return commit

    def fetched(self) -> list[str]:
        """Names of the files whose content was asked for."""
        return [
            path.rsplit("/", 1)[1] for method, path, _ in self.asked if method == "GET" and "resolve" in path
        ]


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at an address of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, with_body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path, self.headers.get("Range")))
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/(.+)", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            name, revision = (api[1], api[3]) if api else (file[1], file[2]) if file else ("", "")
            if name in hub.gated:
                return self._refuse(403, "GatedRepo")
            if name not in hub.repositories:
                return self._refuse(401, "RepoNotFound")
            commit = hub.branches.get((name, revision), revision)
            if commit not in hub.repositories[name]:
                return self._refuse(404, "RevisionNotFound")
            files = hub.repositories[name][commit]
            if api:
                return self._send(200, json.dumps(_listing(api[2], name, commit, files)).encode(), {})
            assert file
            if file[3] not in files:
                return self._refuse(404, "EntryNotFound")
            return self._send_file(file[3], files[file[3]], commit, with_body)

        def _send_file(self, name: str, content: bytes, commit: str, with_body: bool) -> None:
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit}
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(asked[1]) if asked else 0
            status, body = (206, content[start:]) if asked else (200, content)
            if asked:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            broken = hub.breaks.pop(name, None) if with_body else None
            self._send(status, body, headers, with_body, broken)

        def _send(
            self,
            status: int,
            body: bytes,
            headers: dict[str, str],
            with_body: bool = True,
            broken: int | None = None,
        ) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body[:broken])
            if broken is not None:
                self.close_connection = True
                self.connection.close()

        def _refuse(self, status: int, code: str) -> None:
            self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _listing(what: str, name: str, commit: str, files: dict[str, bytes]) -> object:
    if what == "revision":
        return {"id": name, "sha": commit, "siblings": [{"rfilename": file} for file in files]}
    return [
        {"type": "file", "path": file, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for file, content in files.items()
    ]
