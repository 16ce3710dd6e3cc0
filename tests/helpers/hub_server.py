"""The Hugging Face hub on this machine: a mirror's files under the hub's addresses, as far as its clients ask."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlparse


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub with the repositories <owner>/<name> of the folder, and the paths asked for so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlparse(self.path).path).strip("/")
            asked.append(path)
            found = answer(folder, path.split("/"))
            self.send_response(404 if found is None else 200)
            content, headers = (b"", {"X-Error-Code": "EntryNotFound"}) if found is None else found
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def answer(folder: Path, parts: list[str]) -> tuple[bytes, dict[str, str]] | None:
    """Content and headers of api/<kind>/<repo>/{revision,tree}/<sha>/... and of [datasets/]<repo>/resolve/<sha>/..."""
    if parts[0] == "api":
        root, what, sha, inside = folder.joinpath(*parts[2:4]), parts[4], parts[5], "/".join(parts[6:])
        if what == "tree":
            entries = [entry(path, root) for path in sorted((root / inside).rglob("*"))]
            return (json.dumps(entries).encode(), {}) if entries else None
        files = [{"rfilename": str(path.relative_to(root))} for path in sorted(root.rglob("*")) if path.is_file()]
        return json.dumps({"id": "/".join(parts[2:4]), "sha": sha, "tags": [], "siblings": files}).encode(), {}
    repo, _, sha, *inside = (parts[:2], *parts[2:]) if parts[0] != "datasets" else (parts[1:3], *parts[3:])
    path = folder.joinpath(*repo, *inside)
    if not path.is_file():
        return None
    content = path.read_bytes()
    return content, {"X-Repo-Commit": str(sha), "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}


def entry(path: Path, root: Path) -> dict[str, Any]:
    """A file or a folder, as the hub lists it."""
    name = str(path.relative_to(root))
    if path.is_dir():
        return {"type": "directory", "oid": "0" * 40, "size": 0, "path": name}
    content = path.read_bytes()
    return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": name}
