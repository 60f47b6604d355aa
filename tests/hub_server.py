"""A stand-in of the hub on a thread of this process: the endpoints that create_repo and upload_folder use, with their checks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import yaml
from local_server import listening

TOKEN = "hf_standin"


class Hub:
    """What the stand-in holds and how it behaves.

    files: repository -> path -> content, after commits. blobs: large files by SHA-256, before the commit.
    refuse: endpoint (create, validate, preupload, lfs, commit, tree) -> status of its answers.
    lose: a path that a commit drops.
    large: ends of the names of files that are not part of the commit's own body.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.private: dict[str, bool] = {}
        self.refuse: dict[str, int] = {}
        self.lose = ""
        self.large: tuple[str, ...] = (".safetensors", ".mp4", ".png")
        self.requests: list[str] = []
        self.endpoint = ""

    # --- one method per endpoint: (status, answer) -----------------------------------------------------------------
    def validate(self, body: dict) -> tuple[int, object]:
        head = re.match(r"---\n(.*?)\n---\n", body["content"], re.DOTALL)
        data = yaml.safe_load(head[1]) if head else None
        if not isinstance(data, dict) or (data.get("license") == "other" and not data.get("license_name")):
            return 400, {"errors": [{"message": "invalid metadata"}], "warnings": []}
        return 200, {"errors": [], "warnings": []}

    def create(self, body: dict) -> tuple[int, object]:
        name = f"{body['organization']}/{body['name']}"
        if name in self.files:
            return 409, {"error": "You already created this model repo", "url": f"{self.endpoint}/{name}"}
        self.files[name], self.private[name] = {}, body.get("visibility") == "private" or bool(body.get("private"))
        return 200, {"url": f"{self.endpoint}/{name}", "name": name}

    def preupload(self, name: str, body: dict) -> tuple[int, object]:
        modes = [(f["path"], "lfs" if f["path"].endswith(self.large) else "regular") for f in body["files"]]
        return 200, {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes]}

    def batch(self, body: dict) -> tuple[int, object]:
        found = [
            {"oid": o["oid"], "size": o["size"], "actions": {"upload": {"href": f"{self.endpoint}/lfs/{o['oid']}"}}}
            for o in body["objects"]
        ]
        return 200, {"transfer": "basic", "objects": found}

    def commit(self, name: str, lines: list[dict]) -> tuple[int, object]:
        new = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                new[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                new[value["path"]] = self.blobs[value["oid"]]
        new.pop(self.lose, None)
        self.files[name] |= new
        return 200, {"commitUrl": f"{self.endpoint}/{name}/commit/{'a' * 40}", "commitOid": "a" * 40, "success": True}

    def tree(self, name: str) -> tuple[int, object]:
        rows = []
        for path, content in self.files.get(name, {}).items():
            git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            row = {"type": "file", "path": path, "size": len(content), "oid": git}
            if path.endswith(self.large):
                row |= {
                    "oid": "0" * 40,
                    "lfs": {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 1},
                }
            rows.append(row)
        return 200, rows

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        """Status and content of the answer to a request."""
        path = path.partition("?")[0]
        if method == "PUT" and path.startswith("/lfs/"):
            oid = path.removeprefix("/lfs/")
            assert hashlib.sha256(body).hexdigest() == oid
            self.blobs[oid] = body
            return self.refuse.get("lfs", 200), {}
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(preupload|commit|tree)/main)?", path)
        if found and found[2] == "commit":
            called = ("commit", lambda: self.commit(found[1], [json.loads(x) for x in body.splitlines() if x.strip()]))
        elif found and found[2] == "preupload":
            called = ("preupload", lambda: self.preupload(found[1], json.loads(body)))
        elif found and found[2] == "tree":
            called = ("tree", lambda: self.tree(found[1]))
        elif found:
            called = ("info", lambda: (200 if found[1] in self.files else 404, {"id": found[1], "sha": "a" * 40}))
        elif path == "/api/repos/create":
            called = ("create", lambda: self.create(json.loads(body)))
        elif path == "/api/validate-yaml":
            called = ("validate", lambda: self.validate(json.loads(body)))
        elif path.endswith(".git/info/lfs/objects/batch"):
            called = ("batch", lambda: self.batch(json.loads(body)))
        else:
            return 404, {"error": path}
        self.requests.append(called[0])
        status = self.refuse.get(called[0])
        return (status, {"error": f"refused: {called[0]}"}) if status else called[1]()


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """A hub on this machine; its address is `endpoint`. A request without the token is answered 401."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            chunks = []
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
            else:
                chunks.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            status, content = hub.answer(self.command, self.path, b"".join(chunks))
            if "/lfs/" not in self.path and self.headers.get("Authorization") not in (f"Bearer {TOKEN}", None):
                status, content = 401, {"error": "Invalid username or password."}
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _handle

        def log_message(self, *words: object) -> None:
            pass

    with listening(Handler) as hub.endpoint:
        yield hub
