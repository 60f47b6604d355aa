"""A hub on this machine that is downloaded from as from the real one: branches, redirects, ranges, ETags, licences.

Repositories are folders: ROOT/models/OWNER/NAME/BRANCH and ROOT/datasets/OWNER/NAME/BRANCH, a slash in a branch as `@`.
What is uploaded is kept in memory.
"""

import base64
import contextlib
import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

from local_server import listening

TOKEN = "hf_standin"
LARGE = (".safetensors", ".pth", ".mp4", ".png")  # files that the hub keeps beside the git repository
PIECE = 2**16


@dataclass
class Standin:
    """What the hub holds and how it behaves.

    gated: repositories with a licence to accept. accepted: those whose licence the owner of the token accepted.
    breaks: end of a path -> how many of its downloads lose the connection in the middle.
    seconds_a_piece: pause after each 64 KiB of a large file.
    requests: (method, path, range, status), in order.
    uploaded: repository -> path -> content.
    """

    root: Path
    gated: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    breaks: dict[str, int] = field(default_factory=dict)
    seconds_a_piece: float = 0.0
    requests: list[tuple[str, str, str, int]] = field(default_factory=list)
    uploaded: dict[str, dict[str, bytes]] = field(default_factory=dict)
    endpoint: str = ""

    def snapshot(self, kind, name, revision):
        """Commit and folder of a branch or commit; None: there is none."""
        for folder in sorted((self.root / kind / name).glob("*")):
            commit = hashlib.sha1(f"{kind}/{name}/{folder.name}".encode()).hexdigest()
            if revision in (commit, folder.name.replace("@", "/")):
                return commit, folder
        return None

    def upload(self, path, body):
        """The answer to a request of create_repo or upload_folder. Every file is part of the commit's own body."""
        if path == "/api/validate-yaml":
            return {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            name = "{organization}/{name}".format(**json.loads(body))
            self.uploaded[name] = {}
            return {"url": f"{self.endpoint}/{name}", "name": name}
        name, what = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path).groups()
        if what == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]}
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.uploaded[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return {"commitUrl": f"{self.endpoint}/{name}/commit/{'a' * 40}", "commitOid": "a" * 40, "success": True}


@cache
def sha256(path):
    """Of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rows(folder):
    """The listing of a folder as the hub gives it."""
    listing = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            size = path.stat().st_size
            row = {"type": "file", "path": str(path.relative_to(folder)), "size": size, "oid": sha256(path)[:40]}
            if path.name.endswith(LARGE):
                row["lfs"] = {"oid": sha256(path), "size": size, "pointerSize": 134}
            listing.append(row)
    return listing


@contextlib.contextmanager
def serve_downloads(root):
    """The hub; its address is `endpoint`."""
    hub = Standin(root)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status, body=None, **headers):
            content = json.dumps(body).encode()
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key.replace("_", "-"), str(value))
            if "Content_Length" not in headers:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            hub.requests.append((self.command, self.path, self.headers.get("Range", ""), status))
            if self.command != "HEAD" and "Content_Length" not in headers:
                self.wfile.write(content)

        def refused(self, name):
            """Answer as the hub does where the licence is not accepted."""
            signed_in = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if name not in hub.gated or (signed_in and name in hub.accepted):
                return False
            message = f"Access to model {name} is restricted. Visit the page of the model to ask for access."
            headers = {"X_Error_Code": "GatedRepo", "X_Error_Message": message}
            self.answer(403 if signed_in else 401, {"error": message}, **headers)
            return True

        def do_GET(self):
            path = self.path.partition("?")[0]
            if self.headers.get("Authorization") not in (f"Bearer {TOKEN}", None):
                self.answer(401, {"error": "Invalid credentials in Authorization header"})
            elif path == "/api/whoami-v2":
                token = {"displayName": "rehearsal", "role": "write"}
                self.answer(200, {"type": "user", "name": "ann", "orgs": [], "auth": {"accessToken": token}})
            elif found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)/auth-check", path):
                if (root / found[1] / found[2]).is_dir():
                    self.refused(found[2]) or self.answer(200, {})
                else:
                    self.answer(404, {}, X_Error_Code="RepoNotFound")
            elif found := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
                self.describe(found[1], found[2], found[3] or "", unquote(found[4] or "main"))
            elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.file("datasets" if found[1] else "models", found[2], unquote(found[3]), unquote(found[4]))
            elif found := re.fullmatch(r"/cdn/(.+)", path):
                self.content(root / unquote(found[1]), ETag=f'"{sha256(root / unquote(found[1]))}"')
            else:
                self.answer(404, {"error": path}, X_Error_Code="EntryNotFound")

        do_HEAD = do_GET

        def describe(self, kind, name, what, revision):
            snapshot = hub.snapshot(kind, name, revision)
            if snapshot:
                commit, folder = snapshot
                listing = rows(folder)
                names = [{"rfilename": row["path"]} for row in listing]
                gated = "auto" if name in hub.gated else False
                about = {"id": name, "sha": commit, "siblings": names, "gated": gated, "private": False}
                self.answer(200, listing if what == "tree" else about)
            elif name in hub.uploaded:
                self.answer(200, {"id": name, "sha": "a" * 40})
            else:
                self.answer(
                    404, {}, X_Error_Code="RevisionNotFound" if (root / kind / name).is_dir() else "RepoNotFound"
                )

        def file(self, kind, name, revision, file):
            snapshot = hub.snapshot(kind, name, revision)
            if snapshot is None:
                self.answer(404, {}, X_Error_Code="RevisionNotFound")
                return
            commit, folder = snapshot
            path = folder / file
            if self.refused(name):
                return
            if not path.is_file():
                self.answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            elif path.name.endswith(LARGE):
                linked = {"X_Linked_Etag": f'"{sha256(path)}"', "X_Linked_Size": path.stat().st_size}
                # The hub sends large files from another host, and the client follows a redirect to its own host by itself.
                place = f"{hub.endpoint}/cdn/{path.relative_to(root)}".replace("127.0.0.1", "localhost", 1)
                self.answer(302, {}, Location=place, X_Repo_Commit=commit, **linked)
            else:
                self.content(path, X_Repo_Commit=commit, ETag=f'"{sha256(path)[:40]}"')

        def content(self, path, **headers):
            """A file or the part of it that is asked for, at the speed and with the faults of this hub."""
            content = path.read_bytes()
            start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = int(start[1]) if start else 0
            if start:
                headers["Content_Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.answer(206 if start else 200, Content_Length=len(content) - first, Accept_Ranges="bytes", **headers)
            if self.command == "HEAD":
                return
            breaking = next((end for end, count in hub.breaks.items() if count and str(path).endswith(end)), None)
            stop = len(content)
            if breaking:
                hub.breaks[breaking] -= 1
                stop = first + (len(content) - first) // 2
            for at in range(first, stop, PIECE):
                self.wfile.write(content[at : min(at + PIECE, stop)])
                if hub.seconds_a_piece and path.name.endswith(LARGE):
                    time.sleep(hub.seconds_a_piece)
            if breaking:
                self.close_connection = True
                self.connection.shutdown(2)

        def upload(self):
            length = self.headers.get("Content-Length")
            body = b""
            if length is None:
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(length))
            self.answer(200, hub.upload(self.path.partition("?")[0], body))

        do_POST = upload

        def handle(self):
            with contextlib.suppress(ConnectionError):  # the client went away
                super().handle()

        def log_message(self, *words):
            pass

    with listening(Handler) as hub.endpoint:
        yield hub
